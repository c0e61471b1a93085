"""The Cells view: all cells on the map beside one region of tissue; select some and ask what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import canvas, outcome, picks, planes, selection, state, theme, why, widgets
from dashboard.colouring import choices, classes, names_of, spoken

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
    if not now.selection:
        return
    chosen = picks.members(analysis, now.selection)
    if (only := _only(analysis)) is not None:
        chosen &= only
    if chosen.any():
        _selected(analysis, chosen)
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


# ---------------------------------------------------------------- the selection


def _selected(analysis: Analysis, chosen: np.ndarray) -> None:
    count = int(chosen.sum())
    table = selection.shares(analysis, chosen)
    owners = int((table["cells"] > 0).sum())
    st.subheader("The selected cells", anchor=False)
    pairs = [
        (f"{count:,}", f"cells ({theme.percent(count / len(chosen))})"),
        (f"{owners:,}", f"of {len(table):,} patients"),
    ]
    widgets.facts(pairs)
    left, right = st.columns(2, gap="large")
    with left:
        widgets.say("How much of each patient they are")
        widgets.chart(selection.share_figure(analysis, table), "shares")
        widgets.quiet("Chosen with the outcome in view, so no p value is given.")
    with right:
        _what_if(analysis, chosen)
        _types(analysis, chosen)


def _what_if(analysis: Analysis, chosen: np.ndarray) -> None:
    found = selection.effect(analysis, chosen)
    widgets.say("If these cells did not count")
    if not np.isfinite(found.score):
        several = analysis.facts["task"] == "multiclass"
        why_not = (
            "Not said for several classes."
            if several
            else "Too few labelled patients would have cells left to say."
        )
        widgets.quiet(why_not)
        return
    moved = f"{found.score:.2f} to {found.score_without:.2f}"
    widgets.facts([(moved, f"{outcome.main(analysis.facts)} over all patients")])
    if found.emptied:
        widgets.say(
            f"{widgets.plural(found.emptied, 'patient')} would have no cells left and are not in this figure."
        )
    widgets.quiet(
        "Of the mean scores, out of fold; the score of the verdict compares patients of one fold only. Nothing is "
        "trained again; model, features and neighbours are unchanged."
    )


def _types(analysis: Analysis, chosen: np.ndarray) -> None:
    """What the selection is made of, where cell types are known."""
    if "cell_type" not in analysis.cohort.cells:
        return
    inside = analysis.cohort.cells["cell_type"][chosen].value_counts()
    whole = analysis.cohort.cells["cell_type"].value_counts()
    rows = [
        {
            "Cell type": str(name),
            "Cells": f"{count:,}",
            "Of these": theme.percent(count / chosen.sum()),
            "Of its type": theme.percent(count / whole[name]),
        }
        for name, count in inside[inside > 0].head(8).items()
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Cell types in the selection")
