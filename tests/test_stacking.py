from __future__ import annotations

import numpy as np
import pytest

from milcore.folds import plan
from milcore.stacking import best, stack
from milcore.tasks import Binary, Regression
from milcore.training import Member


def member(strength: float, y: np.ndarray, folds: int, draw: np.random.Generator) -> Member:
    """A member whose inner held-out scores know `strength` of the label."""
    inner = strength * (2 * y - 1) + draw.normal(size=(2, folds, len(y)))
    return Member(np.empty(0), np.empty(0), inner[..., None])


def mixture(*strengths: float, seed: int = 0):
    draw = np.random.default_rng(seed)
    y = (np.arange(60) % 2).astype(float)
    task = Binary(("a", "b"), y)
    dealt = plan(task.strata, np.arange(60), repeats=2, seed=0)
    members = {f"m{i}": member(s, y, dealt.folds, draw) for i, s in enumerate(strengths)}
    return stack(members, dealt, task), members, dealt, task


def test_a_member_without_signal_hardly_counts() -> None:
    mixed, *_ = mixture(2.0, 0.0)
    good, useless = mixed.b.mean((1, 2))
    assert good > 5 * useless


def test_equal_members_count_alike() -> None:
    mixed, *_ = mixture(1.0, 1.0)
    one, two = mixed.b.mean((1, 2))
    assert one == pytest.approx(two, rel=0.35)


def test_slopes_are_positive_even_for_members_that_point_the_wrong_way() -> None:
    mixed, *_ = mixture(-1.0, -1.0)
    assert (mixed.b > 0).all()
    assert mixed.b.max() < 0.05


def test_the_calibration_turns_scores_into_log_odds() -> None:
    mixed, members, dealt, task = mixture(1.0)
    inner = members["m0"].inner
    p = np.concatenate(
        [
            task.link(
                mixed.a[r, dealt.fold[r] == f][0] + mixed.b[0, r, dealt.fold[r] == f][0] * inner[r, f, :, 0]
            )
            for r in range(2)
            for f in range(dealt.folds)
        ]
    )
    y = np.tile(task.y, 2 * dealt.folds)
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        there = (p >= low) & (p < high)
        assert y[there].mean() == pytest.approx(p[there].mean(), abs=0.12)


def test_the_fold_that_is_scored_has_no_say() -> None:
    first, members, dealt, task = mixture(1.0, 0.5)
    f = dealt.fold[0][7]
    changed = task.y.copy()
    changed[7] = 1 - changed[7]
    for m in members.values():
        m.inner[0, f, dealt.fold[0] == f] = 1e3  # inner scores of the fold itself are never looked at
    again = stack(members, dealt, Binary(task.classes, changed))
    there = dealt.fold[0] == f
    np.testing.assert_array_equal(first.a[0, there], again.a[0, there])
    np.testing.assert_array_equal(first.b[:, 0, there], again.b[:, 0, there])
    assert (first.a[0, ~there] != again.a[0, ~there]).any()


def test_a_members_weight_does_not_depend_on_its_scale() -> None:
    mixed, members, dealt, task = mixture(1.5, 0.7)
    spread = {name: member.inner[:, 0] for name, member in members.items()}
    spread = {name: np.nan_to_num(values) for name, values in spread.items()}
    first = mixed.weights(spread)
    members["m0"].inner[:] *= 10
    again = stack(members, dealt, task).weights({"m0": spread["m0"] * 10, "m1": spread["m1"]})
    assert sum(first.values()) == pytest.approx(1)
    assert again["m0"] == pytest.approx(first["m0"], abs=1e-3)


def test_a_number_is_told_from_the_average_training_patient() -> None:
    draw = np.random.default_rng(0)
    y = draw.normal(50, 8, 60)
    task = Regression("age", y)
    dealt = plan(task.strata, np.arange(60), repeats=2, seed=0)
    inner = np.broadcast_to(0.3 * y, (2, dealt.folds, 60)) + draw.normal(size=(2, dealt.folds, 60))
    mixed = stack({"one": Member(np.empty(0), np.empty(0), inner[..., None])}, dealt, task)
    for r, f in ((0, 0), (1, 3)):
        train, there = dealt.training(r, (f,)), dealt.fold[r] == f
        np.testing.assert_allclose(mixed.base[r, there], y[train].mean())
        level = (
            mixed.a[r, there][0, 0] + mixed.base[r, there][0] + mixed.b[0, r, there][0] * inner[r, f, train]
        )
        assert np.corrcoef(level, y[train])[0, 1] > 0.85
        assert level.mean() == pytest.approx(y[train].mean())


def test_the_best_candidate_is_taken_fold_by_fold() -> None:
    draw = np.random.default_rng(1)
    y = (np.arange(40) % 2).astype(float)
    task = Binary(("a", "b"), y)
    dealt = plan(task.strata, np.arange(40), repeats=1, seed=0)
    offsets = np.arange(0, 81, 2)
    made = []
    for k in range(2):  # candidate 0 knows the label inside fold 0, candidate 1 inside the others
        knows = (np.arange(dealt.folds) == 0) == (k == 0)
        inner = knows[:, None] * 3 * (2 * y - 1) + draw.normal(size=(dealt.folds, 40))
        cells, share = np.full((1, 80), float(k), np.float32), np.full((1, 40), 0.1 + k)
        made.append(Member(cells, cells[..., None], inner[None, ..., None], cells, share))
    chosen = best(made, offsets, dealt, task)
    np.testing.assert_array_equal(chosen.weight[0], (dealt.fold[0] != 0).repeat(2))
    np.testing.assert_array_equal(chosen.share[0], np.where(dealt.fold[0] == 0, 0.1, 1.1))
