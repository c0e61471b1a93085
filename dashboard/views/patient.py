"""The Patient view: why this patient is predicted so, in words, in numbers and in the tissue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import canvas, figures, layouts, outcome, picks, planes, state, theme, trust, why, widgets
from dashboard.colouring import choices, rows_of, spoken
from dashboard.workspace import safe_name

if TYPE_CHECKING:
    from milcore.analysis import Analysis

ORDERS = {"score": "Prediction", "error": "Most wrong first", "name": "Name"}
SIGNED = ("importance", "evidence", "leave_one_out")
TOP = 50


@widgets.caught
@widgets.with_analysis
def render(analysis: Analysis) -> None:
    """Draws the view of one patient of a finished analysis."""
    patient = _choose(analysis)
    row = why.row_of(analysis, patient, state.session().region)
    if not np.isfinite(row["score"]):
        widgets.finding("This patient was left out of the analysis, so there is no prediction to explain.")
        return
    table = why.without_groups(analysis, patient)
    widgets.finding(why.sentence(analysis, row, table))
    widgets.caution(analysis.facts)
    _header(analysis, row)
    _drivers(analysis, patient, table)
    _believed(analysis, row)
    _markers(analysis, patient)
    _top_cells(analysis, patient)
    _on_the_slide(analysis, patient)


def _choose(analysis: Analysis) -> str:
    """The patient shown: by menu, or with previous and next in the chosen order."""
    now = state.session()
    names = why.ordered(analysis, now.order)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        bound = state.bind("patient", names)
        here = names.index(now.patient)
        _step("Previous", names, here - 1)
        st.selectbox("Patient", **bound, width=260)
        _step("Next", names, here + 1)
        st.selectbox(
            "In the order of", **state.bind("order", list(ORDERS)), format_func=ORDERS.__getitem__, width=200
        )
        widgets.quiet(f"{here + 1} of {len(names)}")
    return now.patient


def _step(label: str, names: Sequence[str], to: int) -> None:
    there = 0 <= to < len(names)
    goal = {"patient": names[to] if there else "", "region": ""}
    st.button(label, disabled=not there, on_click=state.jump, kwargs=goal, shortcut=_KEYS[label])


_KEYS = {"Previous": "Left", "Next": "Right"}


def _header(analysis: Analysis, row: pd.Series) -> None:
    facts = analysis.facts
    left, right = st.columns([2, 3], gap="large")
    with left:
        named = outcome.towards(facts) if facts["task"] == "binary" else theme.short(row["called_as"], 30)
        named = {"regression": outcome.target(facts), "survival": "the average risk"}.get(
            facts["task"], named
        )
        widgets.facts([(row["said"], named if facts["task"] == "survival" else f"predicted {named}")])
        widgets.say(f"Range over retrained models: {row['range']}.")
        widgets.say(f"Label: {outcome.truth(facts, row) or 'none'}. {outcome.decision(facts, row)}")
        place = analysis.predictions.index.get_loc(row.name)
        widgets.quiet(f"{trust.unseen_here(facts, place)} Research use only.")
    with right:
        widgets.chart(figures.strip(analysis, str(row["patient"])), "strip")


def _believed(analysis: Analysis, row: pd.Series) -> None:
    """Badges: is the explanation of this patient faithful, and steady; the curve on demand."""
    facts = analysis.facts
    place = str(state.workspace().analysis(state.session().analysis))
    found = _deletions(analysis, place, int(row.name))
    faithful, why_faithful = trust.faithful_here(found, facts)
    steady, why_steady = trust.steady_here(facts, analysis.predictions.index.get_loc(row.name))
    with st.expander(f"Can this explanation be believed? {faithful}. {steady}."):
        widgets.say(why_faithful, why_steady)
        if found:
            widgets.quiet(trust.NOT_PROOF)
            curves = figures.deletion(found, facts)
            widgets.chart(theme.finish(curves, why_faithful), "deletion")


@st.cache_data(max_entries=256, show_spinner=False)
def _deletions(_analysis: Analysis, place: str, row: int) -> dict[str, Any]:
    """Curves of one patient; `place` is where the analysis is kept, which no other user shares."""
    return why.faithful_of(_analysis, _analysis.predictions.loc[row])


# ---------------------------------------------------------------- which cells


def _drivers(analysis: Analysis, patient: str, table: pd.DataFrame) -> None:
    with st.container(key="mil-drivers"):  # one below the other where the window is narrow (see LOOK)
        left, right = st.columns([5, 6], gap="large")
    with right:
        _groups(analysis, patient, table)
    with left:
        _maps(analysis, patient)


def _groups(analysis: Analysis, patient: str, table: pd.DataFrame) -> None:
    """The groups that make the score; the one chosen becomes the selection of the maps."""
    st.subheader("What makes the score", anchor=False)
    picture = figures.waterfall(analysis, patient).update_xaxes(
        title=outcome.unit(analysis.facts).capitalize()
    )
    widgets.chart(_roomy(picture, table), "waterfall")
    shown = pd.DataFrame(
        {
            "group": table["group"],
            "cells": [
                f"{n:,} ({theme.percent(s)})" for n, s in zip(table["cells"], table["share"], strict=True)
            ],
            "without_it": [outcome.said(analysis.facts, p) for p in table["prediction_without"]],
            "sign_holds": why.sign_holds(analysis, patient, table),
        }
    )
    widgets.quiet("Choose a row to see these cells in the tissue.")
    alt = "Groups of cells and the prediction without them"
    rows = widgets.table(shown, f"groups-{patient}", alt=alt, most={"group": 190})
    widgets.quiet(
        "Without it: the prediction when these cells are not counted; model, features and neighbours are "
        "unchanged. It is not the effect of a treatment. Sign holds: trainings in which the group argues for the same "
        "side."
    )
    _select(picks.of_group(patient, str(table["group"].iloc[rows[0]])) if rows else "")


def _select(group: str) -> None:
    """Takes a newly chosen group over into the selection, and a group no longer chosen out of it."""
    now = state.session()
    if group != now.group:
        if group or now.selection == now.group:
            now.selection = group
        now.group = group


def _roomy(figure: go.Figure, table: pd.DataFrame) -> go.Figure:
    """The waterfall with room for the numbers beside its bars."""
    ends = np.append(0.0, table["contribution"].cumsum())
    room = (
        ends.max() - ends.min()
    )  # numbers of falling bars stand on their left, those of rising ones on their right
    figure.update_xaxes(range=[ends.min() - 0.5 * room, ends.max() + 0.4 * room])
    return figure.update_layout(margin={"t": 12, "r": 56})


@st.fragment
def _maps(analysis: Analysis, patient: str) -> None:
    """Where the patient's cells lie, in tissue and among all cells. Runs alone while only this changes."""
    st.subheader("Where these cells lie", anchor=False)
    regions, region = why.regions_of(analysis.cohort, patient), None
    with st.container(horizontal=True):
        if regions:
            region = st.selectbox("Region", **state.bind("region", regions), width=170)
        options = choices(analysis)
        colour = st.selectbox("Colour by", **state.bind("colour", options), format_func=spoken, width=220)
    if colour in SIGNED:
        widgets.quiet(outcome.about(analysis.facts))
    maps = [
        planes.tissue(analysis, patient, region, colour=colour, height=430),
        planes.likeness(
            analysis,
            colour=colour,
            height=320,
            title=f"{theme.short(patient, 30)} among all cells",
            how=layouts.kind(state.layout(), of_file=state.map_of_file()),
        ),
    ]
    mine = np.zeros(analysis.cohort.N, bool)
    mine[rows_of(analysis.cohort, patient)] = True
    idle = "Draw around cells to see where they lie on the other map."
    canvas.cell_maps(analysis, maps, key="patient-cells", colour=colour, only=mine, columns="1fr", idle=idle)
    state.write_url()


