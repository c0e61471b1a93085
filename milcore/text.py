"""Text tables: encoding, separator and header found out; numbers are numbers however they are written."""

from __future__ import annotations

import codecs
import csv
import math
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any

import polars as pl

from milcore import names
from milcore.cohort import Note
from milcore.errors import MilError

__all__ = ["GAPS", "STRAY", "TEXTS", "Table", "cleaned", "read_text", "text_blocks", "text_rows"]

TEXTS = ("csv", "tsv", "tab", "txt")

GAPS = [
    "",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "#DIV/0!",
    "#VALUE!",
    "#NUM!",
    "NaN",
    "nan",
    "NAN",
    "null",
    "NULL",
    "<NA>",
]  # how tables write a missing value
STRAY = 0.05  # of a column's entries may be text, and it is still a column of numbers
COMMA = r"^(\s*[+-]?\d*),(\d*([eE][+-]?\d+)?\s*)$"  # a number written with a decimal comma
PERCENT = r"^(\s*[+-]?[\d.,]+)\s?%\s*$"
GROUPED = {
    ",": (r"(,\d{3})+(\.\d+)?\s*$", r"(\.\d+)?\s*$"),
    r"\.": (r"(\.\d{3})+,\d+\s*$", r"(,\d+)?\s*$"),
    "['’]": (r"(['’]\d{3})+([.,]\d+)?\s*$", r"([.,]\d+)?\s*$"),
    "[ \u00a0\u202f]": (r"([ \u00a0\u202f]\d{3})+([.,]\d+)?\s*$", r"([.,]\d+)?\s*$"),
}  # what follows the first digits of numbers that have a sign between thousands, and of those below a thousand
SAMPLE_ROWS = 10_000  # decide a column's type, unless a later row disagrees
SNIFFED = 1 << 16  # bytes, from which everything but the types is found out
SNIFFED_ROWS = 20
BLOCK = 1 << 22
PIECE = 1 << 22  # bytes of a large table parsed at once
AHEAD = 2  # pieces of it
UNENDING = 1 << 26  # bytes without the end of a line are no table
SEPARATORS = {
    ",": "CSV",
    "\t": "TSV",
    ";": "CSV with semicolons",
    "|": "CSV with bars",
    " ": "text with spaces",
}
SHOWN = 5  # columns in a sentence


@dataclass(frozen=True)
class Table:
    """Rows as they stand in the file: `format` is the tool that wrote it or the kind of file; `matrix` the columns that
    were the matrix of an h5ad, `layers` the others it might have been."""

    frame: pl.DataFrame
    format: str
    matrix: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Layout:
    """How a text table is written: lines to skip before the header, its fields, and whether rows have a name more."""

    encoding: str
    separator: str
    skip: int
    header: tuple[str, ...]
    row_names: bool
    ragged_spaces: bool


def read_text(path: Path, text: Collection[str] | None, *, name: str) -> Table:
    """The rows of a text table, its kind in words and what was noticed.

    `text` columns stay as written; where it is None, all do. `name` is what the user calls the file. MilError
    where the bytes are no text.
    """
    layout = _layout(path, name)
    notes = list(_header_notes(layout))
    with _plain(path, layout) as (plain, skip):
        frame = _parsed(plain, layout.separator, text, skip=skip)
    frame, said = cleaned(frame, layout.separator, text or ())
    return Table(frame, SEPARATORS[layout.separator], notes=(*notes, *said))


def cleaned(frame: pl.DataFrame, separator: str, text: Collection[str]) -> tuple[pl.DataFrame, list[Note]]:
    """With numbers where text is numbers as people write them, and what was rewritten."""
    notes: list[Note] = []
    for clean in (_percents, _thousands, _decimals):
        frame, said = clean(frame, separator, text)
        notes += said
    return frame, notes


def _header_notes(layout: _Layout) -> Iterator[Note]:
    repeated = sorted({name for name in layout.header if layout.header.count(name) > 1})
    if repeated:
        yield Note("repeated_names", f"Columns of one name were told apart: {', '.join(repeated)}.")
    if layout.encoding not in ("utf-8-sig", "ascii"):
        words = f"The file is not in UTF-8; it was read as {layout.encoding}, so look at names with special letters."
        yield Note("encoding", words)


