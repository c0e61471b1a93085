"""The whole mixture on shuffled labels: every member trained anew for each permutation, one repeat, which is slow.

Stands beside the null of the simpler chain (see permutation), and apart from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from milcore import neighbourhood
from milcore.case import Case
from milcore.evidence import member_scores
from milcore.folds import Plan
from milcore.measures import log_rank
from milcore.permutation import deals
from milcore.preprocess import Moments
from milcore.progress import Progress
from milcore.stacking import best, stack
from milcore.tasks import Survival, Task
from milcore.training import Member, Settings, cross_fit
from milcore.validation import at_higher_risk

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
    true and permuted labels; p is (1 + as good or better) / (1 + permutations); for survival also {log_rank,
    log_rank_p}, of risk groups cut as the analysis cuts them. Whoever waits may call it enough: then these are the
    permutations so far, and nothing where there was none."""
    once = replace(case.plan, fold=case.plan.fold[:1])
    again = _Again(once, case.task, case.settings, case.cohort.offsets, measured, members)
    order = deals(once, case.task, permutations, case.settings.seed)
    reached: list[tuple[float, float]] = []

    def share(done: float) -> None:
        progress.share(done, _so_far([value for value, _ in reached]))

    with closing(case.crew.each(_reached, [(x, kernels, again, deal) for deal in order.T], share)) as each:
        for found in each:
            reached.append(found)
            if progress.enough():
                break
    if len(reached) < 2:
        return {}
    values, parted = np.array(reached).T
    out = {
        "p": _p(values),
        "permutations": len(values) - 1,
        "as_good": _as_good(values),
        "observed": float(values[0]),
        "values": [round(float(value), 4) for value in values[1:]],
    }
    if isinstance(case.task, Survival):
        out |= {"log_rank": float(parted[0]), "log_rank_p": _p(parted)}
    return out


def _so_far(values: Sequence[float]) -> str:
    """The running estimate in words; empty before the first shuffle."""
    if len(values) < 2:
        return ""
    return f"{_as_good(np.array(values))} of {len(values) - 1} shuffles so far did as well"


def _as_good(values: np.ndarray) -> int:
    """How many permutations did as well as the true labels, which come first."""
    return int((values[1:] >= values[0] - 1e-12).sum())


def _p(values: np.ndarray) -> float:
    return (1 + _as_good(values)) / len(values)


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
) -> tuple[float, float]:
    """The leading score where each patient has the label of `deal` (B,); for survival also the log-rank statistic of
    the risk groups, else 0."""
    plan, known = again.plan, again.plan.labelled
    task = replace(again.task, y=again.task.y[deal])  # type: ignore[type-var]
    level, cuts = _scores(x, kernels, replace(again, task=task), tell)
    value = float(task.ranked(level[:, known], task.y[known][None], plan.fold[:, known]).mean())
    if not isinstance(task, Survival):
        return value, 0.0
    return value, float(log_rank(task.y[known], at_higher_risk(level, cuts)[known]))


def _scores(
    x: np.ndarray, kernels: np.ndarray, again: _Again, tell: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray]:
    """(1, B, K) scores out of fold of the stacked members, as the link takes them, and (1, B) where they are parted
    into higher and lower."""
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
    level = mixture.a + sum(b[..., None] * s for b, s in parts) + mixture.base[..., None]
    return level, mixture.medians(made, plan)
