"""The Cells view: all cells on the map beside one region of tissue; select some and ask what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard import canvas, outcome, picks, planes, state, theme, why, widgets
from dashboard.colouring import choices, classes, names_of, spoken
from dashboard.views import chosen

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
    _board()
    if now.selection:
        cells = picks.members(analysis, now.selection)
        if (only := _only(analysis)) is not None:
            cells &= only
        if cells.any():
            chosen.panel(analysis, cells)
        else:
            widgets.say("There is no cell in this selection.")
    chosen.phenotypes(analysis)


def _finding(analysis: Analysis) -> None:
    importance = analysis.cells["importance"].to_numpy()
    known = importance[np.isfinite(importance)]
    half = _half(np.abs(known))
    words = (
        f"Half of all importance, for and against, lies in {theme.percent(half)} of the {len(known):,} cells."
    )
    widgets.finding(words)
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
        planes.likeness(analysis, colour=colour, height=HEIGHT),
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
        kinds = ["", *classes(analysis)]
        by = st.selectbox("Show", **state.bind("only_by", kinds), format_func=_shown, width=150)
        if by:
            st.selectbox(spoken(by), **state.bind("only", list(names_of(analysis, by))), width=180)
        st.checkbox("Fade cells the model does not look at", **state.bind("attention"))
    return colour, patient, region


def _shown(key: str) -> str:
    return f"One {spoken(key).lower()}" if key else "All cells"


def _only(analysis: Analysis) -> np.ndarray | None:
    """(N,) the cells in focus, None for all."""
    now = state.session()
    if not now.only_by:
        return None
    return picks.members(analysis, picks.of_class(now.only_by, now.only))