# What it looks like


def _layout(path: Path, name: str) -> _Layout:
    with path.open("rb") as file:
        begin = file.read(SNIFFED)
    encoding = _encoding(begin, name, path)
    lines = begin.decode(encoding, errors="replace").splitlines()
    lines = lines[:-1] if len(begin) == SNIFFED and len(lines) > 1 else lines  # the last may be cut
    skip = next((i for i, line in enumerate(lines) if line.strip()), 0)
    told = lines[skip].strip().casefold() if lines else ""
    if told.startswith("sep=") and len(told) == 5:  # for Excel
        skip += 1
    rows = [line for line in lines[skip + 1 : skip + 1 + SNIFFED_ROWS] if line.strip()]
    header = lines[skip] if len(lines) > skip else ""
    separator = _separator(header, rows)
    spaced = separator == " " and any("  " in line or line.startswith(" ") for line in (header, *rows))
    fields = header.split() if spaced else _split(header, separator)
    widths = {len(row.split() if spaced else _split(row, separator)) for row in rows}
    return _Layout(encoding, separator, skip, tuple(fields), widths == {len(fields) + 1}, spaced)


def _encoding(begin: bytes, name: str, path: Path) -> str:
    """The first encoding that can have written these bytes; MilError where they are no text."""
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if begin.startswith(mark):
            return "utf-16"
    if b"\0" in begin:
        problem = f"'{name}' is not a text table."
        raise MilError(problem, str(path), "Give a table of the kind its name says.")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(begin)  # may end within a letter
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def _separator(header: str, rows: list[str]) -> str:
    """What parts the header into most fields, preferring what parts the rows into as many."""

    def fits(mark: str) -> tuple[bool, bool, int]:
        wide = len(_split(header, mark))
        agreeing = sum(len(_split(row, mark)) - wide in (0, 1) for row in rows)
        return wide > 1 and 2 * agreeing > len(rows), mark != " ", wide

    marks = [mark for mark in SEPARATORS if mark != " " or len(header.split()) > 1]
    return max(marks, key=fits)


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


@contextmanager
def _plain(path: Path, layout: _Layout) -> Iterator[tuple[Path, int]]:
    """The file and the lines to skip; else a copy in UTF-8 with single spaces and a full header."""
    if layout.encoding == "utf-8-sig" and not layout.ragged_spaces and not layout.row_names:
        yield path, layout.skip
        return
    with tempfile.TemporaryDirectory(prefix="milscope-") as place:
        copy = Path(place) / "table"
        how: dict[str, Any] = {"encoding": layout.encoding, "errors": "replace", "newline": ""}
        with path.open(**how) as old, copy.open("w", encoding="utf-8", newline="") as new:
            for _ in range(layout.skip):
                old.readline()
            new.write(f'""{layout.separator}' if layout.row_names else "")
            if layout.ragged_spaces:
                new.writelines(f"{' '.join(line.split())}\n" for line in old)
            while block := old.read(BLOCK):
                new.write(block)
        yield copy, 0


# Rows


def _parsed(path: Path, separator: str, text: Collection[str] | None, *, skip: int) -> pl.DataFrame:
    """Numbers straight to float32, whole numbers exactly, owners as written; a mixed column comes as text."""
    given: dict[str, Any] = {"separator": separator, "null_values": GAPS, "encoding": "utf8-lossy"}
    given["skip_lines"] = skip
    likely = pl.scan_csv(path, infer_schema_length=SAMPLE_ROWS, **given).collect_schema()
    try:
        return pl.read_csv(path, schema_overrides=_types(likely, text), **given)
    except pl.exceptions.ComputeError as error:
        if "could not parse" not in str(error):
            raise
    every = pl.read_csv(path, infer_schema_length=None, **given)
    return every.with_columns(every[name].cast(kind) for name, kind in _types(every.schema, text).items())


# Rows of a large table, piece by piece


def text_rows(path: Path) -> int:
    """No fewer rows than a text table has, where each has all its fields."""
    layout = _layout(path, path.name)
    return 1 + path.stat().st_size // max(1, len(layout.header))


