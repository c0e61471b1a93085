"""What the values of the columns of a cell table show: numbers or words, constant within owners, counting on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl

__all__ = ["ENOUGH_CELLS", "Profile", "coded", "levels", "profiles", "texts", "whole", "wordy"]

ENOUGH_CELLS = (
    5  # in the median patient, before a number that never varies within patients is taken for theirs
)
ENOUGH_ROWS = 20  # before a column may be called a running number
SAMPLE_ROWS = 10_000  # usually show that a column varies within bags
NUMBERED = 100  # rows, before whole numbers that never repeat are called ids


@dataclass(frozen=True)
class Profile:
    """What the values of a column show."""

    name: str
    number: bool
    word: bool
    empty: bool
    constant: bool
    constant_within: bool  # every bag, though not between them
    constant_in_regions: bool  # of enough cells
    whole: bool
    numbering: bool  # counts rows, or never repeats
    levels: int
    cells: float  # in the median bag


def profiles(frame: pl.DataFrame, owners: list[str], *, region: str, skip: set[str]) -> Iterator[Profile]:
    """A look at each column; `region` is the owner itself where no column names regions."""
    place = {name: str(i) for i, name in enumerate(frame.columns)}  # so that no name meets one made here
    safe, keys = frame.rename(place), [place[name] for name in owners]
    wanted = {name: place[name] for name in frame.columns if name not in skip}
    countable = [at for at in wanted.values() if _countable(safe.schema[at])]
    bags, quiet = _quiet(safe, keys, countable)
    even: list[str] = []
    if region not in owners:
        regions, even = _quiet(safe, [*keys, place[region]], countable)
        even = [at for at in even if _steady(regions, at) and _median(regions) >= ENOUGH_CELLS]
    changes = int(safe.select(pl.any_horizontal(pl.col(keys).ne_missing(pl.col(keys).shift())).sum()).item())
    for name, at in wanted.items():
        seen = bags.select(least=f"low {at}", most=f"high {at}") if at in quiet else None
        yield _profile(frame[name], seen, in_regions=at in even, changes=changes, cells=_median(bags))


def _quiet(frame: pl.DataFrame, keys: list[str], names: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """The columns that never vary within an owner at the start, and their ends in every owner of all rows."""
    start = _ends(frame.head(SAMPLE_ROWS), keys, names)
    quiet = [name for name in names if _steady(start, name)]
    return _ends(frame, keys, quiet), quiet


def _steady(ends: pl.DataFrame, name: str) -> bool:
    return bool(ends[f"low {name}"].eq_missing(ends[f"high {name}"]).all())


def _median(ends: pl.DataFrame) -> float:
    """Rows of the median owner."""
    return float(np.median(ends["rows"])) if len(ends) else 0.0


def _ends(frame: pl.DataFrame, keys: list[str], names: list[str]) -> pl.DataFrame:
    """The least and the greatest value of columns in every bag, and the bags' sizes."""
    values = [_values(name, frame.schema[name]) for name in names]
    ends = [value.min().name.prefix("low ") for value in values]
    ends += [value.max().name.prefix("high ") for value in values]
    return frame.lazy().group_by(keys).agg([*ends, pl.len().alias("rows")]).drop_nulls(keys[:1]).collect()


def _values(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column for comparison: without infinite values, categories as text."""
    column = pl.col(name)
    if dtype.is_float():
        return pl.when(column.is_finite()).then(column)
    return column if dtype.is_numeric() or dtype == pl.Boolean else column.cast(pl.String)


def _countable(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or isinstance(dtype, (pl.Boolean, pl.String, pl.Categorical, pl.Enum))


def _profile(
    column: pl.Series, ends: pl.DataFrame | None, *, in_regions: bool, changes: int, cells: float
) -> Profile:
    """`ends` are the `least` and `most` in every bag, unless the column is known to vary within bags."""
    word, counted = wordy(column), column.dtype.is_numeric() and whole(column)
    least, most = (None, None) if ends is None else (ends["least"].min(), ends["most"].max())
    return Profile(
        name=column.name,
        number=_countable(column.dtype) and not word,
        word=word,
        empty=ends is not None and least is None,
        constant=ends is not None and least == most and not (word and column.null_count()),
        constant_within=ends is not None and ends["least"].eq_missing(ends["most"]).all(),
        constant_in_regions=in_regions,
        whole=counted,
        numbering=counted and _numbering(column, changes),
        levels=levels(column) if word else 0,
        cells=cells,
    )


def _numbering(column: pl.Series, changes: int) -> bool:
    """Whether a column counts on from row to row within owners, or is a whole number that never repeats."""
    if len(column) < ENOUGH_ROWS or column.null_count():
        return False
    steps = int((column.diff(null_behavior="ignore") != 1).fill_null(value=True).sum())
    if steps <= min(changes, len(column) // 5):
        return True
    return len(column) >= NUMBERED and column.n_unique() == len(column)


def whole(column: pl.Series) -> bool:
    """Text, or numbers without fractions: fit to be a name or a code."""
    if column.dtype.is_float():
        return all(
            bool((part.drop_nulls().drop_nans() % 1 == 0).all()) for part in (column.head(100), column)
        )
    return column.dtype.is_integer() or wordy(column)


def wordy(column: pl.Series) -> bool:
    """Text, or categories."""
    return isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum))


def levels(column: pl.Series) -> int:
    """How many different values there are."""
    return column.drop_nulls().n_unique()


def texts(column: pl.Series) -> pl.Series:
    """Values as text; whole numbers without a point; blanks are missing."""
    if column.dtype.is_float():
        whole = (column.drop_nulls().drop_nans() % 1 == 0).all()
        column = column.fill_nan(None).cast(pl.Int64, strict=False) if whole else column.fill_nan(None)
    texts = column.cast(pl.String).str.strip_chars()
    return texts.set(texts == "", None)


def coded(column: pl.Series | None, rows: int = 0) -> pd.Categorical:
    """Text of every row as codes by first appearance, -1 for blanks; of no column, `rows` blanks."""
    if column is None:
        return pd.Categorical.from_codes(np.full(rows, -1, np.int32), categories=pd.Index([], dtype=object))
    runs = column.rle().struct.unnest()  # owners stay the same for many rows
    found = texts(runs["value"]).rechunk().to_arrow().dictionary_encode()
    codes = found.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    names = pd.Index(found.dictionary.to_pylist(), dtype=object)
    return pd.Categorical.from_codes(np.repeat(codes, runs["len"].to_numpy()), categories=names)
