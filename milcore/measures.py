"""How well scores order patients. Pairs are of one fold, so that one model that saw neither scores both.

Chance is then exactly .5 (or a rank correlation of 0): pairs across folds would pull it below, because each patient is
missing from the other side's training set (leave-pair-out: Airola et al., Comput Stat Data Anal 2011).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

__all__ = ["auroc", "concordance", "log_rank", "rank_correlation"]


def auroc(score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Share of (positive, negative) pairs of one fold whose scores are in the right order, ties counting half.

    score (..., n), y (..., n) of 0 and 1, fold (..., n) -> (...).
    """
    right, pairs = np.zeros(score.shape[:-1]), np.zeros(score.shape[:-1])
    for f in np.unique(fold):
        here = fold == f
        positive, negative = here & (y == 1), here & (y == 0)
        among = np.where(here, score, np.inf)  # patients of other folds rank last, above everyone here
        ranks = (rankdata(among, axis=-1) * positive).sum(-1)
        P, N = positive.sum(-1), negative.sum(-1)
        right += np.where(P * N > 0, ranks - P * (P + 1) / 2, 0)
        pairs += P * N
    return right / np.maximum(pairs, 1)


def concordance(score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Share of comparable pairs of one fold in which the patient with the earlier event has the higher score (Harrell's
    C, Stat Med 1996), ties counting half. score (..., n), y (..., n, 2) of time and event, fold (..., n) -> (...)."""
    score, fold = np.broadcast_arrays(score, fold)
    y = np.broadcast_to(y, (*score.shape, 2))
    out = np.empty(score.shape[:-1])
    for at in np.ndindex(out.shape):
        s, (time, event), f = score[at], y[at].T, fold[at]
        sooner = (time[:, None] < time) | ((time[:, None] == time) & (event == 0))
        pairs = sooner & (event[:, None] == 1) & (f[:, None] == f)
        apart = np.sign(s[:, None] - s)[pairs]
        out[at] = 0.5 + apart.mean() / 2 if len(apart) else 0.5
    return out


def rank_correlation(score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Spearman's correlation within folds: of ranks that are centred in each fold. score, y, fold (..., n) -> (...)."""
    score, y, fold = np.broadcast_arrays(score, y, fold)
    sums = np.zeros((3, *score.shape[:-1]))
    for f in np.unique(fold):
        here = fold == f
        a, b = (_centred_ranks(values, here) for values in (score, y))
        sums += (a * b).sum(-1), (a * a).sum(-1), (b * b).sum(-1)
    return sums[0] / np.maximum(np.sqrt(sums[1] * sums[2]), 1e-12)


def log_rank(y: np.ndarray, higher: np.ndarray) -> float:
    """The log-rank statistic (Mantel 1966) of two groups: y (n, 2) of time and event, higher (n,) bool."""
    time, event = y.T
    at = np.unique(time[event == 1])
    there, dies = time >= at[:, None], (time == at[:, None]) & (event == 1)
    n, d = there.sum(1), dies.sum(1)
    n1, d1 = (there & higher).sum(1), (dies & higher).sum(1)
    variance = (d * n1 * (n - n1) * (n - d) / np.maximum(n * n * (n - 1), 1)).sum()
    return float((d1 - d * n1 / n).sum() ** 2 / variance) if variance > 0 else 0.0


def _centred_ranks(values: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Ranks among the patients `here`, less their mean; 0 elsewhere."""
    ranks = rankdata(np.where(here, values, np.inf), axis=-1) * here
    count = np.maximum(here.sum(-1, keepdims=True), 1)
    return np.where(here, ranks - ranks.sum(-1, keepdims=True) / count, 0)