def text_blocks(
    path: Path, text: Collection[str], *, name: str
) -> tuple[str, str, list[Note], Iterator[tuple[int, pl.DataFrame]]]:
    """The kind of a text table in words, its separator, what was noticed, and its rows by pieces, each with the bytes
    read so far. Types are as in `read_text`, but for columns with text in a later piece, which are text there."""
    layout = _layout(path, name)
    blocks = _blocks(path, layout, text)
    return SEPARATORS[layout.separator], layout.separator, list(_header_notes(layout)), blocks


def _blocks(path: Path, layout: _Layout, text: Collection[str]) -> Iterator[tuple[int, pl.DataFrame]]:
    """Some pieces are parsed while the one before is used."""
    how: dict[str, Any] = {"separator": layout.separator, "encoding": "utf8-lossy"}
    with (
        _plain(path, layout) as (plain, skip),
        plain.open("rb", 0) as file,
        ThreadPoolExecutor(AHEAD) as pool,
    ):
        given: dict[str, Any] = {"infer_schema_length": SAMPLE_ROWS, "null_values": GAPS, "skip_lines": skip}
        likely = pl.scan_csv(plain, **given, **how).collect_schema()
        how |= {"schema": {**likely, **_types(likely, text)}}
        for _ in range(skip):
            file.readline()
        header = _record(file)
        ahead: deque[tuple[int, Future[pl.DataFrame]]] = deque()
        for lines in _pieces(file, header):
            ahead.append((file.tell(), pool.submit(_piece, lines, how)))
            if len(ahead) > AHEAD:
                read, parsed = ahead.popleft()
                yield read, parsed.result()
        yield from ((read, parsed.result()) for read, parsed in ahead)


def _record(file: IO[bytes]) -> bytes:
    """One line, with line breaks within quotes."""
    line = file.readline()
    while line.count(b'"') % 2 and (more := file.readline()):
        line += more
    return line


def _pieces(file: FileIO, header: bytes) -> Iterator[bytes]:
    """The rest of a file in pieces of whole lines, each below the header."""
    room, rest = bytearray(PIECE), b""  # filled again and again: fresh memory costs more than reading
    while size := file.readinto(room):
        end = _end(room, size, within=rest.count(b'"') % 2 == 1)
        if end:
            yield b"".join((header, rest, memoryview(room)[:end]))
            rest = b""
        rest += memoryview(room)[end:size]
        if len(rest) > UNENDING:
            problem = "it has lines of many megabytes, or a quotation mark that none closes"
            raise ValueError(problem)
    if rest.strip():
        yield header + rest


def _end(block: bytearray, size: int, *, within: bool) -> int:
    """Behind the last line break of `size` bytes that is not within quotes, where the block begins `within` some or
    not; 0 for none."""
    end = block.rfind(b"\n", 0, size) + 1
    if not within and block.find(b'"', 0, size) < 0:
        return end
    while end and (within + block.count(b'"', 0, end)) % 2:
        end = block.rfind(b"\n", 0, end - 1) + 1
    return end


def _piece(lines: bytes, how: dict[str, Any]) -> pl.DataFrame:
    """Rows of the types of `how`, quickly where no value is missing or odd."""
    try:
        frame = pl.read_csv(lines, **how)
    except pl.exceptions.ComputeError as error:
        if "could not parse" not in str(error):
            raise
    else:
        return frame.with_columns(_without_gaps(column) for column in frame if _may_have_gaps(column))
    kinds = how["schema"]
    written = pl.read_csv(lines, null_values=GAPS, **how | {"schema": dict.fromkeys(kinds, pl.String)})
    return written.with_columns(_typed(written[name], kind) for name, kind in kinds.items())


def _may_have_gaps(column: pl.Series) -> bool:
    """Whether a NaN is in the sum of numbers, or any text at all."""
    return column.dtype == pl.String or (column.dtype.is_float() and math.isnan(column.sum()))


def _without_gaps(column: pl.Series) -> pl.Series:
    return column.fill_nan(None) if column.dtype.is_float() else column.set(column.is_in(GAPS), None)


def _typed(column: pl.Series, kind: pl.DataType) -> pl.Series:
    """Of this type where every value is; else as written."""
    if kind == pl.String or kind == pl.Boolean:
        return column
    typed = column.cast(kind, strict=False)
    return column if typed.null_count() > column.null_count() else typed


