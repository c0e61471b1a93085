"""The Cells view: all cells on the map beside one region of tissue; select some and ask what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard import canvas, layouts, outcome, picks, planes, state, theme, why, widgets
from dashboard.colouring import choices, classes, colouring, names_of, numbers, spoken
from dashboard.views import chosen, layout

if TYPE_CHECKING:
    from milcore.analysis import Analysis

HEIGHT = 480


@widgets.caught
@widgets.with_analysis
def render(analysis: Analysis) -> None:
    """Draws the view of a finished analysis."""
    _finding(analysis)
    now = state.session()
    now.answered = _asked()
    with st.container(key="mil-cells"):  # side by side where the window is wide (see LOOK)
        with st.container(key="mil-board"):
            _board()
        with st.container(key="mil-rail"):
            _selected(analysis)
    layout.panel(analysis)
    chosen.phenotypes(analysis)


def _selected(analysis: Analysis) -> None:
    """What the selection is worth, of the cells that are shown."""
    if not (text := state.session().selection):
        with st.container(key="mil-hint"):  # only where the window is wide
            widgets.quiet("What chosen cells are, and what scores would be without them, stands here.")
        return
    cells, only = picks.members(analysis, text), _only(analysis)
    cells &= True if only is None else only
    if cells.any():
        chosen.panel(analysis, cells)
    else:
        widgets.say("There is no cell in this selection.")


def _finding(analysis: Analysis) -> None:
    importance = analysis.cells["importance"].to_numpy()
    known = importance[np.isfinite(importance)]
    half = _half(np.abs(known))
    words = (
        f"Half of all importance, for and against, lies in {theme.percent(half)} of the {len(known):,} cells."
    )
    widgets.finding(words)
    widgets.caution(analysis.facts)
    widgets.quiet(f"{outcome.about(analysis.facts)} One scale for the whole cohort.")


def _half(size: np.ndarray) -> float:
    """The smallest share of cells that carries half of the sum."""
    if not len(size) or not size.sum():
        return float("nan")
    carried = np.cumsum(np.sort(size)[::-1])
    return float((np.searchsorted(carried, carried[-1] / 2) + 1) / len(size))


@st.fragment
@widgets.caught
@widgets.with_analysis
def _board(analysis: Analysis) -> None:
    """Controls and maps. Runs alone while only these change; a new selection runs the whole page."""
    colour, patient, region = _controls(analysis)
    maps = [
        planes.likeness(
            analysis,
            colour=colour,
            height=HEIGHT,
            how=layouts.kind(state.layout(), of_file=state.map_of_file()),
        ),
        planes.tissue(analysis, patient, region, colour=colour, height=HEIGHT),
    ]
    idle = "Draw around cells on either map to ask about them."
    canvas.cell_maps(analysis, maps, key="cells", colour=colour, only=_only(analysis), idle=idle)
    state.write_url()
    if state.session().answered != _asked():
        st.rerun()


def _asked() -> str:
    """What the page below the maps depends on."""
    now = state.session()
    return f"{now.selection} {now.only_by} {now.only}"


def _controls(analysis: Analysis) -> tuple[str, str, str | None]:
    names = why.ordered(analysis, "score")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        colour = st.selectbox(
            "Colour by", **state.bind("colour", choices(analysis)), format_func=spoken, width=240
        )
        patient = st.selectbox("Tissue of", **state.bind("patient", names), width=200)
        regions, region = why.regions_of(analysis.cohort, patient), None
        if regions:
            region = st.selectbox("Region", **state.bind("region", regions), width=160)
        _focus(analysis)
        st.checkbox("Fade cells the model does not look at", **state.bind("attention"))
    return colour, patient, region


def _focus(analysis: Analysis) -> None:
    """Which cells are shown: all, those of one class, or those within a range of a number."""
    ranges = numbers(analysis)
    words = {"": "All cells"} | {key: f"One {spoken(key).lower()}" for key in classes(analysis)}
    words |= {key: f"A range of {spoken(key)}" for key in ranges}
    by = st.selectbox(
        "Show", **state.bind("only_by", list(words)), format_func=lambda key: words.get(key, key), width=170
    )
    label = widgets.markdown(spoken(by))
    if by in ranges:
        scale = colouring(analysis, by, np.empty(0, np.int64))
        st.slider(label, **state.bind_span("only", scale.low, scale.high), format="%.3g", width=180)
    elif by:
        st.selectbox(label, **state.bind("only", list(names_of(analysis, by))), width=180)


def _only(analysis: Analysis) -> np.ndarray | None:
    """(N,) the cells in focus, None for all."""
    now = state.session()
    if not now.only_by:
        return None
    pick = picks.of_range if now.only_by in numbers(analysis) else picks.of_class
    return picks.members(analysis, pick(now.only_by, now.only))
