"""The Report view: take the result away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboard import state, theme, widgets

if TYPE_CHECKING:
    from milcore.analysis import Analysis

FILES = {
    "predictions.csv": ("Predictions (CSV)", "One row for each patient: label, score, probability, range."),
    "cells.parquet": (
        "Cells (Parquet)",
        "One row for each input cell, in input order: evidence, attention, map.",
    ),
    "analysis.json": ("Facts (JSON)", "Every number shown here, with settings and versions, for programs."),
}


@widgets.caught
@widgets.with_analysis
def render(analysis: Analysis) -> None:
    """Draws the view of a finished analysis."""
    target = theme.short(analysis.settings.target, 40)
    widgets.finding(f"The analysis of “{target}” is ready to take away.")
    widgets.quiet("Everything is made on this machine. The report is one file that opens without a network.")
    _page(analysis)
    st.subheader("Tables", anchor=False)
    for name, (label, words) in FILES.items():
        _file(state.workspace().analysis(state.session().analysis) / name, label, words)


def _page(analysis: Analysis) -> None:
    st.subheader("Report", anchor=False)
    names = list(analysis.predictions["patient"].astype(str).unique())
    chosen = st.multiselect(
        "Pages for patients, after the page of the cohort",
        **state.bind("paged", names),
        placeholder="Telling ones",
    )
    widgets.quiet("Without a choice the report shows the patients that tell most.")
    st.download_button(
        "Download the report (HTML)",
        data=lambda: _html(analysis, chosen),
        file_name=f"milscope-{state.session().analysis}.html",
        mime="text/html",
        type="primary",
        on_click="ignore",
    )


def _html(analysis: Analysis, patients: list[str]) -> str:
    from dashboard import report

    return report.html(analysis, patients=patients or None)


def _file(path: Path, label: str, words: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        name = f"milscope-{state.session().analysis}-{path.name}"
        st.download_button(
            label, data=path.read_bytes, file_name=name, on_click="ignore", width=220, key=path.name
        )
        widgets.quiet(words)
