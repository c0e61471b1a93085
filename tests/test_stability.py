from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from milcore.evidence import explain
from milcore.stability import ASSESSED, stability
from milcore.stacking import Mixture
from milcore.training import Member

OFFSETS = np.array([0, 1, 21, 61])


def case(noise: float, R: int = ASSESSED) -> tuple[dict[str, Member], Mixture]:
    """Two members whose evidence is the same in every repeat, but for noise."""
    draw = np.random.default_rng(0)
    shared, members = draw.normal(size=(61, 1)), {}
    for name in ("one", "two"):
        w = draw.random((R, 61)) + 0.5
        w /= np.add.reduceat(w, OFFSETS[:-1], axis=1)[:, np.repeat(np.arange(3), np.diff(OFFSETS))]
        v = shared + noise * draw.normal(size=(R, 61, 1))
        members[name] = Member(w, v, np.empty(0))
    mixture = Mixture(
        ("one", "two"), 0.1 * draw.normal(size=(R, 3, 1)), np.full((2, R, 3), 0.5), np.zeros((R, 3))
    )
    return members, mixture


def test_agreement_is_the_mean_rank_correlation_of_repeats() -> None:
    members, mixture = case(1.0)
    found = stability(members, mixture, OFFSETS, np.zeros(3, int))
    assert found is not None
    each = []
    for r in range(ASSESSED):
        once = {
            name: Member(m.weight[r : r + 1], m.evidence[r : r + 1], m.inner) for name, m in members.items()
        }
        part = Mixture(
            mixture.members, mixture.a[r : r + 1], mixture.b[:, r : r + 1], mixture.base[r : r + 1]
        )
        each.append(explain(once, part, OFFSETS).contribution[:, 0])
    rows = slice(21, 61)
    pairs = [spearmanr(each[i][rows], each[j][rows]).statistic for i in range(4) for j in range(i)]
    assert found.agreement[2] == pytest.approx(np.mean(pairs))
    same = np.mean([np.sign(one) == np.sign(np.mean(each, 0)) for one in each], 0)
    np.testing.assert_allclose(found.same_sign, same)
    assert np.isnan(found.agreement[0])  # one cell has no order


def test_noise_makes_cells_unsteady() -> None:
    calm, wild = (stability(*case(noise), OFFSETS, np.zeros(3, int)) for noise in (0.05, 5.0))
    assert calm is not None
    assert wild is not None
    assert calm.agreement[2] > 0.9
    assert wild.agreement[2] < 0.4
    assert calm.same_sign.mean() > wild.same_sign.mean()


def test_three_repeats_are_too_few_to_say() -> None:
    assert stability(*case(0.1, R=3), OFFSETS, np.zeros(3, int)) is None
