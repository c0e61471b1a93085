"""The table of cells of an analysis: in the order of the input rows on disk, in that of the cohort in memory.

It is written and read some rows at a time, and its numbers lie in files without a name, so that many millions of cells
need little memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from milcore.cohort import Cohort
from milcore.matrix import on_disk

__all__ = ["CELLS", "read_cells", "write_cells"]

CELLS = "cells.parquet"
ROWS = 1 << 16  # written at a time


def write_cells(cells: pd.DataFrame, cohort: Cohort, file: Path) -> None:
    """A row for each input row; those that belong to no patient are empty."""
    table, place = pa.Table.from_pandas(cells, preserve_index=False), _places(cohort)
    words = [one.name for one in table.schema if pa.types.is_dictionary(one.type)]
    with pq.ParquetWriter(file, table.schema, compression="zstd", use_dictionary=words) as out:
        for begin in range(0, len(place), ROWS):
            here = place[begin : begin + ROWS]
            if _in_a_row(here):
                out.write_table(table.slice(here[0], len(here)))
            else:
                out.write_table(table.take(pa.array(here, mask=here < 0)))


def read_cells(file: Path, cohort: Cohort) -> pd.DataFrame:
    """A row for every cell; ValueError where there are not as many rows as were read into the cohort."""
    with pq.ParquetFile(file) as stored:
        rows, schema = stored.metadata.num_rows, stored.schema_arrow
        if rows != cohort.inputs:
            problem = f"{rows} cells where there were {cohort.inputs} rows"
            raise ValueError(problem)
        numbers = {
            one.name: on_disk((cohort.N,), one.type.to_pandas_dtype()) for one in schema if _number(one)
        }
        place, end = _places(cohort), 0
        for group in range(stored.num_row_groups):
            part = stored.read_row_group(group, columns=list(numbers))
            here = place[end : (end := end + len(part))]
            for name, values in numbers.items():
                values[here[here >= 0]] = part[name].to_numpy()[here >= 0]
        rest = stored.read(columns=[one.name for one in schema if not _number(one)]).to_pandas()
    if not _in_a_row(place):
        rest = rest.take(cohort.order).reset_index(drop=True)
    return pd.DataFrame({name: numbers.get(name, rest.get(name)) for name in schema.names}, copy=False)


def _number(column: pa.Field) -> bool:
    return bool(pa.types.is_floating(column.type))


def _places(cohort: Cohort) -> np.ndarray:
    """(inputs,) the cell of every input row, -1 of those that belong to no patient."""
    place = np.full(cohort.inputs, -1)
    place[cohort.order] = np.arange(cohort.N)
    return place


def _in_a_row(place: np.ndarray) -> bool:
    """Whether these are cells, one after another."""
    return bool(place[0] >= 0 and (np.diff(place) == 1).all())
