"""A patients file with a row an image: its patients own the images, so that no patient is on both sides of a fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milcore.cohort import Cohort
from milcore.columns import Columns
from milcore.errors import MilError
from milcore.folds import plan
from milcore.mapping import read_mapping
from milcore.readers import read_cohort

IMAGES = [f"scan_{i:02d}.tif" for i in range(24)]
OWNERS = [f"P{i // 2}" for i in range(24)]


def cells(**more: object) -> pd.DataFrame:
    """Ten cells an image, as QuPath writes them."""
    rng = np.random.default_rng(0)
    table = {
        "Image": np.repeat(IMAGES, 10),
        "Object ID": np.arange(240),
        "Parent": "Annotation",
        "ROI": "Polygon",
    }
    table |= {"Centroid X µm": rng.random(240), "Centroid Y µm": rng.random(240)}
    table |= {"CD3: Mean": rng.random(240), "CD8: Mean": rng.random(240)}
    return pd.DataFrame({**table, **more})


def outcomes(**more: object) -> pd.DataFrame:
    """One row an image, two images a patient, a response of the patient and a condition of the image."""
    response = [("yes", "no")[i // 2 % 2] for i in range(24)]
    table = {
        "Image": [image.removesuffix(".tif") for image in IMAGES],
        "Patient": OWNERS,
        "response": response,
    }
    return pd.DataFrame({**table, "condition": ["before", "after"] * 12, **more})


def read(folder: Path, table: pd.DataFrame, about: pd.DataFrame, **columns: object) -> Cohort:
    table.to_csv(folder / "cells.csv", index=False)
    about.to_csv(folder / "patients.csv", index=False)
    asked = Columns(**columns)  # type: ignore[arg-type]
    return read_cohort([folder / "cells.csv"], patients=folder / "patients.csv", columns=asked)


def kinds(cohort: Cohort) -> set[str]:
    return {note.kind for note in cohort.notes}


def test_the_patient_owns_the_images(tmp_path: Path) -> None:
    cohort = read(tmp_path, cells(), outcomes(), labels=("response",))
    assert cohort.patients["patient"].tolist() == OWNERS[::2]
    assert np.diff(cohort.offsets).tolist() == [20] * 12
    assert cohort.label("response").tolist() == ["yes", "no"] * 6
    assert sorted(cohort.cells["region"].unique()) == IMAGES
    assert "condition" not in cohort.patients
    assert {"patients_by_file", "differs_within_patients"} <= kinds(cohort)
    assert "sample_as_patient" not in kinds(cohort)


def test_conditions_of_a_patient_are_samples_that_folds_keep_together(tmp_path: Path) -> None:
    with pytest.raises(MilError, match="'condition' varies within patient 'P0'") as caught:
        read(tmp_path, cells(), outcomes(), labels=("condition",))
    assert "--bag region" in caught.value.fix
    cohort = read(tmp_path, cells(), outcomes(), labels=("condition",), bag="region")
    assert (cohort.B, cohort.groups.tolist()) == (24, np.repeat(np.arange(12), 2).tolist())
    assert cohort.label("condition").tolist() == ["before", "after"] * 12
    y = (cohort.label("condition") == "after").to_numpy(int)
    fold = plan(y, cohort.groups, repeats=2, seed=0).fold
    assert (fold[:, ::2] == fold[:, 1::2]).all()


def test_what_a_file_calls_a_sample_may_stand_in_file_names_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    folder.mkdir()
    for image, part in cells().groupby("Image"):
        part[["CD3: Mean", "CD8: Mean"]].to_csv(folder / f"{str(image)[:-4]}.csv", index=False)
    outcomes().rename(columns={"Image": "core"}).to_csv(tmp_path / "patients.csv", index=False)
    cohort = read_cohort([folder], patients=tmp_path / "patients.csv")
    assert (cohort.B, cohort.patients["patient"].tolist()) == (12, OWNERS[::2])
    assert cohort.cells["region"].nunique() == 24


def test_images_without_a_patient_are_left_out_and_named(tmp_path: Path) -> None:
    about = outcomes()
    about.loc[5, "Patient"] = None
    cohort = read(tmp_path, cells(), about.drop(index=[20, 21]))
    assert (cohort.N, cohort.inputs) == (210, 240)
    (said,) = [note.words for note in cohort.notes if note.kind == "unknown_patient"]
    assert all(f"'{IMAGES[i]}'" in said for i in (5, 20, 21))


def test_few_images_that_the_file_knows_are_enough_to_belong(tmp_path: Path) -> None:
    cohort = read(tmp_path, cells(), outcomes()[:8])
    assert cohort.patients["patient"].tolist() == OWNERS[:8:2]


def test_images_named_as_the_patient_are_refused_where_a_patient_has_several(tmp_path: Path) -> None:
    with pytest.raises(MilError, match="lists several of one 'Patient'") as caught:
        read(tmp_path, cells(), outcomes(), patient="Image")
    assert "--patient" in caught.value.fix
    assert read(tmp_path, cells(), outcomes(Patient=range(24)), patient="Image").B == 24


def test_the_column_of_patients_may_be_named_whatever_it_is_called(tmp_path: Path) -> None:
    about = outcomes().rename(columns={"Patient": "who"})
    assert read(tmp_path, cells(), about).B == 24
    assert read(tmp_path, cells(), about, patient="who").B == 12
    with pytest.raises(MilError, match="no column that lists"):
        read(tmp_path, cells(), about.drop(columns="Image"), patient="who")


def test_two_columns_of_patients_that_disagree_are_refused(tmp_path: Path) -> None:
    about = outcomes(donor=[f"D{i % 5}" for i in range(24)])
    with pytest.raises(MilError, match="seem to name the patient, differently"):
        read(tmp_path, cells(), about)
    assert read(tmp_path, cells(), about, patient="donor").B == 5
    finer = outcomes(case=[f"C{i}" for i in range(24)])
    assert read(tmp_path, cells(), finer).B == 12


def test_a_word_for_case_or_control_is_no_patient(tmp_path: Path) -> None:
    about = outcomes(case=["yes", "no"] * 12).drop(columns="Patient")
    assert read(tmp_path, cells(), about).B == 24


def test_spellings_of_a_patient_are_one(tmp_path: Path) -> None:
    about = outcomes(Patient=[f"p{i // 2} " if i % 2 else f"P{i // 2}" for i in range(24)])
    assert read(tmp_path, cells(), about).patients["patient"].tolist() == OWNERS[::2]


def test_a_patient_of_the_cell_table_has_one_row_made_of_its_images(tmp_path: Path) -> None:
    cohort = read(tmp_path, cells(patient=np.repeat(OWNERS, 10)), outcomes(), labels=("response",))
    assert (cohort.B, cohort.label("response").tolist()) == (12, ["yes", "no"] * 6)
    assert "patients_by_file" not in kinds(cohort)
    plain = outcomes().drop(columns="Image")  # two rows of a patient that nothing tells apart
    with pytest.raises(MilError, match="twice"):
        read(tmp_path, cells(patient=np.repeat(OWNERS, 10)), plain)


def test_regions_that_come_again_in_other_images_stay_apart(tmp_path: Path) -> None:
    cohort = read(tmp_path, cells(roi=np.tile(np.repeat(["a", "b"], 5), 24)), outcomes())
    assert cohort.B == 12
    assert cohort.cells["region"].nunique() == 48
    assert read(tmp_path, cells(roi=np.repeat(np.arange(48), 5)), outcomes()).cells["region"].nunique() == 48


def test_a_mapping_reads_it_so_again(tmp_path: Path) -> None:
    cohort = read(tmp_path, cells(), outcomes())
    cohort.write_mapping(tmp_path / "m.json")
    again = read_cohort(
        [tmp_path / "cells.csv"],
        patients=tmp_path / "patients.csv",
        columns=read_mapping(tmp_path / "m.json"),
    )
    assert again.fingerprint == cohort.fingerprint
    alone = read_cohort([tmp_path / "cells.csv"], columns=read_mapping(tmp_path / "m.json"))
    assert (alone.B, "sample_as_patient" in kinds(alone)) == (24, True)
