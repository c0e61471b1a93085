"""Which cells lie where patients of one label have more cells than the others: a false discovery rate for cells.

As in covarying neighbourhood analysis (Reshef et al., Nat Biotechnol 2022): around every node of the graph the relative
abundance of the patients is correlated with the label, and the same correlations under permuted labels say how many
cells would go as far by chance. A global test can miss a rare group that is certain here, so neither gates the other.

These are facts of the cohort, found with the labels of all patients: never part of anyone's score.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from milcore.folds import Plan
from milcore.neighbourhood import SCALES, Abundance, relative_abundance
from milcore.permutation import deals
from milcore.tasks import Task

__all__ = ["LEVEL", "Associations", "associations"]

LEVEL = 0.05  # false discovery rate, and p of the best one, up to which cells are said to stand out
SCALE = (
    1  # among SCALES: 3 steps, where planted groups of .1 to 1 % were all found (tests/accuracy/validity.md)
)
BINS = 500  # of the size of a correlation
AT_ONCE = 1_000_000  # correlations held at a time
MOST = 400_000_000  # correlations in all: fewer permutations where there are very many cells
LEAST_PERMUTATIONS = 100


@dataclass(frozen=True, eq=False)
class Associations:
    """`fdr` (M,) of every node: the least false discovery rate at which it is found, 1 at most. `correlation` (M, L):
    of its abundance with the label's L columns (see Task.linear). `facts`: {found, share, sides, threshold, level, p,
    steps, permutations}."""

    fdr: np.ndarray
    correlation: np.ndarray
    facts: dict[str, Any]


def associations(
    around: Abundance, plan: Plan, task: Task, *, cells: int, permutations: int, seed: int
) -> Associations | None:
    """Of every node of the graph of so many `cells`, by the permutations that the null uses; None with too few of them.

    A threshold's rate is the mean number of cells beyond it under permuted labels, by that under the true ones. `p` is
    exact whatever depends on what: how often a permutation, held against the others in the same way, has as small a
    best rate.
    """
    M, known = len(around.mass), np.flatnonzero(plan.labelled)
    affordable = max(LEAST_PERMUTATIONS, MOST // (M * task.outputs))
    permutations = min(permutations, affordable)
    if permutations < LEAST_PERMUTATIONS:
        return None
    order = deals(plan, task, permutations, seed)[known]  # (T, P)
    label = task.linear(task.y[known])[np.searchsorted(known, order)]  # (T, P, L)
    label = label - label.mean(0)
    label /= np.maximum(np.sqrt((label**2).sum(0)), 1e-12)
    found, tail = _counted(_normed(around, plan.labelled), label.astype(np.float32), around.mass)
    rate = _rates(tail)  # (P, BINS)
    best = rate.min(1)
    reached = np.abs(found).max(1)
    fdr = np.minimum.accumulate(rate[0])[_bins(reached)]
    p = float((best <= best[0] + 1e-12).mean())
    facts = _facts(fdr, found, around.mass * cells, task) | {"p": p, "permutations": permutations}
    return Associations(fdr, found, facts)


def _normed(around: Abundance, known: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Some nodes at a time, (n, T) abundance of the patients `known` around each, centred, of length 1."""
    for rows, every in relative_abundance(around, SCALE, known):
        abundance = every[:, known]
        abundance -= abundance.mean(1, keepdims=True)
        abundance /= np.maximum(np.sqrt((abundance**2).sum(1, keepdims=True)), 1e-12)
        yield rows, abundance


def _counted(
    parts: Iterable[tuple[slice, np.ndarray]], label: np.ndarray, mass: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlations (M, L) with the true label, and (P, BINS) the share of the cells whose largest one
    reaches each bin, for every deal: `parts` of abundance (M, T) and label (T, P, L) of length 1."""
    T, P, L = label.shape
    found, counts = np.empty((len(mass), L)), np.zeros((P, BINS))
    for rows, abundance in parts:
        some = max(
            1, AT_ONCE // (len(abundance) * L)
        )  # few deals of many nodes: their counts stay in the cache
        for i in range(0, P, some):
            deals = label[:, i : i + some].reshape(T, -1)
            every = (deals.T @ abundance.T).reshape(-1, L, len(abundance))
            if i == 0:
                found[rows] = every[0].T
            n = len(every)
            at = _bins(np.abs(every).max(1)) + np.arange(n)[:, None] * BINS
            held = np.bincount(at.ravel(), np.tile(mass[rows], n), n * BINS)
            counts[i : i + n] += held.reshape(n, BINS)
    return found, counts[:, ::-1].cumsum(1)[:, ::-1]


def _bins(size: np.ndarray) -> np.ndarray:
    return np.minimum((size * BINS).astype(np.int64), BINS - 1)


def _rates(tail: np.ndarray) -> np.ndarray:
    """(P, BINS) false discovery rate of each deal at each threshold, held against all others; 1 at most, and where
    nothing is found."""
    others = (tail.sum(0) - tail) / (len(tail) - 1)
    there = tail > 1e-12  # shares of all cells
    return np.where(there, np.minimum(others / np.where(there, tail, 1), 1), 1)


def _facts(fdr: np.ndarray, correlation: np.ndarray, cells: np.ndarray, task: Task) -> dict[str, Any]:
    here, size = fdr <= LEVEL, np.abs(correlation)

    def counted(some: np.ndarray) -> int:
        return round(float(cells[here & some].sum()))

    if task.outputs > 1:
        sides = {name: counted(size.argmax(1) == k) for k, name in enumerate(task.classes)}
    else:
        sides = {"for": counted(correlation[:, 0] > 0), "against": counted(correlation[:, 0] <= 0)}
    return {
        "found": counted(here),
        "share": float(cells[here].sum() / cells.sum()),
        "sides": sides,
        "threshold": float(size[here].max(1).min()) if here.any() else None,
        "level": LEVEL,
        "steps": SCALES[SCALE],
    }
