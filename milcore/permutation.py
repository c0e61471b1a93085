"""Labels shuffled among patients: what a chain reaches by chance alone, and p.

Labels are permuted within folds, which keeps the stratification that every permutation needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from milcore.crew import HERE, Crew
from milcore.folds import Plan
from milcore.measures import log_rank
from milcore.tasks import Survival, Task

__all__ = ["deals", "null", "permuted", "within"]

NULL_COSTS = (1.0, 10.0, 100.0)


def null(
    kernels: np.ndarray,
    plan: Plan,
    task: Task,
    *,
    permutations: int,
    seed: int,
    share: Callable[[float], None],
    crew: Crew = HERE,
) -> dict[str, Any]:
    """Could this be chance? {p, permutations, as_good, chain, statistic, observed, values} of a chain on true and
    permuted labels; for survival also {log_rank, log_rank_p}, of risk groups cut at the average.

    The chain is one repeat of least-squares regression in the patients' kernels, scale and ridge chosen on inner
    folds: all permutations are one product. Labels are permuted within folds, which keeps the stratification every
    permutation needs; where bags are not patients, between patients whose bags agree, or among the bags of each
    patient. p is (1 + as good or better) / (1 + permutations).
    """
    fold, known = plan.fold[0], plan.labelled
    order = deals(plan, task, permutations, seed)
    scored = _least_squares_chain(kernels, (plan, task), order, share, crew)  # (P, B, K)
    labels = task.y[order[known]].swapaxes(0, 1)  # (P, n, ...)
    reached = task.ranked(scored[:, known], labels, fold[known])
    as_good = int((reached[1:] >= reached[0] - 1e-12).sum())
    out = {
        "p": (1 + as_good) / (1 + permutations),
        "permutations": permutations,
        "as_good": as_good,
        "chain": "neighbourhood by least squares, one repeat",
        "statistic": task.main,
        "observed": float(reached[0]),
        "values": [round(float(value), 4) for value in reached[1:]],
    }
    if isinstance(task, Survival):
        parted = np.array([log_rank(y, s[:, 0] > 0) for y, s in zip(labels, scored[:, known], strict=True)])
        better = int((parted[1:] >= parted[0] - 1e-12).sum())
        out |= {"log_rank": float(parted[0]), "log_rank_p": (1 + better) / (1 + permutations)}
    return out


def deals(plan: Plan, task: Task, permutations: int, seed: int) -> np.ndarray:
    """(B, 1 + permutations) which bag's label each bag gets: its own, then those of every permutation."""
    own = np.arange(len(plan.labelled))[:, None]
    return np.hstack([own, permuted(plan, task, permutations, np.random.default_rng([seed, 3]))])


def permuted(plan: Plan, task: Task, permutations: int, draw: np.random.Generator) -> np.ndarray:
    """(B, permutations) which bag's label each labelled bag gets."""
    B, known = len(plan.labelled), np.flatnonzero(plan.labelled)
    order = np.repeat(np.arange(B)[:, None], permutations, 1)
    if plan.one_bag_each:
        order[known] = known[within(plan.fold[0, known], permutations, draw)]
        return order
    groups = plan.groups[known]
    rows = pd.DataFrame(task.y[known].reshape(len(known), -1)).groupby(groups).nunique()
    if (rows > 1).any(axis=None):  # samples of one patient under two conditions
        order[known] = known[within(groups, permutations, draw)]
        return order
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    dealt = within(plan.fold[0, known][first], permutations, draw)
    order[known] = known[first[dealt[group]]]
    return order


def within(fold: np.ndarray, times: int, draw: np.random.Generator) -> np.ndarray:
    """(n, times) random orders of n patients, each column shuffled within folds."""
    order = np.repeat(np.arange(len(fold))[:, None], times, 1)
    for f in np.unique(fold):
        here = np.flatnonzero(fold == f)
        order[here] = draw.permuted(order[here], axis=0)
    return order


