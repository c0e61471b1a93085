"""Results in the forms that other software reads: tables, sheets, AnnData, QuPath, GeoJSON.

Every cell keeps its own id, coordinates and unit, so that results join back to where the cells came from. Text that a
spreadsheet would run as a formula is made harmless in a way that can be taken back.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from milcore import names
from milcore.analysis import Analysis
from milcore.errors import MilError
from milcore.folder import aside, whole
from milcore.scorer import card_of

__all__ = ["FORMS", "export", "packed", "sheet"]

MOST_ROWS = 1_048_575  # of an Excel sheet, below its header
RUN = r"^['=+\-@\t\r\n]"  # text that a spreadsheet might run, and text that looks as if made harmless already
SHOWN = ("importance", "evidence", "evidence_sd", "attention", "contribution", "leave_one_out")
COLOURED = 0.98  # share of the cells whose importance lies within the ends of the colours
BLUE, GREY, ORANGE = (31, 111, 196), (198, 202, 208), (217, 106, 0)  # against, neither, for: as on the screen
SCRIPT = Path(__file__).with_name("qupath.groovy")


def export(analysis: Analysis, form: str, out: Path) -> Path:
    """Writes one of FORMS to `out`, complete or not at all, and returns it. csv and parquet write the cells to a file
    of that ending, else all tables to a folder; qupath a folder; the others a file, which is replaced if it exists.

    MilError for an unknown form, a place that cannot be written, and a cohort that the form cannot hold.
    """
    if form not in FORMS:
        problem = f"'{form}' is not a form of export."
        raise MilError(problem, "--to", f"Choose one of: {', '.join(FORMS)}.")
    out = Path(out)
    several = form == "qupath" or (form in TABLES and out.suffix.casefold() != f".{form}")
    with _folder(out) if several else _file(out) as place:
        FORMS[form](analysis, place)
    return out


def packed(analysis: Analysis, form: str, *, patient: str | None = None) -> bytes:
    """The same in memory, a folder as a zip that opens to a folder named "milscope"; `patient` for qupath and geojson:
    only this patient's cells, in the colours of the cohort."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made) / "milscope"
        if form == "qupath":
            place.mkdir()
        FORMS[form](analysis, place, **({} if patient is None else {"patient": patient}))
        if not place.is_dir():
            return place.read_bytes()
        return Path(shutil.make_archive(made + "/packed", "zip", made, "milscope")).read_bytes()


def sheet(frame: pd.DataFrame) -> bytes:
    """A table as CSV of which a spreadsheet runs nothing, as the form csv has it."""
    return _harmless(_plain(frame)).write_csv().encode()


@contextmanager
def _file(out: Path) -> Iterator[Path]:
    """A file beside `out` that takes its place at the end."""
    if out.is_dir() or not out.absolute().parent.is_dir():
        problem = f"'{out}' cannot be written."
        raise MilError(problem, "--out", "Name a file in a folder that exists.")
    with whole(out) as part:
        yield part


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        problem = f"'{out.name}' exists already."
        raise MilError(problem, str(out), "Name a new folder, or delete this one.")
    with aside(out.absolute()) as part:
        yield part


# ---------------------------------------------------------------- tables


def _tables(analysis: Analysis) -> dict[str, pl.DataFrame]:
    """cells (one row for each input row, in input order), predictions, phenotypes; missing numbers are null."""
    place = np.full(analysis.cohort.inputs, -1)
    place[analysis.cohort.order] = np.arange(analysis.cohort.N)
    row = pl.Series(place)
    cells = _plain(analysis.cells).select(pl.all().gather(row.set(row < 0, None)))
    return {
        "cells": cells,
        "predictions": _plain(analysis.predictions),
        "phenotypes": _plain(analysis.phenotypes.table),
    }


def _plain(frame: pd.DataFrame) -> pl.DataFrame:
    """The same for polars: text as such, numbers that are missing as null."""
    table = pl.from_pandas(frame)
    text = [name for name, kind in table.schema.items() if isinstance(kind, (pl.Categorical, pl.Enum))]
    numbers = [name for name, kind in table.schema.items() if kind.is_float()]
    return table.with_columns(pl.col(text).cast(pl.String), pl.col(numbers).fill_nan(None))


