"""What each cell says and how much it counts, out of fold; and what a score would be without some cells.

All of it follows from score = a + sum_m b_m sum_i w_mi v_mi, kept per repeat. What is shown is the mean over repeats.
Formulas are in units of the score (log-odds, not probability).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from milcore.matrix import blocks, on_disk
from milcore.stacking import Mixture
from milcore.training import Member

__all__ = [
    "Part",
    "Shown",
    "by_group",
    "explain",
    "leave_group_out",
    "leave_one_out",
    "member_scores",
    "parts",
    "without_cells",
]

HEAVY = 1 - 1e-3  # cells weighing more are left out by weighing the rest anew: 1 - w has lost its digits
AT_ONCE = 1 << 16  # cells, about, of whole patients that are explained at a time: bounds memory


@dataclass(frozen=True, eq=False)
class Shown:
    """Per cell and output (N, K), means over repeats: `evidence` and its sd over repeats (NaN with one), `contribution`
    (sums to the score), `leave_one_out` (score with minus without the cell; NaN in a patient of one cell); `attention`
    (N,) sums to 1 in a patient. Per patient: `score` (R, B, K)."""

    evidence: np.ndarray
    evidence_sd: np.ndarray
    attention: np.ndarray
    contribution: np.ndarray
    leave_one_out: np.ndarray
    score: np.ndarray

    def of(self, rows: slice) -> Shown:
        """The same of some cells, with all patients' scores."""
        numbers = {name: values[rows] for name, values in vars(self).items() if name != "score"}
        return replace(self, **numbers)


@dataclass(frozen=True, eq=False)
class Part:
    """Some `patients` in a row, their cells' `rows`, and of these alone the members, the mixture and the offsets."""

    patients: slice
    rows: slice
    members: dict[str, Member]
    mixture: Mixture
    offsets: np.ndarray


def parts(members: dict[str, Member], mixture: Mixture, offsets: np.ndarray) -> Iterator[Part]:
    """All patients, some at a time: what is made of each part is what it would be among all."""
    for some in blocks(offsets, AT_ONCE):
        rows = slice(int(offsets[some.start]), int(offsets[some.stop]))
        own = Mixture(mixture.members, mixture.a[:, some], mixture.b[:, :, some], mixture.base[:, some])
        every = {name: member.of(rows, some) for name, member in members.items()}
        yield Part(some, rows, every, own, offsets[some.start : some.stop + 1] - rows.start)


def member_scores(member: Member, offsets: np.ndarray) -> np.ndarray:
    """(R, B, K) weighted mean of evidence in each patient."""
    out = np.empty((len(member.evidence), len(offsets) - 1, member.evidence.shape[2]))
    for some in blocks(offsets, AT_ONCE):
        rows, own = slice(offsets[some.start], offsets[some.stop]), offsets[some.start : some.stop + 1]
        for r, (w, v) in enumerate(zip(member.weight[:, rows], member.evidence[:, rows], strict=True)):
            out[r, some] = _sums(w[:, None].astype(float) * v, own - own[0])
    return out


def explain(members: dict[str, Member], mixture: Mixture, offsets: np.ndarray) -> Shown:
    """Evidence, attention, contribution and leave-one-out of every cell under the mixture.

    Contribution is sum_m b_m w_m v_m + a attention: exact, and not evidence times attention.
    """
    N, K = int(offsets[-1]), mixture.a.shape[2]
    evidence, sd, contribution, leave = (on_disk((N, K), np.float64) for _ in range(4))
    attention, score = on_disk((N,), np.float64), np.empty(mixture.a.shape)
    for part in parts(members, mixture, offsets):
        one = _explained(part.members, part.mixture, part.offsets)
        evidence[part.rows], sd[part.rows], attention[part.rows] = (
            one.evidence,
            one.evidence_sd,
            one.attention,
        )
        contribution[part.rows], leave[part.rows] = one.contribution, one.leave_one_out
        score[:, part.patients] = one.score
    return Shown(evidence, sd, attention, contribution, leave, score)


