"""Are predictions as extreme as they should be? Intercept and slope of the outcome on the score, out of fold.

A slope of 1 is right; below 1 predictions are too extreme, above it too timid. The intercept, at slope 1, says how far
they are off on the whole. Probabilities: of a logistic regression (Cox 1958); a number: least squares; survival: the
slope of a Cox regression, which has no intercept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milcore.folds import Plan
from milcore.tasks import Multiclass, Regression, Survival, Task
from milcore.validation import RESAMPLES, resampled

__all__ = ["calibration"]

BINS = 5
STEPS, SETTLED = 25, 1e-4  # of Newton at most, and the largest change that ends them
WEAK = 0.02  # prior precision of the slope around 1: draws that part the classes have none of their own
Z95 = 1.959964


def calibration(level: np.ndarray, plan: Plan, task: Task, *, seed: int) -> dict[str, Any]:
    """{slope, intercept: each {value, low, high}; curve} of scores (R, B, K), mean over repeats; bootstrap over
    patients.

    Of several classes, each against the rest, taken together; but `intercepts`, class -> its own, because together they
    are 0 whatever is predicted. `curve`, for probabilities: patients in five groups by prediction, {predicted,
    observed, low, high, patients} of each; Wilson's interval.
    """
    known = task.labelled
    score, y, draws = level.mean(0)[known], task.y[known], resampled(plan.groups[known], seed)
    draws = np.vstack([np.ones((1, known.sum())), draws])[: RESAMPLES + 1]
    if isinstance(task, Survival):
        return {"slope": _interval(_cox(score[:, 0], y, draws))}
    if isinstance(task, Regression):
        return _named(*_line(score[:, 0], y, draws))
    p = task.link(score)
    hit = task.linear(y)
    x = np.log(np.clip(p, 1e-9, 1) / np.clip(1 - p, 1e-9, 1))
    each = np.repeat(draws, x.shape[1], axis=1)
    slope, level = _logistic(x.ravel(), hit.ravel(), each)
    curve = _curve(p.ravel(), hit.ravel(), x.shape[1])
    if not isinstance(task, Multiclass):
        return _named(slope, level) | {"curve": curve}
    own = {c: _interval(_logistic(x[:, k], hit[:, k], draws)[1]) for k, c in enumerate(task.classes)}
    return {"slope": _interval(slope), "intercepts": own, "curve": curve}


def _named(slope: np.ndarray, intercept: np.ndarray) -> dict[str, Any]:
    return {"slope": _interval(slope), "intercept": _interval(intercept)}


def _interval(draws: np.ndarray) -> dict[str, float]:
    """The first is the value, the others its bootstrap; draws without one of the classes say nothing."""
    low, high = np.quantile(draws[1:][np.isfinite(draws[1:])], [0.025, 0.975])
    return {"value": float(draws[0]), "low": float(low), "high": float(high)}


def _logistic(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(draws,) slope, beside an intercept of its own, and intercept at slope 1: x, y (n,), weight (draws, n)."""
    a, b, large = np.zeros(len(weight)), np.ones(len(weight)), np.zeros(len(weight))
    for _ in range(STEPS):
        p = _sigmoid(a[:, None] + b[:, None] * x)
        w = weight * p * (1 - p)
        short = weight * (y - p)
        g0, g1 = short.sum(1) - WEAK * a, short @ x - WEAK * (b - 1)
        h00, h01, h11 = w.sum(1) + WEAK, w @ x, w @ x**2 + WEAK
        size = h00 * h11 - h01**2
        move = np.clip((h00 * g1 - h01 * g0) / size, -2, 2)
        a, b = a + np.clip((h11 * g0 - h01 * g1) / size, -2, 2), b + move
        q = _sigmoid(large[:, None] + x)
        up = (weight * (y - q)).sum(1) - WEAK * large
        large = large + np.clip(up / ((weight * q * (1 - q)).sum(1) + WEAK), -2, 2)
        if np.abs(move).max() < SETTLED:
            break
    return b, large


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(draws,) slope of y on x, and the mean distance of y from x."""
    n = weight.sum(1)
    mx, my = weight @ x / n, weight @ y / n
    spread = weight @ x**2 / n - mx**2
    return (weight @ (x * y) / n - mx * my) / np.maximum(spread, 1e-12), my - mx


def _cox(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(draws,) slope of the log-risk on x, ties as in Breslow 1974."""
    time, event = y.T
    there = (time >= time[:, None]).astype(float)  # row i: who was at risk when i's time came
    b, x = np.ones(len(weight)), x - x.mean()
    for _ in range(STEPS):
        e = weight * np.exp(np.clip(b[:, None] * x, -50, 50))
        s0, s1, s2 = e @ there.T, (e * x) @ there.T, (e * x**2) @ there.T
        mean = s1 / np.maximum(s0, 1e-300)
        gradient = (weight * event * (x - mean)).sum(1) - WEAK * (b - 1)
        curvature = (weight * event * (s2 / np.maximum(s0, 1e-300) - mean**2)).sum(1) + WEAK
        move = np.clip(gradient / curvature, -2, 2)
        b = b + move
        if np.abs(move).max() < SETTLED:
            break
    return b


def _curve(p: np.ndarray, hit: np.ndarray, classes: int) -> list[dict[str, float]]:
    """Groups of equal size in order of prediction. With several classes a patient stands in it once for each, so the
    interval counts so many fewer."""
    out = []
    for group in np.array_split(np.argsort(p, kind="stable"), min(BINS, len(p))):
        n, observed = len(group) / classes, float(hit[group].mean())
        middle = (observed + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
        half = Z95 * np.sqrt(observed * (1 - observed) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
        row = {
            "predicted": p[group].mean(),
            "observed": observed,
            "low": middle - half,
            "high": middle + half,
        }
        out.append({name: round(float(value), 4) for name, value in row.items()} | {"patients": len(group)})
    return out
