"""Large tables: read in pieces; the numbers of the largest lie in a file that is memory-mapped and gone at the end."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from milcore import names
from milcore.binary import parquet_blocks, parquet_extent
from milcore.cohort import Note
from milcore.errors import MilError
from milcore.files import Source, ending, readable
from milcore.matrix import Nameless
from milcore.text import TEXTS, cleaned, text_blocks, text_rows

__all__ = ["LARGE", "Pieces", "read_large"]

LARGE = 64 << 20  # bytes of all files together, from which on they are read in pieces
HELD = 512 << 20  # bytes of text, or of Parquet once unpacked, whose numbers are held in memory
PARQUET = ("parquet", "pq")
ALIGNED = 64  # bytes, as Arrow likes its columns


@dataclass(frozen=True)
class Pieces:
    """What was read in pieces: `rows` of each file, and `release`, which gives back the memory that looking at the
    mapped numbers takes."""

    frame: pl.DataFrame
    formats: tuple[str, ...]
    rows: tuple[int, ...]
    notes: tuple[Note, ...]
    release: Callable[[], None]


def read_large(
    sources: Sequence[Source], text: Collection[str], tell: Callable[[int, int], None]
) -> Pieces | None:
    """All files, read in pieces; None where they are not large, or of a kind that cannot be read so.

    `tell` hears the bytes and rows read so far. MilError where a file has other columns than the first.
    """
    kinds = [ending(source.path.name) for source in sources]
    sizes = [source.path.stat().st_size for source in sources]
    if sum(sizes) < LARGE or not all(kind in (*TEXTS, *PARQUET) for kind in kinds):
        return None
    rows_of, unpacked = zip(*map(_extent, sources), strict=True)
    spill = _Spill(sum(rows_of), held_in_memory=sum(unpacked) < HELD)
    rows, formats, notes, separator = [], [], [], ""
    for i, source in enumerate(sources):
        before = spill.filled
        with readable(source):
            if kinds[i] in PARQUET:
                form, blocks = "Parquet", parquet_blocks(source.path)
            else:
                form, separator, said, blocks = text_blocks(source.path, text, name=source.name)
                notes += said
            for read, block in blocks:
                spill.add(block, source.name)
                tell(sum(sizes[:i]) + min(read, sizes[i]), spill.filled)
        if spill.filled == before:
            problem = f"'{source.name}' has no rows."
            raise MilError(problem, str(source.path), "Export the table again.")
        rows.append(spill.filled - before)
        formats.append(form)
    frame, said = cleaned(spill.frame(), separator, text) if separator else (spill.frame(), [])
    return Pieces(frame, tuple(formats), tuple(rows), tuple(dict.fromkeys([*notes, *said])), spill.release)


def _extent(source: Source) -> tuple[int, int]:
    """The most rows a file can have, and its bytes when unpacked."""
    with readable(source):
        if ending(source.path.name) in PARQUET:
            return parquet_extent(source.path)
        return text_rows(source.path), source.path.stat().st_size


@dataclass
class _Spill:
    """A table of at most `rows` rows that grows by blocks: its numbers in one mapped piece of memory or, unless
    `held_in_memory`, of a file without a name; other columns as they are."""

    rows: int
    held_in_memory: bool
    filled: int = 0
    first: str = ""  # the file that said which columns there are
    names: list[str] = field(default_factory=list)
    kinds: dict[str, np.dtype] = field(default_factory=dict)  # of the columns in the file
    begins: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, np.ndarray] = field(default_factory=dict)  # (rows,) bool, where a column misses a value
    held: dict[str, list[pl.Series]] = field(default_factory=dict)
    view: mmap.mmap | None = None

    def add(self, block: pl.DataFrame, source: str) -> None:
        """Appends rows; MilError where `source`, the file they are from, has other columns than the first."""
        if not self.names:
            self._lay_out(block, source)
        self._check(block.columns, source)
        if self.filled + block.height > self.rows:
            problem = "rows have fewer fields than the header"
            raise ValueError(problem)
        for name in self.names:
            column = block[name]
            if name in self.kinds and not column.dtype.is_numeric() and column.dtype != pl.Null:
                self._hold(name)
            if name in self.kinds:
                self._write(name, column)
            else:
                repeating = column.dtype == pl.String and names.owner(name)
                self.held[name].append(column.cast(pl.Categorical) if repeating else column)
        self.filled += block.height

    def _lay_out(self, block: pl.DataFrame, source: str) -> None:
        self.first, self.names, end = source, block.columns, 0
        for name, dtype in block.schema.items():
            if dtype.is_numeric():
                self.kinds[name] = block[name].head(0).to_numpy().dtype
                self.begins[name] = end
                end += -(-self.rows * self.kinds[name].itemsize // ALIGNED) * ALIGNED
            else:
                self.held[name] = []
        end = max(end, 1)  # neither memory nor a file takes space before it is written
        if self.held_in_memory:
            self.view = mmap.mmap(-1, end)
            with suppress(AttributeError, OSError):  # systems that cannot
                self.view.madvise(mmap.MADV_HUGEPAGE)
        else:
            self.file = Nameless()
            os.truncate(self.file.fd, end)

    def _check(self, columns: list[str], source: str) -> None:
        for here, there, lacking, having in (
            (columns, self.names, source, self.first),
            (self.names, columns, self.first, source),
        ):
            for name in there:
                if name not in here:
                    problem = f"'{lacking}' has no column '{name}', which '{having}' has."
                    raise MilError(problem, lacking, "Give all files the same columns.")

    def _write(self, name: str, column: pl.Series) -> None:
        kind = self.kinds[name]
        if column.null_count():
            gaps = self.gaps.setdefault(name, np.zeros(self.rows, bool))
            gaps[self.filled : self.filled + len(column)] = column.is_null().to_numpy()
            column = column.cast(pl.Int8) if column.dtype == pl.Null else column
            column = column.fill_null(0)
        values = np.ascontiguousarray(column.to_numpy(), kind).view(np.uint8)
        begin = self.begins[name] + self.filled * kind.itemsize
        if self.held_in_memory:
            self.view[begin : begin + len(values)] = values.data  # type: ignore[index]
        else:
            self.file.write(values.data, begin)

    def _hold(self, name: str) -> None:
        """Makes text of a column of numbers, for a later row holds something else."""
        self.held[name] = [self._mapped(name).cast(pl.String)] if self.filled else []
        del self.kinds[name]
        self.gaps.pop(name, None)

    def frame(self) -> pl.DataFrame:
        """All rows; the columns of numbers are mapped, not in memory."""
        columns = {}
        for name in self.names:
            if name in self.kinds:
                columns[name] = self._mapped(name)
                continue
            columns[name] = _stacked(self.held.pop(name))
        return pl.DataFrame(columns)

    def _mapped(self, name: str) -> pl.Series:
        if self.view is None:
            self.view = self.file.mapped()
        kind, begin = self.kinds[name], self.begins[name]
        values = pa.py_buffer(memoryview(self.view)[begin : begin + self.filled * kind.itemsize])
        there = None
        if name in self.gaps:
            there = pa.py_buffer(np.packbits(~self.gaps[name][: self.filled], bitorder="little"))
        array = pa.Array.from_buffers(pa.from_numpy_dtype(kind), self.filled, [there, values])
        return pl.Series(name, array)

    def release(self) -> None:
        """Gives back the memory of the mapped pages; they are read again when they are looked at."""
        if self.view is not None and not self.held_in_memory:
            with suppress(AttributeError, ValueError):  # systems that cannot
                self.view.madvise(mmap.MADV_DONTNEED)


def _stacked(parts: list[pl.Series]) -> pl.Series:
    """One column of parts, whose types may differ; text as soon as any is."""
    kinds = {part.dtype for part in parts}
    if len(kinds) == 1:
        return pl.concat(parts)
    parts = [part.cast(pl.String) for part in parts] if pl.String in kinds else parts
    return pl.concat([part.to_frame() for part in parts], how="vertical_relaxed").to_series()
