"""Tables read in pieces give what tables read whole give; nothing stays behind, and memory is bounded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milcore import large, text
from milcore.cohort import Cohort
from milcore.errors import Cancelled, MilError
from milcore.folder import faults
from milcore.progress import Event, Progress
from milcore.readers import read_cohort

HELD = [1 << 29, 0]  # in memory, and on disk


def in_pieces(patch: pytest.MonkeyPatch, held: int) -> None:
    """From here on every table is large, and a piece is a few lines."""
    patch.setattr(large, "LARGE", 0)
    patch.setattr(large, "HELD", held)
    patch.setattr(text, "PIECE", 1 << 9)


@pytest.fixture(params=HELD)
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    in_pieces(monkeypatch, request.param)


def table() -> pd.DataFrame:
    """200 cells of 5 patients, with gaps, and text that looks like the end of a line."""
    rng = np.random.default_rng(3)
    made = {"patient": np.repeat([f"P{i}" for i in range(5)], 40), "cell_id": np.tile(np.arange(40), 5)}
    made |= {"x": rng.random(200).round(4), "y": rng.random(200).round(4)}
    made |= {name: rng.gamma(2, 3, 200).round(4) for name in ("CD3", "CD8", "CD20")}
    frame = pd.DataFrame(made).assign(cell_type=["T", 'B "naive"', "N\nK", "x,y"] * 50)
    frame.loc[[5, 150], "CD3"] = np.nan
    return frame


def without_lines(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(cell_type=["T", "B"] * 100)


def plain(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def odd(frame: pd.DataFrame, path: Path) -> None:
    gaps = frame.astype({"CD8": object, "CD20": object})
    gaps.loc[30, "CD8"], gaps.loc[31, "CD8"], gaps.loc[190, "CD20"], gaps.loc[191, "x"] = (
        "NA",
        "NaN",
        "n.d.",
        np.nan,
    )
    gaps.loc[3, "cell_type"] = "#N/A"
    gaps.to_csv(path, index=False)


def commas(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, sep=";", decimal=",", lineterminator="\r\n")


def wide(frame: pd.DataFrame, path: Path) -> None:
    without_lines(frame).to_csv(path, sep="\t", encoding="utf-16")


def spaces(frame: pd.DataFrame, path: Path) -> None:
    without_lines(frame).fillna({"CD3": 1.5}).to_csv(path, sep=" ", index_label=False)


def parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path.with_suffix(".parquet"), row_group_size=30)


def several(frame: pd.DataFrame, path: Path) -> None:
    frame[:90].to_csv(path, index=False)
    frame[90:][frame.columns[::-1]].to_csv(path.with_name("later.csv"), index=False)


WAYS = [plain, odd, commas, wide, spaces, parquet, several]


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("write", WAYS, ids=lambda write: write.__name__)
def test_pieces_make_the_same_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[pd.DataFrame, Path], None], held: int
) -> None:
    write(table().sample(frac=1, random_state=2) if write is parquet else table(), tmp_path / "cells.csv")
    whole = read_cohort([tmp_path])
    in_pieces(monkeypatch, held)
    again = read_cohort([tmp_path])
    assert (again.N, again.names) == (200, whole.names)
    np.testing.assert_array_equal(again.features, whole.features)
    assert again.fingerprint == whole.fingerprint
    assert again.notes == whole.notes
    assert again.source == whole.source


def same_rows(cohort: Cohort, name: str, values: pd.Series) -> None:
    back = np.argsort(cohort.order)
    np.testing.assert_array_equal(
        cohort.features[back, cohort.names.index(name)], values.to_numpy(np.float32)
    )


def test_what_was_a_number_until_late_is_still_one_or_text(tmp_path: Path, pieces: None) -> None:
    frame = table().astype({"CD3": object, "CD8": object})
    frame.loc[199, "CD3"] = "oops"
    frame.loc[100:, "CD8"] = "low"
    frame.to_csv(tmp_path / "c.csv", index=False)
    cohort = read_cohort([tmp_path / "c.csv"])
    assert cohort.names == ("CD3", "CD20")
    same_rows(cohort, "CD20", table()["CD20"])
    same_rows(cohort, "CD3", table()["CD3"].where(np.arange(200) < 199))
    assert [note.kind for note in cohort.notes].count("mixed_types") == 2


def test_files_of_other_columns_and_rows_without_fields_are_refused(tmp_path: Path, pieces: None) -> None:
    plain(table(), tmp_path / "a.csv")
    plain(table().drop(columns="CD8"), tmp_path / "b.csv")
    with pytest.raises(MilError, match=r"'b\.csv' has no column 'CD8'"):
        read_cohort([tmp_path / "a.csv", tmp_path / "b.csv"])
    (tmp_path / "c.csv").write_text("patient,CD3,CD8\n" + "a,1,2\n" * 3 + "a\n" * 900)
    with pytest.raises(MilError, match="fewer fields"):
        read_cohort([tmp_path / "c.csv"])
    (tmp_path / "d.csv").write_text("patient,CD3,CD8\n" + "a,1,2\n" * 300 + "a,1,2,3\n")
    with pytest.raises(MilError, match="cannot be read"):
        read_cohort([tmp_path / "d.csv"])


def test_progress_counts_bytes_and_rows_and_cancel_leaves_nothing(
    tmp_path: Path, pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    wide(table(), tmp_path / "c.tsv")  # made plain in a file of its own first
    heard: list[Event] = []
    read_cohort([tmp_path / "c.tsv"], progress=Progress(heard.append))
    said = [event.words for event in heard if event.words]
    assert len(said) > 5
    assert said[-1].endswith("MB, 200 rows")
    with pytest.raises(Cancelled):
        read_cohort(
            [tmp_path / "c.tsv"], progress=Progress(stopped=lambda: len(heard) > 20, tell=heard.append)
        )
    assert list(place.iterdir()) == []


def test_digests_taken_on_the_way_are_those_of_the_files(tmp_path: Path) -> None:
    plain(table(), tmp_path / "c.csv")
    cohort = read_cohort([tmp_path / "c.csv"])
    cohort.save(tmp_path / "read")
    again = Cohort.of(cohort.features.copy(), np.repeat(np.arange(5), 40))
    again.save(tmp_path / "made")
    for folder in (tmp_path / "read", tmp_path / "made"):
        assert faults(folder, "all") == []
    saved = (tmp_path / "read" / "features.npy").stat()
    assert saved.st_mode & 0o777 == (tmp_path / "made" / "features.npy").stat().st_mode & 0o777
    np.testing.assert_array_equal(np.load(tmp_path / "read" / "features.npy"), cohort.features)