def _least_squares_chain(
    kernels: np.ndarray,
    case: tuple[Plan, Task],
    order: np.ndarray,
    share: Callable[[float], None],
    crew: Crew,
) -> np.ndarray:
    """(P, B, L) out-of-fold scores of labels dealt out as `order` (B, P) says, scale and ridge chosen per outer fold
    and deal. Targets are made among the patients that learn (or are held out) together, and centred there."""
    plan, task = case
    singles, pairs = plan.without(1), plan.without(2)
    inner = len(pairs) / (len(pairs) + len(singles))  # of the time
    losses: list[Any] = [0.0] * plan.folds
    parts = [(kernels, case, order, pair) for pair in pairs]
    lost = crew.each(_held_out_losses, parts, lambda s: share(inner * s))
    for (f, g), (one, other) in zip(pairs, lost, strict=True):
        losses[f], losses[g] = losses[f] + one, losses[g] + other
    out = np.zeros((order.shape[1], len(order), _linear(task, order[plan.labelled][:, :1]).shape[2]))
    chosen = [(kernels, case, order, (f, losses[f].argmin(0))) for (f,) in singles]
    scored = crew.each(_held_out_scores, chosen, lambda s: share(inner + (1 - inner) * s))
    for (f,), found in zip(singles, scored, strict=True):
        out[:, plan.labelled & (plan.fold[0] == f)] = found
    return out


def _held_out_losses(
    kernels: np.ndarray,
    case: tuple[Plan, Task],
    order: np.ndarray,
    pair: tuple[int, int],
    tell: Callable[[float], None],
) -> tuple[np.ndarray, np.ndarray]:
    """(choices, P) twice: the loss on the second fold of a pair, and on the first, of models that saw neither."""
    plan, task = case
    fitted = _least_squares(kernels, plan.training(0, pair), task, order)
    held = [np.flatnonzero(plan.labelled & (plan.fold[0] == f)) for f in pair[::-1]]
    one, other = (((fitted[:, some] - _linear(task, order[some])) ** 2).sum((1, 3)) for some in held)
    return one, other


def _held_out_scores(
    kernels: np.ndarray,
    case: tuple[Plan, Task],
    order: np.ndarray,
    best: tuple[int, np.ndarray],
    tell: Callable[[float], None],
) -> np.ndarray:
    """(P, held-out, L) scores of a fold, each deal by the choice of scale and ridge that `best` has for it (P,)."""
    (plan, task), (f, choice) = case, best
    there = np.flatnonzero(plan.labelled & (plan.fold[0] == f))
    fitted = _least_squares(kernels, plan.training(0, (f,)), task, order)[:, there]
    return np.take_along_axis(fitted, choice[None, None, :, None], 0)[0].swapaxes(0, 1)


def _linear(task: Task, order: np.ndarray) -> np.ndarray:
    """(T, P, L) targets of least squares for the labels that `order` (T, P) deals to T patients."""
    if isinstance(task, Survival):
        return np.stack([task.linear(task.y[deal]) for deal in order.T], 1)
    return task.linear(task.y[order.ravel()]).reshape(*order.shape, -1)


def _least_squares(kernels: np.ndarray, train: np.ndarray, task: Task, order: np.ndarray) -> np.ndarray:
    """(choices, B, P, L) scores of everyone by kernel ridge regression on the training patients."""
    rows = np.flatnonzero(train)
    y = _linear(task, order[rows])
    shape = y.shape[1:]
    y = y.reshape(len(rows), -1)
    mean = y.mean(0)
    out = []
    for kernel in kernels:
        towards = kernel[:, rows].mean(1)
        centred = kernel[:, rows] - towards[:, None] - towards[rows] + towards[rows].mean()
        values, vectors = np.linalg.eigh(centred[rows])
        unit = max(values.mean(), 1e-12)
        projected, targets = centred @ vectors, vectors.T @ (y - mean)
        out += [
            (projected @ (targets / (values + unit / cost)[:, None]) + mean).reshape(-1, *shape)
            for cost in NULL_COSTS
        ]
    return np.stack(out)
