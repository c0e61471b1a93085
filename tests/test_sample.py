"""The sample cohort: the committed files are the generator's, and hold what the generator promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

import sample_data
from milcore.errors import MilError
from sample_data import generate

pytestmark = pytest.mark.xdist_group("sample")  # one worker reads the tables once


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return pd.read_parquet(sample_data.files()[0])


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return pd.read_csv(sample_data.files()[1])


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    return pd.read_parquet(sample_data.TRUTH)


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with freshly generated files."""
    folder = tmp_path_factory.mktemp("again")
    generate.main(folder)
    return folder


def test_regenerating_gives_the_committed_tables(
    again: Path, cells: pd.DataFrame, patients: pd.DataFrame, truth: pd.DataFrame
) -> None:
    fresh = pd.read_parquet(again / "cells.parquet")
    words = cells.select_dtypes(exclude="float32").columns
    pd.testing.assert_frame_equal(fresh[words], cells[words])
    numbers = cells.select_dtypes(
        "float32"
    ).columns  # another machine's exp() may round the last digit otherwise
    pd.testing.assert_frame_equal(fresh[numbers], cells[numbers], rtol=1e-4, atol=0.11)
    pd.testing.assert_frame_equal(pd.read_csv(again / "patients.csv"), patients)
    pd.testing.assert_frame_equal(pd.read_parquet(again / "truth.parquet"), truth)


def test_two_runs_write_the_same_bytes(again: Path, tmp_path: Path) -> None:
    generate.main(tmp_path)
    for file in (*sample_data.files(), sample_data.TRUTH):
        assert (again / file.name).read_bytes() == (tmp_path / file.name).read_bytes()


def test_sizes(cells: pd.DataFrame, patients: pd.DataFrame) -> None:
    assert sum(file.stat().st_size for file in (*sample_data.files(), sample_data.TRUTH)) < 6e6
    assert len(patients) == generate.PATIENTS == patients["patient_id"].nunique()
    assert (cells.groupby("patient_id")["region"].nunique() == 2).all()
    assert (cells.groupby("region")["patient_id"].nunique() == 1).all()
    count = cells.groupby("patient_id").size()
    assert count.between(1000, 1600).all()
    assert set(count.index) == set(patients["patient_id"])
    assert not cells.duplicated(["patient_id", "cell_id"]).any()
    for column in ("response", "coin"):
        positive = patients[column].isin(["responder", "heads"])
        assert 0.3 < roc_auc_score(positive, count[patients["patient_id"]]) < 0.7


def test_columns_are_a_labs_export(cells: pd.DataFrame) -> None:
    places = ["patient_id", "region", "cell_id", "x_um", "y_um", "cell_type"]
    assert list(cells) == [*places, *generate.MARKERS, "area_um2", "eccentricity", "solidity"]
    assert cells[["x_um", "y_um"]].min().min() >= 0
    assert cells[["x_um", "y_um"]].max().max() <= 2 * generate.CORE
    missing = cells.isna().mean()
    assert set(missing.index[missing > 0]) == set(generate.FAILED_MARKERS)
    assert missing[generate.FAILED_MARKERS].between(0.02, 0.06).all()


def test_planted_share_follows_response(patients: pd.DataFrame, truth: pd.DataFrame) -> None:
    share = truth.groupby("patient_id")["driver"].mean()[patients["patient_id"]].to_numpy()
    responds = patients["response"].to_numpy() == "responder"
    assert share[responds].mean() == pytest.approx(0.03, abs=0.005)
    assert share[~responds].mean() == pytest.approx(0.003, abs=0.001)
    assert 0.95 < roc_auc_score(responds, share) < 1  # the classes touch
    assert share[responds].min() < share[~responds].max()


def test_composition_follows_grade_not_response(cells: pd.DataFrame, patients: pd.DataFrame) -> None:
    share = pd.crosstab(cells["patient_id"], cells["cell_type"], normalize="index").loc[
        patients["patient_id"]
    ]
    by_grade = share.groupby(patients["grade"].to_numpy()).mean()
    assert (
        by_grade.loc["high", "Tumor"] > by_grade.loc["intermediate", "Tumor"] > by_grade.loc["low", "Tumor"]
    )
    assert 0.3 < roc_auc_score(patients["response"] == "responder", share["T cell CD8"]) < 0.7


@pytest.mark.parametrize("label", ["response", "grade", "coin", "sex"])
def test_labels_are_balanced(patients: pd.DataFrame, label: str) -> None:
    for other in {"batch", "response", "coin"} - {label}:
        table = pd.crosstab(patients[label], patients[other])
        assert (table.max() - table.min()).max() <= 2, other


def test_survival_follows_the_planted_share(patients: pd.DataFrame, truth: pd.DataFrame) -> None:
    share = truth.groupby("patient_id")["driver"].mean()[patients["patient_id"]].to_numpy()
    days, died = patients["survival_days"].to_numpy(), patients["event"].to_numpy() == 1
    usable = (days[:, None] < days) & died[:, None]
    assert 0.65 < (share[:, None] < share)[usable].mean() < 0.85  # concordance: true, yet noisy
    assert 0.4 < died.mean() < 0.8


def test_truth_is_told_by_markers_together(cells: pd.DataFrame, truth: pd.DataFrame) -> None:
    driver = truth["driver"].to_numpy()
    cd8 = truth["true_type"].str.startswith("T cell CD8").to_numpy()
    assert cd8[driver].all()
    for marker in ("PD-1", "Ki67", "GranzymeB"):
        assert 0.8 < roc_auc_score(driver[cd8], cells[marker][cd8]) < 0.98
    together = np.log(cells[["PD-1", "Ki67", "GranzymeB"]]).sum(axis=1)
    assert roc_auc_score(driver[cd8], together[cd8]) > 0.98


def test_truth_does_not_leak_into_the_cells(cells: pd.DataFrame, truth: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(cells[["patient_id", "cell_id"]], truth[["patient_id", "cell_id"]])
    assert set(cells["cell_type"].unique()) == {*generate.TYPES, "Unassigned"}
    schema = pq.read_schema(sample_data.files()[0])
    assert b"driver" not in b"".join(schema.metadata.values()).lower()
    driver = truth["driver"].to_numpy()
    cd8 = truth["true_type"].str.startswith("T cell CD8").to_numpy()
    for column in ("cell_id", "x_um", "y_um", "area_um2", "eccentricity", "solidity"):
        assert 0.4 < roc_auc_score(driver[cd8], cells[column][cd8]) < 0.6, column
    named = cells.loc[driver, "cell_type"].value_counts(normalize=True)
    assert named["T cell CD8"] > 0.9


def test_write_copies_the_two_tables_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    written = sample_data.write(folder)
    assert sorted(folder.iterdir()) == sorted(written)
    assert [file.read_bytes() for file in written] == [file.read_bytes() for file in sample_data.files()]
    assert sample_data.write(folder) == written  # again over its own copies


def test_write_spares_other_files(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient\nmine\n")
    with pytest.raises(MilError, match=r"patients\.csv"):
        sample_data.write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["patients.csv"]
    with pytest.raises(MilError, match="not a folder"):
        sample_data.write(tmp_path / "patients.csv")
