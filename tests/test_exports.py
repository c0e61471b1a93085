"""The tables of real tools, recognised field by field; those known by their header alone are made from it."""

from __future__ import annotations

import gzip
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import layouts
from milcore.cohort import Cohort
from milcore.columns import Columns
from milcore.errors import MilError
from milcore.formats import format_of
from milcore.mapping import read_mapping
from milcore.projection import USUAL, of_file
from milcore.readers import read_cohort

STEINBOCK = "steinbock_imcRtools"
FROM_FILE = "patient (file name)"


@dataclass(frozen=True)
class Export:
    """What a real export is: `features` the first of them, the roles the columns that have them ("" none)."""

    file: str
    tool: str
    cells: int
    patients: int
    patient: str
    region: str
    x: str
    y: str
    features: tuple[str, ...]


EXPORTS = [
    Export(
        "SPIAT_tiny_cellprofiler.txt",
        "CellProfiler",
        9,
        1,
        "ImageNumber",
        "",
        "Location_Center_X",
        "Location_Center_Y",
        ("AreaShape_Area", "Intensity_MeanIntensity_Marker1_rs"),
    ),
    Export(
        "SPIAT_tiny_codex.csv",
        "CODEX",
        9,
        3,
        "patient (sample_Xtile_Ytile)",
        "sample_Xtile_Ytile",
        "X.X",
        "Y.Y",
        ("CD45", "Ly6C", "CD27"),
    ),
    Export(
        "SPIAT_tiny_halo.csv",
        "HALO",
        10,
        1,
        FROM_FILE,
        "Analysis Region",
        "X centre",
        "Y centre",
        ("Dye 1 Nucleus Intensity", "Dye 1 Cytoplasm Intensity"),
    ),
    Export(
        "SPIAT_tiny_inform.txt",
        "inForm",
        9,
        1,
        "Slide ID",
        "Sample Name",
        "Cell X Position",
        "Cell Y Position",
        ("Distance from Tissue Category Edge (pixels)", "Nucleus Area (pixels)", "Nucleus Area (percent)"),
    ),
    Export(
        "astir_basel_imc_sample_data.csv",
        "CSV",
        2000,
        1,
        "patient (row name)",
        "",
        "",
        "",
        ("EGFR", "E-Cadherin"),
    ),
    Export(
        "cellprofiler_cpout_cell_imcRtools.csv",
        "CellProfiler",
        239,
        15,
        "ImageNumber",
        "",
        "Location_Center_X",
        "Location_Center_Y",
        ("AreaShape_Area", "AreaShape_BoundingBoxArea"),
    ),
    Export(
        "cellprofiler_isletCells_spicyR.txt",
        "CellProfiler",
        2000,
        1,
        "ImageNumber",
        "",
        "Location_Center_X",
        "Location_Center_Y",
        ("AreaShape_Area", "AreaShape_Compactness"),
    ),
    Export("covid_pbmc_example_data.h5ad", "h5ad", 4921, 6, "sample_id", "", "", "", ("0", "1", "2")),
    Export(
        "flow_sample1_CytoDx.fcs", "FCS", 500, 1, FROM_FILE, "", "", "", ("FS Lin", "SS Log", "CD15-FITC")
    ),
    Export(
        "inform_FIHC4__0929309_HP_IM3_2_cell_seg_data.txt",
        "inForm",
        270,
        1,
        "Slide ID",
        "Sample Name",
        "Cell X Position",
        "Cell Y Position",
        ("Distance from Tissue Category Edge (pixels)", "Nucleus Area (pixels)", "Nucleus Area (percent)"),
    ),
    Export(
        "inform_FIHC4_consolidated_merge_cell_seg_data.txt",
        "inForm",
        619,
        1,
        "Slide ID",
        "Sample Name",
        "Cell X Position",
        "Cell Y Position",
        ("Distance from Tissue Category Edge (microns)", "Nucleus Area (square microns)"),
    ),
    Export(
        "inform_comma_FIHC4__0929309_HP_IM3_2_cell_seg_data.txt",
        "inForm",
        270,
        1,
        "Slide ID",
        "Sample Name",
        "Cell X Position",
        "Cell Y Position",
        ("Distance from Tissue Category Edge (pixels)", "Nucleus Area (pixels)", "Nucleus Area (percent)"),
    ),
    Export(
        "mcmicro_exemplar-001--unmicst_cell.csv",
        "MCMICRO",
        2000,
        1,
        FROM_FILE,
        "",
        "X_centroid",
        "Y_centroid",
        ("DNA_6", "ELANE", "CD57"),
    ),
    Export(
        "mosna_nodes_patient-1_chunk-8.parquet",
        "Parquet",
        6287,
        1,
        FROM_FILE,
        "",
        "x_centroid",
        "y_centroid",
        ("phenotype: Endothelial",),
    ),
    Export(
        "qupath_HE_cells_GastroFLOW.txt",
        "QuPath",
        2000,
        1,
        "Image",
        "",
        "Centroid X µm",
        "Centroid Y µm",
        ("Nucleus: Area", "Nucleus: Perimeter"),
    ),
    Export(
        "scimap_example_data.h5ad",
        "h5ad",
        3029,
        1,
        "ImageId",
        "",
        "X_position",
        "Y_position",
        ("CD25", "CD2", "CD10"),
    ),
    Export(
        "spt_halo_like_0.csv",
        "HALO",
        2000,
        1,
        FROM_FILE,
        "",
        "X centre",
        "Y centre",
        ("SMA Intensity", "MEK1/2 Intensity"),
    ),
    Export(
        STEINBOCK,
        "steinbock",
        55,
        1,
        FROM_FILE,
        "",
        "centroid-1",
        "centroid-0",
        ("Ag107", "Cytokeratin 5", "Laminin", "YBX1", "H3K27Ac", "area"),
    ),
]


