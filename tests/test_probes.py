from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from milcore.cohort import Cohort
from milcore.folds import plan
from milcore.preprocess import moments
from milcore.probes import CELLS, _in_score, probe, shifted
from tests.planted import planted


def probed(
    column: str, values: np.ndarray, extra: np.ndarray | None = None, level: np.ndarray | None = None
) -> tuple[dict, set[str], str]:
    case = planted(0)
    patients = case.cohort.patients.assign(**{column: values})
    names = patients["patient"].to_numpy()[case.cohort.owner]
    x = np.array(case.cohort.features)
    if extra is not None:
        x[:, 5] = extra[case.cohort.owner] + 0.001 * x[:, 5]
    cohort = Cohort.of(x, names, patients=patients)
    dealt = plan(case.task.strata, cohort.groups, repeats=2, seed=0)
    level = np.random.default_rng(1).normal(size=(2, 24, 1)) if level is None else level
    given = (cohort, case.task, dealt, moments(x, cohort.offsets), level)
    found, notes = probe(*given, labels=("response",), widening=2.0, seed=0)
    return found, {note.kind for note in notes}, " ".join(note.words for note in notes)


LABEL = np.arange(24) % 2


def test_a_batch_that_is_the_label_is_named() -> None:
    found, kinds, words = probed("Scanner", np.where(LABEL, "old", "new"))
    assert found["Scanner"]["auroc"]["value"] > 0.95
    assert kinds == {"batch_predicts_label"}
    assert "'Scanner'" in words


def test_a_batch_balanced_over_the_label_is_not() -> None:
    found, kinds, _ = probed("batch", np.arange(24) // 2 % 3)
    assert "batch" in found
    assert kinds == set()


def test_columns_that_name_no_batch_are_left_alone() -> None:
    found, kinds, _ = probed("age", np.arange(24) % 5 * 10 + 50)
    assert set(found) == {CELLS}
    assert kinds == set()


@pytest.mark.parametrize("values", [LABEL * 10 + 50, np.where(LABEL, "high", "low")])
def test_a_patient_column_that_is_the_label_is_suspected(values: np.ndarray) -> None:
    _, kinds, words = probed("grading", values)
    assert kinds == {"suspected_leak"}
    assert "Patient column 'grading'" in words


@pytest.mark.parametrize("kind", ["one value is missing", "only one label has values"])
def test_missing_values_hide_no_leak(kind: str) -> None:
    draw = np.random.default_rng(0).random(24)
    values = np.where(np.arange(24) == 7, np.nan, LABEL + draw / 2)
    if kind == "only one label has values":  # months until a recurrence, known of those who had one
        values = np.where(LABEL, draw, np.nan)
    _, kinds, words = probed("months", values)
    assert kinds == {"suspected_leak"}
    assert "Patient column 'months'" in words
    assert probed("months", np.where(draw < 0.5, np.nan, draw))[1] == set()


def test_a_score_that_goes_with_batch_or_size_among_patients_of_one_label_is_named() -> None:
    batch = np.arange(24) // 2 % 3  # balanced over the label
    noise = 0.2 * np.random.default_rng(0).normal(size=(2, 24, 1))
    found, kinds, words = probed("batch", batch, level=noise + batch[:, None])
    assert kinds == {"batch_in_score"}
    assert found["batch"]["in_score"]["r2"] > 0.8
    assert "'batch'" in words
    sizes = np.log(np.diff(planted(0).cohort.offsets))
    _, kinds, _ = probed("batch", batch, level=noise + 3 * sizes[:, None])
    assert kinds == {"cells_in_score"}
    told = noise + 5.0 * LABEL[:, None]  # a score that only tells the label goes with neither
    assert probed("batch", batch, level=told)[1] == set()


def test_p_of_a_batch_in_the_score_is_uniform_by_chance() -> None:
    draw = np.random.default_rng(2)
    task = planted(0).task
    codes = np.eye(3)[np.arange(24) // 2 % 3]
    p = [_in_score(codes, draw.normal(size=(1, 24, 1)), task, seed)["p"] for seed in range(60)]
    assert kstest(p, "uniform").pvalue > 0.01


def test_features_that_differ_between_regions_are_named() -> None:
    draw = np.random.default_rng(0)
    region = np.repeat(np.arange(6), 50)
    x = draw.normal(size=(300, 3)).astype(np.float32)
    x[:, 1] += 3 * region
    x[:5, 1] = np.nan
    (note,) = shifted(x, region, ("a", "b", "c"))
    assert note.kind == "region_shift"
    assert "'b'" in note.words
    assert "'a'" not in note.words
    assert shifted(x[:, :1], region, ("a",)) == []
    assert shifted(x, np.zeros(300, int), ("a", "b", "c")) == []


def test_a_feature_that_is_the_label_is_suspected() -> None:
    _, kinds, words = probed("age", np.full(24, 50), extra=LABEL.astype(float))
    assert kinds == {"suspected_leak"}
    assert "'feature 6'" in words


def test_a_real_marker_that_tells_the_classes_is_no_leak() -> None:
    _, kinds, _ = probed("age", np.full(24, 50))
    assert kinds == set()


def test_missing_batches_are_one_more_level() -> None:
    values = pd.Series(np.where(LABEL, "a", "b"), dtype=object).where(np.arange(24) > 3)
    found, *_ = probed("site", values.to_numpy())
    assert np.isfinite(found["site"]["auroc"]["value"])
