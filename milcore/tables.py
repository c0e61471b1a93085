"""Files to tables: every kind of file and every tool's own form as one frame; what was not a number is said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from milcore import memory, names
from milcore.binary import read_10x, read_excel, read_fcs, read_feather, read_h5ad, read_parquet
from milcore.cohort import Note
from milcore.errors import MilError
from milcore.files import PACKED, Source, ending, opened, readable
from milcore.formats import Format, format_of
from milcore.large import Pieces, read_large
from milcore.pairing import joined, together
from milcore.progress import Progress
from milcore.text import GAPS, STRAY, TEXTS, Table, read_text

__all__ = ["READERS", "TABLES", "Cells", "Table", "read_cells", "read_table"]

DIGITS = 15  # of a whole number that every number keeps
HELD, UNPACKED = 4, 12  # bytes of memory for one of a file, plain or compressed, that is read whole
HALF = 0.5  # numbers among the text from here on are worth a note
READERS: dict[str, Callable[[Path, Collection[str]], Table] | None] = {
    **dict.fromkeys(TEXTS),
    **dict.fromkeys(("parquet", "pq"), read_parquet),
    **dict.fromkeys(("feather", "arrow"), read_feather),
    "h5ad": read_h5ad,
    "h5": read_10x,
    "fcs": read_fcs,
    "xlsx": read_excel,
}
TABLES = (*READERS, *(f"{text}.{kind}" for text in TEXTS for kind in PACKED), "zip")  # what can be named


@dataclass(frozen=True)
class Cells:
    """The rows of all files, in the order given: `files` names them and `rows` counts their rows; `tool` wrote them,
    if it was recognised. `release` gives back the memory that looking at a large table took."""

    frame: pl.DataFrame
    format: str
    files: tuple[str, ...]
    rows: tuple[int, ...]
    tool: Format | None = None
    matrix: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    layers: tuple[str, ...] = ()
    release: Callable[[], None] = lambda: None


def read_cells(
    paths: Sequence[Path],
    *,
    text: Collection[str] = (),
    wanted: Collection[str] = (),
    layer: str | None = None,
    besides: Path | None = None,
    progress: Progress | None = None,
) -> Cells:
    """All cell tables behind `paths` (files, folders, patterns, archives) as one; they must have the same columns.

    `text` are columns to be kept as written (patients "01"); of an h5ad matrix, X or the `layer`, only `wanted` columns
    are read, if any are named; `besides` is the patients file, which is no cell table wherever it lies. MilError for
    what is missing, empty, damaged, not a table, no table of cells, or does not fit the first file.
    """
    if not paths:
        problem = "No cell table was named."
        raise MilError(problem, "", "Name at least one file of cells.")
    with opened(paths, kinds=READERS, packed=TEXTS) as sources:
        if besides is not None:
            sources = [one for one in sources if not _same_file(one.path, besides)] or sources
        cells, parts = together(sources)
        pieces = None if any(parts.values()) else read_large(cells, text, _teller(cells, progress))
        if pieces is not None:
            return _of_pieces(pieces, [source.name for source in cells], text)
        memory.spare(sum(map(_held, cells)), "Reading these tables")
        tables = [_read(source, text=text, wanted=wanted, layer=layer) for source in cells]
        tables = [
            joined(table, one, parts.get(one, []), _read) for one, table in zip(cells, tables, strict=True)
        ]
    for source, table in zip(cells[1:], tables[1:], strict=True):
        _check_fits(table.frame, tables[0].frame, (source.name, cells[0].name))
    return _one(tables, [source.name for source in cells], text)


def _held(source: Source) -> float:
    """About how many bytes of memory a table that is read whole takes."""
    return source.path.stat().st_size * (UNPACKED if source.path.name.endswith((*PACKED, "xlsx")) else HELD)


def _teller(cells: list[Source], progress: Progress | None) -> Callable[[int, int], None]:
    """Says how much of the files is read."""
    size = max(1, sum(source.path.stat().st_size for source in cells))

    def tell(read: int, rows: int) -> None:
        if progress is not None:
            done = f"{read / 1e6:,.0f} of {size / 1e6:,.0f} MB, {rows:,} rows"
            progress.share(0.6 * read / size, done)

    return tell


def _of_pieces(pieces: Pieces, files: list[str], text: Collection[str]) -> Cells:
    tables = [Table(_named(pieces.frame), form, notes=pieces.notes) for form in pieces.formats]
    return replace(_one(tables[:1], files, text), rows=pieces.rows, release=pieces.release)


def _one(tables: list[Table], files: list[str], text: Collection[str]) -> Cells:
    """The tables stacked, cleaned, and recognised."""
    frame = _stacked([table.frame for table in tables])
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    tool = format_of(frame.columns, tables[0].format)
    if tool is not None and tool.refused:
        problem = f"The rows of '{files[0]}' are {tool.refused}, not cells."
        where = f"the columns {', '.join(frame.columns[:8])}"
        raise MilError(
            problem, where, "Give the table of cells that the same tool writes, or count the points per cell."
        )
    frame = _with_centres(frame)
    frame, mixed = _numbered(frame, {name for name in frame.columns if name in text or names.owner(name)})
    kinds = " and ".join(dict.fromkeys(table.format for table in tables))
    return Cells(
        frame,
        tool.name if tool else kinds,
        tuple(files),
        tuple(table.frame.height for table in tables),
        tool,
        tables[0].matrix,
        notes + tuple(mixed),
        tables[0].layers,
    )


def read_table(path: Path, *, text: Collection[str] | None = ()) -> Table:
    """The table of one file, not yet cleaned: columns that mix numbers with text are still text.

    Where `text` is None, all of a text file is kept as written. MilError for what is missing, empty, damaged or
    no table, and for several tables at once.
    """
    with opened([path], kinds=READERS, packed=TEXTS) as sources:
        if len(sources) > 1:
            problem = f"'{Path(path).name}' holds {len(sources)} tables where one is wanted."
            raise MilError(problem, str(path), "Name one file.")
        return _read(sources[0], text=text)


def _read(
    source: Source,
    *,
    text: Collection[str] | None = (),
    wanted: Collection[str] = (),
    layer: str | None = None,
) -> Table:
    """One file; MilError for whatever is wrong with it."""
    reader = _reader(source, text)
    if layer is not None and reader is read_h5ad:
        reader = partial(read_h5ad, layer=layer)
    with readable(source):
        table = reader(source.path, wanted)
    if not table.frame.height or not table.frame.width:
        problem = f"'{source.name}' has no rows."
        raise MilError(problem, str(source.path), "Export the table again.")
    return replace(table, frame=_named(table.frame))


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.rename({name: f"{name} " for name in frame.columns if _pattern(name)})


def _reader(source: Source, text: Collection[str] | None) -> Callable[[Path, Collection[str]], Table]:
    kind = ending(source.path.name)
    packed = source.path.suffix.casefold().removeprefix(".") in PACKED
    if kind not in READERS or packed:
        problem = f"'{source.name}' is of no kind that can be read."
        raise MilError(problem, str(source.path), f"Give one of {', '.join(TABLES)}, or a folder of them.")
    other = READERS[kind]
    return other or (lambda path, wanted: read_text(path, text, name=source.name))


def _pattern(name: str) -> bool:
    """Whether polars would take a name for a pattern of names; a space at its end makes it plain again."""
    return name == "*" or (name.startswith("^") and name.endswith("$"))


def _same_file(one: Path, other: Path) -> bool:
    return one.resolve() == Path(other).resolve()


# What single tools do their own way


def _with_centres(frame: pl.DataFrame) -> pl.DataFrame:
    """With the middle of each cell's box, where that is all that tells its place."""
    plain = {names.folded(name): name for name in frame.columns}
    if not {"xmin", "xmax", "ymin", "ymax"} <= set(plain) or set(plain) & {*names.X}:
        return frame
    ends = [plain[axis + end] for axis in "xy" for end in ("min", "max")]
    if not all(frame[name].dtype.is_numeric() for name in ends):
        return frame
    middle = [((pl.col(ends[i]) + pl.col(ends[i + 1])) / 2).alias(f"{'XY'[i // 2]} centre") for i in (0, 2)]
    return frame.with_columns(middle)


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


def _long_ids(column: pl.Series) -> bool:
    """Whether a column names cells in more digits than a number can keep."""
    named = names.folded(column.name) in names.CELL
    return named and bool((column.str.len_chars() > DIGITS).any())


def _numbered(frame: pl.DataFrame, text: Collection[str]) -> tuple[pl.DataFrame, list[Note]]:
    """Text columns that are numbers but for a few entries become numbers, and what was lost is said."""
    notes = []
    for place, column in enumerate(frame.get_columns()):
        if column.dtype != pl.String or column.name in text or _long_ids(column):
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