def role(cohort: Cohort, wanted: str) -> str:
    """The column that has a role, "" for none."""
    return next((each["name"] for each in cohort.source["columns"] if each["role"] == wanted), "")


def kinds(cohort: Cohort) -> set[str]:
    return {note.kind for note in cohort.notes}


@pytest.fixture
def exports(shared_data: Path) -> Path:
    return shared_data / "export_examples"


@pytest.mark.cohorts
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.file)
def test_a_real_export_is_what_it_is(exports: Path, export: Export) -> None:
    cohort = read_cohort([exports / export.file])
    assert cohort.source["format"] == export.tool
    assert (export.cells, export.patients) == (cohort.N, cohort.B)
    found = tuple(role(cohort, name) for name in ("patient", "region", "x", "y"))
    assert found == (export.patient, export.region, export.x, export.y)
    assert cohort.names[: len(export.features)] == export.features
    assert cohort.cells["x"].notna().all() == bool(export.x)


@pytest.mark.cohorts
def test_every_real_export_is_in_the_table_or_refused(exports: Path) -> None:
    listed = {export.file for export in EXPORTS}
    assert {path.name for path in exports.iterdir()} - listed == {"tissuumaps_breastcancer.csv"}
    with pytest.raises(MilError, match="single points") as caught:
        read_cohort([exports / "tissuumaps_breastcancer.csv"])
    assert "table of cells" in caught.value.fix


@pytest.mark.cohorts
def test_decimal_commas_and_percents_of_inform_are_the_numbers_of_the_other_file(exports: Path) -> None:
    plain = read_cohort([exports / "inform_FIHC4__0929309_HP_IM3_2_cell_seg_data.txt"])
    comma = read_cohort([exports / "inform_comma_FIHC4__0929309_HP_IM3_2_cell_seg_data.txt"])
    assert {"percents", "decimal_comma"} <= kinds(comma)
    assert plain.names == comma.names
    np.testing.assert_allclose(plain.features, comma.features, rtol=1e-3, equal_nan=True)
    np.testing.assert_array_equal(plain.cells["x"], comma.cells["x"])


@pytest.mark.cohorts
def test_steinbock_is_joined_on_the_object(exports: Path) -> None:
    cohort = read_cohort([exports / STEINBOCK])
    folder = exports / STEINBOCK
    (props,) = (folder / "regionprops").iterdir()
    table = pd.read_csv(props).set_index("Object").loc[cohort.cells["cell_id"].to_numpy()]
    np.testing.assert_allclose(cohort.features[:, cohort.names.index("area")], table["area"])
    np.testing.assert_allclose(cohort.cells["y"], table["centroid-0"], rtol=1e-6)
    assert "image_unknown" in kinds(cohort)  # images.csv speaks of other images