def _harmless(table: pl.DataFrame) -> pl.DataFrame:
    """An apostrophe before text (and names of columns) that a spreadsheet might run; take one off to have it back."""
    texts = [name for name, kind in table.schema.items() if kind == pl.String]
    marked = table.with_columns(
        pl.when(pl.col(name).str.contains(RUN)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in texts
    )
    risky = pl.Series(marked.columns).str.contains(RUN)
    return marked.rename({name: f"'{name}" for name, bad in zip(marked.columns, risky, strict=True) if bad})


def _csv(analysis: Analysis, place: Path) -> None:
    for table, file in _placed(analysis, place, "csv"):
        _harmless(table).write_csv(file)


def _parquet(analysis: Analysis, place: Path) -> None:
    for table, file in _placed(analysis, place, "parquet"):
        table.write_parquet(file)


def _placed(analysis: Analysis, place: Path, ending: str) -> Iterator[tuple[pl.DataFrame, Path]]:
    """The cells for a file, all tables for a folder."""
    tables = _tables(analysis)
    if not place.is_dir():
        yield tables["cells"], place
        return
    yield from ((table, place / f"{name}.{ending}") for name, table in tables.items())


def _xlsx(analysis: Analysis, place: Path) -> None:
    """A sheet that explains, and one for each table; text is written as text, never as a formula or a link."""
    import xlsxwriter

    tables = _tables(analysis)
    if len(tables["cells"]) > MOST_ROWS:
        problem = f"{len(tables['cells']):,} cells are more than a sheet holds ({MOST_ROWS:,})."
        raise MilError(problem, "--to xlsx", "Choose csv or parquet.")
    never = dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False)
    with xlsxwriter.Workbook(place, {"constant_memory": True, "in_memory": False, **never}) as book:
        quoted = book.add_format({"quote_prefix": True})
        for name, table in {"read me": _about(analysis), **tables}.items():
            sheet = book.add_worksheet(name.capitalize())
            for r, row in enumerate([tuple(table.columns), *table.iter_rows()]):
                for c, value in enumerate(row):
                    if isinstance(value, str):
                        sheet.write_string(r, c, value, quoted)
                    elif value is not None:
                        sheet.write_number(r, c, value)


def _about(analysis: Analysis) -> pl.DataFrame:
    """The model card as two columns of text."""
    card = card_of(analysis.facts)
    said = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in card.items()]
    return pl.DataFrame({"what": [name for name, _ in said], "value": [value[:32_000] for _, value in said]})


# ---------------------------------------------------------------- AnnData


def _h5ad(analysis: Analysis, place: Path) -> None:
    """Cells in input order: the cohort's features in X, what was found in obs, map and tissue in obsm, the card in uns.
    Text is plain categories, so that older readers open it."""
    import anndata

    cohort, order = analysis.cohort, np.argsort(analysis.cohort.order)
    cells = analysis.cells.take(order).reset_index(drop=True)
    data = anndata.AnnData(
        X=np.asarray(cohort.features)[order],
        obs=_obs(analysis, cells, order),
        var=pd.DataFrame(index=pd.Index(list(cohort.names), dtype=object)),
        obsm={
            "X_umap": cells[["umap_1", "umap_2"]].to_numpy(np.float32),
            "spatial": cells[["x", "y"]].to_numpy(np.float32),
        },
        uns={"mil": {"card": json.dumps(card_of(analysis.facts))} | _flat(analysis.facts)},
    )
    data.write_h5ad(place, compression="gzip")


def _obs(analysis: Analysis, cells: pd.DataFrame, order: np.ndarray) -> pd.DataFrame:
    """What is known of each cell, named by its input row."""
    obs: dict[str, Any] = {name: _category(cells[name]) for name in ("patient", "region", "cell_id")}
    obs |= {f"mil_{name}": cells[name].to_numpy() for name in SHOWN}
    obs["mil_phenotype"] = _category(cells["phenotype"])
    for name, column in analysis.cohort.cells.items():
        if name not in ("region", "cell_id", "x", "y"):
            values = column.take(order)
            number = pd.api.types.is_numeric_dtype(values.dtype)
            obs.setdefault(str(name), values.to_numpy() if number else _category(values))
    rows = np.sort(analysis.cohort.order).astype(str).astype(object)
    return pd.DataFrame(obs, index=pd.Index(rows, dtype=object))


def _category(values: pd.Series) -> pd.Categorical:
    """Text as categories that are plain Python text."""
    coded = pd.Categorical(values)
    return pd.Categorical.from_codes(coded.codes, pd.Index([str(c) for c in coded.categories], dtype=object))


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """What is asked for most, to be had without reading the card."""
    scores = {name: float(score["value"]) for name, score in facts.get("scores", {}).items()}
    return {
        "task": facts["task"],
        "towards": facts["towards"],
        "target": facts["settings"]["target"],
        "scores": scores,
    }


