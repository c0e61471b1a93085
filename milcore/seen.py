"""What the training cells look like, so that it can be said how far the cells of other patients lie from them.

Kept are figures over patients and centres of groups of cells; no cell and no patient can be told from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from milcore.cohort import Cohort
from milcore.neighbours import Graph, nearest
from milcore.preprocess import moments

__all__ = ["Seen", "look"]

CENTRES = 500  # groups of training cells
FEWEST, OF_EACH = 10, 64  # cells of a group, on average, and what it is sought with
CELLS = 100_000  # training cells at most, about, that the groups are made of
BEYOND = 0.99  # share of the training cells that lie nearer to a centre than the limit
CERTAIN = 3.5  # standard errors between patients, for a shift to be said
LARGE = 0.5  # and sds between a patient's cells
WIDE = 1.4  # and times as widely spread
GAPS = 0.2  # and more of the values missing
FLOOR = 0.02  # standard error of a mean (in sds of cells) and of a log sd at least


@dataclass(frozen=True, eq=False)
class Seen:
    """Of the F features as measured: `average`, `average_sd`, `spread`, `spread_sd` (F,) mean and sd over patients of
    the mean and of the log sd of their cells; `gaps` (F,) share of missing values. Of the F' features as the models see
    them: `scale` (2, F') mean and sd; `centres` (C, F') standardised, `kind` (C,) the phenotype of most cells
    of each. `limit` (2,): the distance within which 99 % of
    the training cells lie from the centres of other patients, and the largest share beyond it in one training patient.
    """

    average: np.ndarray
    average_sd: np.ndarray
    spread: np.ndarray
    spread_sd: np.ndarray
    gaps: np.ndarray
    scale: np.ndarray
    centres: np.ndarray
    kind: np.ndarray
    limit: np.ndarray

    def standardised(self, x: np.ndarray) -> np.ndarray:
        """(N, F') float32 prepared features x by the scale of the training cells, missing values at 0."""
        return np.nan_to_num((x - self.scale[0]) / self.scale[1]).astype(np.float32)

    def far(self, x: np.ndarray) -> np.ndarray:
        """(N,) which cells lie farther from the training cells than 99 % of these do; x (N, F') standardised."""
        return nearest(self.centres, x, 1)[1][:, 0] > self.limit[0]

    def shifts(self, cohort: Cohort) -> Iterator[str]:
        """In words, each feature that in other patients is distributed otherwise than between training patients."""
        average, spread, gaps = _figures(cohort, np.ones(cohort.B, bool))
        within, n = np.exp(self.spread), (~np.isnan(average)).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved, wider = _mean(average) - self.average, _mean(spread) - self.spread
            sure = np.maximum(self.average_sd, FLOOR * within) / np.sqrt(n)
            sure_of_it = np.maximum(self.spread_sd, FLOOR) / np.sqrt(n)
        for j, name in enumerate(cohort.names):
            lies = abs(moved[j]) > max(CERTAIN * sure[j], LARGE * within[j])
            varies = abs(wider[j]) > max(CERTAIN * sure_of_it[j], np.log(WIDE))
            ratio, times = 1 + moved[j] / self.average[j] if self.average[j] else 0.0, np.exp(wider[j])
            if gaps[j] > self.gaps[j] + GAPS:
                yield f"'{name}' is missing in {gaps[j]:.0%} of the cells (training cells: {self.gaps[j]:.0%})."
            elif varies and ratio > 0 and abs(np.log(ratio / times)) < np.log(1.25):
                yield f"'{name}' is about {times:.2g} times as large as in the training patients."
            elif lies:
                by, way = abs(moved[j]) / within[j], "higher" if moved[j] > 0 else "lower"
                yield f"'{name}' lies {by:.1f} sds of a patient's cells {way} than in the training patients."
            elif varies:
                yield f"'{name}' is spread {times:.2g} times as widely as in the training patients."


def look(
    cohort: Cohort, cells: Graph, kind: np.ndarray, scale: np.ndarray, *, taught: np.ndarray, seed: int
) -> Seen:
    """What is to be kept of the cells of the patients `taught` (B,), standardised by scale (2, F'); `kind` (N,) are
    their phenotypes."""
    average, spread, gaps = _figures(cohort, taught)
    rows = np.flatnonzero(taught[cohort.owner])
    rows = rows[:: max(1, len(rows) // CELLS)]
    points = cells.points[cells.node[rows]]
    owner = cohort.owner[rows]
    distance = _from_others(points, cohort.groups[owner], seed)
    limit = np.quantile(distance, BEYOND)
    centres = _centres(points, seed)
    most = _most(nearest(centres, points, 1)[0][:, 0], kind[rows].astype(int), len(centres))
    share = np.bincount(owner, distance > limit) / np.maximum(np.bincount(owner), 1)
    figures = (_mean(average), _sd(average), _mean(spread), _sd(spread), gaps, scale, centres, most)
    return Seen(*(np.asarray(one, np.float32) for one in (*figures, [limit, share.max()])))


def _most(group: np.ndarray, kind: np.ndarray, groups: int) -> np.ndarray:
    """(groups,) the most frequent kind of each group."""
    kinds = int(kind.max()) + 1
    return np.bincount(group * kinds + kind, minlength=groups * kinds).reshape(groups, kinds).argmax(1)


def _figures(cohort: Cohort, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per patient and feature the mean and the log sd of the cells, NaN where unknown; per feature the share of missing
    values."""
    measured = moments(cohort.features, cohort.offsets)
    count, total, square = (part[patients] for part in (measured.count, measured.total, measured.square))
    with np.errstate(divide="ignore", invalid="ignore"):
        average = total / count
        variance = square / count - average**2
        spread = np.log(np.where(variance > 1e-12 * (1 + average**2), variance, np.nan)) / 2
    cells = np.diff(cohort.offsets)[patients].sum()
    return average, spread, 1 - count.sum(0) / cells


def _mean(values: np.ndarray) -> np.ndarray:
    """(F,) over the patients that have a value; 0 where none has."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)


def _sd(values: np.ndarray) -> np.ndarray:
    return np.sqrt(_mean((values - _mean(values)) ** 2))


def _from_others(points: np.ndarray, patient: np.ndarray, seed: int) -> np.ndarray:
    """(n,) distance of each cell from the centres of the cells of the other half of the patients, as it is of new
    patients that no centre comes from."""
    half = np.random.default_rng([seed, 9]).permutation(patient.max() + 1)[patient] % 2 == 0
    out = np.empty(len(points))
    for here in (half, ~half):
        if here.any() and not here.all():
            out[here] = nearest(_centres(points[~here], seed), points[here], 1)[1][:, 0]
    return out


def _centres(points: np.ndarray, seed: int) -> np.ndarray:
    """(C, F') k-means centres."""
    import faiss

    means = faiss.Kmeans(
        points.shape[1],
        min(CENTRES, -(-len(points) // FEWEST)),
        niter=10,
        seed=seed + 1,
        max_points_per_centroid=OF_EACH,
        min_points_per_centroid=1,
    )
    means.train(np.ascontiguousarray(points))
    return np.asarray(means.centroids)
