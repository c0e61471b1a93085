"""Reading: formats, roles of columns, what bad input gets, and the real cohorts."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milcore.cohort import Cohort
from milcore.columns import Columns, recognise
from milcore.errors import MilError
from milcore.names import folded
from milcore.readers import read_cohort


def cells(patients: int = 4, each: int = 6, **more: object) -> pd.DataFrame:
    """A tidy cell table; `more` replaces or adds columns."""
    rng = np.random.default_rng(0)
    n = patients * each
    table = {
        "patient_id": np.repeat([f"P{i:02d}" for i in range(patients)], each),
        "cell_id": np.tile(np.arange(each), patients),
        "x": rng.random(n).round(3),
        "y": rng.random(n).round(3),
        "CD3": rng.normal(size=n).round(3),
        "CD8": rng.normal(size=n).round(3),
    }
    return pd.DataFrame({**table, **more})


def read(
    folder: Path, table: pd.DataFrame, patients: pd.DataFrame | None = None, **columns: object
) -> Cohort:
    table.to_csv(folder / "cells.csv", index=False)
    if patients is not None:
        patients.to_csv(folder / "patients.csv", index=False)
    file = folder / "patients.csv" if patients is not None else None
    return read_cohort([folder / "cells.csv"], patients=file, columns=Columns(**columns))  # type: ignore[arg-type]


def refused(
    folder: Path, table: pd.DataFrame, patients: pd.DataFrame | None = None, **columns: object
) -> MilError:
    with pytest.raises(MilError) as caught:
        read(folder, table, patients, **columns)
    assert caught.value.problem
    assert caught.value.fix
    return caught.value


def words(cohort: Cohort, kind: str) -> str:
    """The words of the only note of this kind."""
    (note,) = [note for note in cohort.notes if note.kind == kind]
    return note.words


def roles(cohort: Cohort) -> dict[str, str]:
    return {column["name"]: column["role"] for column in cohort.source["columns"]}


def outcome(act: Callable[[], Any]) -> tuple[Any, MilError | None]:
    """What a call gives, or the problem it names; anything else it raises is a failure."""
    try:
        return act(), None
    except MilError as error:
        return None, error


# Formats


@pytest.mark.parametrize(
    "name", ["c.csv", "c.tsv", "c.txt", "semicolon.csv", "c.csv.gz", "c.parquet", "c.h5ad"]
)
def test_every_format_gives_the_same_cohort(tmp_path: Path, name: str) -> None:
    table, file = cells(cell_type=["T", "B", None] * 8), tmp_path / name
    if name.endswith("parquet"):
        table.to_parquet(file)
    elif name.endswith("h5ad"):
        write_h5ad(table, file)
    else:
        separator = {"c.tsv": "\t", "c.txt": "\t", "semicolon.csv": ";"}.get(name, ",")
        text = table.to_csv(index=False, sep=separator)
        file.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else ("\ufeff" + text).encode())
    cohort = read_cohort([file])
    assert (cohort.N, cohort.B, cohort.names) == (24, 4, ("CD3", "CD8"))
    np.testing.assert_array_equal(cohort.features, table[["CD3", "CD8"]].to_numpy(np.float32))
    np.testing.assert_array_equal(cohort.cells["x"], table["x"].to_numpy(np.float32))
    assert cohort.cells["cell_id"].astype(str).str.removeprefix("P00-").tolist()[:6] == list("012345")
    assert cohort.cells["cell_type"].astype(object).fillna("-").tolist()[:3] == ["T", "B", "-"]
    assert cohort.patients["patient"].tolist() == ["P00", "P01", "P02", "P03"]


def write_h5ad(table: pd.DataFrame, file: Path) -> None:
    import anndata
    from scipy.sparse import csr_matrix

    obs = table[["patient_id", "cell_type"]].astype({"cell_type": "category", "patient_id": "string"})
    obs.index = table["patient_id"] + "-" + table["cell_id"].astype(str)
    matrix = table[["CD3", "CD8"]].to_numpy(np.float32)
    data = anndata.AnnData(csr_matrix(matrix), obs=obs.assign(area=np.arange(24.0) ** 2))
    data.var_names = ["CD3", "CD8"]
    data.obsm["spatial"] = table[["x", "y"]].to_numpy()
    with anndata.settings.override(allow_write_nullable_strings=True):
        data.write_h5ad(file)


def test_files_are_stacked_and_order_leads_back_to_the_input(tmp_path: Path) -> None:
    table = cells().sample(frac=1, random_state=1)
    table.iloc[:10].to_csv(tmp_path / "a.csv", index=False)
    table.iloc[10:][table.columns[::-1]].to_csv(tmp_path / "b.csv", index=False)
    cohort = read_cohort([tmp_path / "a.csv", tmp_path / "b.csv"])
    back = np.argsort(cohort.order)
    np.testing.assert_array_equal(cohort.features[back, 0], table["CD3"].to_numpy(np.float32))
    assert cohort.source["files"] == ["a.csv", "b.csv"]


def test_a_column_missing_in_one_file_is_named(tmp_path: Path) -> None:
    cells().to_csv(tmp_path / "a.csv", index=False)
    cells().drop(columns="CD8").to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(MilError, match=r"'b\.csv' has no column 'CD8'"):
        read_cohort([tmp_path / "a.csv", tmp_path / "b.csv"])


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.csv", None, "There is no file 'absent.csv'"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"patient_id,CD3\n", "has no rows"),
        ("picture.png", b"\x89PNG", "of no kind that can be read"),
        ("cells.parquet.gz", b"PAR1", "of no kind that can be read"),
        ("binary.csv", b"a,b\0\0\n1,2\n", "is not a text table"),
        ("lies.parquet", b"a,b\n1,2\n", "cannot be read"),
        ("lies.h5ad", b"a,b\n1,2\n", "cannot be read"),
        ("lies.csv.gz", b"a,b\n1,2\n", "cannot be read"),
        ("ragged.csv", b"patient,CD3\np,1,2,3\n", "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_a_problem_in_words(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MilError, match=problem) as caught:
        read_cohort([tmp_path / name])
    assert caught.value.fix


def test_decimal_commas_are_numbers_where_the_separator_is_another(tmp_path: Path) -> None:
    table = cells(CD3=["1,5", "-2", ",25", "3,"] * 6, CD8=["0,1", "n.d.", "0,3", *["1,5e2"] * 21])
    table.to_csv(tmp_path / "cells.csv", sep=";", index=False, decimal=",")
    outcome = pd.DataFrame({"Code": [f"P{i:02d}" for i in range(4)], "dose": ["1,5", "-2", ",25", "3,"]})
    outcome["pair"] = ["1,2,3", "4,5", "6", "7,8"]
    outcome.to_csv(tmp_path / "patients.tsv", sep="\t", index=False)
    cohort = read_cohort([tmp_path / "cells.csv"], patients=tmp_path / "patients.tsv")
    assert cohort.names == ("CD3", "CD8")
    assert cohort.features[:4, 0].tolist() == [1.5, -2, 0.25, 3]
    np.testing.assert_array_equal(cohort.features[:4, 1], np.array([0.1, np.nan, 0.3, 150], np.float32))
    assert cohort.label("dose").tolist() == [1.5, -2, 0.25, 3]
    assert cohort.label("pair").tolist() == ["1,2,3", "4,5", "6", "7,8"]
    said = [note.words for note in cohort.notes if note.kind == "decimal_comma"]
    assert [text.partition("numbers ")[2] for text in said] == [
        "(4): 'x', 'y', 'CD3', 'CD8'.",
        "(1): 'dose'.",
    ]


def test_a_comma_that_parts_numbers_is_no_decimal_comma(tmp_path: Path) -> None:
    table = cells(place=[f"{i},{i + 1}" for i in range(24)])
    for separator in "\t,":
        table.to_csv(tmp_path / "cells.csv", sep=separator, index=False)
        cohort = read_cohort([tmp_path / "cells.csv"])
        assert cohort.names == ("CD3", "CD8")
        assert "decimal_comma" not in {note.kind for note in cohort.notes}


# Roles


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Patient ID", "patientid"),
        ("PatientID", "patientid"),
        ("Centroid X µm", "centroidx"),
        ("Centroid X Âµm", "centroidx"),
        ("Centroid.X.px", "centroidx"),
        ("X_centroid", "xcentroid"),
        ("Cell Area (µm²)", "cellarea"),
        ("um", "um"),
    ],
)
def test_names_are_compared_without_case_separators_and_units(name: str, plain: str) -> None:
    assert folded(name) == plain


def test_where_patient_and_sample_exist_the_sample_is_the_region(tmp_path: Path) -> None:
    table = cells(sample_id=np.repeat([f"s{i}" for i in range(8)], 3))
    assert roles(read(tmp_path, table))["sample_id"] == "region"
    alone = read(tmp_path, table.drop(columns="patient_id"))
    assert (roles(alone)["sample_id"], alone.B) == ("patient", 8)
    assert "'sample_id'" in words(alone, "sample_as_patient")


def test_without_a_patient_column_the_candidates_are_listed(tmp_path: Path) -> None:
    table = cells().rename(columns={"patient_id": "who"})
    error = refused(tmp_path, table)
    assert "--patient" in error.fix
    assert "'who'" in error.fix
    assert "CD3" not in error.fix
    assert read(tmp_path, table, patient="who").B == 4


def test_bag_region_needs_a_region(tmp_path: Path) -> None:
    assert "--region" in refused(tmp_path, cells(), bag="region").fix


@pytest.mark.parametrize("option", ["patient", "x", "known", "cell_type"])
def test_a_column_that_is_not_there_is_answered_with_close_names(tmp_path: Path, option: str) -> None:
    error = refused(tmp_path, cells(), **{option: "cd33"})
    assert "'cd33'" in error.problem
    assert "'CD3'" in error.fix


def test_features_and_drop_are_obeyed_and_explained(tmp_path: Path) -> None:
    assert read(tmp_path, cells(), drop=("CD3",)).names == ("CD8",)
    only = read(tmp_path, cells(cell_type=["T", "B"] * 12), features=("CD3", "cell_type"))
    assert only.names == ("CD3", "cell_type: B", "cell_type: T")
    assert roles(only)["CD8"] == "left out"
    assert "feature" in refused(tmp_path, cells(), features=("patient_id",)).problem
    assert "exclude" in refused(tmp_path, cells(), features=("CD3",), drop=("CD3",)).problem


def test_what_is_never_a_feature(tmp_path: Path) -> None:
    table = cells(
        5,
        8,
        running=np.arange(40) + 7,
        within=np.tile(np.arange(8), 5),
        age=np.repeat([50, 60, 70, 61, 55], 8),
        site=np.repeat(list("aabbb"), 8),
        truth=np.tile([0, 1], 20),
        area=np.arange(40) % 7,
        X_centroid=np.arange(40) / 3,
        constant=1.5,
        empty=np.nan,
        note=[f"cell number {i}" for i in range(40)],
        stage=np.tile([1, 2, 3, 4], 10),
    )
    table["copy"] = table["CD3"]
    cohort = read(tmp_path, table, pd.DataFrame({"patient_id": ["P00"], "stage": [2]}), known="truth")
    assert cohort.names == ("CD3", "CD8", "area")
    found = roles(cohort)
    assert {name for name, role in found.items() if role == "label"} == {"age", "site"}
    assert found["truth"] == "known"
    assert cohort.label("age").tolist() == [50, 60, 70, 61, 55]
    assert cohort.cells["truth"].tolist() == table["truth"].tolist()
    assert "'constant'" in words(cohort, "dropped_constant")
    assert "'copy'" in words(cohort, "dropped_duplicate")
    assert "'empty'" in words(cohort, "dropped_empty")


def test_numbers_constant_in_tiny_patients_stay_features_and_are_said(tmp_path: Path) -> None:
    table = cells(8, 2, n=np.repeat([3, 1, 4, 1, 5, 9, 2, 6], 2))
    cohort = read(tmp_path, table)
    assert "n" in cohort.names
    assert "within a patient (1): 'n'" in words(cohort, "constant_within_patients")
    asked = read(tmp_path, table, features=("CD3", "n"))
    assert "constant_within_patients" not in {note.kind for note in asked.notes}


def test_a_number_of_a_region_is_no_feature_unasked(tmp_path: Path) -> None:
    table = cells(4, 12, roi=np.repeat([f"r{i}" for i in range(8)], 6))
    table["area"] = np.repeat(np.arange(8) ** 2 + 0.5, 6)
    cohort = read(tmp_path, table)
    assert cohort.names == ("CD3", "CD8")
    (area,) = [column for column in cohort.source["columns"] if column["name"] == "area"]
    assert (area["role"], "within a region" in area["why"]) == ("left out", True)
    assert read(tmp_path, table, features=("CD3", "area")).names == ("CD3", "area")
    table.loc[0, "area"] = 7  # varies in one region, so it may be of cells
    assert "area" in read(tmp_path, table).names
    small = cells(4, 4, roi=np.repeat([f"r{i}" for i in range(8)], 2), area=np.repeat(np.arange(8) + 0.5, 2))
    assert "area" in read(tmp_path, small).names


@pytest.mark.parametrize("values", [["T", "B"], [1, 2], [0.5, 1.5]])
def test_a_known_column_is_never_the_cell_type(tmp_path: Path, values: list[object]) -> None:
    cohort = read(tmp_path, cells(cell_type=values * 12), known="cell_type")
    assert "cell_type" not in cohort.cells
    assert roles(cohort)["known: cell_type"] == "known"
    assert cohort.cells["known: cell_type"].tolist() == values * 12
    both = read(tmp_path, cells(cell_type=values * 12, phenotype=["x", "y"] * 12), known="known: cell_type")
    assert both.cells["cell_type"].tolist() == ["x", "y"] * 12
    assert both.cells["known: cell_type"].tolist() == values * 12
    dropped = read(tmp_path, cells(cell_type=values * 12), drop=("known: cell_type",))
    assert roles(dropped)["cell_type"] == "left out"


def test_categories_are_features_only_without_numbers(tmp_path: Path) -> None:
    table = cells(cell_type=["B cell", "T cell", None] * 8)
    assert read(tmp_path, table).names == ("CD3", "CD8")
    cohort = read(tmp_path, table.drop(columns=["CD3", "CD8"]))
    assert cohort.names == ("cell_type: B cell", "cell_type: T cell")
    np.testing.assert_array_equal(cohort.features[:3], [[1, 0], [0, 1], [np.nan, np.nan]])


def test_names_that_mean_something_to_the_table_library_are_only_names(tmp_path: Path) -> None:
    table = cells().rename(columns={"CD3": "*", "CD8": "^C.*$"})
    assert read(tmp_path, table).names == ("* ", "^C.*$ ")


# What bad input gets


def test_no_usable_feature_is_a_problem_that_says_why(tmp_path: Path) -> None:
    error = refused(tmp_path, cells(CD3=1, CD8=1))
    assert "no usable feature" in error.problem
    assert "'CD3': it has one value everywhere" in error.where


def test_some_text_among_numbers_counts_as_missing_and_is_quoted(tmp_path: Path) -> None:
    table = cells(4, 30)
    table["CD3"] = table["CD3"].astype(object)
    table.loc[[7, 9], "CD3"] = "n.d."
    cohort = read(tmp_path, table)
    assert np.isnan(cohort.features[[7, 9], 0]).all()
    assert "'CD3' holds text in 2 of 120 rows (first: row 8, 'n.d.')" in words(cohort, "mixed_types")


def test_a_late_stray_text_is_found_too(tmp_path: Path) -> None:
    table = cells(4, 3000)
    table["CD3"] = [*table["CD3"][:-1].astype(str), "oops"]
    assert "row 12,000, 'oops'" in words(read(tmp_path, table), "mixed_types")


def test_much_text_among_numbers_makes_the_column_text(tmp_path: Path) -> None:
    table = cells()
    table["CD3"] = table["CD3"].astype(object)
    table.loc[:7, "CD3"] = "low"
    cohort = read(tmp_path, table)
    assert cohort.names == ("CD8",)
    assert "not a feature" in words(cohort, "mixed_types")


def test_infinite_and_missing_values_are_said(tmp_path: Path) -> None:
    table = cells()
    table.loc[0, "CD3"], table.loc[1, "CD3"], table.loc[5, "CD8"] = np.inf, -np.inf, np.nan
    cohort = read(tmp_path, table)
    assert np.isnan(cohort.features[:2, 0]).all()
    assert "(2), in 'CD3'" in words(cohort, "infinite_values")
    said = words(cohort, "missing_values")
    assert "3 of 48 (6.25%), in 2 of 2 features" in said
    assert "the neighbour graph and the plain baselines from all cells, without labels" in said


def test_cells_without_patient_are_left_out_and_counted(tmp_path: Path) -> None:
    table = cells()
    table.loc[3:5, "patient_id"] = None
    cohort = read(tmp_path, table)
    assert (cohort.N, cohort.inputs) == (21, 24)
    assert not set(cohort.order) & {3, 4, 5}
    assert "3 of 24 cells" in words(cohort, "cells_without_patient")
    assert (
        "No cell has a patient" in refused(tmp_path, cells(patient_id=np.nan), patient="patient_id").problem
    )


def test_duplicated_cell_ids_and_single_cells_are_said(tmp_path: Path) -> None:
    table = cells()
    table.loc[1, "cell_id"] = 0
    assert "2 of 24 cells" in words(read(tmp_path, table), "duplicate_cell_ids")
    assert words(read(tmp_path, table.iloc[:7]), "one_cell").endswith(": 1.")


def test_without_cell_ids_they_are_numbered_per_patient(tmp_path: Path) -> None:
    cohort = read(tmp_path, cells().drop(columns="cell_id"))
    assert cohort.cells["cell_id"].tolist() == list(range(1, 7)) * 4


def test_patient_ids_are_kept_as_written(tmp_path: Path) -> None:
    for ids, text in ((["01", "02"], ["01", "02"]), ([1, 2], ["1", "2"])):
        table = cells(2, 5, patient_id=np.repeat(ids, 5))
        assert read(tmp_path, table).patients["patient"].tolist() == text
    table["patient_id"] = table["patient_id"].astype(float)
    table.to_parquet(tmp_path / "c.parquet")
    assert read_cohort([tmp_path / "c.parquet"]).patients["patient"].tolist() == ["1", "2"]


def test_a_label_in_the_cell_table_must_not_vary_within_a_patient(tmp_path: Path) -> None:
    table = cells(response=["yes"] * 9 + ["no"] * 15, roi=np.repeat([f"r{i}" for i in range(8)], 3))
    error = refused(tmp_path, table, labels=("response",))
    assert "'P01'" in error.problem
    assert "'yes'" in error.problem
    assert "'no'" in error.problem
    assert "--bag region" in error.fix
    cohort = read(tmp_path, table, labels=("response",), bag="region")
    assert cohort.label("response").tolist() == ["yes"] * 3 + ["no"] * 5
    assert cohort.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


# The patients file


def test_patients_are_joined_exactly_then_forgivingly_and_the_rest_is_said(tmp_path: Path) -> None:
    outcome = pd.DataFrame(
        {"ID": ["p00 ", "P01", "P02", "P77"], "response": ["a", "b", "a", "b"], "age": [1, 2, 3, 4]}
    )
    cohort = read(tmp_path, cells(), outcome)
    assert cohort.label("response").fillna("-").tolist() == ["a", "b", "a", "-"]
    assert [str(age) for age in cohort.label("age")] == ["1", "2", "3", "<NA>"]
    assert "'P00'" in words(cohort, "forgiving_match")
    assert "'P03'" in words(cohort, "unmatched_patients")
    assert "'P77'" in words(cohort, "patients_without_cells")


def test_a_patients_file_that_cannot_be_joined_is_a_problem(tmp_path: Path) -> None:
    twice = pd.DataFrame({"patient_id": ["P00", "P01", "P01"], "response": list("aba")})
    assert "'P01' twice, in rows 2 and 3" in refused(tmp_path, cells(), twice).problem
    strangers = pd.DataFrame({"patient_id": ["A", "B"], "response": list("ab")})
    assert "'A'" in refused(tmp_path, cells(), strangers).where
    keyless = pd.DataFrame({"name": ["A", "B"], "response": list("ab")})
    assert "'patient_id'" in refused(tmp_path, cells(), keyless).fix


def test_regions_are_joined_on_their_own_column(tmp_path: Path) -> None:
    table = cells(sample_id=np.repeat([f"s{i}" for i in range(8)], 3))
    outcome = pd.DataFrame({"sample_id": [f"s{i}" for i in range(8)], "condition": ["a", "b"] * 4})
    cohort = read(
        tmp_path, table, outcome.assign(patient_id=np.repeat(["P00", "P01", "P02", "P03"], 2)), bag="region"
    )
    assert cohort.label("condition").tolist() == ["a", "b"] * 4
    assert read(tmp_path, table, outcome, bag="region").label("condition").tolist() == ["a", "b"] * 4
    by_patient = pd.DataFrame({"patient_id": ["P00", "P01", "P02", "P03"], "site": list("abab")})
    assert read(tmp_path, table, by_patient, bag="region").label("site").tolist() == list("aabbaabb")


def test_ids_are_matched_as_written_whatever_their_column_is_called(tmp_path: Path) -> None:
    table = cells(patient_id=np.repeat(["000", "001", "01", "1"], 6))
    outcome = pd.DataFrame({"Code": ["000", "001", "01", "1"], "age": ["07", "8", "9", "10"]})
    cohort = read(tmp_path, table, outcome)
    assert cohort.label("age").tolist() == [7, 8, 9, 10]
    assert "Code" not in cohort.patients
    assert not {"unmatched_patients", "forgiving_match"} & {note.kind for note in cohort.notes}


def test_a_target_in_both_tables_is_taken_from_the_patients_file(tmp_path: Path) -> None:
    outcome = pd.DataFrame(
        {"patient_id": ["P00", "P01", "P02", "P03"], "response": ["yes", "no", "yes", None]}
    )
    table = cells(response=np.repeat(["Yes", "no", "yes", None], 6))
    cohort = read(tmp_path, table, outcome, labels=("response",))
    assert cohort.label("response").fillna("-").tolist() == ["yes", "no", "yes", "-"]
    assert list(cohort.patients) == ["patient", "response"]
    assert roles(cohort)["response"] == "left out"
    assert words(cohort, "target_in_both").endswith("They agree.")
    table["response"] = ["no"] * 9 + ["yes"] * 15  # varies within P01
    cohort = read(tmp_path, table, outcome, labels=("response",))
    assert cohort.label("response").fillna("-").tolist() == ["yes", "no", "yes", "-"]
    said = "They differ for 2 of 4 patients: 'P00', 'P01'; patients with one in the cell table only: 1."
    assert words(cohort, "target_in_both").endswith(said)


@pytest.mark.parametrize(
    ("here", "there"), [([0.1, 2, 3, 4], [0.1, 2, 3, 4]), ([1, 2, 3, 4], [1.0, 2, 3, 4])]
)
def test_numbers_of_both_tables_agree_however_they_are_stored(
    tmp_path: Path, here: list[float], there: list[float]
) -> None:
    outcome = pd.DataFrame({"patient_id": ["P00", "P01", "P02", "P03"], "score": there})
    cohort = read(tmp_path, cells(score=np.repeat(here, 6)), outcome, labels=("score",))
    assert words(cohort, "target_in_both").endswith("They agree.")


def test_infinite_numbers_of_patients_can_be_read_and_kept(tmp_path: Path) -> None:
    outcome = pd.DataFrame({"patient_id": ["P00", "P01", "P02"], "months": [1.5, np.inf, -np.inf]})
    cohort = read(tmp_path, cells(dose=np.repeat([np.inf, 1, 2, 3], 6)), outcome)
    assert cohort.label("months").tolist()[:3] == [1.5, np.inf, -np.inf]
    opened = cohort.save(tmp_path / "c")
    assert opened.label("months").tolist()[:3] == [1.5, np.inf, -np.inf]


# Any table


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "B", "3", " c"]), st.floats(-9, 9, width=32), st.text(max_size=3)),
        min_size=1,
        max_size=30,
    )
)
def test_any_table_is_read_or_refused_in_words(rows: list[tuple[str, float, str]]) -> None:
    frame = pl.DataFrame(rows, schema=["patient", "m", "t"], orient="row")
    found, error = outcome(lambda: recognise(frame))
    assert error.fix if error else [role.name for role in found if role.role == "patient"] == ["patient"]


# Real cohorts

REAL = [
    ("flowcap_aml_cytodx/cells.parquet", "flowcap_aml_cytodx/patients.csv", Columns(), (10_000, 7, 20)),
    ("schurch_crc_codex/cells.parquet", "schurch_crc_codex/patients.csv", Columns(), (258_385, 11, 35)),
    (
        "keren_tnbc_mibi/cells.parquet",
        "keren_tnbc_mibi/patients.csv",
        Columns(drop=("Au", "Si")),
        (189_380, 42, 39),  # without the code of the cell type
    ),
    ("melanoma_imc_ici/cells.parquet", "melanoma_imc_ici/patients.csv", Columns(), (112_497, 35, 30)),
    ("lung_mif_mxfda/cells.parquet", "lung_mif_mxfda/patients.csv", Columns(bag="region"), (285_412, 6, 247)),
    ("mil_benchmarks/musk1.parquet", "mil_benchmarks/musk1_labels.csv", Columns(), (476, 166, 92)),
    ("mil_benchmarks/elephant.parquet", "mil_benchmarks/elephant_labels.csv", Columns(), (1_391, 110, 200)),
    (
        "pbmc_bcr_xl_catalyst/cells.parquet",
        "pbmc_bcr_xl_catalyst/samples.csv",
        Columns(patient="patient_id", region="sample_id", bag="region"),
        (5_428, 24, 8),
    ),
]


@pytest.mark.cohorts
@pytest.mark.parametrize(("table", "patients", "columns", "shape"), REAL, ids=[row[0] for row in REAL])
def test_real_cohorts_are_read_as_they_are(
    shared_data: Path, table: str, patients: str, columns: Columns, shape: tuple[int, int, int]
) -> None:
    cohort = read_cohort([shared_data / table], patients=shared_data / patients, columns=columns)
    found = (cohort.N, cohort.F, cohort.B)
    assert found == shape
    assert not {"unmatched_patients", "missing_values", "duplicate_cell_ids"} & {
        note.kind for note in cohort.notes
    }
    raw = pl.read_parquet(shared_data / table)
    if cohort.names[0] in raw.columns:
        back = np.argsort(cohort.order)
        np.testing.assert_array_equal(
            cohort.features[back, 0], raw[cohort.names[0]].to_numpy().astype(np.float32)
        )
    sizes = raw.group_by(raw.columns[0]).len()["len"].sort().to_list()
    assert cohort.bag == "region" or sorted(np.diff(cohort.offsets)) == sizes


@pytest.mark.cohorts
def test_every_real_export_is_read_or_refused_in_words(shared_data: Path) -> None:
    read_well = set()
    for file in sorted((shared_data / "export_examples").iterdir()):
        cohort, error = outcome(lambda: read_cohort([file]))  # noqa: B023
        assert error.fix if error else cohort.N, file.name
        read_well |= {file.name} if not error else set()
    assert {"covid_pbmc_example_data.h5ad", "SPIAT_tiny_inform.txt"} <= read_well
