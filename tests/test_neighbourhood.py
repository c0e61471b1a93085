from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from milcore import neighbourhood, validation
from milcore.folds import plan
from milcore.neighbourhood import BIAS, abundance, cross_fit, evidence, kernel_regression
from milcore.neighbours import graph
from milcore.tasks import Binary
from tests.planted import planted


def fitted(seed: int, **settings: float):
    case = planted(seed, **settings)
    kept = np.ones(case.cohort.B, bool)
    around = abundance(graph(case.cohort, "auto"), case.cohort.offsets, kept, lambda share: None)
    dealt = plan(case.task.strata, case.cohort.groups, repeats=2, seed=0)
    models, inner = cross_fit(around.kernels, dealt, case.task, lambda share: None)
    cells = evidence(around, models, dealt, case.cohort.owner, kept)
    return case, around, dealt, models, inner, cells


def test_a_patients_score_is_exactly_the_mean_of_its_cells_evidence() -> None:
    case, around, dealt, models, _, cells = fitted(0)
    for r, model in enumerate(models):
        score = model.scores(around.kernels)[dealt.fold[r], np.arange(case.cohort.B)]
        mean = np.add.reduceat(cells[r].astype(float), case.cohort.offsets[:-1]) / np.diff(
            case.cohort.offsets
        )
        np.testing.assert_allclose(mean, score, atol=1e-3)


def test_planted_cells_have_the_highest_evidence_and_patients_are_told_apart() -> None:
    case, _, dealt, _, _, cells = fitted(1)
    score = np.add.reduceat(cells.astype(float), case.cohort.offsets[:-1], axis=1)
    assert validation.auroc(score, case.task.y[None], dealt.fold).mean() > 0.9
    mean = cells.mean(0)
    assert np.median(mean[case.drivers]) > np.quantile(mean[~case.drivers], 0.95)


def test_without_signal_pairs_are_ordered_by_chance() -> None:
    reached = []
    for seed in range(12):
        case, around, dealt, models, _, _ = fitted(seed, share=0.0)
        score = np.stack(
            [m.scores(around.kernels)[dealt.fold[r], np.arange(24)] for r, m in enumerate(models)]
        )
        reached.append(validation.auroc(score, case.task.y[None], dealt.fold).mean())
    assert abs(np.mean(reached) - 0.5) < 3 * np.std(reached) / np.sqrt(len(reached)) + 0.02


def test_kernel_regression_is_ridge_logistic_regression() -> None:
    draw = np.random.default_rng(0)
    z, y = draw.normal(size=(40, 3)), (draw.random(40) < 0.4).astype(float)
    kernel, cost = z @ z.T, 0.7
    dual = kernel_regression(cost * kernel[None], np.ones((1, 40), bool), y[None], Binary(("a", "b"), y))[0]
    with_bias = np.hstack([z * np.sqrt(cost), np.full((40, 1), np.sqrt(BIAS))])
    peer = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(with_bias, y)
    np.testing.assert_allclose((cost * kernel + BIAS) @ dual, peer.decision_function(with_bias), atol=1e-4)


def test_patients_left_out_change_nothing() -> None:
    case = planted(2)
    kept = np.arange(case.cohort.B) >= 4
    around = abundance(graph(case.cohort, "auto"), case.cohort.offsets, kept, lambda share: None)
    assert (around.kernels[:, ~kept] == 0).all()
    np.testing.assert_allclose(around.mass.sum(), 1)


@pytest.mark.parametrize("folds", [3, 4])
def test_few_patients_still_have_inner_scores(folds: int) -> None:
    case = planted(3, patients=2 * folds)
    kept = np.ones(case.cohort.B, bool)
    around = abundance(graph(case.cohort, "auto"), case.cohort.offsets, kept, lambda share: None)
    dealt = plan(case.task.strata, case.cohort.groups, repeats=1, seed=0)
    _, inner = neighbourhood.cross_fit(around.kernels, dealt, case.task, lambda share: None)
    for f in range(folds):
        np.testing.assert_array_equal(np.isnan(inner[0, f]), dealt.fold[0] == f)
