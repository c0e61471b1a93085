from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from milcore.errors import MilError
from milcore.labels import binary, read_task
from milcore.tasks import Binary, Multiclass, Regression, Survival, Task, as_text


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (["responder", "non-responder"], "responder"),
        (["Responder", "Nonresponder"], "Responder"),
        (["NR", "R"], "R"),
        (["no", "yes"], "yes"),
        ([0, 1], "1"),
        (["control", "case"], "case"),
        (["alive_5y", "dead_5y"], "dead_5y"),
        (["not mutated", "mutated"], "mutated"),
        (["heads", "tails"], "tails"),
    ],
)
def test_the_positive_class_is_named_by_words_then_by_order(labels: list, positive: str) -> None:
    assert binary(pd.Series(labels * 4), target="t").positive == positive


def test_the_rarer_label_is_positive_when_no_word_tells() -> None:
    assert binary(pd.Series(["CLR"] * 3 + ["DII"] * 5), target="t").positive == "CLR"


def test_missing_labels_are_no_labels() -> None:
    task = binary(pd.Series(["a", "b", None, " ", "a", "b", "a", "b"]), target="t")
    assert task.labelled.tolist() == [True, True, False, False, True, True, True, True]
    assert task.words().tolist() == ["a", "b", "", "", "a", "b", "a", "b"]
    assert task.strata.min() == -1


def test_numbers_as_labels_read_as_written() -> None:
    assert as_text(pd.Series([1.0, np.nan, 2.0])).tolist() == ["1", "", "2"]
    assert as_text(pd.Series([1.5, 2.0])).tolist() == ["1.5", "2.0"]


@pytest.mark.parametrize(
    ("labels", "positive", "says"),
    [
        (["a"] * 6, None, "one class only"),
        (["a", "b", "c"] * 3, None, "3 different labels"),
        (["a"] * 6 + ["b"] * 2, None, "Class 'b'"),
        (["a", "b"] * 3, "z", "'z' is not a label"),
        ([None] * 4, None, "no labels"),
    ],
)
def test_labels_no_model_can_use(labels: list, positive: str | None, says: str) -> None:
    with pytest.raises(MilError, match=says) as caught:
        binary(pd.Series(labels), target="outcome", positive=positive)
    assert caught.value.where
    assert caught.value.fix


def test_three_regions_of_one_patient_are_one_patient() -> None:
    labels = pd.Series(["yes"] * 3 + ["no"] * 9)
    with pytest.raises(MilError, match="Class 'yes' of 't' has 1 patient"):
        binary(labels, target="t", groups=np.repeat([0, 1, 2, 3], 3))


def test_infinite_labels_are_no_labels() -> None:
    task = binary(pd.Series([1, 0, 1, 0, 1, 0, np.inf]), target="t")
    assert task.words().tolist() == ["1", "0", "1", "0", "1", "0", ""]


# ---------------------------------------------------------------- likelihoods

T = 18


def tasks() -> list[Task]:
    draw = np.random.default_rng(3)
    survival = np.stack([draw.integers(1, 9, T), draw.integers(0, 2, T)], 1).astype(float)  # with ties
    return [
        Binary(("a", "b"), draw.integers(0, 2, T).astype(float)),
        Multiclass(("a", "b", "c"), draw.integers(0, 3, T).astype(float)),
        Regression("age", draw.normal(size=T)),
        Survival("dead", survival),
    ]


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task.name)
def test_newton_steps_end_where_the_penalised_likelihood_is_greatest(task: Task) -> None:
    draw, n, K = np.random.default_rng(0), T - 3, task.outputs
    x = draw.normal(size=(T, 5))
    kernel, mask = (1.3 * x @ x.T)[None], np.ones((1, T), bool)
    mask[0, n:] = False  # the last three are not learnt from
    dual = np.zeros((1, T, K))
    for _ in range(25):
        dual = task.newton(kernel, kernel @ dual, task.y[None], mask)
    root = np.linalg.cholesky(kernel[0, :n, :n] + 1e-9 * np.eye(n))

    def loss(u: np.ndarray) -> float:
        return task.total_loss(root @ u.reshape(n, K), task.y[:n]) + (u**2).sum() / 2

    found = minimize(loss, np.zeros(n * K), method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-14})
    np.testing.assert_allclose((kernel[0] @ dual[0])[:n], root @ found.x.reshape(n, K), atol=1e-4)
    assert (dual[0, n:] == 0).all()


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task.name)
def test_gradients_and_both_losses_agree(task: Task) -> None:
    draw = np.random.default_rng(1)
    score, step = draw.normal(size=(2, T, task.outputs))
    rise = task.total_loss(score + 1e-6 * step, task.y) - task.total_loss(score - 1e-6 * step, task.y)
    assert rise / 2e-6 == pytest.approx(-(task.gradient(score, task.y) * step).sum(), abs=1e-6)
    mean = task.loss(torch.tensor(score), torch.tensor(task.y)).item()
    sets = task.y[:, 1].sum() if task.name == "survival" else T
    assert mean == pytest.approx(task.total_loss(score, task.y) / sets)


