"""Is the explanation faithful to the model? Cells are taken away in the order of an explanation, and the score watched.

The order comes from one repeat and the score from another, or the curve would only repeat the formula it tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from milcore.evidence import leave_one_out
from milcore.stacking import Mixture
from milcore.training import Member

__all__ = ["curves", "faithfulness"]

# Shares of the cells taken away, closer where a reader looks.
STEPS = np.array([0, 0.01, 0.02, 0.03, 0.05, 0.07, *np.arange(10, 96, 5) / 100])
TENTH = 0.1
RANDOM = 20  # orders in the band
ORDERS = ("importance", "evidence", "leave_out", "attention", "phenotype")


def curves(
    members: dict[str, Member],
    mixture: Mixture,
    offsets: np.ndarray,
    b: int,
    *,
    output: int,
    seed: int,
    kind: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """How far a score of patient b moves to the other side when cells that support it go first.

    -> order -> (2, steps) mean over repeats of the change in score (positive: as the explanation says), most important
    first and least important first; "random" -> (RANDOM, steps), by chance alone. With `kind` (N,), cells also go by
    phenotype: all of one before those of the next.
    """
    rows = slice(offsets[b], offsets[b + 1])
    w = np.stack([m.weight[:, rows].astype(float) for m in members.values()])  # (M, R, n)
    v = np.stack([m.evidence[:, rows, output].astype(float) for m in members.values()])
    a, slopes = mixture.a[:, b, output], mixture.b[:, :, b]
    R, n = len(a), w.shape[2]
    supports = np.sign(a.mean() + (slopes[..., None] * w * v).sum((0, 2)).mean()) or 1.0
    draw = np.random.default_rng([seed, 6, b])
    shuffled = [draw.permutation(n) for _ in range(RANDOM)]
    out = {"random": np.zeros((RANDOM, len(STEPS)))}
    for r in range(R):
        scored = (r + 1) % R
        left = [_Left.of(member, scored, rows, b, output) for member in members.values()]

        def lost(order: np.ndarray, left: list[_Left] = left, scored: int = scored) -> np.ndarray:
            return supports * _taken_away(left, slopes[:, scored], order) / R

        orders = _orders(w[:, r], v[:, r], a[r], slopes[:, r])
        orders["leave_out"] = _left_out(members, slopes[:, r], r, rows, b)[:, output]
        if kind is not None:
            orders["phenotype"] = _by_kind(orders["importance"], kind[rows])
        for name, value in orders.items():
            first = np.argsort(-(value if name == "attention" else supports * value), kind="stable")
            out[name] = out.get(name, 0.0) + np.stack([lost(first), lost(first[::-1])])
        out["random"] += np.stack([lost(order) for order in shuffled])
    return out


def faithfulness(
    members: dict[str, Member],
    mixture: Mixture,
    offsets: np.ndarray,
    patients: np.ndarray,
    *,
    outputs: np.ndarray,
    seed: int,
    kind: np.ndarray | None = None,
    share: Callable[[float], None] = lambda done: None,
) -> dict[str, Any]:
    """Means over `patients`, of the output `outputs` (B,) of each: order -> {all, first_tenth, tenth, curve, least},
    and the band 2.5 to 97.5 % of random orders. `all` and `first_tenth`: the area under the curve over all shares and
    over the first tenth, as a mean change of score; `tenth`: the curve there; `least`: the curve with the least
    important first. Empty with one repeat, where nothing is left to score with."""
    if len(mixture.a) < 2:
        return {}
    every = []
    for i, b in enumerate(patients):
        share(i / len(patients))
        if offsets[b + 1] - offsets[b] > 1:
            one = curves(members, mixture, offsets, b, output=int(outputs[b]), seed=seed, kind=kind)
            every.append(one)
    if not every:
        return {}
    out: dict[str, Any] = {"steps": STEPS.tolist()}
    for name in ORDERS:
        if name in every[0]:
            most, least = np.mean([one[name] for one in every], 0)
            figures = {part: float(value) for part, value in _areas(most).items()}
            out[name] = figures | {"curve": most.round(4).tolist(), "least": least.round(4).tolist()}
    chance = np.mean([one["random"] for one in every], 0)
    low, high = np.quantile(chance, [0.025, 0.975], axis=0)
    bands = {part: np.quantile(value, [0.025, 0.975]).tolist() for part, value in _areas(chance).items()}
    out["random"] = bands | {"low": low.round(4).tolist(), "high": high.round(4).tolist()}
    return out


def _areas(curve: np.ndarray) -> dict[str, np.ndarray]:
    """Of curves (..., steps)."""
    early = STEPS <= TENTH
    whole = np.trapezoid(curve, STEPS) / STEPS[-1]
    first = np.trapezoid(curve[..., early], STEPS[early]) / TENTH
    return {"all": whole, "first_tenth": first, "tenth": curve[..., early][..., -1]}


def _orders(w: np.ndarray, v: np.ndarray, a: float, b: np.ndarray) -> dict[str, np.ndarray]:
    """What each explanation says of the cells (n,), from members' w, v (M, n) of one repeat."""
    looks = (b[:, None] * w).sum(0) / b.sum()
    return {
        "importance": (b[:, None] * w * v).sum(0) + a * looks,
        "evidence": (b[:, None] * v).sum(0),
        "attention": looks,
    }


def _left_out(members: dict[str, Member], b: np.ndarray, r: int, rows: slice, patient: int) -> np.ndarray:
    """(n, K) what the score of one repeat loses without each cell; 0 where it is the only one."""
    lost = 0.0
    for slope, member in zip(b, members.values(), strict=True):
        own = member.of(rows, slice(patient, patient + 1))
        lost = lost + slope * leave_one_out(own, r, np.array([0, rows.stop - rows.start]))
    return np.nan_to_num(lost)


def _by_kind(importance: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """(n,) the mean importance of the cells of each one's kind, kinds of equal mean kept apart by their number."""
    _, at = np.unique(kind, return_inverse=True)
    return (np.bincount(at, importance) / np.bincount(at))[at]


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
