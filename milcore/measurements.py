"""The features of a table as one matrix in the order of the cohort, filled while blocks of it are in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from milcore.cohort import Note
from milcore.inspection import LOOKED_AT, gap_notes
from milcore.mapping import Reading
from milcore.matrix import Matrix, Written
from milcore.profiles import coded
from milcore.progress import Progress

__all__ = ["Measured", "measured", "numbers"]

ROWS_AT_ONCE = 1 << 13
RELEASED = 1 << 28  # bytes looked at before their memory is given back


@dataclass(frozen=True, eq=False)
class Measured:
    """The matrix (N, F) with its names, an even sample of its rows, and what is missing or had to be taken for it."""

    written: Written
    names: list[str]
    sample: np.ndarray
    notes: list[Note]


def measured(reading: Reading, order: np.ndarray, progress: Progress) -> Measured:
    """The features of the input rows `order` (N,)."""
    names, values = zip(*_columns(reading), strict=True)
    matrix, shown = Matrix(len(order), len(names)), []
    infinite, missing = np.zeros((2, len(names)), np.int64)
    step, seen = max(1, len(order) // LOOKED_AT), 0
    for begin in range(0, len(order), ROWS_AT_ONCE):
        at = _run(order[begin : begin + ROWS_AT_ONCE])
        columns = {name: of_rows(at) for name, of_rows in zip(names, values, strict=True)}
        block = pl.DataFrame(columns).to_numpy(order="c", writable=True)
        if not np.isfinite(block).all():
            endless = np.isinf(block)
            block[endless] = np.nan
            infinite += endless.sum(axis=0)
            missing += np.isnan(block).sum(axis=0)
        matrix.append(block)
        shown.append(block[-begin % step :: step].copy())
        seen += block.nbytes
        if seen > RELEASED:
            reading.table.release()
            progress.share(0.8 + 0.2 * begin / len(order), f"{begin:,} cells")
            seen = 0
    reading.table.release()
    notes = [*gap_notes(names, infinite, missing, cells=len(order))]
    return Measured(matrix.done(), list(names), np.concatenate(shown), notes)


Rows = np.ndarray | slice


def _run(rows: np.ndarray) -> Rows:
    """Rows that follow each other as a slice, which need not be gathered."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if bool((np.diff(rows) == 1).all()) else rows


def _columns(reading: Reading) -> Iterator[tuple[str, Callable[[Rows], pl.Series]]]:
    """Every feature's name and how to get its values for given input rows."""
    others = {role.name for role in reading.roles if role.role != "feature"}
    for name in reading.names("feature"):
        column = reading.table.frame[name]
        if name not in others:
            yield name, partial(numbers, column)
            continue
        levels = coded(column)
        for code, level in sorted(enumerate(levels.categories), key=lambda pair: pair[1]):
            yield f"{name}: {level}", partial(_is_level, levels.codes, code)


def numbers(column: pl.Series, rows: Rows) -> pl.Series:
    """The values of some rows as float32."""
    chosen = column[rows] if isinstance(rows, slice) else column.gather(rows)
    return chosen.cast(pl.Float32)


def _is_level(codes: np.ndarray, code: int, rows: Rows) -> pl.Series:
    """1 for cells of this value, 0 for others, NaN where it is missing."""
    return pl.Series(np.where(codes[rows] < 0, np.float32(np.nan), codes[rows] == code), dtype=pl.Float32)
