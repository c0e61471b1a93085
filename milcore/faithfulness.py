"""Is the explanation faithful to the model? Cells are taken away in the order of an explanation, and the score watched.

The order comes from one repeat and the score from another, or the curve would only repeat the formula it tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from milcore.stacking import Mixture
from milcore.training import Member

__all__ = ["curves", "faithfulness"]

STEPS = np.round(np.linspace(0, 0.95, 20), 3)  # shares of the cells taken away
RANDOM = 20  # orders in the band
ORDERS = ("importance", "evidence", "attention")


def curves(
    members: dict[str, Member], mixture: Mixture, offsets: np.ndarray, b: int, *, output: int, seed: int
) -> dict[str, np.ndarray]:
    """How far a score of patient b moves to the other side when cells that support it go first.

    -> order -> (steps,) mean over repeats of the change in score (positive: as the explanation says); "random" ->
    (RANDOM, steps), by chance alone.
    """
    rows = slice(offsets[b], offsets[b + 1])
    w = np.stack([m.weight[:, rows].astype(float) for m in members.values()])  # (M, R, n)
    v = np.stack([m.evidence[:, rows, output].astype(float) for m in members.values()])
    a, slopes = mixture.a[:, b, output], mixture.b[:, :, b]
    R, n = len(a), w.shape[2]
    supports = np.sign(a.mean() + (slopes[..., None] * w * v).sum((0, 2)).mean()) or 1.0
    draw = np.random.default_rng([seed, 6, b])
    shuffled = [draw.permutation(n) for _ in range(RANDOM)]
    out = {name: np.zeros(len(STEPS)) for name in ORDERS} | {"random": np.zeros((RANDOM, len(STEPS)))}
    for r in range(R):
        scored = (r + 1) % R
        left = [_Left.of(member, scored, rows, b, output) for member in members.values()]
        for name, value in _orders(w[:, r], v[:, r], a[r], slopes[:, r]).items():
            first = np.argsort(-(value if name == "attention" else supports * value), kind="stable")
            out[name] += supports * _taken_away(left, slopes[:, scored], first) / R
        out["random"] += supports * np.stack([_taken_away(left, slopes[:, scored], o) for o in shuffled]) / R
    return out


def faithfulness(
    members: dict[str, Member],
    mixture: Mixture,
    offsets: np.ndarray,
    patients: np.ndarray,
    *,
    outputs: np.ndarray,
    seed: int,
    share: Callable[[float], None] = lambda done: None,
) -> dict[str, Any]:
    """Means over `patients`, of the output `outputs` (B,) of each: order -> {all, first_tenth}, the mean change of
    score over the whole curve and over the first 10 % of cells, and the band 2.5 to 97.5 % of random orders; steps and
    mean curves for a figure. Empty with one repeat, where nothing is left to score with."""
    if len(mixture.a) < 2:
        return {}
    every = []
    for i, b in enumerate(patients):
        share(i / len(patients))
        if offsets[b + 1] - offsets[b] > 1:
            every.append(curves(members, mixture, offsets, b, output=int(outputs[b]), seed=seed))
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


@dataclass(frozen=True, eq=False)
class _Left:
    """What a member says of one patient's cells: weight, evidence (n,); for `topk` what ranks them, and the share."""

    w: np.ndarray
    v: np.ndarray
    rank: np.ndarray | None
    share: float | None

    @classmethod
    def of(cls, member: Member, r: int, rows: slice, b: int, output: int) -> _Left:
        """Of patient b, whose cells are `rows`, in repeat r."""
        w, v = member.weight[r, rows].astype(float), member.evidence[r, rows, output].astype(float)
        if member.rank is None or member.share is None:
            return cls(w, v, None, None)
        return cls(w, v, member.rank[r, rows], float(member.share[r, b]))

    def lost(self, order: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """(steps,) score lost when the first `gone` (steps,) cells of `order` are away."""
        if self.rank is not None and self.share is not None:
            return self._lost_of_top(np.argsort(-self.rank, kind="stable"), self.share, order, gone)
        # Sums from the tail, so that no digits are lost.
        weight = np.cumsum(self.w[order][::-1])[::-1]
        product = np.cumsum((self.w * self.v)[order][::-1])[::-1]
        return product[0] / weight[0] - product[gone] / np.maximum(weight[gone], 1e-300)

    def _lost_of_top(self, sort: np.ndarray, share: float, order: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """Ranked anew at every step, on cells sorted once."""
        when = np.empty(len(order), int)
        when[order] = np.arange(len(order))
        there = when[sort] >= gone[:, None]  # (steps, n)
        top = np.maximum(1.0, share * there.sum(1))[:, None]
        counts = np.clip(top - (np.cumsum(there, 1) - 1), 0, 1) * there / top
        means = counts @ self.v[sort]
        return means[0] - means


def _taken_away(left: list[_Left], b: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(steps,) score lost when the first cells of `order` are gone."""
    gone = np.minimum((STEPS * len(order)).astype(int), len(order) - 1)
    return sum(slope * member.lost(order, gone) for slope, member in zip(b, left, strict=True))
