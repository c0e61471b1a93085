"""Files to tables: text by its separator, Parquet, h5ad; numbers are numbers, and what was not is said."""

from __future__ import annotations

import csv
import gzip
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from milcore import names
from milcore.cohort import Note, alike
from milcore.errors import MilError

__all__ = ["Table", "read_table", "read_tables"]

GAPS = [
    "",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "NaN",
    "nan",
    "NAN",
    "null",
    "NULL",
]  # how tables write a missing value
STRAY = 0.05  # of a column's entries may be text, and it is still a column of numbers
HALF = 0.5  # numbers among the text from here on are worth a note
COMMA = r"^(\s*[+-]?\d*),(\d*([eE][+-]?\d+)?\s*)$"  # a number written with a decimal comma
SAMPLE_ROWS = 10_000  # decide a column's type, unless a later row disagrees
MOST_VALUES = 1 << 31  # of an h5ad matrix: 8 GB
SEPARATORS = ",\t;"
SHOWN = 5  # columns in a sentence


@dataclass(frozen=True)
class Table:
    """Rows as they stand in the file: `format` in words, `matrix` the columns that were X of an h5ad."""

    frame: pl.DataFrame
    format: str
    matrix: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


def read_tables(paths: Sequence[Path], *, text: Collection[str] = (), wanted: Collection[str] = ()) -> Table:
    """One table of all files, stacked in the order given; they must have the same columns.

    `text` are columns to be kept as written (patients "01"); of an h5ad matrix only `wanted` columns are read,
    if any are named. MilError for what is missing, empty, damaged, not a table, or does not fit the first file.
    """
    if not paths:
        problem = "No cell table was named."
        raise MilError(problem, "", "Name at least one file of cells.")
    tables = [read_table(path, text=text, wanted=wanted) for path in paths]
    first = tables[0]
    for path, table in zip(paths[1:], tables[1:], strict=True):
        _check_fits(table.frame, first.frame, (Path(path).name, Path(paths[0]).name))
    frame = _stacked([table.frame for table in tables])
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    frame, mixed = _numbered(frame, {name for name in frame.columns if name in text or names.owner(name)})
    formats = " and ".join(dict.fromkeys(table.format for table in tables))
    return Table(frame, formats, first.matrix, notes + tuple(mixed))


