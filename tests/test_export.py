from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jsonschema import validate

from milcore.analysis import Analysis
from milcore.cohort import Cohort
from milcore.effects import Effects
from milcore.errors import MilError
from milcore.export import FORMS, SHOWN, export, packed
from milcore.readers import Columns, read_cohort
from milcore.stacking import Mixture
from milcore.training import Settings
from tests.tiny import milscope

POINTS = {  # what RFC 7946 asks of a collection of points
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "properties": {
                    "type": {"const": "Feature"},
                    "id": {"type": ["string", "number"]},
                    "properties": {"type": ["object", "null"]},
                    "geometry": {
                        "type": "object",
                        "required": ["type", "coordinates"],
                        "properties": {
                            "type": {"const": "Point"},
                            "coordinates": {"type": "array", "minItems": 2, "items": {"type": "number"}},
                        },
                    },
                },
            },
        },
    },
}
NASTY = ['=HYPERLINK("http://x","y")', "+1", "-2+3", "@SUM(A1)", "\t=1", "'=quoted", "plain"]


def of(cohort: Cohort, facts: dict) -> Analysis:
    """An analysis of a cohort as far as exports look at it, with any numbers."""
    draw = np.random.default_rng(0)
    cells = cohort.cells[["region", "cell_id", "x", "y"]].copy()
    cells.insert(0, "patient", pd.Categorical(cohort.patients["patient"].to_numpy()[cohort.owner]))
    for name in (*SHOWN, "umap_1", "umap_2"):
        cells[name] = draw.normal(size=cohort.N)
    cells["phenotype"] = pd.Categorical(np.where(draw.random(cohort.N) < 0.5, "CD8+", "other"))
    empty = pd.DataFrame({"phenotype": ["CD8+", "other"], "effect": [0.5, np.nan]})
    predictions = pd.DataFrame({"patient": cohort.patients["patient"], "label": "", "score": 0.1})
    mixture = Mixture((), np.empty(0), np.empty(0), np.empty(0))
    return Analysis(
        cohort, Settings(target="x"), facts, predictions, cells, Effects(empty, empty, ""), {}, mixture
    )


@pytest.fixture(scope="module")
def facts(analysis: Analysis) -> dict:
    return analysis.facts


@pytest.fixture(scope="module")
def nasty(facts: dict) -> Analysis:
    """Patients and cells whose names are formulas."""
    owner = np.repeat(NASTY, 3)
    table = pd.DataFrame({"cell_id": [f"={name}" for name in owner], "x": np.arange(21) / 3, "y": 1.5})
    return of(Cohort.of(np.ones((21, 1)), owner, cells=table), facts)


# ---------------------------------------------------------------- tables