def test_the_partial_likelihood_is_coxs() -> None:
    draw = np.random.default_rng(0)
    x, y = (
        draw.normal(size=30),
        np.stack([draw.permutation(30) + 1.0, draw.random(30) < 0.7], 1).astype(float),
    )
    table = pd.DataFrame({"x": x, "time": y[:, 0], "event": y[:, 1]})
    peer = CoxPHFitter().fit(table, "time", "event")
    ours = Survival("dead", y).total_loss(peer.params_.iloc[0] * x[:, None], y)
    assert ours == pytest.approx(-peer.log_likelihood_, rel=1e-6)


def test_far_scores_stay_finite() -> None:
    task = tasks()[-1]
    score = np.linspace(-4000, 4000, T)[:, None]
    assert np.isfinite(task.total_loss(score, task.y))
    assert np.isfinite(task.newton(np.eye(T)[None], score[None], task.y[None], np.ones((1, T), bool))).all()


def test_several_classes_are_ranked_one_against_the_rest() -> None:
    task = tasks()[1]
    score = np.random.default_rng(0).normal(size=(T, 3))
    by_hand = np.mean([roc_auc_score(task.y == k, score[:, k]) for k in range(3)])
    assert task.ranked(score, task.y, np.zeros(T)) == pytest.approx(by_hand)


def test_a_number_is_learnt_in_units_of_the_training_patients_alone() -> None:
    task = tasks()[2]
    train = np.arange(T)[None] < 12
    y, shift, unit = task.targets(train)
    changed = Regression("age", np.where(train[0], task.y, 1e6))
    again = changed.targets(train)
    np.testing.assert_array_equal(y[0, :12], again[0][0, :12])
    assert (shift, unit) == (again[1], again[2])
    np.testing.assert_allclose([y[0, :12].mean(), y[0, :12].std()], [0, 1], atol=1e-12)


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("labels", "time", "kind"),
    [
        (["a", "b"] * 6, None, "binary"),
        (["a", "b", "c"] * 4, None, "multiclass"),
        ([1, 2, 3, 4] * 3, None, "multiclass"),
        (np.arange(12) / 7, None, "regression"),
        ([0, 1] * 6, np.arange(12.0), "survival"),
        (["alive", "dead"] * 6, np.arange(12.0), "survival"),
    ],
)
def test_the_kind_of_label_is_recognised(labels: list, time: np.ndarray | None, kind: str) -> None:
    times = {} if time is None else {"times": pd.Series(time), "time": "days"}
    assert read_task(pd.Series(labels), target="t", **times).name == kind


@pytest.mark.parametrize(
    ("labels", "times", "kind", "says"),
    [
        ([0] * 12, np.arange(12.0), "survival", "0 event"),
        ([0, 1] * 6, -np.arange(12.0), "survival", "-1 in 'days' is negative"),
        ([0, 1] * 6, ["soon"] * 12, "survival", "'soon' in 'days' is not a number"),
        (["x", "z"] * 6, np.arange(12.0), "survival", "not clear which of 'x', 'z'"),
        ([0, 1, 2] * 4, np.arange(12.0), "survival", "3 different values"),
        ([0, 1] * 6, None, "survival", "needs a time"),
        ([0, 1] * 6, [np.nan] * 8 + [1.0] * 4, "survival", "Only 2 event"),
        ([0, 1] * 6, np.arange(12.0), "binary", "no use in binary"),
        ([*np.arange(11.0), "old"], None, "regression", "'old' in 't' is not a number"),
        (np.arange(6.0), None, "regression", "6 value"),
        (["a", "b"] * 6, None, "multiclass", "2 different labels"),
        (["a", "b", "c"] * 3 + ["d"], None, "multiclass", "Class 'd'"),
    ],
)
def test_labels_a_task_cannot_use(labels: list, times: list | None, kind: str, says: str) -> None:
    given = {} if times is None else {"times": pd.Series(times), "time": "days"}
    with pytest.raises(MilError, match=says) as caught:
        read_task(pd.Series(labels), target="t", kind=kind, **given)
    assert caught.value.where
    assert caught.value.fix


def test_only_two_classes_have_a_positive_one() -> None:
    with pytest.raises(MilError, match="No class is positive"):
        read_task(pd.Series(["a", "b", "c"] * 4), target="t", positive="a")


def test_a_patient_without_time_or_event_has_no_label() -> None:
    event, days = pd.Series([0, 1, None, *([1] * 6)]), pd.Series([1.0, None, 3.0, *range(6)])
    task = read_task(event, target="dead", times=days, time="days")
    assert task.labelled.tolist() == [True, False, False] + [True] * 6
    assert task.words()[:3].tolist() == ["1+", "", ""]
