"""Is the explanation faithful to the model? Cells are taken away in the order of an explanation, and the score watched.

The order comes from one repeat and the score from another, or the curve would only repeat the formula it tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from milcore.stacking import Mixture
from milcore.training import Member

__all__ = ["curves", "faithfulness"]

STEPS = np.round(np.linspace(0, 0.95, 20), 3)  # shares of the cells taken away
RANDOM = 20  # orders in the band
ORDERS = ("importance", "evidence", "attention")


def curves(
    members: dict[str, Member], mixture: Mixture, offsets: np.ndarray, b: int, *, seed: int
) -> dict[str, np.ndarray]:
    """How far the score of patient b moves towards the other class when cells that support it go first.

    -> order -> (steps,) mean over repeats of the change in score (positive: as the explanation says); "random" ->
    (RANDOM, steps), by chance alone.
    """
    rows = slice(offsets[b], offsets[b + 1])
    w = np.stack([m.weight[:, rows].astype(float) for m in members.values()])  # (M, R, n)
    v = np.stack([m.evidence[:, rows].astype(float) for m in members.values()])
    a, slopes = mixture.a[:, b], mixture.b[:, :, b]
    R, n = len(a), w.shape[2]
    supports = np.sign(a.mean() + (slopes[..., None] * w * v).sum((0, 2)).mean()) or 1.0
    draw = np.random.default_rng([seed, 6, b])
    shuffled = [draw.permutation(n) for _ in range(RANDOM)]
    out = {name: np.zeros(len(STEPS)) for name in ORDERS} | {"random": np.zeros((RANDOM, len(STEPS)))}
    for r in range(R):
        scored = (r + 1) % R
        now = (w[:, scored], v[:, scored], slopes[:, scored])
        for name, value in _orders(w[:, r], v[:, r], a[r], slopes[:, r]).items():
            first = np.argsort(-(value if name == "attention" else supports * value), kind="stable")
            out[name] += supports * _taken_away(*now, first) / R
        out["random"] += supports * np.stack([_taken_away(*now, order) for order in shuffled]) / R
    return out


def faithfulness(
    members: dict[str, Member],
    mixture: Mixture,
    offsets: np.ndarray,
    patients: np.ndarray,
    *,
    seed: int,
    share: Callable[[float], None] = lambda done: None,
) -> dict[str, Any]:
    """Means over `patients`: order -> {all, first_tenth}, the mean change of score over the whole curve and over the
    first 10 % of cells, and the band 2.5 to 97.5 % of random orders; steps and mean curves for a figure. Empty with one
    repeat, where nothing is left to score with."""
    if len(mixture.a) < 2:
        return {}
    every = []
    for i, b in enumerate(patients):
        share(i / len(patients))
        if offsets[b + 1] - offsets[b] > 1:
            every.append(curves(members, mixture, offsets, b, seed=seed))
    if not every:
        return {}
    early = STEPS <= 0.1
    out: dict[str, Any] = {"steps": STEPS.tolist()}
    for name in ORDERS:
        mean = np.mean([one[name] for one in every], 0)
        out[name] = {
            "all": float(mean.mean()),
            "first_tenth": float(mean[early].mean()),
            "curve": mean.round(4).tolist(),
        }
    chance = np.mean([one["random"] for one in every], 0)
    low, high = np.quantile(chance, [0.025, 0.975], axis=0)
    whole, tenth = chance.mean(1), chance[:, early].mean(1)
    out["random"] = {
        "all": np.quantile(whole, [0.025, 0.975]).tolist(),
        "first_tenth": np.quantile(tenth, [0.025, 0.975]).tolist(),
        "low": low.round(4).tolist(),
        "high": high.round(4).tolist(),
    }
    return out


def _orders(w: np.ndarray, v: np.ndarray, a: float, b: np.ndarray) -> dict[str, np.ndarray]:
    """What each explanation says of the cells (n,), from members' w, v (M, n) of one repeat."""
    looks = (b[:, None] * w).sum(0) / b.sum()
    return {
        "importance": (b[:, None] * w * v).sum(0) + a * looks,
        "evidence": (b[:, None] * v).sum(0),
        "attention": looks,
    }


def _taken_away(w: np.ndarray, v: np.ndarray, b: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(steps,) score lost when the first cells of `order` are gone: sums from the tail, so that no digits are lost."""
    n = len(order)
    weight = np.cumsum(w[:, order][:, ::-1], 1)[:, ::-1]
    product = np.cumsum((w * v)[:, order][:, ::-1], 1)[:, ::-1]
    gone = np.minimum((STEPS * n).astype(int), n - 1)
    rest = product[:, gone] / np.maximum(weight[:, gone], 1e-300)
    return (b[:, None] * (product[:, :1] / weight[:, :1] - rest)).sum(0)
