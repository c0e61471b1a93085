"""What a reader is told: each check finds its fault and no other, and mappings bring back the same roles."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboard import worker
from dashboard.workspace import Workspace
from milcore.cohort import Cohort, Note
from milcore.columns import Columns
from milcore.errors import MilError
from milcore.inspection import GRADES
from milcore.mapping import overruled, read_mapping
from milcore.progress import Progress
from milcore.readers import read_cohort
from tests.tiny import milscope


def tidy(patients: int = 8, each: int = 30, **more: Any) -> pd.DataFrame:
    """Cells without a fault; `more` replaces or adds columns."""
    rng = np.random.default_rng(3)
    n = patients * each
    table = {
        "patient": np.repeat([f"P{i}" for i in range(patients)], each),
        "region": np.repeat([f"P{i // 2}-{i % 2}" for i in range(2 * patients)], each // 2),
        "cell_id": np.arange(n),
        "X_um": rng.uniform(0, 900, n).round(1),
        "Y_um": rng.uniform(0, 900, n).round(1),
        "CD3": rng.gamma(2, 200, n).round(2),
        "CD8": rng.gamma(2, 200, n).round(2),
        "cell_type": rng.choice(["T", "B", "NK"], n),
    }
    return pd.DataFrame({**table, **more})


def read(folder: Path, table: pd.DataFrame, outcome: pd.DataFrame | None = None, **asked: Any) -> Cohort:
    table.to_csv(folder / "cells.csv", index=False)
    if outcome is not None:
        outcome.to_csv(folder / "patients.csv", index=False)
    file = folder / "patients.csv" if outcome is not None else None
    return read_cohort([folder / "cells.csv"], patients=file, columns=Columns(**asked))


def note(cohort: Cohort, kind: str) -> Note:
    (found,) = [note for note in cohort.notes if note.kind == kind]
    return found


LABELS = pd.DataFrame({"patient": [f"P{i}" for i in range(8)], "response": ["yes", "no"] * 4})


def test_a_tidy_table_has_nothing_to_say(tmp_path: Path) -> None:
    assert read(tmp_path, tidy(), LABELS).notes == ()


N = 240
CODES = {"T": 4, "B": 7, "NK": 9}
FAULTS = {
    "few_patients": (tidy(3), "3 patients"),
    "uneven_patients": (pd.concat([tidy(7), tidy(1, 7000, patient="big", region="b")]), "'big' 7,000"),
    "region_in_two_patients": (tidy(region=[*["P1-0"] * 3, *tidy()["region"][3:]]), "'P1-0'"),
    "dropped_code": (tidy(code=tidy()["cell_type"].map(CODES)), "'code'"),
    "negative_values": (tidy(CD4=[-3.0, *tidy()["CD3"][1:]]), "'CD4'"),
    "saturated": (tidy(CD4=np.minimum(tidy()["CD3"] + 1, 700)), "'CD4'"),
    "mixed_units": (tidy(**{"Area px": tidy()["CD3"] * 2}), "pixels ('Area px')"),
    "thousands": (tidy(CD4=[f"{1000 + 7 * i:,}" for i in range(N)]), "'CD4'"),
    "mixed_types": (tidy(CD4=["n.d.", *(tidy()["CD3"] * 2).astype(str)[1:]]), "row 1, 'n.d.'"),
    "dropped_empty": (tidy(nothing=np.nan), "'nothing'"),
    "dropped_duplicate": (tidy(again=tidy()["CD3"]), "'again'"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found_and_no_other(tmp_path: Path, kind: str) -> None:
    table, said = FAULTS[kind]
    cohort = read(tmp_path, table)
    assert {each.kind for each in cohort.notes} - {"duplicate_cell_ids", "missing_values"} == {kind}
    assert said in note(cohort, kind).words
    assert note(cohort, kind).severity == GRADES.get(kind, ("note",))[0]


def test_regions_numbered_anew_in_each_patient_are_no_fault(tmp_path: Path) -> None:
    assert read(tmp_path, tidy(region=np.tile(np.repeat(["1", "2"], 15), 8)), LABELS).notes == ()


def test_a_feature_that_is_the_label_stops(tmp_path: Path) -> None:
    """Copies of MUSK go round with the label as feature 167."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 40)
    bags = np.repeat([f"b{i}" for i in range(40)], sizes)
    label = np.repeat(np.arange(40) % 2, sizes)
    table = pd.DataFrame({"bag": bags, "f1": rng.normal(size=len(bags)), "f167": label})
    outcome = pd.DataFrame(
        {"bag": [f"b{i}" for i in range(40)], "class": np.where(np.arange(40) % 2, "musk", "non")}
    )
    cohort = read(tmp_path, table, outcome)
    found = note(cohort, "label_as_feature")
    assert (found.severity, cohort.notes[0]) == ("stop", found)
    assert "'f167'" in found.words
    assert "'class'" in found.words
    assert "--drop 'f167'" in found.fix
    clean = read(tmp_path, table, outcome, drop=("f167",))
    assert "label_as_feature" not in {each.kind for each in clean.notes}
    files = [tmp_path / "cells.csv", "--patients", tmp_path / "patients.csv"]
    assert milscope("check", *files).returncode == 1
    run = milscope("run", *files, "--target", "class", "--out", tmp_path / "out")
    assert run.returncode == 2
    assert "says the same as 'class'" in run.stderr
    assert not (tmp_path / "out").exists()