def _explained(members: dict[str, Member], mixture: Mixture, offsets: np.ndarray) -> Shown:
    """The same of so few cells that all of them fit in memory."""
    R, N, K = mixture.a.shape[0], offsets[-1], mixture.a.shape[2]
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    evidence, contribution, leave, square = (np.zeros((N, K)) for _ in range(4))
    attention = np.zeros(N)
    for r in range(R):
        a, total = mixture.a[r][owner], mixture.b[:, r].sum(0)[owner]
        here, looks = a.copy(), np.zeros(N)
        for m, member in enumerate(members.values()):
            w, v, b = member.weight[r].astype(float), member.evidence[r].astype(float), mixture.b[m, r][owner]
            here += b[:, None] * v
            looks += b * w / total
            contribution += (b * w)[:, None] * v / R
            leave += b[:, None] * leave_one_out(member, r, offsets) / R
        evidence += here / R
        square += here**2 / R
        attention += looks / R
        contribution += a * looks[:, None] / R
    score = mixture.a + sum(
        mixture.b[m][..., None] * member_scores(member, offsets) for m, member in enumerate(members.values())
    )
    sd = np.sqrt(np.maximum(square - evidence**2, 0) * R / (R - 1)) if R > 1 else np.full_like(square, np.nan)
    return Shown(evidence, sd, attention, contribution, leave, score)


def by_group(
    members: dict[str, Member], mixture: Mixture, offsets: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, B, P, K) what the cells of each group (N,) contribute to each patient's score, summing to it, and what the
    score loses without them; NaN where no cell would be left."""
    R, B, K = mixture.a.shape
    P = int(group.max()) + 1
    contribution, lost = np.zeros((2, R, B, P, K))
    for part in parts(members, mixture, offsets):
        here, (held, gone) = part.patients, _by_group(part, group[part.rows], P)
        contribution[:, here], lost[:, here] = held, gone
    return contribution, lost


def _by_group(part: Part, group: np.ndarray, P: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of a part, of P groups (n,)."""
    members, mixture, offsets = part.members, part.mixture, part.offsets
    R, B, K = mixture.a.shape
    contribution, lost = np.zeros((2, R, B, P, K))
    for r in range(R):
        for m, member in enumerate(members.values()):
            b = mixture.b[m, r][:, None, None]
            weight, product = _group_sums(member, r, offsets, group, P)
            held = b * product + mixture.a[r][:, None] * b / mixture.b[:, r].sum(0)[:, None, None] * weight
            contribution[r] += held
            lost[r] += b * _without_groups(member, r, offsets, group, (weight, product))
    return contribution, lost


def _group_sums(
    member: Member, r: int, offsets: np.ndarray, group: np.ndarray, P: int
) -> tuple[np.ndarray, np.ndarray]:
    """(B, P, 1) sums of weight and (B, P, K) of weight times evidence of each patient's groups."""
    B = len(offsets) - 1
    place = np.repeat(np.arange(B) * P, np.diff(offsets)) + group
    w, v = member.weight[r].astype(float), member.evidence[r]
    sums = [np.bincount(place, one, B * P) for one in (w, *(w * column for column in v.T))]
    return sums[0].reshape(B, P, 1), np.stack(sums[1:], 1).reshape(B, P, -1)


