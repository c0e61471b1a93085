"""Transform and scale of the features.

The transform is chosen from the features alone and never sees a label. Scaling for the networks is learnt on the
training patients of each model; scaling for the neighbour graph uses all cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.matrix import on_disk
from milcore.surroundings import nearby, regions

__all__ = ["Moments", "Preparation", "moments", "named", "preparation"]

SKEWED = 1.5  # features more skewed than this are compressed when the transform is chosen automatically
OUTER, OUTER_CELLS = 0.001, 5  # share of the cells, and cells at least, beyond either end of a feature's span
FAR = 3.0  # a value farther than this many spans from the span is drawn in
SAMPLE = 100_000  # cells at most, about, that transform and bounds are learnt from
CHUNK = 1 << 18  # cells transformed at a time: bounds memory


@dataclass(frozen=True, eq=False)
class Preparation:
    """How features become what the models see; learnt from cells, never from labels, so that new patients can be
    treated alike. `transform`, `centre` and `context` as in Settings; (F,) `cofactor` that arcsinh divides by, NaN
    where a feature is left as it is; (F,) `low`, `high` that wild values are drawn in to, else infinite.
    """

    transform: str
    centre: str
    context: int
    cofactor: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def apply(self, cohort: Cohort) -> np.ndarray:
        """(N, F') float32, missing values still NaN: transformed, wild values drawn in, with centre "region" less the
        median of the cell's region (against differences of staining; it also hides what sets whole regions apart), and
        with `context` > 0 followed by the means of so many nearest cells (F' = 2 F)."""
        x = on_disk(cohort.features.shape)
        for start in range(0, len(x), CHUNK):
            rows = slice(start, start + CHUNK)
            x[rows] = self.values(cohort.features[rows])
        if self.centre == "region":
            _centre(x, regions(cohort))
        if not self.context:
            return x
        wide = on_disk((len(x), 2 * x.shape[1]))
        wide[:, : x.shape[1]], wide[:, x.shape[1] :] = x, nearby(x, cohort, self.context)
        return wide

    def told(self, names: tuple[str, ...]) -> dict[str, Any]:
        """What was done, for analysis.json: transform, centre, context, and of the features that arcsinh was taken of
        what each was divided by."""
        divided = {n: float(f"{c:.4g}") for n, c in zip(names, self.cofactor, strict=True) if np.isfinite(c)}
        how = {"transform": self.transform, "centre": self.centre, "context": self.context}
        return how | {"arcsinh": divided}

    def values(self, features: np.ndarray) -> np.ndarray:
        """(n, F) float32 of features (n, F) as measured: transformed, wild values drawn in; not centred."""
        x = _transformed(np.asarray(features, np.float32), self.transform, self.cofactor)
        return np.clip(x, self.low, self.high)


def preparation(cohort: Cohort, *, transform: str, centre: str = "none", context: int = 0) -> Preparation:
    """Learns how to prepare a cohort's features. `transform`:

    auto        arcsinh(x / c) with c the feature's mean absolute value where it is skewed, else unchanged
    none        unchanged
    log1p       sign(x) log(1 + |x|)
    arcsinh:C   arcsinh(x / C), as usual in cytometry (C = 5 for mass, 150 for fluorescence)
    """
    sample = np.asarray(cohort.features[:: max(1, cohort.N // SAMPLE)], np.float32)
    cofactor = _cofactors(sample, transform)
    low, high = _bounds(_transformed(sample, transform, cofactor))
    return Preparation(transform, centre, context, cofactor, low, high)


def named(cohort: Cohort, *, context: int = 0) -> tuple[str, ...]:
    """(F',) names of what `Preparation.apply` makes: the features and, with `context`, "<feature> nearby" of each."""
    return cohort.names + tuple(f"{name} nearby" for name in cohort.names if context)


def _bounds(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F,) float32 each: a few wild values must not set the scale of a feature, so they are moved to a far but finite
    bound. The bounds come from all cells and no label; a rare group of cells lies well inside."""
    outer = min(max(OUTER, OUTER_CELLS / len(x)), 0.25)  # one wild value of few must not set the span
    low, high = np.nanquantile(x, [outer, 1 - outer], axis=0)
    room = FAR * (high - low)
    spread = room > 0  # a feature that hardly any cell has is left alone
    bounds = np.where(spread, low - room, -np.inf), np.where(spread, high + room, np.inf)
    return bounds[0].astype(np.float32), bounds[1].astype(np.float32)


def _centre(x: np.ndarray, region: np.ndarray) -> None:
    """In place: each feature less its median over the region's cells."""
    order = np.argsort(region, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(region[order])) + 1):
        known = ~np.isnan(x[rows]).all(0)
        x[np.ix_(rows, known)] -= np.nanmedian(x[rows][:, known], axis=0)


@dataclass(frozen=True, eq=False)
class Moments:
    """Per patient and feature, over known values: their number, sum and sum of squares, each (B, F) float64."""

    count: np.ndarray
    total: np.ndarray
    square: np.ndarray

    def scale(self, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd (S, F) of each feature over the cells of the patients in `train` (S, B); sd 1 where constant."""
        pick = train.astype(float)
        count = np.maximum(pick @ self.count, 1)
        mean = (pick @ self.total) / count
        variance = np.maximum((pick @ self.square) / count - mean**2, 0)
        sd = np.sqrt(variance)
        sd[sd < 1e-6 * np.maximum(np.abs(mean), 1e-6)] = 1
        return mean.astype(np.float32), sd.astype(np.float32)


def moments(x: np.ndarray, offsets: np.ndarray) -> Moments:
    """Per-patient moments of x (N, F)."""
    B, F = len(offsets) - 1, x.shape[1]
    count, total, square = (np.empty((B, F)) for _ in range(3))
    for b in range(B):
        cells = x[offsets[b] : offsets[b + 1]].astype(np.float64)
        known = ~np.isnan(cells)
        cells[~known] = 0
        count[b], total[b], square[b] = known.sum(0), cells.sum(0), (cells**2).sum(0)
    return Moments(count, total, square)


def _cofactors(x: np.ndarray, transform: str) -> np.ndarray:
    """(F,) what arcsinh divides by, NaN for features left as they are."""
    if transform in ("none", "log1p"):
        return np.full(x.shape[1], np.nan, np.float32)
    if transform.startswith("arcsinh:"):
        return np.full(x.shape[1], _number(transform), np.float32)
    if transform != "auto":
        raise _unknown(transform)
    sample = x.astype(np.float64)
    mean, sd = np.nanmean(sample, 0), np.nanstd(sample, 0)
    z = (sample - mean) / np.where(sd > 0, sd, 1)
    skew = np.nanmean(z * z * z, 0)  # the power function is slow
    cofactor = np.nanmean(np.abs(sample), 0)
    return np.where((skew > SKEWED) & (cofactor > 0), cofactor, np.nan).astype(np.float32)


def _transformed(x: np.ndarray, transform: str, cofactor: np.ndarray) -> np.ndarray:
    if transform == "log1p":
        return np.sign(x) * np.log1p(np.abs(x))
    kept = np.isnan(cofactor)
    if kept.all():
        return x
    return np.where(kept, x, np.arcsinh(x / np.where(kept, 1, cofactor)))


def _number(transform: str) -> float:
    try:
        value = float(transform.partition(":")[2])
    except ValueError:
        value = 0.0
    if not (np.isfinite(value) and value > 0):
        raise _unknown(transform)
    return value


def _unknown(transform: str) -> MilError:
    problem = f"'{transform}' is not a transform."
    return MilError(
        problem, "--transform", "Use auto, none, log1p, or arcsinh: and a positive number such as arcsinh:5."
    )
