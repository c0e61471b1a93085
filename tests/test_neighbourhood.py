from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from milcore import neighbourhood
from milcore.case import case_of
from milcore.folds import plan
from milcore.measures import auroc
from milcore.neighbourhood import (
    BIAS,
    abundance,
    cross_fit,
    everywhere,
    evidence,
    kernel_regression,
    pair_models,
    unseen_evidence,
)
from milcore.tasks import Binary, Multiclass, Regression, Survival, Task
from milcore.training import Settings
from tests.inductive import strict, usual
from tests.planted import graph_of, planted


def fitted(seed: int, task: Task | None = None, **settings: float):
    case = planted(seed, **settings)
    if task is not None:
        case = case._replace(task=task)
    kept = np.ones(case.cohort.B, bool)
    around = abundance(graph_of(case.cohort), case.cohort.offsets, kept, lambda share: None)
    dealt = plan(case.task.strata, case.cohort.groups, repeats=2, seed=0)
    models, inner, pairs = cross_fit(around.kernels, dealt, case.task, lambda share: None)
    at, _ = everywhere(around, models, pairs, kept)
    cells = evidence(at, around.graph.node, dealt, case.cohort.owner)
    return case, around, dealt, models, inner, cells


def scores(case, around, dealt, models) -> np.ndarray:
    """(R, B, K) out of fold."""
    every = np.arange(case.cohort.B)
    return np.stack([m.scores(around.kernels)[dealt.fold[r], every] for r, m in enumerate(models)])