def _without_groups(
    member: Member, r: int, offsets: np.ndarray, group: np.ndarray, sums: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """(B, P, K) `leave_group_out` of every group of every patient, from their sums of weight and of product."""
    weight, product = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = (product - weight * product.sum(1, keepdims=True)) / (1 - weight)
    count = np.zeros(weight.shape[:2], int)
    np.add.at(count, (np.repeat(np.arange(len(count)), np.diff(offsets)), group), 1)
    by_hand = (count > 0) if member.rank is not None else weight[..., 0] > HEAVY
    for b, p in np.argwhere(by_hand):
        rows = slice(offsets[b], offsets[b + 1])
        lost[b, p] = leave_group_out(member, r, rows, group[rows] == p, b)
    return np.where(count[..., None] > 0, lost, 0.0)


def without_cells(
    members: dict[str, Member], mixture: Mixture, offsets: np.ndarray, gone: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """(R, B, K) what each patient's score loses without the cells `gone` (N,) bool, all patients together; NaN where no
    cell would be left. `scores` (members, R, B, K): `member_scores` of each."""
    rows, B = np.flatnonzero(gone), len(offsets) - 1
    owner = np.searchsorted(offsets, rows, side="right") - 1
    lost, touched = np.zeros(mixture.a.shape), np.bincount(owner, minlength=B) > 0
    for m, member in enumerate(members.values()):
        for r in range(len(lost)):
            w, v = member.weight[r][rows].astype(float), member.evidence[r][rows]
            weight = np.bincount(owner, w, B)[:, None]
            product = np.stack([np.bincount(owner, w * column, B) for column in v.T], 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                loss = (product - weight * scores[m, r]) / (1 - weight)
            by_hand = touched if member.rank is not None else weight[:, 0] > HEAVY
            for b in np.flatnonzero(by_hand).tolist():
                here = slice(offsets[b], offsets[b + 1])
                loss[b] = leave_group_out(member, r, here, gone[here], b)
            lost[r] += mixture.b[m, r][:, None] * np.where(touched[:, None], loss, 0.0)
    return lost


def leave_one_out(member: Member, r: int, offsets: np.ndarray) -> np.ndarray:
    """(N, K) what a member's scores in repeat r lose without each cell, the weights of the rest summing to 1 again:
    w (v - s) / (1 - w); for `topk` the next cell moves up. NaN where a patient has one cell."""
    if member.rank is not None and member.share is not None:
        parts = [
            _top_without_each(member.rank[r, i:j], member.evidence[r, i:j].astype(float), float(q))
            for i, j, q in zip(offsets[:-1], offsets[1:], member.share[r], strict=True)
        ]
        return np.concatenate(parts)
    w, v = member.weight[r].astype(float), member.evidence[r].astype(float)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    product = w[:, None] * v
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = (product - w[:, None] * _sums(product, offsets)[owner]) / (1 - w)[:, None]
    for i in np.flatnonzero(w > HEAVY):  # at most one cell a patient can weigh so much
        rest = slice(offsets[owner[i]], offsets[owner[i] + 1])
        loss[i] = _by_weighing_anew(w[rest], v[rest], np.arange(rest.start, rest.stop) == i)
    return loss


def leave_group_out(member: Member, r: int, rows: slice, gone: np.ndarray, b: int) -> np.ndarray:
    """(K,) what the member's scores of patient b, whose cells are `rows`, lose in repeat r without the cells `gone`
    (n,) bool; NaN where none would be left."""
    w, v = member.weight[r, rows].astype(float), member.evidence[r, rows].astype(float)
    if member.rank is not None and member.share is not None:
        return _top_without(member.rank[r, rows], v, gone, float(member.share[r, b]))
    lost = w[gone].sum()
    if lost > HEAVY:
        return _by_weighing_anew(w, v, gone)
    return (w[gone, None] * (v[gone] - w @ v)).sum(0) / (1 - lost)


def _by_weighing_anew(w: np.ndarray, v: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The same by the definition: subtracting from 1 loses all digits where the rest weighs almost nothing."""
    rest = w[~gone].sum()
    return w @ v - w[~gone] @ v[~gone] / rest if rest > 0 else np.full(v.shape[1], np.nan)


def _top_without(rank: np.ndarray, v: np.ndarray, gone: np.ndarray, share: float) -> np.ndarray:
    """The mean evidence of the top share, less that of the top share of what is left."""
    if gone.all():
        return np.full(v.shape[1], np.nan)
    order = np.argsort(-rank, kind="stable")
    left = order[~gone[order]]
    return _top_mean(_prefix(v[order]), len(order), share) - _top_mean(_prefix(v[left]), len(left), share)


def _top_without_each(rank: np.ndarray, v: np.ndarray, share: float) -> np.ndarray:
    """(n, K) the same for each cell alone: what is left is the old order, from the cell's place on moved up by one."""
    n = len(rank)
    if n == 1:
        return np.full(v.shape, np.nan)
    order = np.argsort(-rank, kind="stable")
    prefix, ordered = _prefix(v[order]), v[order]
    top = max(1.0, share * (n - 1))
    place = np.arange(n)[:, None]
    moved = np.where(place < top, _at(prefix, top + 1) - ordered, _at(prefix, top))
    loss = np.empty_like(v)
    loss[order] = _top_mean(prefix, n, share) - moved / top
    return loss


def _top_mean(prefix: np.ndarray, n: int, share: float) -> np.ndarray:
    top = max(1.0, share * n)
    return _at(prefix, top) / top


def _prefix(v: np.ndarray) -> np.ndarray:
    """(n + 1, K) sums of the first cells."""
    return np.concatenate([np.zeros((1, v.shape[1])), np.cumsum(v, 0)])


def _at(prefix: np.ndarray, top: float) -> np.ndarray:
    """The sum of the first `top` cells, the last entering by its fraction."""
    whole = min(int(top), len(prefix) - 1)
    more = prefix[min(whole + 1, len(prefix) - 1)] - prefix[whole]
    return prefix[whole] + (top - whole) * more


def _sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values, offsets[:-1])