def _types(schema: pl.Schema, text: Collection[str] | None) -> dict[str, Any]:
    types: dict[str, Any] = {}
    for name, kind in schema.items():
        if text is None or name in text or names.owner(name):
            types[name] = pl.String
        elif kind.is_float():
            types[name] = pl.Float32
        elif kind == pl.Int128 and names.folded(name) in names.CELL:
            types[name] = pl.String  # a name, though of digits
        elif kind.is_integer() and names.folded(name) not in names.CELL:
            types[name] = pl.Float64  # a later row may have a fraction
    return types


# Numbers as people write them

Cleaned = tuple[pl.DataFrame, list[Note]]


def _percents(frame: pl.DataFrame, separator: str, text: Collection[str]) -> Cleaned:
    """Without the signs of percent in columns that are nothing else."""
    return _rewritten(
        frame,
        [c.name for c in _words(frame, text) if _nearly_all(c, PERCENT)],
        lambda column: column.str.replace(PERCENT, "$1"),
        Note("percents", "Columns of percents, read as numbers"),
    )


def _thousands(frame: pl.DataFrame, separator: str, text: Collection[str]) -> Cleaned:
    """Without the sign between thousands; a comma is one only where it is nowhere the decimal mark."""
    notes: list[Note] = []
    for mark, (grouped, small) in GROUPED.items():
        large, number = rf"^\s*[+-]?[1-9]\d{{0,2}}{grouped}", rf"^\s*[+-]?\d{{1,3}}({grouped}|{small})"
        words = _words(frame, text)
        chosen = [c.name for c in words if _nearly_all(c, number) and bool(c.str.contains(large).any())]
        if mark == "," and (
            separator != "," or any(_nearly_all(c, COMMA) for c in words if c.name not in chosen)
        ):
            continue
        frame, said = _rewritten(
            frame,
            chosen,
            _without(mark),
            Note("thousands", "Columns with a sign between thousands, read as numbers"),
        )
        notes += said
    return frame, notes


def _without(mark: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda column: column.str.replace_all(mark, "")


def _decimals(frame: pl.DataFrame, separator: str, text: Collection[str]) -> Cleaned:
    """With decimal points; not where more columns have a point already, for then a comma parts two numbers."""
    words = _words(frame, text)
    commas = [column.name for column in words if _decimal(column, ",")]
    if separator == ",":
        commas = [name for name in commas if _nearly_all(frame[name], COMMA)]
    free = [c for c in frame.get_columns() if c.name not in text and not names.owner(c.name)]
    points = sum(column.dtype.is_float() for column in free) + sum(_decimal(c, r"\.") for c in words)
    said = Note("decimal_comma", "Columns with decimal commas, read as numbers")
    chosen = commas if len(commas) > points else []
    return _rewritten(frame, chosen, lambda column: column.str.replace(COMMA, "$1.$2"), said)


def _words(frame: pl.DataFrame, text: Collection[str]) -> list[pl.Series]:
    """The columns of text that may be numbers."""
    free = [c for c in frame.get_columns() if c.name not in text and not names.owner(c.name)]
    return [column for column in free if column.dtype == pl.String]


def _rewritten(
    frame: pl.DataFrame, columns: list[str], write: Callable[[pl.Expr], pl.Expr], note: Note
) -> Cleaned:
    """The frame with some columns written anew, and a note that names them."""
    if not columns:
        return frame, []
    shown = ", ".join(f"'{name}'" for name in columns[:SHOWN]) + ", ..." * (len(columns) > SHOWN)
    words = f"{note.words} ({len(columns)}): {shown}."
    return frame.with_columns(write(pl.col(columns))), [Note(note.kind, words)]


def _nearly_all(column: pl.Series, pattern: str) -> bool:
    entries = column.drop_nulls()
    return bool(len(entries)) and int((~entries.str.contains(pattern)).sum()) <= STRAY * len(entries)


def _decimal(column: pl.Series, mark: str) -> bool:
    """Whether text is numbers, but for a few entries, and some of them have this decimal mark."""
    entries = column.drop_nulls()
    number = entries.str.contains(rf"^\s*[+-]?(\d+({mark}\d*)?|{mark}\d+)([eE][+-]?\d+)?\s*$")
    marked = bool((number & entries.str.contains(mark)).any())
    return marked and int((~number).sum()) <= STRAY * len(entries)
