"""Is MIL needed? What plain models reach on one row of numbers a patient, under the same folds."""

from __future__ import annotations

import numpy as np

from milcore.cohort import Cohort
from milcore.folds import Plan
from milcore.neighbourhood import cross_fit
from milcore.neighbours import Graph
from milcore.preprocess import Moments
from milcore.tasks import Task

__all__ = ["baseline", "summaries"]

CLUSTERS = 30  # k-means clusters whose shares are one of the baselines


def summaries(cohort: Cohort, cells: Graph, measured: Moments, *, seed: int) -> dict[str, np.ndarray]:
    """What a plain model would look at: one row of numbers a patient, under the name it is shown by."""
    count = np.maximum(measured.count, 1)
    mean = np.where(measured.count > 0, measured.total / count, np.nan)
    sd = np.sqrt(np.maximum(measured.square / count - np.nan_to_num(mean) ** 2, 0))
    out = {"mean and sd of features": np.hstack([mean, sd])}
    if "cell_type" in cohort.cells:
        types = cohort.cells["cell_type"].cat
        out["composition of cell types"] = _composition(types.codes.to_numpy(), len(types.categories), cohort)
    out["composition of clusters"] = _composition(_clusters(cells, seed)[cells.node], CLUSTERS, cohort)
    out["number of cells"] = np.log(np.diff(cohort.offsets))[:, None].astype(float)
    return out


def _composition(kind: np.ndarray, kinds: int, cohort: Cohort) -> np.ndarray:
    """(B, kinds) square root of the share of each kind of cell; cells of no kind (-1) are not counted."""
    known = kind >= 0
    place = cohort.owner[known].astype(np.int64) * kinds + kind[known]
    counts = np.bincount(place, minlength=cohort.B * kinds).reshape(cohort.B, kinds)
    return np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))


def _clusters(cells: Graph, seed: int) -> np.ndarray:
    """(M,) k-means cluster of each node."""
    import faiss

    k = min(CLUSTERS, len(cells.size))
    means = faiss.Kmeans(
        cells.points.shape[1],
        k,
        niter=20,
        seed=seed + 1,
        max_points_per_centroid=1000,
        min_points_per_centroid=1,
    )
    means.train(cells.points)
    return means.index.search(cells.points, 1)[1][:, 0]


def baseline(summary: np.ndarray, plan: Plan, task: Task) -> np.ndarray:
    """(R, B, K) out-of-fold scores of a ridge regression on one row of numbers a patient (B, any), same folds."""
    z = np.nan_to_num(summary - np.nanmean(summary, 0))
    sd = z.std(0)
    z = z[:, sd > 0] / sd[sd > 0]
    if z.shape[1] == 0:
        z = np.zeros((len(z), 1))
    kernel = (z @ z.T)[None] / z.shape[1]
    models, *_ = cross_fit(kernel, plan, task, lambda share: None)
    patients = np.arange(len(z))
    return np.stack([m.scores(kernel)[plan.fold[r], patients] for r, m in enumerate(models)])
