"""From members to one score: which pooling counts how much, and what a score means as log-odds.

For every outer fold a small regression on *inner held-out scores* gives non-negative weights b over the members and an
intercept a; together they are an affine calibration, so the score stays a weighted mean of cell evidence. Labels of the
fold that is scored take no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from milcore.folds import Plan
from milcore.tasks import Binary
from milcore.training import Member

__all__ = ["Mixture", "stack"]

RIDGE = 1.0  # prior precision of each slope, on scores of sd 1: a cohort of 40 cannot carry steep ones
TOGETHER = 1.0  # pull of the slopes towards their mean
LEAST = 1e-3  # every slope stays above: a score without any cells behind it could not be explained


@dataclass(frozen=True, eq=False)
class Mixture:
    """Per repeat and patient, from the patient's own outer fold: `a` (R, B) and, by member, `b` (members, R, B):
    score = a + sum_m b_m s_m."""

    members: tuple[str, ...]
    a: np.ndarray
    b: np.ndarray

    def weights(self, spread: dict[str, np.ndarray]) -> dict[str, float]:
        """Share of each member in the score: mean slope times the sd of its own scores (R, B), summing to 1."""
        size = {
            m: float(np.nanmean(self.b[i] * np.nanstd(spread[m], 1, keepdims=True)))
            for i, m in enumerate(self.members)
        }
        return {m: value / sum(size.values()) for m, value in size.items()}


def stack(members: dict[str, Member], plan: Plan, task: Binary) -> Mixture:
    """Fits a and b for each repeat and outer fold on the inner held-out scores of its training patients."""
    R, B = plan.fold.shape
    a, b = np.empty((R, B)), np.empty((len(members), R, B))
    for r in range(R):
        for f in range(plan.folds):
            train, there = plan.training(r, (f,)), plan.fold[r] == f
            inner = np.stack([member.inner[r, f, train] for member in members.values()], 1)
            intercept, slopes = _fit(inner, task.y[train], task)
            a[r, there], b[:, r, there] = intercept, slopes[:, None]
    return Mixture(tuple(members), a, b)


def _fit(scores: np.ndarray, y: np.ndarray, task: Binary) -> tuple[float, np.ndarray]:
    """Penalised regression of y (n,) on scores (n, M), slopes not negative -> intercept, slopes (M,)."""
    centre, sd = scores.mean(0), np.maximum(scores.std(0), 1e-9)
    z = (scores - centre) / sd
    M = z.shape[1]

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = parameters[0], parameters[1:]
        s = a + z @ b
        gradient, _ = task.newton(s, y)
        apart = b - b.mean()
        value = task.total_loss(s, y) + RIDGE / 2 * b @ b + TOGETHER / 2 * apart @ apart
        return value, np.concatenate([[-gradient.sum()], -z.T @ gradient + RIDGE * b + TOGETHER * apart])

    bounds = [(None, None)] + [(LEAST, None)] * M
    found = minimize(
        objective, np.concatenate([[0.0], np.full(M, 0.5)]), jac=True, bounds=bounds, method="L-BFGS-B"
    )
    slopes = found.x[1:] / sd
    return float(found.x[0] - slopes @ centre), slopes
