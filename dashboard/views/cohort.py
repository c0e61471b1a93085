"""The Cohort view: bring tables in, see what was recognised, mend it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard import figures, state, theme, widgets
from dashboard.jobs import Job
from dashboard.targets import barred, targets
from dashboard.views import doors, roles

if TYPE_CHECKING:
    from milcore.cohort import Cohort, Note

STAGES = ("reading", "saving")


@widgets.caught
def render() -> None:
    """Draws the view in the state it is in."""
    job = state.newest_job("read")
    if job is not None and not job.over:
        _working(job)
        return
    if job is not None and job.state == "failed":
        _failed(job)
    cohort = state.cohort()
    if cohort is None:
        _nothing_yet()
    else:
        _loaded(cohort)


def ask(
    cells: Sequence[Path], patients: Path | None, *, name: str, columns: dict[str, Any] | None = None
) -> None:
    """Queues the reading of tables; the tab opens the cohort when it is there."""
    from milcore.readers import Columns

    request = {
        "cells": [str(file) for file in cells],
        "patients": str(patients) if patients else "",
        "columns": asdict(Columns(**(columns or {}))),
        "name": name,
    }
    state.submit("read", request)
    state.jump(door="")


def _sample() -> None:
    import sample_data

    cells, patients = sample_data.files()
    ask([cells], patients, name="Sample cohort")


# ---------------------------------------------------------------- the four states


def _nothing_yet() -> None:
    widgets.finding("Bring in a cohort: a table of single cells and what is known of each patient.")
    widgets.quiet(
        "Nothing leaves this machine. A row is a cell, one column names its patient, the others are features."
    )
    _doors()
    _earlier()


def _working(job: Job) -> None:
    state.jump(waiting=job.id)
    widgets.finding("Reading the tables.")
    _follow(job.id)


@st.fragment(run_every=0.5)
def _follow(key: str) -> None:
    job = state.jobs().get(key)
    if job is None or job.over:
        st.rerun()
    else:
        widgets.progress(job, STAGES)
        st.button("Cancel", on_click=state.jobs().cancel, args=(key,))


def _failed(job: Job) -> None:
    widgets.finding("The tables could not be read.")
    widgets.failed(job, kept="The files are kept; nothing needs to be uploaded again.")


def _loaded(cohort: Cohort) -> None:
    grave = [note for note in cohort.notes if note.severity != "note"]
    counted = f"{widgets.plural(cohort.B, cohort.bag)} with {cohort.N:,} cells"
    ready = f"{counted} were read." if barred(cohort) else f"{counted} are ready to train on."
    widgets.finding(f"{ready} {widgets.plural(len(grave), 'thing')} to know first." if grave else ready)
    _facts(cohort)
    bar = barred(cohort)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Choose a target and train", type="primary", disabled=bar is not None):
            state.go("train")
        if bar is not None:
            widgets.quiet("Training would be wrong. See the first check below.")
    _checks(cohort)
    _charts(cohort)
    roles.draw(cohort)
    with st.expander("Open another cohort"):
        _doors()
        _earlier()


# ---------------------------------------------------------------- ways in


def _doors() -> None:
    folders = state.data_folders()
    first, second, *third = st.columns(3 if folders else 2, gap="medium", border=True)
    with first:
        st.subheader("Try the sample cohort", anchor=False)
        widgets.say(
            "A made-up tissue study of 48 patients with known driver cells. It shows every view "
            "and needs no data of yours."
        )
        st.button("Try the sample cohort", type="primary", on_click=_sample, key="sample")
    with second:
        _upload()
    if third:
        with third[0]:
            _from_here(folders)


def _upload() -> None:
    st.subheader("Upload tables", anchor=False)
    _read(doors.uploaded("up", "Read the upload"))


def _from_here(folders: list[Path]) -> None:
    st.subheader("Open from this computer", anchor=False)
    _read(doors.from_here(folders, "Read these files"))


def _read(tables: doors.Tables | None) -> None:
    if tables is not None:
        ask(tables.cells, tables.patients, name=tables.name)
        st.rerun()


def _earlier() -> None:
    """Cohorts of the workspace, one button each."""
    known = [(key, facts) for key, facts in state.workspace().cohorts() if key != state.session().cohort]
    if not known:
        return
    st.subheader("Open again", anchor=False)
    for key, facts in known[:12]:
        counts = facts.get("counts", {})
        size = ", ".join(f"{counts[name]:,} {name}" for name in ("patients", "cells") if name in counts)
        label = widgets.markdown(theme.short(state.cohort_name(key), 60)) + (f" ({size})" if size else "")
        st.button(label, key=f"open-{key}", on_click=state.open_cohort, args=(key,))


# ---------------------------------------------------------------- what was read


def _facts(cohort: Cohort) -> None:
    regions = int(cohort.cells.groupby(cohort.owner, observed=True)["region"].nunique().sum())
    pairs = [
        (f"{cohort.groups.max() + 1:,}", "patients"),
        (f"{cohort.N:,}", "cells"),
        (f"{cohort.F:,}", "features"),
    ]
    if regions:
        pairs.insert(1, (f"{regions:,}", "regions"))
    if form := cohort.source.get("format"):
        pairs.append((str(form), "tables"))
    widgets.facts(pairs)


def _checks(cohort: Cohort) -> None:
    """What the reader must know, the grave first, each with what to do."""
    if not cohort.notes:
        widgets.quiet("All checks passed.")
    for note in cohort.notes[:3]:
        _card(note)
    if any(note.kind == "label_spellings" for note in cohort.notes):
        roles.merge_button(cohort)
    if any(note.kind == "differs_within_patients" for note in cohort.notes):
        roles.samples_button(cohort)
    if cohort.notes[3:]:
        with st.expander(f"{len(cohort.notes) - 3} more"):
            for note in cohort.notes[3:]:
                _card(note)


def _card(note: Note) -> None:
    """A note and what to do, without the names of command-line options."""
    widgets.card(note.severity, note.words, re.sub(r" \(--[^)]*\)", "", note.fix))


def _charts(cohort: Cohort) -> None:
    found = [each.name for each in targets(cohort)]
    label = None
    if found:
        label = st.selectbox("Colour patients by", **state.bind("target", found), width=280)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Cells of each patient", anchor=False)
        widgets.chart(figures.cells_per_patient(cohort, label).update_layout(height=380), "cells-per-patient")
    with right:
        if label:
            st.subheader("Patients with each label", anchor=False)
            widgets.chart(figures.label_balance(cohort, label), "balance")
    if cohort.cells[["x", "y"]].notna().to_numpy().any():
        st.subheader("One region of tissue", anchor=False)
        widgets.chart(figures.tissue_preview(cohort).update_layout(height=480), "preview")
        widgets.context(cohort)
