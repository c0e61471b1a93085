"""The cohort: grouping, order, checks, and its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milcore.cohort import Cohort, Note
from milcore.errors import MilError


def small(**more: object) -> Cohort:
    """Five cells of three patients, not grouped in the input."""
    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    patients = pd.DataFrame({"patient": ["c", "a"], "response": ["yes", "no"]})
    cells = pd.DataFrame({"region": ["r1", "r1", "r2", None, "r1"], "kind": ["T", "B", "T", None, "B"]})
    return Cohort.of(features, list("abaca"), names=["f", "g"], patients=patients, cells=cells, **more)  # type: ignore[arg-type]


def test_cells_are_grouped_by_patient_in_order_of_first_appearance() -> None:
    cohort = small()
    assert list(cohort.patients["patient"]) == ["a", "b", "c"]
    assert cohort.order.tolist() == [0, 2, 4, 1, 3]
    assert cohort.offsets.tolist() == [0, 3, 4, 5]
    assert cohort.features[:, 0].tolist() == [0, 4, 8, 2, 6]
    assert cohort.owner.tolist() == [0, 0, 0, 1, 2]
    assert cohort.rows(cohort.position("c")) == slice(4, 5)
    assert cohort.cells["cell_id"].tolist() == [1, 2, 3, 1, 1]


def test_patient_columns_are_joined_and_missing_where_unknown() -> None:
    label = small().label("response")
    assert label.tolist()[0] == "no"
    assert label.isna().tolist() == [False, True, False]


def test_an_unknown_label_or_patient_is_answered_with_close_names() -> None:
    with pytest.raises(MilError, match="respnse") as caught:
        small().label("respnse")
    assert "'response'" in caught.value.fix
    with pytest.raises(MilError, match="no patient 'z'"):
        small().position("z")


def test_numbers_with_gaps_name_patients_as_whole_numbers() -> None:
    cohort = Cohort.of(np.ones((3, 1)), np.array([2.0, 1.0, 2.0]))
    assert cohort.patients["patient"].tolist() == ["2", "1"]


def test_numbered_cell_types_are_kinds_not_amounts() -> None:
    cells = pd.DataFrame({"cell_type": [1.0, 2.0, np.inf, np.nan]})
    kinds = Cohort.of(np.ones((4, 1)), list("aabb"), cells=cells).cells["cell_type"]
    assert kinds.cat.categories.tolist() == ["1", "2", "inf"]
    assert kinds.cat.codes.tolist() == [0, 1, 2, -1]


def test_regions_as_bags_keep_the_true_patient_as_group() -> None:
    cells = pd.DataFrame({"region": ["r1", "r2", "r1", "r1"]})
    cohort = Cohort.of(np.ones((4, 1)), list("aabb"), cells=cells, bag="region")
    assert cohort.patients.to_dict("list") == {"patient": ["a", "a", "b"], "region": ["r1", "r2", "r1"]}
    assert cohort.groups.tolist() == [0, 0, 1]
    assert cohort.position("a", "r2") == 1


def test_arrays_are_read_only() -> None:
    cohort = small()
    for array in (cohort.features, cohort.offsets, cohort.order, cohort.owner, cohort.groups):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_cohort_that_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        Cohort.of(np.ones((2, 2)), ["a", "b"], names=["f", "f"])
    with pytest.raises(ValueError, match="order"):
        Cohort.of(np.ones((2, 2)), ["a", "b"], order=np.array([1, 1]))
    with pytest.raises(ValueError, match="needs a patient"):
        Cohort.of(np.ones((2, 2)), ["a", None])


def test_what_is_saved_is_what_is_opened(tmp_path: Path) -> None:
    cells = pd.DataFrame({"cell_id": ["p", "q", "r", None, "t"], "x": range(5), "kind": list("TBTTB")})
    cohort = Cohort.of(
        np.array([[1.0, np.nan]] * 5),
        list("abaca"),
        cells=cells,
        notes=[Note("missing_values", "half")],
        source={"files": ["f"]},
        order=np.arange(5) + 2,
        inputs=9,
    )
    opened = cohort.save(tmp_path / "c")
    assert isinstance(opened.features, np.memmap)
    np.testing.assert_array_equal(opened.features, cohort.features)
    np.testing.assert_array_equal(opened.order, cohort.order)
    pd.testing.assert_frame_equal(opened.cells, cohort.cells)
    pd.testing.assert_frame_equal(opened.patients, cohort.patients)
    assert (opened.names, opened.notes, opened.source, opened.bag, opened.inputs) == (
        (cohort.names, cohort.notes, cohort.source, cohort.bag, 9)
    )
    assert str(opened.cells["cell_id"].dtype) == "string"
    opened.__dict__.pop("fingerprint")
    assert opened.fingerprint == cohort.fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


def test_saving_replaces_only_a_cohort(tmp_path: Path) -> None:
    first = small().save(tmp_path / "c")
    assert first.save(tmp_path / "c") is first
    small(inputs=7).save(tmp_path / "c")
    assert Cohort.open(tmp_path / "c").inputs == 7
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep")
    with pytest.raises(MilError, match="not a cohort"):
        small().save(tmp_path / "letters")


@pytest.mark.parametrize(
    "name", ["cohort.json", "features.npy", "rows.npz", "cells.parquet", "patients.parquet"]
)
@pytest.mark.parametrize("damage", ["absent", "empty", "garbage"])
def test_a_damaged_folder_is_a_problem_in_words(tmp_path: Path, name: str, damage: str) -> None:
    small().save(tmp_path / "c")
    file = tmp_path / "c" / name
    file.unlink()
    if damage != "absent":
        file.write_bytes(b"" if damage == "empty" else b"no such thing" * 9)
    with pytest.raises(MilError):
        Cohort.open(tmp_path / "c")


def test_another_version_and_a_matrix_of_another_shape_are_refused(tmp_path: Path) -> None:
    small().save(tmp_path / "c")
    np.save(tmp_path / "c" / "features.npy", np.ones((4, 2), np.float32))
    with pytest.raises(MilError, match="damaged"):
        Cohort.open(tmp_path / "c")
    facts = json.loads((tmp_path / "c" / "cohort.json").read_text())
    (tmp_path / "c" / "cohort.json").write_text(json.dumps(facts | {"version": 99}))
    with pytest.raises(MilError, match="version 99"):
        Cohort.open(tmp_path / "c")


def test_the_fingerprint_follows_the_content_only() -> None:
    one = small().fingerprint
    assert small(notes=[Note("a", "b")], source={"files": ["x"]}).fingerprint == one
    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    features[3, 1] += 1
    assert Cohort.of(features, list("abaca"), names=["f", "g"]).fingerprint != one
    assert small(inputs=6).fingerprint != one


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=40),
    st.sampled_from(["patient", "region"]),
)
def test_order_brings_cells_back_to_the_input(rows: list[tuple[int, int]], bag: str) -> None:
    patient = np.array([f"p{p}" for p, _ in rows])
    region = np.array([f"r{r}" for _, r in rows])
    place = np.arange(len(rows), dtype=np.float32)
    cells = pd.DataFrame({"region": region})
    cohort = Cohort.of(place[:, None], patient, cells=cells, bag=bag)
    back = np.argsort(cohort.order)
    np.testing.assert_array_equal(cohort.features[back, 0], place)
    owners = cohort.patients.take(cohort.owner[back])
    np.testing.assert_array_equal(owners["patient"], patient)
    if bag == "region":
        np.testing.assert_array_equal(owners["region"], region)
    np.testing.assert_array_equal(cohort.cells["region"].astype(str).to_numpy()[back], region)
    for b in range(cohort.B):
        assert (np.diff(cohort.order[cohort.rows(b)]) > 0).all()