# ---------------------------------------------------------------- on the slide


def _on_the_slide(analysis: Analysis, patient: str | None) -> pl.DataFrame:
    """What is shown of every cell that has a place, with its image: the region, else the patient."""
    own = analysis.cells["patient"] == patient
    cells = _plain(analysis.cells[own] if patient is not None else analysis.cells).with_columns(
        image=pl.coalesce("region", "patient"), cell_id=pl.col("cell_id").cast(pl.String)
    )
    placed = cells.filter(pl.col("x").is_not_null() & pl.col("y").is_not_null())
    if not len(placed):
        problem = "No cell has coordinates."
        raise MilError(
            problem, "the cells", "Name the columns of the coordinates with --x and --y, and run again."
        )
    return placed


def _unit(analysis: Analysis) -> str:
    """The unit of the coordinates as the cells' table named it: µm, px, or "" where it did not."""
    columns = analysis.cohort.source.get("columns", [])
    return next((names.unit(column["name"]) for column in columns if column["role"] == "x"), "")


def _has_ids(analysis: Analysis) -> bool:
    """Whether the cells' table named its cells."""
    return any(column["role"] == "cell" for column in analysis.cohort.source.get("columns", []))


def _qupath(analysis: Analysis, place: Path, patient: str | None = None) -> None:
    """cells.tsv, by Object ID or centroid as QuPath writes them, and the script that reads it and colours the slide."""
    cells, unit = _on_the_slide(analysis, patient), _unit(analysis)
    by_id = [pl.col("cell_id").alias("Object ID")] if _has_ids(analysis) else []
    where = [pl.col(axis).alias(f"Centroid {axis.upper()} {unit}".strip()) for axis in "xy"]
    found = [pl.col(name).alias(f"MIL {name.replace('_', ' ')}") for name in SHOWN]
    table = cells.select(
        pl.col("image").alias("Image"), *by_id, *where, *found, pl.col("phenotype").alias("Phenotype")
    )
    text = pl.col(pl.String).str.replace_all(r"[\t\r\n]+", " ")
    table.with_columns(text).write_csv(place / "cells.tsv", separator="\t", quote_style="never")
    (place / "colour.groovy").write_text(_script(analysis), encoding="utf-8")


def _script(analysis: Analysis) -> str:
    """The script with the colours and where they end, the same for all images."""
    limit = float(np.nanquantile(np.abs(analysis.cells["importance"]), COLOURED)) or 1.0
    text = SCRIPT.read_text(encoding="utf-8").replace("@LIMIT@", f"{limit:.6g}")
    for name, channel in zip(("RED", "GREEN", "BLUE"), zip(BLUE, GREY, ORANGE, strict=True), strict=True):
        text = text.replace(f"@{name}@", str(list(channel)))
    return text


def _geojson(analysis: Analysis, place: Path, patient: str | None = None) -> None:
    """A collection of points at the cells' own coordinates; `unit` says of what kind (QuPath takes pixels)."""
    cells = _on_the_slide(analysis, patient)
    measured = pl.struct(pl.col(name).alias(f"MIL {name.replace('_', ' ')}") for name in SHOWN)
    about = pl.struct(
        pl.lit("detection").alias("objectType"),
        pl.col("cell_id").alias("name"),
        "patient",
        "region",
        pl.struct(pl.col("phenotype").alias("name")).alias("classification"),
        measured.alias("measurements"),
    )
    place_of = pl.concat_list(
        pl.col(axis).cast(pl.String).cast(pl.Float64) for axis in "xy"
    )  # 1.1, not 1.10000002
    point = pl.struct(pl.lit("Point").alias("type"), place_of.alias("coordinates"))
    identity = [pl.col("cell_id").alias("id")] if _has_ids(analysis) else []
    feature = pl.struct(
        pl.lit("Feature").alias("type"), *identity, point.alias("geometry"), about.alias("properties")
    )
    lines = cells.select(feature.struct.json_encode().alias("line"))["line"]
    head = {"type": "FeatureCollection", "unit": _unit(analysis), "card": card_of(analysis.facts)}
    with place.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "features": [\n')
        file.write(",\n".join(lines))
        file.write("\n]}\n")


TABLES: dict[str, Callable[[Analysis, Path], None]] = {"csv": _csv, "parquet": _parquet}
FORMS: dict[str, Callable[..., None]] = {
    **TABLES,
    "xlsx": _xlsx,
    "h5ad": _h5ad,
    "qupath": _qupath,
    "geojson": _geojson,
}
