"""What else could explain the score: batches, sampling, and features that are the label under another name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from milcore.baselines import baseline
from milcore.cohort import Cohort, Note
from milcore.folds import Plan
from milcore.measures import auroc
from milcore.preprocess import Moments
from milcore.tasks import Task, as_text
from milcore.validation import CHANCE, NAMES, leading

__all__ = ["probe"]

BATCH = re.compile(
    r"batch|site|scanner|slide|plate|run|centre|center|hospital|institution|stain|tma|panel", re.IGNORECASE
)
NEARLY = (
    0.98  # AUROC, in sample, and share of variance between patients, from which a feature nearly is the label
)


def probe(
    cohort: Cohort, task: Task, plan: Plan, measured: Moments, *, widening: float, seed: int
) -> tuple[dict[str, Any], list[Note]]:
    """The leading score out of fold of every batch-like patient column alone -> name -> {score}, and warnings in words:
    batch_predicts_label, suspected_leak."""
    found, notes = {}, []
    for name in _batches(cohort, task):
        codes = pd.get_dummies(pd.Series(as_text(cohort.patients[name]))).to_numpy(float)
        reached = leading(baseline(codes, plan, task), plan, task, widening=widening, seed=seed)
        found[name] = {task.main: reached}
        if reached["low"] > CHANCE[task.main]:
            figures = (
                f"{NAMES[task.main]} {reached['value']:.2f}, {reached['low']:.2f} to {reached['high']:.2f}"
            )
            words = (
                f"'{name}' alone predicts the label ({figures}): the score may show how samples were made."
            )
            notes.append(Note("batch_predicts_label", words))
    for name in _leaks(cohort, task, measured):
        words = f"Feature '{name}' nearly is the label and hardly varies within a patient. Drop it if not measured."
        notes.append(Note("suspected_leak", words))
    return found, notes


def _batches(cohort: Cohort, task: Task) -> list[str]:
    """Patient columns named like a batch, with at least two levels and some patients to each."""
    names = [
        name for name in cohort.patients if name not in ("patient", "region") and BATCH.search(str(name))
    ]
    return [
        name for name in names if 2 <= len(set(as_text(cohort.patients[name]))) <= task.labelled.sum() / 3
    ]


def _leaks(cohort: Cohort, task: Task, measured: Moments) -> list[str]:
    """Features whose patients' means order the patients as the label does, and whose cells hardly differ within one."""
    count = np.maximum(measured.count, 1)
    mean = measured.total / count
    within = np.maximum(measured.square / count - mean**2, 0)
    share = mean.var(0) / np.maximum(mean.var(0) + within.mean(0), 1e-12)
    told = np.array([_told(column, task) for column in mean.T])
    return [cohort.names[f] for f in np.flatnonzero((share > NEARLY) & (told > NEARLY))]


def _told(column: np.ndarray, task: Task) -> float:
    """How well one number a patient orders them by label, in either direction: .5 to 1 (of a correlation, 0 to 1)."""
    known = task.labelled
    one_fold = np.zeros(known.sum())
    if task.outputs == 1:
        reached = float(task.ranked(column[known, None], task.y[known], one_fold))
        return max(reached, 2 * CHANCE[task.main] - reached)
    each = [float(auroc(column[known], task.y[known] == k, one_fold)) for k in range(task.outputs)]
    return max(max(value, 1 - value) for value in each)
