"""The whole mixture on shuffled labels: every member trained anew for each permutation, one repeat, which is slow.

Stands beside the null of the simpler chain (see permutation), and apart from it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from milcore import neighbourhood
from milcore.case import Case
from milcore.evidence import member_scores
from milcore.folds import Plan
from milcore.permutation import deals
from milcore.preprocess import Moments
from milcore.progress import Progress
from milcore.stacking import best, stack
from milcore.tasks import Task
from milcore.training import Member, Settings, cross_fit

__all__ = ["whole_null"]


def whole_null(
    case: Case,
    kernels: np.ndarray,
    x: np.ndarray,
    measured: Moments,
    *,
    members: tuple[str, ...],
    permutations: int,
    progress: Progress,
) -> dict[str, Any]:
    """{p, permutations, as_good, observed, values} of the leading score of one repeat, trained as the analysis is, on
    true and permuted labels; p is (1 + as good or better) / (1 + permutations). Whoever waits may call it enough: then
    these are the permutations so far, and nothing where there was none."""
    once = replace(case.plan, fold=case.plan.fold[:1])
    again = _Again(once, case.task, case.settings, case.cohort.offsets, measured, members)
    order, reached = deals(once, case.task, permutations, case.settings.seed), []
    with closing(
        case.crew.each(_reached, [(x, kernels, again, deal) for deal in order.T], progress.share)
    ) as each:
        for value in each:
            reached.append(value)
            if progress.enough():
                break
    permutations = len(reached) - 1
    if permutations < 1:
        return {}
    as_good = int((np.array(reached[1:]) >= reached[0] - 1e-12).sum())
    return {
        "p": (1 + as_good) / (1 + permutations),
        "permutations": permutations,
        "as_good": as_good,
        "observed": reached[0],
        "values": [round(value, 4) for value in reached[1:]],
    }


@dataclass(frozen=True, eq=False)
class _Again:
    """What training anew asks for, but for the labels, the cells and the patients' kernels."""

    plan: Plan
    task: Task
    settings: Settings
    offsets: np.ndarray
    measured: Moments
    members: tuple[str, ...]


def _reached(
    x: np.ndarray, kernels: np.ndarray, again: _Again, deal: np.ndarray, tell: Callable[[float], None]
) -> float:
    """The leading score where each patient has the label of `deal` (B,)."""
    plan, known = again.plan, again.plan.labelled
    task = replace(again.task, y=again.task.y[deal])  # type: ignore[type-var]
    level = _scores(x, kernels, replace(again, task=task), tell)
    return float(task.ranked(level[:, known], task.y[known][None], plan.fold[:, known]).mean())


def _scores(x: np.ndarray, kernels: np.ndarray, again: _Again, tell: Callable[[float], None]) -> np.ndarray:
    """(1, B, K) scores out of fold of the stacked members, as the link takes them."""
    task, plan, offsets = again.task, again.plan, again.offsets
    made: dict[str, Member] = {}
    scores: dict[str, np.ndarray] = {}
    for name in again.members:
        if name == "neighbourhood":
            models, inner, _ = neighbourhood.cross_fit(kernels, plan, task, tell)
            own = models[0].scores(kernels)[plan.fold[0], np.arange(len(offsets) - 1)][None]
            made[name], scores[name] = Member(np.empty(0), np.empty(0), inner), own
        else:
            how: dict[str, Any] = {
                "pooling": name,
                "seed": again.settings.seed,
                "epochs": again.settings.epochs,
            }
            candidates = cross_fit(x, offsets, again.measured, plan, task, share=tell, **how)
            made[name] = best(candidates, offsets, plan, task)
            scores[name] = member_scores(made[name], offsets)
    mixture = stack(made, plan, task)
    parts = zip(mixture.b, scores.values(), strict=True)
    return mixture.a + sum(b[..., None] * s for b, s in parts) + mixture.base[..., None]
