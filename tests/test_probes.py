from __future__ import annotations

import numpy as np
import pandas as pd

from milcore.cohort import Cohort
from milcore.folds import plan
from milcore.preprocess import moments
from milcore.probes import probe
from tests.planted import planted


def probed(column: str, values: np.ndarray, extra: np.ndarray | None = None) -> tuple[dict, set[str], str]:
    case = planted(0)
    patients = case.cohort.patients.assign(**{column: values})
    names = patients["patient"].to_numpy()[case.cohort.owner]
    x = np.array(case.cohort.features)
    if extra is not None:
        x[:, 5] = extra[case.cohort.owner] + 0.001 * x[:, 5]
    cohort = Cohort.of(x, names, patients=patients)
    dealt = plan(case.task.strata, cohort.groups, repeats=2, seed=0)
    found, notes = probe(cohort, case.task, dealt, moments(x, cohort.offsets), widening=2.0, seed=0)
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
    found, kinds, _ = probed("age", LABEL * 10 + 50)
    assert found == {}
    assert kinds == set()


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