def _markers(analysis: Analysis, patient: str) -> None:
    st.subheader("What these cells look like", anchor=False)
    positive = outcome.towards(analysis.facts)
    widgets.quiet(f"The {TOP} strongest cells on each side, beside all other cells of the patient.")
    left, right = st.columns(2, gap="large")
    with left:
        widgets.say(f"Cells that argue for {positive}")
        widgets.chart(_titled(figures.markers(analysis, patient, for_positive=True, top=TOP)), "markers-for")
    with right:
        widgets.say(f"Cells that argue against {positive}")
        widgets.chart(
            _titled(figures.markers(analysis, patient, for_positive=False, top=TOP)), "markers-against"
        )


def _titled(figure: go.Figure) -> go.Figure:
    return figure.update_xaxes(title="SDs from the cohort's mean")


def _top_cells(analysis: Analysis, patient: str) -> None:
    with st.expander("The strongest cells, one by one"):
        left, right = st.columns(2, gap="large")
        for place, for_positive in ((left, True), (right, False)):
            with place:
                widgets.say("For" if for_positive else "Against")
                table = why.top_cells(analysis, patient, for_positive=for_positive)
                st.dataframe(table, hide_index=True, alt="The strongest cells")


def _on_the_slide(analysis: Analysis, patient: str) -> None:
    """The patient's cells for QuPath, where they have coordinates."""
    if analysis.cells["x"].iloc[rows_of(analysis.cohort, patient)].isna().all():
        return

    def made() -> bytes:
        from milcore.export import packed

        return packed(analysis, "qupath", patient=patient)

    with st.container(horizontal=True, vertical_alignment="center"):
        name = f"milscope-{safe_name(patient)}.zip"
        st.download_button(
            "Show these cells in QuPath", data=made, file_name=name, on_click="ignore", key="to-qupath"
        )
        widgets.quiet("A table and a script: unpack into a QuPath project, open the image, run the script.")
