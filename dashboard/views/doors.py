"""Ways in for tables: uploaded from the browser, or chosen in the data folders of this computer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from dashboard import state, widgets
from dashboard.workspace import TABLES, tables_in

ENDINGS = sorted({ending.rsplit(".", 1)[-1] for ending in TABLES})
OF_PATIENTS = ["xlsx", "csv", "tsv", "txt", "gz"]


@dataclass(frozen=True)
class Tables:
    """Files to be read, and what to call them."""

    cells: list[Path]
    patients: Path | None
    name: str


def uploaded(key: str, button: str) -> Tables | None:
    """Fields for an upload, and its files once the button is pressed."""
    # A form: its button waits for files still on their way, which a plain button does not; its click was lost.
    with st.form(f"{key}-form", border=False):
        cells = st.file_uploader(
            "Cells: CSV, Parquet, h5ad, FCS, or a zip of many",
            type=ENDINGS,
            accept_multiple_files=True,
            key=f"{key}-cells",
        )
        patients = st.file_uploader(
            "Patients: Excel, CSV or TSV (optional)", type=OF_PATIENTS, key=f"{key}-patients"
        )
        asked = st.form_submit_button(button)
    if asked and not cells:
        widgets.card("stop", "No cell table was chosen.", "Choose a file under Cells, then press again.")
    if not asked or not cells:
        return None
    home = state.workspace()
    state.afford(sum(file.size for file in (*cells, *([patients] if patients else []))))
    kept = [home.keep_upload(file.name, file) for file in cells]
    about = home.keep_upload(patients.name, patients) if patients else None
    return Tables(kept, about, widgets.listed([file.name for file in cells]))


def from_here(folders: list[Path], button: str) -> Tables | None:
    """Menus of the tables in the data folders, and the chosen ones once the button is pressed."""
    found = {_short(path, folders): path for path in tables_in(folders)}
    if not found:
        widgets.say("There is no table in the data folders.")
        return None
    cells = st.multiselect(
        "Cell tables", **state.bind("file_cells", list(found)), placeholder="Choose one or more"
    )
    about = ["", *found]
    patients = st.selectbox("Patients (optional)", **state.bind("file_patients", about), format_func=_or_none)
    if not st.button(button, disabled=not cells):
        return None
    return Tables([found[name] for name in cells], found.get(patients), widgets.listed(cells))


def _short(path: Path, folders: list[Path]) -> str:
    folder = next(folder for folder in folders if path.is_relative_to(folder))
    return str(path.relative_to(folder.parent))


def _or_none(name: str) -> str:
    return name or "none"
