"""Would another training have said the same? How far retrained models agree on the cells of a patient."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import rankdata

from milcore.evidence import Part, parts
from milcore.matrix import on_disk
from milcore.stacking import Mixture
from milcore.training import Member

__all__ = ["ASSESSED", "Stability", "stability"]

ASSESSED = 4  # repeats from which stability is said


@dataclass(frozen=True, eq=False)
class Stability:
    """`agreement` (B,): mean rank correlation of a patient's importance between repeats, NaN with one cell;
    `same_sign` (N,): share of the repeats in which a cell's importance has the sign of its mean."""

    agreement: np.ndarray
    same_sign: np.ndarray


def stability(
    members: dict[str, Member], mixture: Mixture, offsets: np.ndarray, outputs: np.ndarray
) -> Stability | None:
    """Of every patient and cell, in the output `outputs` (B,) of each patient; None with too few repeats to say."""
    if len(mixture.a) < ASSESSED:
        return None
    agreement, same = np.empty(len(outputs)), on_disk((int(offsets[-1]),), np.float64)
    for part in parts(members, mixture, offsets):
        each = np.stack([_contribution(part, outputs[part.patients], r) for r in range(len(mixture.a))])
        same[part.rows] = (np.sign(each) == np.sign(each.mean(0))).mean(0)
        agreement[part.patients] = [_agreement(each[:, i:j]) for i, j in pairwise(part.offsets)]
    return Stability(agreement, same)


def _contribution(part: Part, outputs: np.ndarray, r: int) -> np.ndarray:
    """(n,) contribution of every cell of a part in one repeat."""
    mixture, owner = part.mixture, np.repeat(np.arange(len(outputs)), np.diff(part.offsets))
    cells, own = np.arange(len(owner)), outputs[owner]
    total, out = mixture.b[:, r].sum(0), np.zeros(len(owner))
    for m, member in enumerate(part.members.values()):
        b, w = mixture.b[m, r][owner], member.weight[r].astype(float)
        out += b * w * (member.evidence[r][cells, own] + mixture.a[r][owner, own] / total[owner])
    return out


def _agreement(each: np.ndarray) -> float:
    """Mean over pairs of repeats of Spearman's correlation: each (R, n)."""
    R, n = each.shape
    ranks = rankdata(each, axis=1) - (n + 1) / 2
    size = np.sqrt((ranks**2).sum(1))
    if n < 2 or (size == 0).any():
        return float("nan")
    z = ranks / size[:, None]
    return float((np.square(z.sum(0)).sum() - R) / (R * (R - 1)))
