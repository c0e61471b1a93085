"""From members to one score: which pooling counts how much, and what a score means.

For every outer fold a small regression on *inner held-out scores* gives non-negative weights b over the members and an
intercept a; together they are an affine calibration, so the score stays a weighted mean of cell evidence. Labels of the
fold that is scored take no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from milcore.folds import Plan
from milcore.matrix import laid_down
from milcore.tasks import Task
from milcore.training import Member

__all__ = ["Mixture", "best", "stack"]

RIDGE = 1.0  # prior precision of each slope, on scores of sd 1: a cohort of 40 cannot carry steep ones
TOGETHER = 1.0  # pull of the slopes towards their mean
PARTS = ("weight", "evidence", "inner", "rank", "share")  # of a member; the last two only `topk` has
LEAST = 1e-3  # every slope stays above: a score without any cells behind it could not be explained


@dataclass(frozen=True, eq=False)
class Mixture:
    """Per repeat and patient, from the patient's own outer fold: `a` (R, B, K), by member `b` (members, R, B), and
    `base` (R, B): score = a + sum_m b_m s_m, told from the label `base` of the average training patient (0 but in
    regression)."""

    members: tuple[str, ...]
    a: np.ndarray
    b: np.ndarray
    base: np.ndarray

    def weights(self, spread: dict[str, np.ndarray]) -> dict[str, float]:
        """Share of each member in the score: mean slope times the sd of its own scores (R, B, K), summing to 1."""
        size = {
            m: float(np.nanmean(self.b[i] * np.nanstd(spread[m], 1).mean(1, keepdims=True)))
            for i, m in enumerate(self.members)
        }
        return {m: value / sum(size.values()) for m, value in size.items()}

    def held_out(self, members: dict[str, Member], fold: np.ndarray, r: int, f: int) -> np.ndarray:
        """(B, K) inner held-out scores of the mixture for the outer fold f of repeat r, as `fold` (R, B) deals them;
        NaN in f."""
        own = np.flatnonzero(fold[r] == f)[0]
        parts = zip(self.b[:, r, own], members.values(), strict=True)
        return self.a[r, own] + sum(b * member.inner[r, f] for b, member in parts)

    def medians(self, members: dict[str, Member], plan: Plan) -> np.ndarray:
        """(R, B) for each patient the median inner held-out score of those that its model learnt from: what parts
        higher from lower risk."""
        out = np.empty(plan.fold.shape)
        for r in range(plan.repeats):
            for f in range(plan.folds):
                inner = self.held_out(members, plan.fold, r, f)[plan.training(r, (f,)), 0]
                out[r, plan.fold[r] == f] = np.median(inner)
        return out

    def by_fold(self, plan: Plan) -> Mixture:
        """The same with a place for each outer fold where the patients were: a (R, folds, K), b, base."""
        at = (
            np.arange(plan.repeats)[:, None],
            np.stack([[np.argmax(d == f) for f in range(plan.folds)] for d in plan.fold]),
        )
        return Mixture(self.members, self.a[at], self.b[:, at[0], at[1]], self.base[at])


def stack(members: dict[str, Member], plan: Plan, task: Task) -> Mixture:
    """Fits a and b for each repeat and outer fold on the inner held-out scores of its training patients."""
    R, B = plan.fold.shape
    a, b, base = np.empty((R, B, task.outputs)), np.empty((len(members), R, B)), np.empty((R, B))
    for r in range(R):
        for f in range(plan.folds):
            train, there = plan.training(r, (f,)), plan.fold[r] == f
            base[r, there] = task.base(train)
            inner = np.stack([member.inner[r, f] for member in members.values()], 1)
            intercept, slopes, _ = _fit(inner, train, task)
            a[r, there], b[:, r, there] = intercept - task.base(train), slopes[:, None]
    return Mixture(tuple(members), a, b, base)


def best(candidates: list[Member], offsets: np.ndarray, plan: Plan, task: Task) -> Member:
    """One member that takes, for each outer fold, the candidate with the least loss on inner held-out scores."""
    if len(candidates) == 1:
        return candidates[0]
    parts = [part for part in PARTS if getattr(candidates[0], part) is not None]
    out = {part: laid_down(getattr(candidates[0], part)) for part in parts}
    learnt = {name: np.array(part) for name, part in (candidates[0].learnt or {}).items()}
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    for r in range(plan.repeats):
        for f in range(plan.folds):
            train, there = plan.training(r, (f,)), plan.fold[r] == f
            losses = [_fit(one.inner[r, f][:, None], train, task)[2] for one in candidates]
            chosen = candidates[int(np.argmin(losses))]
            for part in parts:
                at = f if part == "inner" else there if part == "share" else there[owner]
                out[part][r, at] = getattr(chosen, part)[r, at]
            for name in learnt:
                learnt[name][r, f] = (chosen.learnt or {})[name][r, f]
    return Member(**out, learnt=learnt or None)


def _fit(scores: np.ndarray, train: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray, float]:
    """Penalised regression of the labels of `train` (B,) on scores (B, M, K), slopes not negative -> intercept (K,),
    slopes (M,), both for labels in their own units, and the penalised loss."""
    targets, shift, unit = task.targets(train[None])
    y, scores = targets[0][train], scores[train]
    centre = scores.mean(0)
    sd = np.maximum(np.sqrt(((scores - centre) ** 2).mean((0, 2))), 1e-9)
    z = (scores - centre) / sd[:, None]
    K = task.outputs

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = parameters[:K], parameters[K:]
        s = a + np.einsum("nmk,m->nk", z, b)
        gradient = task.gradient(s, y)
        apart = b - b.mean()
        value = task.total_loss(s, y) + RIDGE / 2 * b @ b + TOGETHER / 2 * apart @ apart
        by_slope = -np.einsum("nmk,nk->m", z, gradient) + RIDGE * b + TOGETHER * apart
        return float(value), np.concatenate([-gradient.sum(0), by_slope])

    M = z.shape[1]
    bounds = [(None, None)] * K + [(LEAST, None)] * M
    start = np.concatenate([np.zeros(K), np.full(M, 0.5)])
    found = minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B")
    slopes = unit[0] * found.x[K:] / sd
    return shift[0] + unit[0] * found.x[:K] - slopes @ centre, slopes, float(found.fun)
