"""The whole mixture on shuffled labels: every member trained anew for each permutation, one repeat, which is slow.

Stands beside the null of the simpler chain (see permutation), and apart from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from milcore import neighbourhood
from milcore.case import Case
from milcore.evidence import member_scores
from milcore.permutation import deals
from milcore.preprocess import Moments
from milcore.progress import Progress
from milcore.stacking import best, stack
from milcore.training import Member, cross_fit

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
    order = deals(once, case.task, permutations, case.settings.seed)
    known, reached = once.labelled, []
    for i, deal in enumerate(order.T):
        shuffled = replace(case, task=replace(case.task, y=case.task.y[deal]), plan=once)  # type: ignore[type-var]

        def part(done: float, i: int = i) -> None:
            progress.share((i + done) / order.shape[1])

        if progress.enough():
            break

        level = _scores(shuffled, kernels, (x, measured), members, part)
        y = shuffled.task.y[known][None]
        reached.append(float(shuffled.task.ranked(level[:, known], y, once.fold[:, known]).mean()))
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


def _scores(
    case: Case,
    kernels: np.ndarray,
    cells: tuple[np.ndarray, Moments],
    members: tuple[str, ...],
    share: Callable[[float], None],
) -> np.ndarray:
    """(1, B, K) scores out of fold of the stacked members, as the link takes them."""
    task, plan, offsets = case.task, case.plan, case.cohort.offsets
    made: dict[str, Member] = {}
    scores: dict[str, np.ndarray] = {}
    for name in members:
        if name == "neighbourhood":
            models, inner, _ = neighbourhood.cross_fit(kernels, plan, task, share)
            own = models[0].scores(kernels)[plan.fold[0], np.arange(case.cohort.B)][None]
            made[name], scores[name] = Member(np.empty(0), np.empty(0), inner), own
        else:
            x, measured = cells
            seed, epochs = case.settings.seed, case.settings.epochs
            candidates = cross_fit(
                *(x, offsets, measured, plan, task), pooling=name, seed=seed, share=share, epochs=epochs
            )
            made[name] = best(candidates, offsets, plan, task)
            scores[name] = member_scores(made[name], offsets)
    mixture = stack(made, plan, task)
    parts = zip(mixture.b, scores.values(), strict=True)
    return mixture.a + sum(b[..., None] * s for b, s in parts) + mixture.base[..., None]