@pytest.mark.cohorts
def test_the_place_of_a_halo_cell_is_the_middle_of_its_box(exports: Path) -> None:
    cohort = read_cohort([exports / "SPIAT_tiny_halo.csv"])
    table = pd.read_csv(exports / "SPIAT_tiny_halo.csv")
    np.testing.assert_array_equal(cohort.cells["x"], (table["XMin"] + table["XMax"]) / 2)
    np.testing.assert_array_equal(cohort.cells["y"], (table["YMin"] + table["YMax"]) / 2)


# By header alone

HEADERS = {
    "ark": (
        "cell_size,CD3,CD8,label,area,eccentricity,perimeter,centroid-0,centroid-1,fov,cell_meta_cluster",
        ("fov", "centroid-1", "centroid-0", "cell_meta_cluster"),
    ),
    "CosMx": (
        "fov,cell_ID,Area,AspectRatio,CenterX_local_px,CenterY_local_px,CenterX_global_px,CenterY_global_px,slide_ID",
        ("slide_ID", "CenterX_global_px", "CenterY_global_px", ""),
    ),
    "Xenium": (
        "cell_id,x_centroid,y_centroid,transcript_counts,control_probe_counts,total_counts,cell_area,nucleus_area",
        (FROM_FILE, "x_centroid", "y_centroid", ""),
    ),
    "MERSCOPE": (
        "EntityID,fov,volume,center_x,center_y,min_x,min_y,max_x,max_y,PolyT_raw,DAPI_raw",
        (FROM_FILE, "center_x", "center_y", ""),
    ),
    "QuPath": (
        "Image,Object ID,Object type,Name,Classification,Parent,ROI,Centroid X µm,Centroid Y µm,Nucleus: Area µm^2,"
        "DAPI: Mean,TMA core",
        ("TMA core", "Centroid X µm", "Centroid Y µm", "Classification"),
    ),
    "histoCAT": (
        "ImageId,CellId,CD3,CD8,Area,Eccentricity,X_position,Y_position,Percent_Touching,Number_Neighbors",
        ("ImageId", "X_position", "Y_position", ""),
    ),
    "CODEX": (
        "cell_id:cell_id,region:region,tile_num:tile_num,x:x,y:y,z:z,cyc001_ch001:DAPI,cyc002_ch002:CD3",
        ("region:region", "x:x", "y:y", ""),
    ),
}
TEXT = {"Image", "Object ID", "Object type", "Name", "Classification", "Parent", "ROI", "TMA core"}
TEXT |= {"cell_meta_cluster", "slide_ID"}


def made(header: str, rows: int = 40) -> pd.DataFrame:
    """A table with this header: owners take four values, ids count, everything else is a number."""
    rng, table = np.random.default_rng(1), {}
    for name in header.split(","):
        numbers = rng.gamma(2.0, 3.0, rows).round(3)
        if name in TEXT:
            table[name] = [f"{name} {i % 4 if name != 'ROI' else 'Polygon'}" for i in range(rows)]
        elif name.split(":")[0].casefold() in ("label", "cell_id", "cellid", "entityid"):
            table[name] = np.arange(rows) + 1
        else:
            whole = name.split(":")[0].casefold() in ("fov", "imageid", "region", "tile_num")
            table[name] = np.arange(rows) % 4 + 1 if whole else numbers
    return pd.DataFrame(table)


@pytest.mark.parametrize("tool", HEADERS)
def test_a_tool_is_known_by_its_header(tmp_path: Path, tool: str) -> None:
    header, (patient, x, y, cell_type) = HEADERS[tool]
    made(header).to_csv(tmp_path / "sample_7.csv", index=False)
    cohort = read_cohort([tmp_path / "sample_7.csv"])
    assert cohort.source["format"] == tool
    assert tuple(role(cohort, name) for name in ("patient", "x", "y", "cell_type")) == (
        patient,
        x,
        y,
        cell_type,
    )
    assert not {"control_probe_counts", "fov", "min_x", "Parent", "Number_Neighbors"} & set(cohort.names)


