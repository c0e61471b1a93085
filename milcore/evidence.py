"""What each cell says and how much it counts, out of fold; and what a score would be without some cells.

All of it follows from score = a + sum_m b_m sum_i w_mi v_mi, kept per repeat. What is shown is the mean over repeats.
Formulas are in units of the score (log-odds, not probability).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from milcore.stacking import Mixture
from milcore.training import Member

__all__ = ["Shown", "explain", "leave_group_out", "leave_one_out", "member_scores"]

HEAVY = 1 - 1e-3  # cells weighing more are left out by weighing the rest anew: 1 - w has lost its digits


@dataclass(frozen=True, eq=False)
class Shown:
    """Per cell (N,), means over repeats: `evidence` and its sd over repeats (NaN with one), `attention` (sums to 1 in a
    patient), `contribution` (sums to the score), `leave_one_out` (score with minus without the cell; NaN in a patient
    of one cell). Per patient: `score` (R, B)."""

    evidence: np.ndarray
    evidence_sd: np.ndarray
    attention: np.ndarray
    contribution: np.ndarray
    leave_one_out: np.ndarray
    score: np.ndarray


def member_scores(member: Member, offsets: np.ndarray) -> np.ndarray:
    """(R, B) weighted mean of evidence in each patient."""
    return np.stack(
        [_sums(w.astype(float) * v, offsets) for w, v in zip(member.weight, member.evidence, strict=True)]
    )


def explain(members: dict[str, Member], mixture: Mixture, offsets: np.ndarray) -> Shown:
    """Evidence, attention, contribution and leave-one-out of every cell under the mixture.

    Contribution is sum_m b_m w_m v_m + a attention: exact, and not evidence times attention.
    """
    R, N = mixture.a.shape[0], offsets[-1]
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    evidence, attention, contribution, leave, square = (np.zeros(N) for _ in range(5))
    for r in range(R):
        a, total = mixture.a[r][owner], mixture.b[:, r].sum(0)[owner]
        here, looks = a.copy(), np.zeros(N)
        for m, member in enumerate(members.values()):
            w, v, b = member.weight[r].astype(float), member.evidence[r].astype(float), mixture.b[m, r][owner]
            here += b * v
            looks += b * w / total
            contribution += b * w * v / R
            leave += b * leave_one_out(w, v, offsets) / R
        evidence += here / R
        square += here**2 / R
        attention += looks / R
        contribution += a * looks / R
    score = mixture.a + sum(
        mixture.b[m] * member_scores(member, offsets) for m, member in enumerate(members.values())
    )
    sd = np.sqrt(np.maximum(square - evidence**2, 0) * R / (R - 1)) if R > 1 else np.full(N, np.nan)
    return Shown(evidence, sd, attention, contribution, leave, score)


def leave_one_out(w: np.ndarray, v: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(N,) what a member's score loses without each cell: w (v - s) / (1 - w), the weights of the rest summing to 1
    again. NaN where a patient has one cell."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    product = w * v
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = (product - w * _sums(product, offsets)[owner]) / (1 - w)
    for i in np.flatnonzero(w > HEAVY):  # at most one cell a patient can weigh so much
        rest = slice(offsets[owner[i]], offsets[owner[i] + 1])
        loss[i] = _by_weighing_anew(w[rest], v[rest], np.arange(rest.start, rest.stop) == i)
    return loss


def leave_group_out(w: np.ndarray, v: np.ndarray, gone: np.ndarray) -> float:
    """What one patient's member score loses without the cells `gone` (n,) bool; NaN where none would be left."""
    lost = w[gone].sum()
    if lost > HEAVY:
        return _by_weighing_anew(w, v, gone)
    return float((w[gone] * (v[gone] - w @ v)).sum() / (1 - lost))


def _by_weighing_anew(w: np.ndarray, v: np.ndarray, gone: np.ndarray) -> float:
    """The same by the definition: subtracting from 1 loses all digits where the rest weighs almost nothing."""
    rest = w[~gone].sum()
    return float(w @ v - w[~gone] @ v[~gone] / rest) if rest > 0 else float("nan")


def _sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values, offsets[:-1])
