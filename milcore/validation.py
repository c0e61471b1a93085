"""How far a score can be believed: scores with intervals, the permutation null, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import rankdata

from milcore.folds import Plan
from milcore.tasks import Binary

__all__ = ["FEW", "WIDENED", "auroc", "null", "roc", "scores", "verdict", "widening"]

FEW = 10  # patients in the smaller class below which nothing is claimed
RESAMPLES = 1000
Z95 = 1.959964
NULL_COSTS = (1.0, 10.0, 100.0)
WIDENED, LEAST_DRAWS = (
    2.0,
    50,
)  # of an interval without a null (typical of those with one), and draws a null needs for it


def auroc(score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Share of (positive, negative) pairs of one fold whose scores are in the right order, ties counting half.

    score (..., n), y (..., n) of 0 and 1, fold (..., n) -> (...). Both patients of a pair are scored by the same model,
    which saw neither, so chance is exactly .5; pairs across folds would pull it below, because each patient is missing
    from the other side's training set (leave-pair-out: Airola et al., Comput Stat Data Anal 2011).
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


def scores(
    score: np.ndarray, plan: Plan, task: Binary, *, threshold: np.ndarray, widening: float, seed: int
) -> dict[str, dict[str, Any]]:
    """Scores (R, B) of every patient out of fold -> name -> {value, low, high, spread}.

    `auroc` is the mean over repeats, with a 95 % interval for what this procedure reaches on cohorts of this size:
    Newcombe's method 5 (Stat Med 2006), which holds up in small samples and at 1, with its variance times `widening`.
    The others are those of the mean score; their bootstrap over patients takes the scores as given, so their intervals
    are narrower. `spread` is the range over repeats: how much retraining alone moves the value, not an interval.
    """
    known = task.labelled
    y, each, cut = task.y[known], score[:, known], threshold[known]
    ranked, mean = auroc(each, y[None], plan.fold[:, known]), each.mean(0)
    interval = _auroc_interval(float(ranked.mean()), *_patients(plan, task), widening)
    draws = _resampled(plan.groups[known], seed)
    draws = draws[((draws @ y) > 0) & ((draws @ (1 - y)) > 0)]
    plain = np.ones((1, len(y)))
    out = {"auroc": _with_spread(float(ranked.mean()), interval, ranked)}
    for name, measure in MEASURES.items():
        resampled = measure(mean, y, cut, draws)
        interval = (float(np.quantile(resampled, 0.025)), float(np.quantile(resampled, 0.975)))
        spread = np.array([measure(s, y, cut, plain)[0] for s in each])
        out[name] = _with_spread(float(measure(mean, y, cut, plain)[0]), interval, spread)
    return out


def widening(chance: dict[str, Any] | None, plan: Plan, task: Binary) -> float:
    """How much more an out-of-fold AUROC varies between cohorts than one of a fixed model would: the variance of the
    null chain against that of the formula at .5, at least 1; WIDENED without a null."""
    if chance is None or len(chance["auroc"]) < LEAST_DRAWS:
        return WIDENED
    return max(1.0, float(np.var(chance["auroc"])) / _variance(0.5, *_patients(plan, task)))


def _patients(plan: Plan, task: Binary) -> tuple[int, int]:
    """Positive and negative patients; regions of one patient are not independent and count once."""
    return plan.patients(task.y == 1), plan.patients(task.y == 0)


def _resampled(groups: np.ndarray, seed: int) -> np.ndarray:
    """(draws, n) how often each bag is drawn when its patients are drawn with replacement."""
    _, group = np.unique(groups, return_inverse=True)
    n = group.max() + 1
    return np.random.default_rng([seed, 2]).multinomial(n, np.full(n, 1 / n), RESAMPLES)[:, group]


def roc(score: np.ndarray, plan: Plan, task: Binary) -> dict[str, list[float]]:
    """{fpr, tpr}: the ROC curve that goes with `auroc`: the mean of the curves of all folds and repeats, weighted by
    their pairs of patients."""
    known = task.labelled
    grid, tpr, pairs = np.linspace(0, 1, 101), np.zeros(101), 0
    for s, fold in zip(score[:, known], plan.fold[:, known], strict=True):
        for f in range(plan.folds):
            y, here = task.y[known][fold == f], s[fold == f]
            weight = int(y.sum() * (1 - y).sum())
            if weight:
                order = np.argsort(-here)
                up, along = np.cumsum(y[order]) / y.sum(), np.cumsum(1 - y[order]) / (1 - y).sum()
                tpr += weight * np.append(0, up)[np.searchsorted(np.append(0, along), grid, side="right") - 1]
                pairs += weight
    return {"fpr": grid.round(4).tolist(), "tpr": (tpr / max(pairs, 1)).round(4).tolist()}


def null(
    kernels: np.ndarray,
    plan: Plan,
    task: Binary,
    *,
    permutations: int,
    seed: int,
    share: Callable[[float], None],
) -> dict[str, Any]:
    """Could this be chance? {p, permutations, as_good, chain, observed, auroc} of a chain on true and permuted labels.

    The chain is one repeat of least-squares regression in the patients' kernels, scale and ridge chosen on inner
    folds: linear in the labels, so all permutations are one product. Labels are permuted within folds, which keeps
    the stratification every permutation needs; p is (1 + as good or better) / (1 + permutations).
    """
    fold, known = plan.fold[0], plan.labelled
    draw = np.random.default_rng([seed, 3])
    y = np.repeat(np.where(known, np.nan_to_num(task.y), 0)[:, None], permutations + 1, 1)
    for f in range(plan.folds):
        here = np.flatnonzero(known & (fold == f))
        y[here, 1:] = draw.permuted(y[here, 1:], axis=0)
    reached = auroc(_least_squares_chain(kernels, plan, y, share)[known].T, y[known].T, fold[known])
    as_good = int((reached[1:] >= reached[0] - 1e-12).sum())
    return {
        "p": (1 + as_good) / (1 + permutations),
        "permutations": permutations,
        "as_good": as_good,
        "chain": "neighbourhood by least squares, one repeat",
        "observed": float(reached[0]),
        "auroc": [round(float(value), 4) for value in reached[1:]],
    }


def verdict(
    measured: dict[str, Any], chance: dict[str, Any] | None, plan: Plan, task: Binary
) -> dict[str, str]:
    """{kind: signal | none | unclear, words}: what may be said of this cohort, in plain words. A signal needs both an
    interval above .5 and a null that was passed; and at least 10 patients a class."""
    value, smaller = measured["auroc"], min(_patients(plan, task))
    figures = f"AUROC {value['value']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
    if chance:
        figures += f"; permuted labels, neighbourhoods alone: p = {_p(chance['p'])}"
    between = f"{task.classes[0]} from {task.classes[1]}"
    above, tested = value["low"] > 0.5, chance is not None
    beats = chance is not None and chance["p"] < 0.05
    if smaller < FEW:
        kind, words = "unclear", f"Exploratory, {smaller} patients in the smaller class cannot carry a claim"
    elif above and beats:
        kind, words = "signal", f"The model tells {between} better than chance"
    elif above and not tested:
        kind, words = (
            "unclear",
            f"The model seems to tell {between}, but was not tested against permuted labels",
        )
    elif above or beats:
        kind, words = "unclear", f"Unclear whether the cells tell {between}; interval and test disagree"
    else:
        kind, words = "none", f"No signal found: the cells do not tell {between} better than chance"
    return {"kind": kind, "words": f"{words}{';' if ':' in words else ':'} {figures}."}


def _p(value: float) -> str:
    return f"{value:.1g}" if value < 0.1 else f"{value:.2f}"


def _with_spread(value: float, interval: tuple[float, float], spread: np.ndarray) -> dict[str, Any]:
    return {
        "value": value,
        "low": interval[0],
        "high": interval[1],
        "spread": [float(spread.min()), float(spread.max())],
    }


def _auroc_interval(
    value: float, positives: int, negatives: int, widened: float = 1.0
) -> tuple[float, float]:
    """Newcombe 2006, method 5: where the distance to the value is 1.96 standard errors at the bound itself."""

    def excess(theta: float) -> float:
        return abs(theta - value) - Z95 * np.sqrt(widened * _variance(theta, positives, negatives))

    tiny = 1e-9
    low = 0.0 if value <= tiny else brentq(excess, tiny, min(value, 1 - tiny))
    high = 1.0 if value >= 1 - tiny else brentq(excess, max(value, tiny), 1 - tiny)
    return float(low), float(high)


def _variance(theta: float, positives: int, negatives: int) -> float:
    """Of the AUROC of a fixed model whose true AUROC is theta (Hanley & McNeil 1982, as modified by Newcombe)."""
    half = (positives + negatives) / 2 - 1
    pairs = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
    return theta * (1 - theta) * pairs / (positives * negatives)


def _average_precision(score: np.ndarray, y: np.ndarray, cut: np.ndarray, weight: np.ndarray) -> np.ndarray:
    order = np.argsort(-score, kind="stable")
    hits = weight[:, order] * y[order]
    precision = np.cumsum(hits, 1) / np.maximum(np.cumsum(weight[:, order], 1), 1e-12)
    return (hits * precision).sum(1) / hits.sum(1)


def _brier(score: np.ndarray, y: np.ndarray, cut: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return weight @ (Binary.link(score) - y) ** 2 / weight.sum(1)


def _balanced_accuracy(score: np.ndarray, y: np.ndarray, cut: np.ndarray, weight: np.ndarray) -> np.ndarray:
    called = score > cut
    found = (weight @ (called * y)) / (weight @ y)
    cleared = (weight @ (~called * (1 - y))) / (weight @ (1 - y))
    return (found + cleared) / 2


# Each takes scores (n,), y (n,), thresholds (n,) and weights of patients (draws, n) and returns (draws,).
MEASURES = {"average_precision": _average_precision, "brier": _brier, "balanced_accuracy": _balanced_accuracy}


def _least_squares_chain(
    kernels: np.ndarray, plan: Plan, y: np.ndarray, share: Callable[[float], None]
) -> np.ndarray:
    """(B, P) out-of-fold scores of label columns y (B, P), scale and ridge chosen per outer fold and column."""
    fold, out = plan.fold[0], np.zeros(y.shape)
    singles, pairs = plan.without(1), plan.without(2)
    choices = len(kernels) * len(NULL_COSTS)
    losses = np.zeros((plan.folds, choices, y.shape[1]))
    for i, (f, g) in enumerate(pairs):
        fitted = _least_squares(kernels, plan.training(0, (f, g)), y)
        for outer, held in ((f, g), (g, f)):
            there = plan.labelled & (fold == held)
            losses[outer] += ((fitted[:, there] - y[there]) ** 2).sum(1)
        share((i + 1) / (len(pairs) + len(singles)))
    for (f,) in singles:
        best = losses[f].argmin(0)
        there = fold == f
        fitted = _least_squares(kernels, plan.training(0, (f,)), y)[:, there]
        out[there] = np.take_along_axis(fitted, best[None, None, :], 0)[0]
        share((len(pairs) + f + 1) / (len(pairs) + len(singles)))
    return out


def _least_squares(kernels: np.ndarray, train: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(choices, B, P) scores of everyone by kernel ridge regression of y (B, P) on the training patients."""
    rows = np.flatnonzero(train)
    mean = y[rows].mean(0)
    out = []
    for kernel in kernels:
        towards = kernel[:, rows].mean(1)
        centred = kernel[:, rows] - towards[:, None] - towards[rows] + towards[rows].mean()
        values, vectors = np.linalg.eigh(centred[rows])
        unit = max(values.mean(), 1e-12)
        projected, targets = centred @ vectors, vectors.T @ (y[rows] - mean)
        out += [projected @ (targets / (values + unit / cost)[:, None]) + mean for cost in NULL_COSTS]
    return np.stack(out)
