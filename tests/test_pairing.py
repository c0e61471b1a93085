"""Cells and their counts in two files, as CosMx, MERSCOPE and Xenium write them, joined cell by cell."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.readers import read_cohort
from milcore.tables import read_table

GENES = ("CD3E", "CD8A", "MKI67")
CELLS = 40


def counts(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(3.0, (CELLS, len(GENES)))


def places(names: tuple[str, str], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100 + seed)
    return {name: rng.uniform(0, 900, CELLS).round(2) for name in names}


def cosmx(folder: Path, sample: str, seed: int) -> None:
    """<sample>_metadata_file.csv and <sample>_exprMat_file.csv, which also counts what lies outside cells as cell 0."""
    fov, number = np.repeat([1, 2], CELLS // 2), np.tile(np.arange(1, CELLS // 2 + 1), 2)
    cells = pd.DataFrame({"fov": fov, "cell_ID": number, "Area": np.arange(CELLS) ** 2 % 97})
    cells = cells.assign(**places(("CenterX_local_px", "CenterY_local_px"), seed))
    cells = cells.assign(**places(("CenterX_global_px", "CenterY_global_px"), seed))
    matrix = pd.DataFrame(counts(seed), columns=GENES).assign(
        Negative01=1, SystemControl1=np.arange(CELLS) % 2
    )
    matrix.insert(0, "cell_ID", number)
    matrix.insert(0, "fov", fov)
    outside = pd.DataFrame({name: [9] for name in matrix}).assign(fov=1, cell_ID=0)
    matrix = pd.concat([outside, matrix.sample(frac=1, random_state=seed)])
    cells.to_csv(folder / f"{sample}_metadata_file.csv", index=False)
    matrix.to_csv(folder / f"{sample}_exprMat_file.csv", index=False)


def merscope(folder: Path, sample: str, seed: int) -> None:
    """cell_metadata.csv and cell_by_gene.csv of a region's folder, by ids longer than a computer's whole numbers."""
    (folder / sample).mkdir()
    ids = [f"1108834247646119244{seed:02d}{i:018d}" for i in range(CELLS)]
    cells = pd.DataFrame({"EntityID": ids, "fov": 1, "volume": np.arange(CELLS) ** 2 % 89})
    cells = cells.assign(**places(("center_x", "center_y"), seed), min_x=0.5, max_x=1.5, min_y=0.5, max_y=1.5)
    matrix = pd.DataFrame(counts(seed), columns=GENES).assign(**{"Blank-1": np.arange(CELLS) % 3})
    matrix.insert(0, "cell", ids)
    cells.to_csv(folder / sample / "cell_metadata.csv", index=False)
    matrix[::-1].to_csv(folder / sample / "cell_by_gene.csv", index=False)


def xenium(folder: Path, sample: str, seed: int) -> None:
    """cells.csv.gz and cell_feature_matrix.h5 of an output folder, beside transcripts."""
    (folder / sample).mkdir()
    ids = [f"a{seed}{i:03d}-1" for i in range(CELLS)]
    cells = pd.DataFrame({"cell_id": ids}).assign(**places(("x_centroid", "y_centroid"), seed))
    cells = cells.assign(
        transcript_counts=np.arange(CELLS) % 31, control_probe_counts=0, cell_area=np.arange(CELLS) % 29
    )
    cells.to_csv(folder / sample / "cells.csv.gz", index=False)
    both = np.column_stack([counts(seed), np.full(CELLS, 7)])[::-1]
    with h5py.File(folder / sample / "cell_feature_matrix.h5", "w") as file:
        matrix, sparse = file.create_group("matrix"), csc_matrix(both.T)
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(sparse, name)
        matrix["shape"], matrix["barcodes"] = both.T.shape, np.array(ids[::-1], "S")
        matrix["features/name"] = np.array([*GENES, "NegControlProbe_00042"], "S")
        matrix["features/feature_type"] = np.array(["Gene Expression"] * 3 + ["Negative Control Probe"], "S")
    pd.DataFrame({"transcript_id": [1], "feature_name": ["CD3E"]}).to_csv(
        folder / sample / "transcripts.csv.gz"
    )


TOOLS = {"CosMx": cosmx, "MERSCOPE": merscope, "Xenium": xenium}


def made(folder: Path, tool: str) -> Path:
    """A folder with two samples."""
    folder.mkdir()
    for seed, sample in enumerate(("S1", "S2")):
        TOOLS[tool](folder, sample, seed)
    return folder


def values(cohort: Cohort, name: str) -> np.ndarray:
    return cohort.features[np.argsort(cohort.order), cohort.names.index(name)]


@pytest.mark.parametrize("tool", TOOLS)
def test_counts_are_joined_to_their_cells(tmp_path: Path, tool: str) -> None:
    cohort = read_cohort([made(tmp_path / "run", tool)])
    assert (cohort.source["format"], cohort.N) == (tool, 2 * CELLS)
    assert cohort.patients["patient"].tolist() == ["S1", "S2"]
    both = np.concatenate([counts(0), counts(1)])
    for j, gene in enumerate(GENES):
        np.testing.assert_array_equal(values(cohort, gene), both[:, j])
    assert not [
        name for name in cohort.names if name.startswith(("Neg", "Blank", "System", "Entity", "cell_ID"))
    ]
    assert cohort.cells[["x", "y"]].notna().all(axis=None)
    assert [note.kind for note in cohort.notes].count("joined_counts") == 2
    assert "duplicate_cell_ids" not in {note.kind for note in cohort.notes}


def test_cells_without_counts_are_said_and_a_stranger_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", "CosMx")
    path = folder / "S1_exprMat_file.csv"
    matrix = pd.read_csv(path)
    matrix[:-5].to_csv(path, index=False)
    cohort = read_cohort([folder])
    (said,) = [
        note.words for note in cohort.notes if note.kind == "joined_counts" and "have none" in note.words
    ]
    assert "5 of 40" in said
    matrix.assign(cell_ID=matrix["cell_ID"] + 1000).to_csv(path, index=False)
    with pytest.raises(MilError, match="No cell of 'S1_metadata_file"):
        read_cohort([folder])
    pd.concat([matrix, matrix]).to_csv(path, index=False)
    with pytest.raises(MilError, match="twice"):
        read_cohort([folder])
    matrix.drop(columns="cell_ID").to_csv(path, index=False)
    with pytest.raises(MilError, match="no column 'cellid'"):
        read_cohort([folder])


def test_ids_of_very_many_digits_stay_what_they_are(tmp_path: Path) -> None:
    cohort = read_cohort([made(tmp_path / "run", "MERSCOPE")])
    assert cohort.cells["cell_id"].tolist()[0] == "1108834247646119244" + "00" + "0" * 18
    assert read_table(tmp_path / "run" / "S1" / "cell_metadata.csv").frame["EntityID"].n_unique() == CELLS
