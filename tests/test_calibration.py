from __future__ import annotations

import numpy as np
import pytest
from lifelines import CoxPHFitter
from pandas import DataFrame
from sklearn.linear_model import LogisticRegression

from milcore.calibration import _cox, _logistic, calibration
from milcore.folds import plan
from milcore.tasks import Binary, Multiclass, Regression, Survival, Task

N = 200


def found(task: Task, score: np.ndarray) -> dict:
    dealt = plan(task.strata, np.arange(N), repeats=1, seed=0)
    return calibration(score.reshape(1, N, -1), dealt, task, seed=0)


def drawn(stretch: float, shift: float = 0.0) -> dict:
    """Outcomes that follow the log-odds; predictions are these, stretched and shifted."""
    draw = np.random.default_rng(0)
    true = 1.5 * draw.normal(size=N)
    y = (draw.random(N) < 1 / (1 + np.exp(-true))).astype(float)
    return found(Binary(("a", "b"), y), stretch * true + shift)


def test_right_predictions_have_slope_one_and_intercept_none() -> None:
    out = drawn(1.0)
    assert out["slope"]["low"] < 1 < out["slope"]["high"]
    assert out["intercept"]["low"] < 0 < out["intercept"]["high"]
    inside = [g["low"] <= g["predicted"] <= g["high"] for g in out["curve"]]
    assert sum(inside) >= 4
    assert sum(g["patients"] for g in out["curve"]) == N


def test_stretched_predictions_are_too_extreme_and_shifted_ones_too_high() -> None:
    assert drawn(3.0)["slope"]["high"] < 0.6
    assert drawn(0.3)["slope"]["low"] > 1.5
    assert drawn(1.0, 1.0)["intercept"]["high"] < -0.5
    assert drawn(1.0, 1.0)["slope"]["value"] == pytest.approx(drawn(1.0)["slope"]["value"], abs=0.01)


def test_the_regressions_are_the_usual_ones() -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=N)
    y = (draw.random(N) < 1 / (1 + np.exp(-0.7 * x - 0.3))).astype(float)
    peer = LogisticRegression(C=1e6).fit(x[:, None], y)
    assert _logistic(x, y, np.ones((1, N)))[0][0] == pytest.approx(peer.coef_[0, 0], abs=0.01)
    time, event = draw.exponential(np.exp(-0.8 * x)).round(2) + 0.01, draw.random(N) < 0.7
    table = DataFrame({"x": x, "time": time, "event": event.astype(int)})
    cox = CoxPHFitter().fit(table, "time", "event").params_["x"]
    assert _cox(x, np.stack([time, event], 1).astype(float), np.ones((1, N)))[0] == pytest.approx(
        cox, abs=0.02
    )


def test_other_kinds_of_label() -> None:
    draw = np.random.default_rng(3)
    true = draw.normal(size=(N, 3))
    true -= true.mean(1, keepdims=True)
    p = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    y = (draw.random(N)[:, None] > p.cumsum(1)[:, :-1]).sum(1).astype(float)
    classes = Multiclass(("a", "b", "c"), y)
    assert found(classes, true)["slope"]["value"] == pytest.approx(1, abs=0.35)
    assert found(classes, 4 * true)["slope"]["high"] < 0.7
    right = found(classes, true)["intercepts"].values()
    assert all(one["low"] < 0 < one["high"] for one in right)
    off = found(classes, true + np.eye(3)[0] * 1.5)["intercepts"]  # a too often, the others too rarely
    assert off["a"]["high"] < 0 < min(off["b"]["low"], off["c"]["low"])
    value = true[:, 0]
    number = Regression("age", 50 + value + 0.3 * draw.normal(size=N))
    assert found(number, 50 + 2 * value)["slope"]["value"] == pytest.approx(0.5, abs=0.05)
    assert found(number, 53 + value)["intercept"]["value"] == pytest.approx(-3, abs=0.1)
    death = Survival("dead", np.stack([draw.exponential(np.exp(-value)), np.ones(N)], 1))
    out = found(death, 2 * value)
    assert out["slope"]["value"] == pytest.approx(0.5, abs=0.12)
    assert set(out) == {"slope"}


def test_classes_that_are_parted_still_have_an_interval() -> None:
    y = (np.arange(N) % 2).astype(float)
    out = found(Binary(("a", "b"), y), 4 * y - 2)
    assert np.isfinite([out["slope"][k] for k in ("value", "low", "high")]).all()
    assert out["slope"]["low"] > 1