@pytest.mark.parametrize("micro", ["µ", "μ", "Âµ", "u", "?", "Î¼", "\ufffd"])
def test_the_micro_sign_may_arrive_as_it_likes(tmp_path: Path, micro: str) -> None:
    header = HEADERS["QuPath"][0].replace("µ", micro)
    made(header).to_csv(tmp_path / "q.tsv", index=False, sep="\t")
    cohort = read_cohort([tmp_path / "q.tsv"])
    assert cohort.source["format"] == "QuPath"
    assert role(cohort, "x") == f"Centroid X {micro}m"


def test_names_as_r_writes_them_are_known(tmp_path: Path) -> None:
    table = made(HEADERS["QuPath"][0])
    table.columns = table.columns.str.replace(r"[^\w]", ".", regex=True).str.replace("µ", ".")
    table.index = [f"r{i}" for i in range(len(table))]
    text = table.to_csv(sep=" ", index_label=False)  # a header without the column of row names
    (tmp_path / "r.txt").write_text(text)
    cohort = read_cohort([tmp_path / "r.txt"])
    assert (cohort.source["format"], role(cohort, "x"), role(cohort, "y")) == (
        ("QuPath", "Centroid.X..m", "Centroid.Y..m")
    )


@pytest.mark.parametrize(
    "header",
    [
        "transcript_id,cell_id,feature_name,x_location,y_location,qv",
        "global_x,global_y,gene,fov",
        "fov,cell_ID,target,CellComp,x_global_px",
    ],
)
def test_transcripts_are_no_cells(tmp_path: Path, header: str) -> None:
    made(header).to_csv(tmp_path / "points.csv", index=False)
    with pytest.raises(MilError, match="not cells"):
        read_cohort([tmp_path / "points.csv"])


def test_headers_are_told_apart() -> None:
    for tool, (header, _) in HEADERS.items():
        found = format_of(header.split(","))
        assert found is not None
        assert found.name == tool


# Files


@pytest.mark.parametrize("kind", ["feather", "csv.zst", "txt.gz", "zip", "folder", "parts", "xlsx", "latin"])
def test_every_way_to_keep_a_table_gives_the_same(tmp_path: Path, kind: str) -> None:
    table = made("patient,cell_id,x,y,CD3,CD8").assign(patient=[f"Pé{i % 4}" for i in range(40)])
    where = tmp_path / ("t" if kind in ("folder", "parts") else "t.csv" if kind == "latin" else f"t.{kind}")
    text = table.to_csv(index=False)
    if kind == "feather":
        table.to_feather(where)
    elif kind == "csv.zst":
        where.write_bytes(pa.compress(text.encode(), codec="zstd", asbytes=True))
    elif kind == "txt.gz":
        where.write_bytes(gzip.compress(text.encode("utf-16")))
    elif kind == "latin":
        where.write_text(text, encoding="latin-1")
    elif kind == "zip":
        with zipfile.ZipFile(where, "w") as archive:
            archive.writestr("__MACOSX/a.csv", "junk")
            archive.writestr("deep/a.csv", table[:25].to_csv(index=False))
            archive.writestr("deep/b.csv", table[25:].to_csv(index=False))
            archive.writestr("readme.pdf", "no table")
    elif kind == "xlsx":
        table.to_excel(where, index=False, engine="openpyxl")
    else:
        where.mkdir()
        halves = (table[:25], table[25:])
        for i, half in enumerate(halves):
            name = where / f"part-{i}.{'csv' if kind == 'folder' else 'parquet'}"
            half.to_csv(name, index=False) if kind == "folder" else half.to_parquet(name)
    cohort = read_cohort([where])
    assert cohort.patients["patient"].tolist() == ["Pé0", "Pé1", "Pé2", "Pé3"]
    back = np.argsort(cohort.order)
    np.testing.assert_array_equal(cohort.features[back], table[["CD3", "CD8"]].to_numpy(np.float32))
    assert ("encoding" in kinds(cohort)) == (kind in ("latin", "txt.gz"))