def test_a_spreadsheet_finds_no_formula_and_all_can_be_had_back(nasty: Analysis, tmp_path: Path) -> None:
    with export(nasty, "csv", tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for value in (row["patient"], row["cell_id"]):
            assert not re.match(r"[=+\-@\t\r]", value)
    back = [row["patient"].removeprefix("'") for row in rows]
    assert back == list(np.repeat(NASTY, 3))
    assert float(rows[0]["importance"]) == nasty.cells["importance"][0], "numbers stay numbers"


def test_a_workbook_holds_text_as_text(nasty: Analysis, tmp_path: Path) -> None:
    from openpyxl import load_workbook

    book = load_workbook(export(nasty, "xlsx", tmp_path / "cells.xlsx"))
    assert book.sheetnames == ["Read me", "Cells", "Predictions", "Phenotypes"]
    sheet = book["Cells"]
    header = [cell.value for cell in sheet[1]]
    patients = [row[header.index("patient")] for row in sheet.iter_rows(min_row=2)]
    assert [cell.value for cell in patients] == list(np.repeat(NASTY, 3))
    assert {cell.data_type for cell in patients} == {"s"}
    assert all(cell.quotePrefix for cell in patients), "nor when somebody edits the cell"
    importance = [row[header.index("importance")].value for row in sheet.iter_rows(min_row=2)]
    np.testing.assert_allclose(importance, nasty.cells["importance"])
    assert "Research use only" in str([cell.value for cell in book["Read me"]["B"]])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_come_back_in_input_order(form: str, analysis: Analysis, tmp_path: Path) -> None:
    folder = export(analysis, form, tmp_path / "tables")
    for name in ("cells", "predictions", "phenotypes"):
        assert (folder / f"{name}.{form}").is_file()
    read = pd.read_csv if form == "csv" else pd.read_parquet
    exact = {"float_precision": "round_trip"} if form == "csv" else {}
    cells = read(folder / f"cells.{form}", **exact)
    assert list(cells["cell_id"]) == list(range(len(cells))), "the tiny table numbers its rows"
    expected = analysis.cells.iloc[np.argsort(analysis.cohort.order)]
    for name in ("importance", "leave_one_out", "umap_1"):
        np.testing.assert_array_equal(cells[name].astype(expected[name].dtype), expected[name])
    assert (cells["phenotype"] == expected["phenotype"].astype(str).to_numpy()).all()


# ---------------------------------------------------------------- AnnData


def test_anndata_opens_with_plain_categories(analysis: Analysis, tmp_path: Path) -> None:
    import anndata
    import h5py

    file = export(analysis, "h5ad", tmp_path / "cells.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = anndata.read_h5ad(file)
    order = np.argsort(analysis.cohort.order)
    np.testing.assert_array_equal(data.X, np.asarray(analysis.cohort.features)[order])
    assert tuple(data.var_names) == analysis.cohort.names
    for name in ("importance", "evidence", "evidence_sd", "attention", "contribution"):
        np.testing.assert_array_equal(data.obs[f"mil_{name}"], analysis.cells[name].iloc[order])
    assert (data.obs["mil_phenotype"].astype(str).to_numpy() == analysis.cells["phenotype"].iloc[order]).all()
    np.testing.assert_array_equal(data.obsm["spatial"], analysis.cells[["x", "y"]].iloc[order])
    assert data.obsm["X_umap"].shape == (1280, 2)
    card = json.loads(data.uns["mil"]["card"])
    assert card["scores"] == analysis.facts["scores"]
    assert card["use"].startswith("Research use only")
    assert data.uns["mil"]["scores"]["auroc"] == analysis.facts["scores"]["auroc"]["value"]
    with h5py.File(file) as raw:
        kinds = {raw["obs"][name].attrs["encoding-type"] for name in data.obs}
        assert kinds == {"categorical", "array"}
        assert raw["obs/patient/categories"].attrs["encoding-type"] == "string-array"


SCANPY = """
import json, sys
import scanpy as sc
data = sc.read_h5ad(sys.argv[1])
sc.tl.rank_genes_groups(data, "mil_phenotype", method="t-test")
sc.pl.embedding(data, "umap", color=["mil_importance", "mil_phenotype"], show=False)
sc.pl.spatial(data, color="mil_evidence", spot_size=5, show=False)
names = ["mil_importance", "mil_evidence_sd", "mil_attention"]
json.dump({name: data.obs[name].astype(float).tolist() for name in names}, sys.stdout)
"""


def test_scanpy_opens_ranks_and_draws_it(analysis: Analysis, tmp_path: Path) -> None:
    """In a process of its own: scanpy's warnings are not ours."""
    if importlib.util.find_spec("scanpy") is None:
        pytest.skip("scanpy is not installed (extra `scanpy`)")
    file = export(analysis, "h5ad", tmp_path / "cells.h5ad")
    run = [sys.executable, "-W", "ignore", "-c", SCANPY, str(file)]
    done = subprocess.run(run, capture_output=True, text=True, env=os.environ | {"MPLBACKEND": "agg"})
    assert done.returncode == 0, done.stderr
    order = np.argsort(analysis.cohort.order)
    for name, values in json.loads(done.stdout).items():
        expected = analysis.cells[name.removeprefix("mil_")].iloc[order].to_numpy(float)
        np.testing.assert_array_equal(values, expected)


# ---------------------------------------------------------------- slides


def test_points_keep_their_place_and_their_unit(analysis: Analysis, tmp_path: Path) -> None:
    found = json.loads(export(analysis, "geojson", tmp_path / "cells.geojson").read_text(encoding="utf-8"))
    validate(found, POINTS)
    assert found["unit"] == "µm", "the tiny table says X_um"
    points = {f["id"]: f for f in found["features"]}
    assert len(points) == analysis.cohort.N
    row = analysis.cells.iloc[7]
    one = points[str(row["cell_id"])]
    assert one["geometry"]["coordinates"] == [float(str(np.float32(row[axis]))) for axis in "xy"]
    assert one["properties"]["measurements"]["MIL importance"] == row["importance"]
    assert one["properties"]["patient"] == row["patient"]


QUPATH = "export_examples/qupath_HE_cells_GastroFLOW.txt"


@pytest.mark.cohorts
def test_qupath_finds_its_own_cells_again(shared_data: Path, facts: dict, tmp_path: Path) -> None:
    """By centroid, for this export has no ids; then by ids, given to the same cells."""
    source = shared_data / QUPATH
    theirs = pd.read_csv(source, sep="\t", encoding="utf-8")
    made = of(read_cohort([source]), facts)
    folder = export(made, "qupath", tmp_path / "milscope")
    table = pd.read_csv(folder / "cells.tsv", sep="\t", encoding="utf-8")
    assert list(table.columns[:3]) == ["Image", "Centroid X µm", "Centroid Y µm"]
    near = theirs.merge(table, how="inner", on=["Image", "Centroid X µm", "Centroid Y µm"])
    assert len(near) == len(theirs) == 2000
    found = json.loads(export(made, "geojson", tmp_path / "c.geojson").read_text(encoding="utf-8"))
    validate(found, POINTS)
    assert found["unit"] == "µm"
    there = [f["geometry"]["coordinates"] for f in found["features"]]
    np.testing.assert_array_equal(there, theirs[["Centroid X µm", "Centroid Y µm"]])

    named = theirs.assign(**{"Object ID": [f"{i:08x}-0000-4000-8000-000000000000" for i in range(2000)]})
    named.to_csv(tmp_path / "named.tsv", sep="\t", index=False)
    again = of(read_cohort([tmp_path / "named.tsv"], columns=Columns(cell="Object ID")), facts)
    table = pd.read_csv(export(again, "qupath", tmp_path / "by id") / "cells.tsv", sep="\t", encoding="utf-8")
    joined = named.merge(table, on="Object ID", suffixes=("", " (ours)"))
    assert len(joined) == 2000
    np.testing.assert_array_equal(joined["Centroid X µm"], joined["Centroid X µm (ours)"])
    found = json.loads(export(again, "geojson", tmp_path / "d.geojson").read_text(encoding="utf-8"))
    assert {f["id"] for f in found["features"]} == set(named["Object ID"])


def test_the_script_is_filled_in_and_reads_the_table_beside_it(analysis: Analysis, tmp_path: Path) -> None:
    folder = export(analysis, "qupath", tmp_path / "milscope")
    script = (folder / "colour.groovy").read_text(encoding="utf-8")
    assert "@" not in script
    limit = float(re.search(r"double limit = ([\d.e+-]+)", script)[1])
    share = (analysis.cells["importance"].abs() <= limit).mean()
    assert 0.97 < share < 0.99
    header = (folder / "cells.tsv").read_text(encoding="utf-8").split("\n")[0].split("\t")
    for name in re.findall(r"at\((?:it|row), '(.+?)'\)", script):
        assert name in header
    assert script.count("{") == script.count("}")
    assert script.count("(") == script.count(")")


def test_one_patient_is_packed_in_the_colours_of_the_cohort(analysis: Analysis) -> None:
    with zipfile.ZipFile(io.BytesIO(packed(analysis, "qupath", patient="P05"))) as held:
        script = held.read("milscope/colour.groovy").decode()
        table = pd.read_csv(held.open("milscope/cells.tsv"), sep="\t")
    assert len(table) == 80
    assert set(table["Image"]) == {"R0", "R1"}
    limit = np.quantile(analysis.cells["importance"].abs(), 0.98)
    assert f"double limit = {limit:.6g}" in script
    assert (
        json.loads(packed(analysis, "geojson", patient="P05"))["features"][0]["properties"]["patient"]
        == "P05"
    )


def test_cells_without_a_place_cannot_go_on_a_slide(facts: dict, tmp_path: Path) -> None:
    bare = of(Cohort.of(np.ones((4, 1)), list("aabb")), facts)
    for form in ("qupath", "geojson"):
        with pytest.raises(MilError, match="coordinates"):
            export(bare, form, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- places


def test_nothing_is_half_written_or_lost(nasty: Analysis, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(MilError, match="exists already"):
        export(nasty, "csv", tmp_path)
    with pytest.raises(MilError, match="cannot be written"):
        export(nasty, "xlsx", tmp_path / "nowhere" / "a.xlsx")
    with pytest.raises(MilError, match="'pickle'"):
        export(nasty, "pickle", tmp_path / "a.pickle")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_export_on_the_command_line(tiny_run: tuple[Path, str, str], tmp_path: Path) -> None:
    done = milscope("export", tiny_run[0], "--to", "parquet", "--out", tmp_path / "cells.parquet")
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "cells.parquet")) == 1280
    said = milscope("export", "--help").stdout
    assert all(form in said for form in FORMS)