def tasks() -> dict[str, Task]:
    """A task of each kind for the 24 patients of the planted cohort, of which every other one has the cells."""
    draw, has = np.random.default_rng(0), (np.arange(24) % 2).astype(float)
    time = draw.exponential(100 * np.exp(-2.5 * has))
    return {
        "binary": Binary(("no", "yes"), has),
        "multiclass": Multiclass(("a", "b", "c"), np.where(has == 1, 2.0, np.arange(24) // 2 % 2)),
        "regression": Regression("age", 60 + 10 * has + draw.normal(size=24)),
        "survival": Survival("dead", np.stack([time, draw.random(24) < 0.8], 1).astype(float)),
    }


@pytest.mark.parametrize("name", list(tasks()))
def test_a_patients_score_is_exactly_the_mean_of_its_cells_evidence(name: str) -> None:
    case, around, dealt, models, _, cells = fitted(0, tasks()[name])
    sums = np.add.reduceat(cells.astype(float), case.cohort.offsets[:-1], axis=1)
    mean = sums / np.diff(case.cohort.offsets)[None, :, None]
    np.testing.assert_allclose(mean, scores(case, around, dealt, models), atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("name", list(tasks()))
def test_every_kind_of_label_is_learnt(name: str) -> None:
    case, around, dealt, models, _, cells = fitted(0, tasks()[name])
    reached = case.task.ranked(scores(case, around, dealt, models), case.task.y[None], dealt.fold)
    chance = 0.0 if name == "regression" else 0.5
    assert reached.mean() > chance + 0.1
    if name == "multiclass":
        np.testing.assert_allclose(cells.sum(2), 0, atol=1e-3)


@pytest.mark.parametrize("name", list(tasks()))
def test_a_label_that_is_held_out_changes_no_digit(name: str) -> None:
    """The outer model of a fold, and what chose it, must not know the labels of that fold."""
    task = tasks()[name]
    _, around, dealt, models, inner, _ = fitted(0, task)
    there = dealt.fold[0] == 1
    y = task.y.copy()
    y[there] = y[there][::-1]
    first, last = np.flatnonzero(there)[[0, -1]]
    y[first], y[last] = task.y[last], task.y[first]
    swapped = replace(task, y=y)
    again, inner_again, _ = cross_fit(around.kernels, dealt, swapped, lambda share: None)
    np.testing.assert_array_equal(models[0].coefficients[1], again[0].coefficients[1])
    np.testing.assert_array_equal(inner[0, 1], inner_again[0, 1])


def test_pair_models_are_the_same_however_they_are_asked_for() -> None:
    case, around, dealt, *_ = fitted(0)
    _, _, together = cross_fit(around.kernels, dealt, case.task, lambda share: None)
    alone = pair_models(around.kernels, dealt, case.task)
    for part in ("scale", "coefficients", "constant"):
        np.testing.assert_allclose(getattr(together, part), getattr(alone, part), rtol=1e-6, atol=1e-9)


def test_unseen_evidence_is_that_of_models_that_saw_neither_fold() -> None:
    case, around, dealt, _, inner, _ = fitted(0)
    kept, task = np.ones(case.cohort.B, bool), case.task

    def unseen(task: Task) -> np.ndarray:
        none, pairs = everywhere(around, [], pair_models(around.kernels, dealt, task), kept)
        assert none.size == 0
        return unseen_evidence(pairs, around.graph.node, dealt, case.cohort.owner)

    first = unseen(task)
    means = np.add.reduceat(first.astype(float), case.cohort.offsets[:-1], 1)
    np.testing.assert_allclose(means / np.diff(case.cohort.offsets)[:, None], inner[0], atol=1e-4)
    there = dealt.fold[0] == 2
    again = unseen(replace(task, y=np.where(there, 1 - task.y, task.y)))
    np.testing.assert_array_equal(first[2], again[2])
    assert not np.array_equal(first[1], again[1])


def test_planted_cells_have_the_highest_evidence_and_patients_are_told_apart() -> None:
    case, _, dealt, _, _, cells = fitted(1)
    score = np.add.reduceat(cells[..., 0].astype(float), case.cohort.offsets[:-1], axis=1)
    assert auroc(score, case.task.y[None], dealt.fold).mean() > 0.9
    mean = cells[..., 0].mean(0)
    assert np.median(mean[case.drivers]) > np.quantile(mean[~case.drivers], 0.95)


def test_without_signal_pairs_are_ordered_by_chance() -> None:
    reached = []
    for seed in range(12):
        case, around, dealt, models, _, _ = fitted(seed, share=0.0)
        reached.append(
            case.task.ranked(scores(case, around, dealt, models), case.task.y[None], dealt.fold).mean()
        )
    assert abs(np.mean(reached) - 0.5) < 3 * np.std(reached) / np.sqrt(len(reached)) + 0.02


def test_kernel_regression_is_ridge_logistic_regression() -> None:
    draw = np.random.default_rng(0)
    z, y = draw.normal(size=(40, 3)), (draw.random(40) < 0.4).astype(float)
    kernel, cost = z @ z.T, 0.7
    dual = kernel_regression(cost * kernel[None], np.ones((1, 40), bool), y[None], Binary(("a", "b"), y))[0]
    with_bias = np.hstack([z * np.sqrt(cost), np.full((40, 1), np.sqrt(BIAS))])
    peer = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(with_bias, y)
    np.testing.assert_allclose(
        (cost * kernel + BIAS) @ dual[:, 0], peer.decision_function(with_bias), atol=1e-4
    )


def test_patients_left_out_change_nothing() -> None:
    case = planted(2)
    kept = np.arange(case.cohort.B) >= 4
    around = abundance(
        graph_of(case.cohort),
        case.cohort.offsets,
        kept,
        lambda share: None,
    )
    assert (around.kernels[:, ~kept] == 0).all()
    np.testing.assert_allclose(around.mass.sum(), 1)


@pytest.mark.parametrize("folds", [3, 4])
def test_few_patients_still_have_inner_scores(folds: int) -> None:
    case = planted(3, patients=2 * folds)
    kept = np.ones(case.cohort.B, bool)
    around = abundance(
        graph_of(case.cohort),
        case.cohort.offsets,
        kept,
        lambda share: None,
    )
    dealt = plan(case.task.strata, case.cohort.groups, repeats=1, seed=0)
    _, inner, _ = neighbourhood.cross_fit(around.kernels, dealt, case.task, lambda share: None)
    for f in range(folds):
        np.testing.assert_array_equal(np.isnan(inner[0, f, :, 0]), dealt.fold[0] == f)


def test_held_out_cells_are_hardly_missed_in_the_graph() -> None:
    """On a graph of training patients alone, planted cells are found all the same."""
    case = planted(0)
    settings = Settings(target="response", pooling="neighbourhood", repeats=1)
    asked = case_of(case.cohort, settings)
    for score in (usual(asked), strict(asked)):
        assert asked.task.ranked(score, asked.task.y[None], asked.plan.fold).mean() > 0.85
