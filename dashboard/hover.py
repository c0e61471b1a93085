"""What the pointer says of a cell, as arrays for all cells: importance, its name, its highest features. No screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dashboard import theme

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

__all__ = ["hover"]

TOP = 3  # features told of a cell
NAMED = 500_000  # cells whose own names are sent along
_SAMPLE, _BLOCK = 100_000, 65_536


def hover(analysis: Analysis) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Plain values that say how to read them, and arrays by name: `importance` (N,) in steps of `scale`; `top` (N, 3)
    places in `features`, `height` (N, 3) tenths of a standard deviation; `starts`, `letters`: the cells' names."""
    cohort = analysis.cohort
    value = analysis.cells["importance"].to_numpy(float)
    scale = float(np.nanmax(np.abs(value), initial=0.0)) / 32_767 or 1.0
    top, height = _highest(cohort)
    arrays = {"importance": np.nan_to_num(value / scale).astype(np.int16), "top": top, "height": height}
    told: dict[str, Any] = {
        "patients": [theme.short(name, 40) for name in cohort.patients["patient"]],
        "offsets": cohort.offsets[:-1].tolist(),
        "features": [theme.short(name) for name in cohort.names],
        "scale": scale,
    }
    return told, arrays | _names(cohort)


def _names(cohort: Cohort) -> dict[str, np.ndarray]:
    """All names in one run of UTF-8 and where each starts; nothing where cells have none, or are too many."""
    ids = cohort.cells["cell_id"]
    if cohort.N > NAMED or ids.isna().all():
        return {}
    joined = pa.array(ids.astype(str).tolist(), pa.string())
    _, starts, letters = joined.buffers()
    found = np.frombuffer(starts, np.int32)[: cohort.N + 1].astype(np.uint32)
    return {"starts": found, "letters": np.frombuffer(letters, np.uint8)[: found[-1]]}


def _highest(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    some = np.asarray(cohort.features[:: max(1, cohort.N // _SAMPLE)], float)
    known = np.isfinite(some)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, some, 0).sum(axis=0) / count
    spread = np.sqrt(np.square(np.where(known, some - mean, 0)).sum(axis=0) / count)
    spread[spread == 0] = np.inf
    k = min(TOP, cohort.F)
    top, height = np.zeros((cohort.N, TOP), np.uint16), np.zeros((cohort.N, TOP), np.int8)
    for start in range(0, cohort.N, _BLOCK):
        block = (np.asarray(cohort.features[start : start + _BLOCK]) - mean) / spread
        block = np.nan_to_num(block, nan=-np.inf)
        first = np.argsort(-block, axis=1)[:, :k]
        tenths = np.clip(10 * np.take_along_axis(block, first, 1), -127, 127)
        top[start : start + len(block), :k], height[start : start + len(block), :k] = first, tenths
    return top, height
