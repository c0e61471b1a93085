"""Maps of cells in the browser: a component of our own that draws with WebGL2, from the modules in canvas/.

The browser keeps arrays by name in a store of its window; a message brings those it does not have yet (places once,
colours a byte a cell) and a small head of plain values. Back come the selection as text (see picks), where the maps
look, and names of arrays that have gone missing. Membership is computed here anew, over all cells.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from dashboard import picks, state, widgets
from dashboard.hover import hover
from dashboard.planes import Map, Plane
from dashboard.shades import Shades, shades
from dashboard.stills import outline, still

if TYPE_CHECKING:
    from milcore.analysis import Analysis

LIMIT = 2_000_000  # cells that a browser is asked to draw
FOLDER = Path(__file__).with_name("canvas")
MODULES = ("geometry", "store", "paint", "panel", "legend", "keep", "board")  # each uses only those before it
KINDS = {"uint8": "u1", "uint16": "u2", "uint32": "u4", "int8": "i1", "int16": "i2", "bool": "bits"}
HEARD = ("selection", "view", "missing", "details", "raster")
MANNERS = {"n": "anew", "a": "more", "s": "less"}
FULL = 2.0  # attention, 1 being an average cell, from which a cell is not faded


def bundle() -> str:
    """The modules as the one script that Streamlit takes, and sends with every message: their imports of each other,
    exports, comments and indents fall away."""
    whole = "\n".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in MODULES)
    whole = re.sub(r"^import .*;\n", "", whole, flags=re.MULTILINE)
    whole = re.sub(r"^export (?!default)", "", whole, flags=re.MULTILINE)
    return re.sub(r"^\s*((//|/?\*).*\n)?", "", whole, flags=re.MULTILINE)


@cache
def _component() -> Callable[..., Any]:
    css = (FOLDER / "canvas.css").read_text(encoding="utf-8")
    return st.components.v2.component("milscope.cells", css=css, js=bundle())


def cell_maps(
    analysis: Analysis,
    maps: Sequence[Map],
    *,
    key: str,
    colour: str,
    only: np.ndarray | None = None,
    columns: str = "1fr 1fr",
    idle: str = "",
) -> None:
    """Draws maps on one selection, the Session's. `only` (N,): cells in focus, the others are faint; `idle`: what to
    say while nothing is selected."""
    now = state.session()
    if now.raster or analysis.cohort.N > LIMIT:
        _stills(analysis, maps, key=key, colour=colour, only=only)
        return
    parcel = Parcel(now.analysis, now.sent)
    lit = parcel.look(analysis, colour, only, fade=now.attention)
    head = {
        "cells": analysis.cohort.N,
        "panels": [parcel.panel(each) for each in maps],
        "selection": {"text": now.selection, "turn": now.turn},
        "view": now.view,
        "columns": columns,
        "idle": idle,
        "longest": picks.LONGEST,
        "details": parcel.details(analysis) if now.pointing else None,
    }
    if now.selection:
        parcel.put(f"chosen/{now.selection}", lambda: picks.members(analysis, now.selection))
        parcel.needs.pop()  # the browser may be further than this run
    heard = {f"on_{name}_change": partial(_hear, key, name) for name in HEARD}
    _component()(key=key, data=parcel.packed(head | lit), height="content", **heard)


class Parcel:
    """A message in the making: arrays the browser lacks are put in, all that it needs are named."""

    def __init__(self, about: str, sent: set[str]) -> None:
        self.about, self.sent = about, sent
        self.needs: list[str] = []
        self.arrays: dict[str, np.ndarray] = {}

    def put(self, name: str, make: Callable[[], np.ndarray]) -> str:
        """The name in the browser's store of an array that is made only when it has to be sent."""
        name = f"{self.about}/{name}"
        self.needs.append(name)
        if name not in self.sent:
            self.arrays[name] = np.ascontiguousarray(make())
            self.sent.add(name)
        return name

    def panel(self, shown: Map) -> dict[str, Any]:
        """What the browser must know of one map."""
        plane = shown.plane
        return {
            "slot": shown.slot,
            "id": plane.id,
            "title": shown.title,
            "words": shown.words,
            "height": shown.height,
            "down": shown.down,
            "unit": shown.unit,
            "per": plane.step,
            "places": self.put(f"places/{plane.id}", lambda: plane.places.ravel()),
            "rows": self.put(f"rows/{plane.id}", lambda: plane.rows) if plane.some else None,
        }

    def look(self, analysis: Analysis, colour: str, only: np.ndarray | None, *, fade: bool) -> dict[str, Any]:
        """Colours, legend, focus and opacity."""
        place = str(state.workspace().analysis(self.about))
        shown, dark = _shades(place, colour, _analysis=analysis), state.dark()
        return {
            "about": self.about,
            "colours": self.put(f"colours/{colour}", lambda: shown.codes),
            "palette": shown.palette(dark=dark),
            "rank": shown.rank.tolist(),
            "legend": shown.legend(dark=dark),
            "only": None if only is None else self.put(f"only/{_digest(only)}", lambda: only),
            "shine": self.put("shine", lambda: _shine(analysis)) if fade else None,
        }

    def details(self, analysis: Analysis) -> dict[str, Any]:
        """What the pointer says of cells."""
        told, arrays = _hover(str(state.workspace().analysis(self.about)), _analysis=analysis)
        named = {name: self.put(f"hover/{name}", array.ravel) for name, array in arrays.items()}
        ids = [named.pop("starts"), named.pop("letters")] if "letters" in named else None
        return {**told, **named, "ids": ids}

    def packed(self, head: Mapping[str, Any]) -> bytes:
        """The head's length, the head as JSON, the arrays, each at a multiple of 8 bytes."""
        entries, body, at = [], [], 0
        for name, array in self.arrays.items():
            raw = np.packbits(array, bitorder="little").tobytes() if array.dtype == bool else array.tobytes()
            entries.append({"name": name, "type": KINDS[array.dtype.name], "length": array.size, "at": at})
            body.append(raw.ljust(_whole(len(raw)), b"\0"))
            at += len(body[-1])
        text = json.dumps({**head, "needs": self.needs, "arrays": entries}).encode()
        text = text.ljust(_whole(len(text) + 4) - 4)
        return len(text).to_bytes(4, "little") + text + b"".join(body)


