from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milcore.folds import plan


@given(
    classes=st.lists(st.integers(-1, 1), min_size=12, max_size=60).filter(
        lambda s: min(s.count(0), s.count(1)) >= 3
    ),
    seed=st.integers(0, 99),
)
def test_folds_are_balanced_and_nobody_trains_on_what_it_leaves_out(classes: list[int], seed: int) -> None:
    strata = np.array(classes)
    dealt = plan(strata, np.arange(len(strata)), repeats=2, seed=seed)
    assert dealt.folds == min(5, (strata == 0).sum(), (strata == 1).sum())
    for r in range(2):
        for kind in (-1, 0, 1):
            sizes = np.bincount(dealt.fold[r][strata == kind], minlength=dealt.folds)
            assert np.ptp(sizes) <= 1
        for left_out in dealt.without(1) + dealt.without(2) + dealt.without(3):
            train = dealt.training(r, left_out)
            assert not train[np.isin(dealt.fold[r], left_out)].any()
            assert not train[strata < 0].any()
            assert train.sum() == ((strata >= 0) & ~np.isin(dealt.fold[r], left_out)).sum()


def test_bags_of_one_patient_stay_together() -> None:
    groups = np.repeat(np.arange(12), 3)
    strata = np.tile([0, 1, 1], 12)
    dealt = plan(strata, groups, repeats=3, seed=0)
    for fold in dealt.fold:
        assert all(len(set(fold[groups == g])) == 1 for g in range(12))


def test_repeats_differ_and_a_seed_repeats_itself() -> None:
    strata = np.tile([0, 1], 15)
    one, two = (plan(strata, np.arange(30), repeats=3, seed=7).fold for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert (one[0] != one[1]).any()
    assert (one != plan(strata, np.arange(30), repeats=3, seed=8).fold).any()


@pytest.mark.parametrize(("smallest", "folds"), [(3, 3), (4, 4), (5, 5), (9, 5)])
def test_small_classes_have_fewer_folds(smallest: int, folds: int) -> None:
    strata = np.array([0] * 20 + [1] * smallest)
    assert plan(strata, np.arange(len(strata)), repeats=1, seed=0).folds == folds


def test_a_class_that_few_patients_have_is_spread_over_the_folds() -> None:
    """Six of thirty patients have one positive region among others: no fold may hold them all."""
    groups = np.repeat(np.arange(30), 4)
    strata = np.zeros(120, int)
    strata[np.arange(6) * 4 * 5] = 1
    for fold in plan(strata, groups, repeats=5, seed=0).fold:
        assert np.bincount(fold[strata == 1], minlength=5).max() <= 2
        assert np.ptp(np.bincount(fold, minlength=5)) <= 8
