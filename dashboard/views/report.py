"""The Report view: take the result away, as a file to read, as slides to show, as tables to work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboard import browser, state, theme, widgets
from milcore.progress import Event, Progress

if TYPE_CHECKING:
    from milcore.analysis import Analysis

FORMS = {"html": "HTML", "pdf": "PDF"}
PAPERS = {"a4": "A4", "letter": "Letter"}
MIME = {"html": "text/html", "pdf": "application/pdf"}
FILES = {
    "predictions.csv": ("Predictions (CSV)", "One row for each patient: label, score, probability, range."),
    "cells.parquet": (
        "Cells (Parquet)",
        "One row for each input cell, in input order: evidence, attention, map.",
    ),
    "analysis.json": ("Facts (JSON)", "Every number shown here, with settings and versions, for programs."),
}
SOFTWARE = {  # of milcore.export: its button, the ending of its file, what it is for
    "xlsx": ("Excel workbook", "xlsx", "Cells, predictions and phenotypes as sheets, to read and sort."),
    "h5ad": ("AnnData (h5ad)", "h5ad", "Features and results together, for scanpy and R."),
    "qupath": (
        "QuPath table and script",
        "zip",
        "Unpack into a QuPath project; the script colours the slide.",
    ),
    "geojson": ("GeoJSON", "geojson", "Points with their measurements, for viewers of tissue."),
    "csv": ("Cells (CSV)", "csv", "For a spreadsheet; text that it might run is marked."),
}
MODEL_WORDS = "Scores new patients: milscope predict. "
WITH_CELLS = "It holds up to 2,000 cells of each training patient: patient data, to be passed on as such."


@widgets.caught
@widgets.with_analysis
def render(analysis: Analysis) -> None:
    """Draws the view of a finished analysis."""
    target = theme.short(analysis.settings.target, 40)
    widgets.finding(f"The analysis of “{target}” is ready to take away.")
    widgets.quiet("Everything is made on this machine. The report is one file that opens without a network.")
    _page(analysis)
    _slides(analysis)
    st.subheader("Tables", anchor=False)
    for name, (label, words) in FILES.items():
        made = partial(_sheet, analysis) if name == "predictions.csv" else None
        _file(state.workspace().analysis(state.session().analysis) / name, label, words, made)
    st.subheader("For other software", anchor=False)
    widgets.quiet("Ids, coordinates and their unit stay as they were, so that everything joins back.")
    placed = bool(analysis.cells["x"].notna().any())
    for form, (label, ending, words) in SOFTWARE.items():
        _form(analysis, form, label, ending, words, able=placed or form not in ("qupath", "geojson"))
    _model(analysis)


def _sheet(analysis: Analysis) -> bytes:
    """The predictions for a spreadsheet."""
    from milcore.export import sheet

    return sheet(analysis.predictions)


def _form(analysis: Analysis, form: str, label: str, ending: str, words: str, *, able: bool) -> None:
    """A button that makes its file when it is pressed."""

    def made() -> bytes:
        from milcore.export import packed

        return packed(analysis, form)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            label,
            data=made,
            file_name=f"milscope-{state.session().analysis}-cells.{ending}",
            on_click="ignore",
            width=220,
            key=f"form-{form}",
            disabled=not able,
        )
        widgets.quiet(words if able else "These cells have no coordinates.")


def _model(analysis: Analysis) -> None:
    """The file that scores new patients, and what it gives away."""
    path = state.workspace().analysis(state.session().analysis) / "model.safetensors"
    if path.is_file():
        st.subheader("For new patients", anchor=False)
        given = WITH_CELLS if "neighbourhood" in analysis.members else "It holds no cell of any patient."
        _file(path, "Model (safetensors)", MODEL_WORDS + given)


def _page(analysis: Analysis) -> None:
    st.subheader("Report", anchor=False)
    names = list(analysis.predictions["patient"].astype(str).unique())
    chosen = st.multiselect(
        "Pages for patients, after the page of the cohort",
        **state.bind("paged", names),
        placeholder="Without a choice: the patients that tell most",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        form = st.segmented_control(
            "File", **state.bind("form", list(FORMS)), format_func=FORMS.__getitem__, required=True
        )
        size = st.segmented_control(
            "Paper",
            **state.bind("paper", list(PAPERS)),
            format_func=PAPERS.__getitem__,
            required=True,
            disabled=form != "pdf",
        )
        hidden = st.checkbox(
            "Pseudonyms",
            **state.bind("pseudonyms"),
            help="Patients, regions, cells and files get other names; the key is a file of its own",
        )
    asked = (state.session().analysis, str(form), str(size), bool(hidden), tuple(chosen))
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Make the report", type="primary"):
            _make(analysis, asked)
        if state.session().made.get("asked") == asked:
            _downloads(asked)
    if state.session().made.get("asked") == asked and st.toggle("Preview", **state.bind("preview")):
        st.iframe(state.session().made["page"], height=900, alt="Preview of the report")


def _make(analysis: Analysis, asked: tuple[str, str, str, bool, tuple[str, ...]]) -> None:
    """The report as asked for, kept in the session until another one is."""
    from dashboard import paper, report, webpage

    _, form, size, hidden, chosen = asked
    with _told("Writing the report") as progress:
        document, key = report.drafted(analysis, patients=chosen, pseudonyms=hidden, progress=progress)
    page = webpage.html(document)
    content = paper.pdf(document, size=size) if form == "pdf" else page.encode()
    state.jump(made={"asked": asked, "content": content, "key": key, "page": page})


@contextmanager
def _told(words: str) -> Iterator[Progress]:
    """A Progress that is heard on a bar here, until it is done."""
    bar = st.progress(0.0, text=words)

    def tell(event: Event) -> None:
        bar.progress(event.share, text=words)

    yield Progress(tell=tell)
    bar.empty()


def _downloads(asked: tuple[str, str, str, bool, tuple[str, ...]]) -> None:
    made, form = state.session().made, asked[1]
    name = f"milscope-{asked[0]}.{form}"
    size = f"{max(1, len(made['content']) // 1000):,} kB"
    st.download_button(
        f"Download the report ({FORMS[form]}, {size})",
        data=made["content"],
        file_name=name,
        mime=MIME[form],
        on_click="ignore",
    )
    if made["key"] is not None:
        st.download_button(
            "Download the key to the pseudonyms",
            data=made["key"],
            file_name=f"{name}.key.csv",
            mime="text/csv",
            on_click="ignore",
        )


def _slides(analysis: Analysis) -> None:
    """The presentation: which patients it shows is kept with the analysis."""
    st.subheader("Presentation", anchor=False)
    home, key = state.workspace(), state.session().analysis
    names = list(analysis.predictions["patient"].astype(str).unique())
    kept = [name for name in home.about(key).get("slides", []) if name in names]
    if state.session().shown_of != key:
        state.jump(shown=kept, shown_of=key)
    chosen = st.multiselect(
        "Patients on slides, after the slides of the cohort",
        **state.bind("shown", names),
        placeholder="Without a choice: the four that tell most",
    )
    if chosen != kept:
        home.note(key, slides=chosen)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Prepare the slides"):
            _prepare(analysis, key, chosen)
        if state.session().slides.get("asked") == (key, tuple(chosen)):
            page = state.session().slides["page"]
            browser.present(page, "present")
            st.download_button(
                "Download the slides (HTML)",
                data=page.encode(),
                file_name=f"milscope-{key}-slides.html",
                mime="text/html",
                on_click="ignore",
            )
    widgets.quiet("Over the whole screen: arrow keys turn the slides, Escape ends. The choice is kept.")


def _prepare(analysis: Analysis, key: str, chosen: list[str]) -> None:
    from dashboard import slides, webpage

    with _told("Preparing the slides") as progress:
        document = slides.describe(analysis, patients=chosen, progress=progress)
    state.jump(slides={"asked": (key, tuple(chosen)), "page": webpage.slides(document)})


def _file(path: Path, label: str, words: str, made: Callable[[], bytes] | None = None) -> None:
    """A button that hands out a file of the analysis, or what is `made` in its stead."""
    with st.container(horizontal=True, vertical_alignment="center"):
        name = f"milscope-{state.session().analysis}-{path.name}"
        st.download_button(
            label, data=made or path.read_bytes, file_name=name, on_click="ignore", width=220, key=path.name
        )
        widgets.quiet(words)