def read_table(path: Path, *, text: Collection[str] | None = (), wanted: Collection[str] = ()) -> Table:
    """The table of one file, as `read_tables` does, but columns that mix numbers with text are still text.

    Where `text` is None, all of a text file is kept as written.
    """
    path = Path(path)
    reader = _reader(path)
    try:
        if not path.stat().st_size:
            problem = f"'{path.name}' is empty."
            raise MilError(problem, str(path), "Export the table again.")
        table = reader(path, text, wanted)
    except (OSError, EOFError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"'{path.name}' cannot be read: {said}"
        raise MilError(
            problem, str(path), "Check that the file is whole and of the kind its name says."
        ) from None
    if not table.frame.height or not table.frame.width:
        problem = f"'{path.name}' has no rows."
        raise MilError(problem, str(path), "Export the table again.")
    return replace(
        table, frame=table.frame.rename({name: f"{name} " for name in table.frame.columns if _pattern(name)})
    )


def _pattern(name: str) -> bool:
    """Whether polars would take a name for a pattern of names; a space at its end makes it plain again."""
    return name == "*" or (name.startswith("^") and name.endswith("$"))


Reader = Callable[[Path, Collection[str] | None, Collection[str]], Table]


def _reader(path: Path) -> Reader:
    if not path.exists():
        there = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        problem = f"There is no file '{path.name}'."
        raise MilError(problem, str(path.parent), alike(path.name, there) if there else "Check the path.")
    if path.is_dir():
        problem = f"'{path.name}' is a folder."
        raise MilError(problem, str(path), "Name the files in it.")
    ending = path.name.casefold().removesuffix(".gz").rpartition(".")[2]
    if ending not in READERS or (
        ending != path.name.casefold().rpartition(".")[2] and READERS[ending] is not _text
    ):
        problem = f"'{path.name}' is of no kind that can be read."
        raise MilError(problem, str(path), "Give CSV, TSV (also .gz), Parquet or h5ad.")
    return READERS[ending]


# Text


def _text(path: Path, text: Collection[str] | None, wanted: Collection[str]) -> Table:
    header = _header(path)
    separator = max(SEPARATORS, key=lambda mark: len(_split(header, mark)))
    given = _split(header, separator)
    repeated = sorted({name for name in given if given.count(name) > 1})
    notes = (
        [Note("repeated_names", f"Columns of one name were told apart: {', '.join(repeated)}.")]
        if repeated
        else []
    )
    kind = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons"}[separator]
    frame = _parsed(path, separator, text)
    commas = [] if separator == "," else _decimal_commas(frame, text or ())
    if commas:
        number = pl.col(commas).str.replace(COMMA, "$1.$2")
        frame = frame.with_columns(number)
        shown = ", ".join(f"'{name}'" for name in commas[:SHOWN]) + ", ..." * (len(commas) > SHOWN)
        words = f"Columns with decimal commas, read as numbers ({len(commas)}): {shown}."
        notes.append(Note("decimal_comma", words))
    return Table(frame, kind, notes=tuple(notes))


def _decimal_commas(frame: pl.DataFrame, text: Collection[str]) -> list[str]:
    """The columns of numbers with a decimal comma; none where more have a point, for then a comma parts two numbers."""
    free = [c for c in frame.get_columns() if c.name not in text and not names.owner(c.name)]
    words = [column for column in free if column.dtype == pl.String]
    commas = [column.name for column in words if _decimal(column, ",")]
    points = sum(column.dtype.is_float() for column in free) + sum(_decimal(c, r"\.") for c in words)
    return commas if len(commas) > points else []


def _decimal(column: pl.Series, mark: str) -> bool:
    """Whether text is numbers, but for a few entries, and some of them have this decimal mark."""
    entries = column.drop_nulls()
    number = entries.str.contains(rf"^\s*[+-]?(\d+({mark}\d*)?|{mark}\d+)([eE][+-]?\d+)?\s*$")
    marked = bool((number & entries.str.contains(mark)).any())
    return marked and int((~number).sum()) <= STRAY * len(entries)


def _header(path: Path) -> str:
    """The first line that holds anything; MilError where the bytes are no text."""
    with gzip.open(path) if path.name.casefold().endswith(".gz") else path.open("rb") as file:
        begin = file.read(1 << 16)
    if b"\0" in begin:
        problem = f"'{path.name}' is not a text table."
        raise MilError(problem, str(path), "Give CSV, TSV (also .gz), Parquet or h5ad.")
    lines = begin.decode("utf-8-sig", errors="replace").splitlines()
    return next((line for line in lines if line.strip()), "")


def _split(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def _parsed(path: Path, separator: str, text: Collection[str] | None) -> pl.DataFrame:
    """Numbers straight to float32, whole numbers exactly, owners as written; a mixed column comes as text."""
    given: dict[str, Any] = {"separator": separator, "null_values": GAPS, "encoding": "utf8-lossy"}
    likely = pl.scan_csv(path, infer_schema_length=SAMPLE_ROWS, **given).collect_schema()
    try:
        return pl.read_csv(path, schema_overrides=_types(likely, text), **given)
    except pl.exceptions.ComputeError as error:
        if "could not parse" not in str(error):
            raise
    every = pl.read_csv(path, infer_schema_length=None, **given)
    return every.with_columns(every[name].cast(kind) for name, kind in _types(every.schema, text).items())


def _types(schema: pl.Schema, text: Collection[str] | None) -> dict[str, Any]:
    types: dict[str, Any] = {}
    for name, kind in schema.items():
        if text is None or name in text or names.owner(name):
            types[name] = pl.String
        elif kind.is_float():
            types[name] = pl.Float32
        elif kind.is_integer() and names.folded(name) not in names.CELL:
            types[name] = pl.Float64  # a later row may have a fraction
    return types


# Parquet and h5ad


def _parquet(path: Path, text: Collection[str] | None, wanted: Collection[str]) -> Table:
    return Table(pl.read_parquet(path), "Parquet")


def _h5ad(path: Path, text: Collection[str] | None, wanted: Collection[str]) -> Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old files and newer versions: nothing the user can mend
        import anndata

        data = anndata.read_h5ad(path)
    columns = {str(name): _observed(data.obs[name]) for name in data.obs}
    if "spatial" in data.obsm:
        place = np.asarray(data.obsm["spatial"], np.float32)
        columns |= {
            f"spatial {axis}": pl.Series(place[:, i]) for i, axis in enumerate("xy"[: place.shape[1]])
        }
    columns.setdefault(
        str(data.obs.index.name or "obs_names"), pl.Series(data.obs_names.astype(str).to_numpy())
    )
    measured = _measured(data, wanted)
    matrix = {f"{name} (2)" if name in columns else name: column for name, column in measured.items()}
    return Table(pl.DataFrame(columns | matrix), "h5ad", tuple(matrix))


def _observed(column: Any) -> pl.Series:
    """A column of obs; categories stay categories, whatever they are made of."""
    if column.dtype == "category":
        texts = pl.Series([str(value) for value in column.cat.categories], dtype=pl.String)
        codes = pl.Series(column.cat.codes.to_numpy(np.int64))
        return texts.gather(codes.set(codes < 0, None)).cast(pl.Categorical)
    return pl.Series(
        pa.array(column.astype("string") if column.dtype == object else column, from_pandas=True)
    )


def _measured(data: Any, wanted: Collection[str]) -> dict[str, pl.Series]:
    """The columns of X, those `wanted` if any of them is there."""
    if data.X is None:
        return {}
    given = [str(name) for name in data.var_names]
    chosen = [j for j, name in enumerate(given) if name in wanted] or range(len(given))
    if len(chosen) * data.n_obs > MOST_VALUES:
        problem = (
            f"The matrix has {len(chosen):,} columns for {data.n_obs:,} cells, more than can be read at once."
        )
        raise MilError(problem, "X", "Name the features to use with --features.")
    x = data.X.tocsc() if hasattr(data.X, "tocsc") else data.X
    columns: dict[str, pl.Series] = {}
    for j in chosen:
        column = x[:, [j]].toarray().ravel() if hasattr(x, "toarray") else np.ascontiguousarray(x[:, j])
        columns[given[j] if given[j] not in columns else f"{given[j]} ({j + 1})"] = pl.Series(
            column.astype(np.float32)
        )
    return columns


READERS: dict[str, Reader] = {
    **dict.fromkeys(("csv", "tsv", "tab", "txt"), _text),
    **dict.fromkeys(("parquet", "pq"), _parquet),
    "h5ad": _h5ad,
}


# One table


def _check_fits(frame: pl.DataFrame, first: pl.DataFrame, files: tuple[str, str]) -> None:
    for here, there, (lacking, having) in ((frame, first, files), (first, frame, files[::-1])):
        for name in there.columns:
            if name not in here.columns:
                problem = f"'{lacking}' has no column '{name}', which '{having}' has."
                raise MilError(problem, lacking, "Give all files the same columns.")


def _stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Rows of all frames; a column that is text in one of them is text."""
    if len(frames) == 1:
        return frames[0]
    worded = [n for n in frames[0].columns if any(_is_text(f[n].dtype) for f in frames)]
    same = [frame.select(frames[0].columns).cast(dict.fromkeys(worded, pl.String)) for frame in frames]
    return pl.concat(same, how="vertical_relaxed", rechunk=True)


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, (pl.String, pl.Categorical, pl.Enum))


def _numbered(frame: pl.DataFrame, text: Collection[str]) -> tuple[pl.DataFrame, list[Note]]:
    """Text columns that are numbers but for a few entries become numbers, and what was lost is said."""
    notes = []
    for place, column in enumerate(frame.get_columns()):
        if column.dtype != pl.String or column.name in text:
            continue
        column = column.set(column.is_in(GAPS).fill_null(value=False), None)
        number = column.str.strip_chars().cast(pl.Float64, strict=False)
        stray = number.is_null() & column.is_not_null()
        entries, strays = column.len() - column.null_count(), int(stray.sum())
        if entries and strays <= STRAY * entries:
            frame = frame.replace_column(place, number)
        if entries and 0 < strays <= HALF * entries:
            done = (
                "counted as missing" if strays <= STRAY * entries else "so the column is text, not a feature"
            )
            first = int(stray.arg_true()[0])
            where = f"first: row {first + 1:,}, '{column[first]}'"
            words = f"Column '{column.name}' holds text in {strays:,} of {entries:,} rows ({where}); {done}."
            notes.append(Note("mixed_types", words))
    return frame, notes
