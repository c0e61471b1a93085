from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from milcore.baselines import baseline
from milcore.cohort import Cohort
from milcore.covariates import covariates, encoded, with_cells
from milcore.errors import MilError
from milcore.folds import Plan, plan
from milcore.tasks import Binary
from milcore.validation import difference, leading

PATIENTS = 60
TASK = Binary(("a", "b"), (np.arange(PATIENTS) % 2).astype(float))
DEALT = plan(TASK.strata, np.arange(PATIENTS), repeats=2, seed=0)


def cohort(**columns: object) -> Cohort:
    names = [f"P{b:02d}" for b in range(PATIENTS)]
    table = pd.DataFrame({"patient": names} | columns)
    x = np.random.default_rng(0).normal(size=(PATIENTS * 2, 2)).astype(np.float32)
    return Cohort.of(x, np.repeat(names, 2), patients=table)


TURN = np.arange(PATIENTS)
COLUMNS = {
    "AgeAtDiagnosis": TURN % 40 + 40.0,
    "Sex": np.where(TURN % 3, "f", "m"),
    "tnm_stage": TURN % 4,
    "site": [f"S{k % 5}" for k in TURN],
    "slide_id": [f"slide{k}" for k in TURN],
    "recurrence_site": np.where(TURN % 2, "lung", "liver"),
    "sausage": TURN * 1.0,
    "outcome": TASK.y,
}


def test_columns_are_recognised_by_the_words_of_their_names_and_outcomes_left_out() -> None:
    found = covariates(cohort(**COLUMNS), TASK, asked=(), labels=("outcome",))
    assert list(found.columns) == ["AgeAtDiagnosis", "Sex", "tnm_stage", "site"]
    assert set(found.excluded) == {"slide_id", "recurrence_site"}
    assert "outcome" in found.excluded["recurrence_site"]
    assert found.together.shape == (PATIENTS, 1 + 2 + 1 + 5)


def test_named_columns_are_taken_as_asked_and_wrong_names_refused() -> None:
    made = cohort(**COLUMNS)
    assert list(covariates(made, TASK, asked=("sausage",), labels=("outcome",)).columns) == ["sausage"]
    for name in ("nothing", "outcome"):
        with pytest.raises(MilError, match=f"'{name}'") as caught:
            covariates(made, TASK, asked=(name,), labels=("outcome",))
        assert "--covariates" in caught.value.where


def test_a_missing_number_is_the_mean_and_said_to_be_missing() -> None:
    np.testing.assert_array_equal(encoded(pd.Series([1.0, np.nan, 3.0])), [[1, 0], [2, 1], [3, 0]])
    assert encoded(pd.Series(["m", None, "f"])).sum(1).tolist() == [1, 1, 1]


def held_out(score: np.ndarray, dealt: Plan) -> np.ndarray:
    """(R, folds, B, 1) inner scores that are as good as the outer ones."""
    inner = np.broadcast_to(score[:, None], (dealt.repeats, dealt.folds, *score.shape[1:])).copy()
    for r in range(dealt.repeats):
        for f in range(dealt.folds):
            inner[r, f, dealt.fold[r] == f] = np.nan
    return inner


def test_a_good_score_adds_to_covariates_and_noise_does_not() -> None:
    draw = np.random.default_rng(1)
    known = (TASK.y + 1.5 * draw.normal(size=PATIENTS))[:, None]
    alone = baseline(known, DEALT, TASK)
    good = (1.5 * TASK.y + draw.normal(size=(2, PATIENTS)))[..., None]
    both = with_cells(known, held_out(good, DEALT), good, DEALT, TASK)
    assert difference(both, alone, DEALT, TASK)["value"] > 0.1
    noise = draw.normal(size=(2, PATIENTS, 1))
    neither = with_cells(known, held_out(noise, DEALT), noise, DEALT, TASK)
    assert abs(difference(neither, alone, DEALT, TASK)["value"]) < 0.1


def test_no_patient_is_scored_with_its_own_label() -> None:
    """A turned label moves the scores of other folds only."""
    draw = np.random.default_rng(2)
    known, score = draw.normal(size=(PATIENTS, 2)), draw.normal(size=(2, PATIENTS, 1))
    inner = held_out(score, DEALT)
    turned = Binary(TASK.classes, np.where(TURN == 7, 1 - TASK.y, TASK.y))
    first, again = (with_cells(known, inner, score, DEALT, task) for task in (TASK, turned))
    for r in range(2):
        same = DEALT.fold[r] == DEALT.fold[r, 7]
        np.testing.assert_array_equal(first[r, same], again[r, same])
        assert (first[r, ~same] != again[r, ~same]).all()


def test_scores_that_saw_the_training_labels_would_be_believed_too_much() -> None:
    """Why inner scores: with in-sample ones the cells' score takes all the weight and the covariate's is lost."""
    draw = np.random.default_rng(3)
    known = (1.5 * TASK.y + draw.normal(size=PATIENTS))[:, None]
    outer = draw.normal(size=(2, PATIENTS, 1))
    in_sample = held_out(np.broadcast_to(8.0 * TASK.y[:, None], outer.shape), DEALT)

    def reached(inner: np.ndarray) -> float:
        return leading(with_cells(known, inner, outer, DEALT, TASK), DEALT, TASK, widening=1, seed=0)["value"]

    assert reached(held_out(outer, DEALT)) > reached(in_sample) + 0.05