def write_parts(folder: Path, names: list[str]) -> Path:
    """One table a name, of cells that say neither patient nor region."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(rng.normal(size=(6, 2)), columns=["CD3", "CD8"])
        table.to_csv(folder / name, index=False)
    return folder


@pytest.mark.parametrize(
    ("names", "patients", "regions"),
    [
        (["P1_a.csv", "P1_b.csv", "P2_a.csv"], ["P1", "P2"], 3),
        (["P1/cells.csv", "P2/cells.csv"], ["P1", "P2"], 0),
        (["pt3_roi1.csv", "pt3_roi2.csv", "pt4_roi1.csv"], ["pt3", "pt4"], 3),
        (["patient=7/part-0.csv", "patient=7/part-1.csv", "patient=8/part-0.csv"], ["7", "8"], 0),
        (["scan x.csv", "other.csv"], ["other", "scan x"], 0),
    ],
)
def test_patient_and_region_are_read_from_file_names(
    tmp_path: Path, names: list[str], patients: list[str], regions: int
) -> None:
    cohort = read_cohort([write_parts(tmp_path, names)])
    assert sorted(cohort.patients["patient"]) == patients
    assert cohort.cells.groupby(cohort.owner)["region"].nunique().sum() == regions
    assert "from_names" in kinds(cohort)


def test_a_pattern_is_obeyed_and_one_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    write_parts(tmp_path, ["a_P1_x.csv", "b_P2_x.csv"])
    cohort = read_cohort([tmp_path / "*_x.csv"], columns=Columns(pattern="{}_{patient}_x.csv"))
    assert cohort.patients["patient"].tolist() == ["P1", "P2"]
    for pattern in ("{patient}-{region}", "{who}", "{patient}{patient}"):
        with pytest.raises(MilError, match="pattern") as caught:
            read_cohort([tmp_path], columns=Columns(pattern=pattern))
        assert caught.value.where == "--pattern"


def test_the_patients_file_decides_between_ways_to_read_names(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "cells", ["s1_P1.csv", "s2_P2.csv", "s3_P3.csv"])
    outcome = pd.DataFrame({"ID": ["1", "2", "3"], "who": ["s1", "s2", "s3"], "response": list("aba")})
    outcome.to_csv(folder / "patients.csv", index=False)  # among the cells, and yet no table of cells
    cohort = read_cohort([folder], patients=folder / "patients.csv")
    assert cohort.label("response").tolist() == ["a", "b", "a"]
    assert cohort.patients["patient"].tolist() == ["s1", "s2", "s3"]


def test_ids_that_begin_with_the_sample_name_the_patient(tmp_path: Path) -> None:
    table = made("CD3,CD8").assign(barcode=[f"S{i % 2}_ACGTACGT-{i}" for i in range(40)])
    table.to_csv(tmp_path / "c.csv", index=False)
    assert read_cohort([tmp_path / "c.csv"]).patients["patient"].tolist() == ["S0", "S1"]
    asked = Columns(pattern="{}_{patient}-{cell}", names_in="barcode")
    assert read_cohort([tmp_path / "c.csv"], columns=asked).patients["patient"].tolist() == ["ACGTACGT"]


# The patients table


def joined(folder: Path, ids: list[str], theirs: list[str], **more: list[object]) -> Cohort:
    table = made("CD3,CD8").assign(patient=[ids[i % len(ids)] for i in range(40)])
    table.to_csv(folder / "cells.csv", index=False)
    rows = pd.DataFrame({"Patient ID": theirs, "age": range(len(theirs)), **more})
    with pd.ExcelWriter(folder / "patients.xlsx", engine="openpyxl") as book:
        rows.to_excel(book, sheet_name="outcomes", index=False, startrow=2)
        pd.DataFrame({"note": ["x"]}).to_excel(book, sheet_name="notes", index=False)
        book.sheets["outcomes"]["A1"] = "Our cohort"
    return read_cohort([folder / "cells.csv"], patients=folder / "patients.xlsx")


def test_an_excel_sheet_below_a_title_is_joined_however_ids_are_written(tmp_path: Path) -> None:
    cohort = joined(tmp_path, ["P1", "p02", "Case 3", "slide_4.ndpi"], ["P01", "P2", "case-003", "SLIDE 4"])
    assert cohort.label("age").tolist() == [0, 1, 2, 3]
    (note,) = [note for note in cohort.notes if note.kind == "forgiving_match"]
    assert "'P1' with 'P01'" in note.words
    assert {"sheet"} <= kinds(cohort)


def test_ids_that_forgiveness_makes_alike_are_left_alone(tmp_path: Path) -> None:
    cohort = joined(tmp_path, ["P1", "P01", "P3"], ["p001", "P3", "P9"])
    assert cohort.label("age").isna().tolist() == [True, True, False]
    assert {"unmatched_patients", "patients_without_cells"} <= kinds(cohort)


def test_spellings_of_one_label_are_said_and_merged_on_request(tmp_path: Path) -> None:
    responses = ["Yes", "yes ", "1", "No", "No", "Yes"]
    ids = [f"Q{i}" for i in range(6)]
    cohort = joined(tmp_path, ids, ids, response=responses, grade=["low", "Low", "high", "x", "x", "low"])
    said = [note.words for note in cohort.notes if note.kind == "label_spellings"]
    assert "'yes' as 'Yes'" in said[0]
    assert "'Low' as 'low'" in said[1]
    assert cohort.label("response").nunique() == 4
    merged = read_cohort(
        [tmp_path / "cells.csv"], patients=tmp_path / "patients.xlsx", columns=Columns(merge_labels=True)
    )
    assert merged.label("response").tolist() == ["Yes", "Yes", "Yes", "No", "No", "Yes"]


# Numbers as people write them


def test_percents_and_thousands_are_numbers(tmp_path: Path) -> None:
    table = made("patient,CD3", 8).assign(patient=list("aabbccdd"))
    table["share"] = ["1.5 %", "2%", "3 %", "4%", "0.1 %", "7 %", "1%", "2.2 %"]
    table["area"] = ["1,234", "12", "1,000,000.5", "999", "2,000", "3.5", "4", "5"]
    table.to_csv(tmp_path / "c.csv", index=False)
    cohort = read_cohort([tmp_path / "c.csv"])
    assert cohort.names == ("CD3", "share", "area")
    assert cohort.features[:4, 1].tolist() == [1.5, 2, 3, 4]
    assert cohort.features[:4, 2].tolist() == [1234, 12, 1000000.5, 999]
    assert {"percents", "thousands"} <= kinds(cohort)


def test_a_decimal_comma_with_three_places_is_no_sign_between_thousands(tmp_path: Path) -> None:
    table = made("patient,n", 6).assign(patient=list("aabbcc"), n=range(6))
    table["m"] = ["1,234", "2,345", "0,5", "3,456", "4,567", "5,678"]
    table["o"] = ["1,111", "2,222", "3,333", "4,444", "5,555", "6,667"]
    table.to_csv(tmp_path / "c.csv", index=False)
    cohort = read_cohort([tmp_path / "c.csv"])
    assert "thousands" not in kinds(cohort)
    assert cohort.features[0, cohort.names.index("o")] == np.float32(1.111)


def test_the_line_for_excel_and_empty_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    text = made("patient,CD3,CD8").assign(patient=["a", "b"] * 20).to_csv(index=False, sep=";")
    (tmp_path / "c.csv").write_text("\n\nsep=;\n" + text)
    assert read_cohort([tmp_path / "c.csv"]).names == ("CD3", "CD8")


# The same table, however it was exported


@dataclass(frozen=True)
class Style:
    """How an export is written."""

    separator: str
    decimal: str
    encoding: str
    quoted: bool
    ending: str


STYLES = st.builds(
    Style,
    separator=st.sampled_from([",", ";", "\t", "|"]),
    decimal=st.sampled_from([".", ","]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    quoted=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
)
CASES = (
    str,
    lambda name: name.upper().replace("\u039c", "µ"),
    str.lower,
    lambda name: name.replace(" ", "_"),
    lambda name: f" {name}",
)
VARIED = "Image,Object ID,Classification,Parent,ROI,Centroid X µm,Centroid Y µm,Nucleus: Area µm^2,DAPI: Mean"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(style=STYLES, spelled=st.sampled_from(CASES), seed=st.integers(0, 99))
def test_a_variant_of_an_export_is_the_same_export(tmp_path: Path, style: Style, spelled, seed: int) -> None:  # type: ignore[no-untyped-def]
    plain = made(VARIED).assign(Image=[f"Fall é {i % 4}" for i in range(40)])
    table = plain.sample(frac=1, axis=1, random_state=seed).rename(columns=spelled)
    how = {"sep": style.separator, "decimal": style.decimal, "lineterminator": style.ending}
    text = table.to_csv(index=False, quoting=1 if style.quoted else 0, **how)
    (tmp_path / "e.txt").write_bytes(text.encode(style.encoding))
    cohort = read_cohort([tmp_path / "e.txt"])
    assert cohort.source["format"] == "QuPath"
    assert cohort.patients["patient"].tolist() == [f"Fall é {i}" for i in range(4)]
    back = np.argsort(cohort.order)
    for axis in "xy":
        wanted = plain[f"Centroid {axis.upper()} µm"].to_numpy(np.float32)
        np.testing.assert_array_equal(cohort.cells[axis].to_numpy()[back], wanted)
    for name in ("Nucleus: Area µm^2", "DAPI: Mean"):
        found = cohort.features[back, cohort.names.index(spelled(name))]
        np.testing.assert_array_equal(found, plain[name].to_numpy(np.float32))


# AnnData


def brought(folder: Path, *, hole: bool = False) -> Path:
    """An h5ad of 6 patients with sparse X, a layer, nullable text, a place in tissue, and a map."""
    import anndata
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(8)
    x = rng.poisson(2.0, (240, 3)).astype(np.float32)
    obs = pd.DataFrame({"donor_id": pd.array(np.repeat([f"D{i}" for i in range(6)], 40), "string")})
    obs.index = [f"c{i}" for i in range(240)]
    data = anndata.AnnData(csr_matrix(x), obs=obs, layers={"log": np.log1p(x)})
    data.var_names = ["CD3", "CD8", "Ki67"]
    data.obsm["spatial"], data.obsm["X_umap"] = rng.random((240, 2)), rng.normal(size=(240, 2))
    if hole:
        data.obsm["X_umap"][7] = np.nan
    with anndata.settings.override(allow_write_nullable_strings=True):
        data.write_h5ad(folder / "c.h5ad")
    return folder / "c.h5ad"


def test_a_layer_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    path = brought(tmp_path)
    plain, other = read_cohort([path]), read_cohort([path], columns=Columns(layer="log"))
    np.testing.assert_allclose(other.features, np.log1p(plain.features), rtol=1e-6)
    assert (plain.names, plain.B) == (("CD3", "CD8", "Ki67"), 6)
    assert "'log'" in next(note.words for note in plain.notes if note.kind == "layers")
    assert other.source["layers"] == ["log"]
    other.write_mapping(tmp_path / "m.json")
    assert read_mapping(tmp_path / "m.json").layer == "log"
    with pytest.raises(MilError, match="no layer 'lgo'") as caught:
        read_cohort([path], columns=Columns(layer="lgo"))
    assert "'log'" in caught.value.fix


def test_the_map_of_a_file_is_kept_and_never_a_feature(tmp_path: Path) -> None:
    import anndata

    cohort = read_cohort([brought(tmp_path)]).save(tmp_path / "cohort")
    wanted = anndata.read_h5ad(tmp_path / "c.h5ad").obsm["X_umap"]
    places = of_file(cohort)
    assert places is not None
    np.testing.assert_allclose(places, wanted[cohort.order], rtol=1e-6)
    assert of_file(read_cohort([brought(tmp_path, hole=True)])) is None
    assert layouts.kind(USUAL, of_file=True) == "UMAP from file"


def test_an_analysis_shows_the_map_of_the_file_and_says_so(tmp_path: Path) -> None:
    from milcore.chain import analyse
    from milcore.training import Settings

    outcome = pd.DataFrame({"donor_id": [f"D{i}" for i in range(6)], "response": ["no", "yes"] * 3})
    outcome.to_csv(tmp_path / "patients.csv", index=False)
    cohort = read_cohort([brought(tmp_path)], patients=tmp_path / "patients.csv")
    settings = Settings(target="response", pooling="neighbourhood", effort="quick", permutations=10)
    found = analyse(cohort, settings)
    assert found.facts["umap"] == "from file"
    np.testing.assert_array_equal(found.cells[["umap_1", "umap_2"]].to_numpy(np.float32), of_file(cohort))
