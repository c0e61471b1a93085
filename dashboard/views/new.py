"""New patients: the form that has them scored by the models of an analysis, and what is said of them afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from dashboard import outcome, state, theme, widgets, worth
from dashboard.views import doors

if TYPE_CHECKING:
    from milcore.analysis import Analysis

LISTED = 12  # tables scored before that are offered


def form(analysis: Analysis) -> None:
    """Upload, progress, failure, and the tables that these models have scored before."""
    key = state.session().analysis
    job = state.newest_job("predict", analysis=key)
    busy = job is not None and not job.over
    failed = job is not None and job.state == "failed"
    with st.expander("Score new patients", expanded=busy or failed):
        if job is not None and busy:
            state.jump(waiting=job.id)
            _follow(job.id, [*analysis.members])
            return
        if job is not None and failed:
            widgets.say("The new patients could not be scored.")
            widgets.failed(job, kept="The analysis is untouched, and the uploaded files are kept.")
        _ask(analysis, key)
        _before(key)


def _ask(analysis: Analysis, key: str) -> None:
    widgets.say(
        f"Tables with the same {analysis.cohort.F} features, of patients that these models have not seen. All models "
        "score them together; they are kept apart from this cohort."
    )
    widgets.quiet(
        f"With the column “{outcome.target(analysis.facts)}” among the patients, the scores are judged by it. Columns "
        "are read as those of this cohort were."
    )
    folders = state.data_folders()
    first, *second = st.columns(2 if folders else 1, gap="medium", border=True)
    with first:
        tables = doors.uploaded("new", "Score the upload")
    if second:
        with second[0]:
            tables = doors.from_here(folders, "Score these files") or tables
    if tables is not None:
        request = {
            "analysis": key,
            "cells": [str(file) for file in tables.cells],
            "patients": str(tables.patients) if tables.patients else "",
            "name": tables.name,
        }
        state.submit("predict", request)
        st.rerun()


@st.fragment(run_every=0.5)
def _follow(key: str, members: list[str]) -> None:
    job = state.jobs().get(key)
    if job is None or job.over:
        st.rerun()
    else:
        widgets.progress(job, ("reading", "matching", *members, "evidence", "distance", "saving"))
        st.button("Cancel", on_click=state.jobs().cancel, args=(key,), disabled=job.cancelling)


def _before(key: str) -> None:
    """What these models have scored before, one button each."""
    home = state.workspace()
    every = [(one, facts) for one, facts in home.every_analysis() if facts.get("new")]
    found = [(one, facts) for one, facts in every if home.about(one).get("of") == key]
    for one, facts in found[:LISTED]:
        files = theme.short(state.cohort_name(facts["cohort"]["fingerprint"][:16]), 60)
        label = f"{widgets.markdown(files)} ({widgets.plural(facts['cohort']['patients'], 'patient')})"
        if st.button(label, key=f"new-{one}"):
            state.visit(one)
            st.rerun()


# ---------------------------------------------------------------- what is said of them


def beside(analysis: Analysis) -> None:
    """New patients beside the training cohort: how well they are scored, and how far they lie from it."""
    facts = analysis.facts
    st.subheader("Beside the training cohort", anchor=False)
    if rows := worth.transferred(facts):
        table = pd.DataFrame(rows, columns=["Score", "These new patients", "Training, out of fold"])
        st.dataframe(table, hide_index=True, width="content", alt="Scores here and in training")
        widgets.quiet("With 95 % intervals: of these models as they are here, of the procedure in training.")
    widgets.say(worth.distance(facts))
    for warning in facts["warnings"]:
        widgets.card("warn", warning["words"])
    table = outcome.patients(analysis).sort_values("far", ascending=False)
    names = table["patient"].astype(str) + (" · " + table["region"] if "region" in table else "")
    shown = {
        "Patient": names,
        "Predicted": [outcome.listed(facts, row) for row in table.to_dict("records")],
        "Range": table["range"],
        "Cells far from training": table["far"].map(theme.percent),
    }
    with st.expander("Every new patient, the strangest first"):
        st.dataframe(pd.DataFrame(shown), hide_index=True, alt="New patients and how far their cells lie")