def _stills(
    analysis: Analysis, maps: Sequence[Map], *, key: str, colour: str, only: np.ndarray | None
) -> None:
    """The same maps as pictures: a line drawn on one changes the selection, all of it on the server."""
    now = state.session()
    shown, dark = (
        _shades(str(state.workspace().analysis(now.analysis)), colour, _analysis=analysis),
        state.dark(),
    )
    lit = picks.members(analysis, now.selection) if now.selection else None
    _still_tools(analysis.cohort.N)
    for place, each in zip(st.columns(min(len(maps), 2)), maps, strict=True):
        with place:
            widgets.say(each.title)
            if not len(each.plane.rows):
                continue
            figure = still(each, shown, only=only, lit=lit, dark=dark)
            drawn = widgets.chart(
                figure,
                f"{key}-{each.slot}-{now.turn}",
                config={"displayModeBar": True},
                on_select="rerun",
                selection_mode=("box", "lasso"),
            )
            _pick(each.plane, outline(drawn["selection"]))


def _still_tools(cells: int) -> None:
    """How a line changes the selection, and a way to clear it."""
    now = state.session()
    why = f"{cells:,} cells are" if cells > LIMIT else "This browser has no WebGL2, so cells are"
    widgets.quiet(
        f"{why} drawn as pictures by the server. Draw a box or a lasso to select; zoom by the tools on top."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "A line selects", **state.bind("manner", list(MANNERS)), format_func=MANNERS.__getitem__
        )
        cleared = {"selection": "", "turn": now.turn + 1}
        st.button("Clear", disabled=not now.selection, on_click=state.jump, kwargs=cleared)


def _pick(plane: Plane, polygon: list[float]) -> None:
    """Takes a line drawn on a picture over into the selection; the next picture is a new one, with no line on it."""
    now = state.session()
    if not polygon:
        return
    step = picks.stroke(plane, polygon)
    whole = f"{now.selection}.{now.manner}{step[1:]}" if now.selection and now.manner in ("a", "s") else step
    now.selection, now.turn = picks.trusted(whole) or now.selection, now.turn + 1
    st.rerun()


def _whole(size: int) -> int:
    """The next multiple of 8."""
    return (size + 7) // 8 * 8


def _hear(key: str, name: str) -> None:
    """Takes over what the browser has said."""
    now, said = state.session(), state.told(key, name)
    if name == "selection" and said:
        now.selection, now.turn = picks.trusted(said.get("text")), int(said.get("turn", 0))
        now.sent.add(f"{now.analysis}/chosen/{now.selection}")  # made in the browser
    elif name == "view":
        now.view = picks.aimed(said)
    elif name == "missing":
        now.sent.difference_update(said or ())
    elif name == "details":
        now.pointing = True
    elif name == "raster":
        now.raster = True


def _shine(analysis: Analysis) -> np.ndarray:
    """(N,) opacity in bytes, by attention relative to an average cell of the patient."""
    sizes = np.diff(analysis.cohort.offsets)[analysis.cohort.owner]
    relative = np.nan_to_num(analysis.cells["attention"].to_numpy() * sizes / FULL)
    return (255 * np.clip(relative, 0.06, 1)).astype(np.uint8)


def _digest(mask: np.ndarray) -> str:
    return hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=8).hexdigest()


@st.cache_resource(max_entries=8, show_spinner=False)
def _shades(place: str, colour: str, *, _analysis: Analysis) -> Shades:
    return shades(_analysis, colour)


@st.cache_resource(max_entries=2, show_spinner=False)
def _hover(place: str, *, _analysis: Analysis) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return hover(_analysis)