def test_a_table_of_patients_is_no_table_of_cells(tmp_path: Path) -> None:
    wide = pd.DataFrame({"patient": [f"P{i}" for i in range(9)], "dose": np.arange(9) ** 2})
    wide["age"] = np.arange(9) * 1.5 + 40
    assert note(read(tmp_path, wide), "one_row_each").severity == "stop"
    with pytest.raises(MilError, match="each of another patient") as caught:
        read(tmp_path, wide[:8], tidy())
    assert "swapped" in caught.value.fix


# Mappings


def test_a_mapping_brings_back_the_same_roles(tmp_path: Path) -> None:
    first = read(tmp_path, tidy(), LABELS, patient="region", drop=("CD8",))
    first.save(tmp_path / "cohort")
    kept = json.loads((tmp_path / "cohort" / "mapping.json").read_text())
    assert kept["columns"]["patient"] == "region"
    columns = read_mapping(tmp_path / "cohort" / "mapping.json")
    again = read(tmp_path, tidy(), None, **vars(columns))
    assert again.names == first.names == ("CD3",)
    assert again.patients["patient"].tolist() == first.patients["patient"].tolist()


def test_made_columns_are_made_anew_by_a_mapping(tmp_path: Path) -> None:
    for name in ("A-1", "A-2", "B-1"):
        tidy(1).drop(columns=["patient", "region"]).to_csv(tmp_path / f"{name}.csv", index=False)
    first = read_cohort([tmp_path])
    first.write_mapping(tmp_path / "m.json")
    columns = read_mapping(tmp_path / "m.json")
    assert (columns.patient, columns.pattern) == (None, "{patient}-{region}")
    again = read_cohort([tmp_path], columns=columns)
    assert again.fingerprint == first.fingerprint


def test_what_is_asked_for_besides_wins() -> None:
    kept = Columns(patient="p", pattern="{patient}", features=("a", "b", "c"), bag="region")
    mixed = overruled(kept, Columns(patient="q", drop=("b",), labels=("c",)))
    assert mixed == Columns(patient="q", features=("a",), drop=("b",), labels=("c",), bag="region")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 9, "columns": {}}',
        '{"version": 1, "columns": {"patien": "x"}}',
        '{"version": 1, "columns": {"features": "CD3"}}',
        '{"version": 1, "columns": {"merge_labels": "yes"}}',
    ],
)
def test_a_damaged_mapping_is_a_problem_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(MilError) as caught:
        read_mapping(tmp_path / "m.json")
    assert "m.json" in caught.value.problem
    assert caught.value.fix


def test_check_writes_a_mapping_that_check_takes(tmp_path: Path) -> None:
    tidy().to_csv(tmp_path / "cells.csv", index=False)
    first = milscope("check", tmp_path / "cells.csv", "--drop", "CD8", "--write-mapping", tmp_path / "m.json")
    assert first.returncode == 0, first.stderr
    second = milscope("check", tmp_path / "cells.csv", "--mapping", tmp_path / "m.json", "--bag", "region")
    assert "16 regions" in second.stdout
    assert "1 features" in second.stdout
    assert milscope("check", tmp_path / "cells.csv", "--mapping", tmp_path / "none.json").returncode == 1
    nowhere = milscope("check", tmp_path / "cells.csv", "--write-mapping", tmp_path / "no" / "m.json")
    assert (nowhere.returncode, "Traceback" in nowhere.stderr) == (1, False)


def test_roles_that_were_changed_are_remembered_for_tables_of_the_same_columns(tmp_path: Path) -> None:
    home, plain = Workspace(tmp_path / "home"), asdict(Columns())

    def stored(seed: int, **more: Any) -> Cohort:
        file = tmp_path / f"{seed}.csv"
        tidy(CD3=np.random.default_rng(seed).gamma(2, 200, N)).to_csv(file, index=False)
        request = {
            "cells": [str(file)],
            "patients": "",
            "columns": {**plain, **more.pop("columns", {})},
            **more,
        }
        return Cohort.open(home.cohort(worker.read(request, home, Progress())))

    assert stored(1).names == ("CD3", "CD8")
    assert stored(1, columns={"drop": ["CD8"]}, remember=True).names == ("CD3",)
    later = stored(2)
    assert later.names == ("CD3",)
    assert "remembered" in {each.kind for each in later.notes}
    assert stored(3, columns={"features": ["CD8"]}).names == ("CD8",)
