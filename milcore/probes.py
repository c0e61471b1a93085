"""What else could explain the score: batches, sampling, and columns that are the label under another name."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pandas as pd

from milcore.baselines import baseline
from milcore.cohort import Cohort, Note
from milcore.covariates import BATCH, encoded, others
from milcore.folds import Plan
from milcore.measures import auroc
from milcore.permutation import within
from milcore.preprocess import Moments
from milcore.tasks import Task, as_text
from milcore.validation import CHANCE, NAMES, leading

__all__ = ["CELLS", "probe", "shifted"]

NEARLY = (
    0.98  # AUROC, in sample, and share of variance between patients, from which a column nearly is the label
)
MOSTLY = 0.8  # share of the labelled patients that have a value, for it to be held against the label
SHIFTED = 0.5  # share of a feature's variance between regions from which it is extreme
SHOWN = 4  # names in a sentence
CELLS = "number of cells"
SHUFFLES = 999
IN_SCORE = 0.01  # p at which a score is said to differ by batch, among patients of one label


def probe(
    cohort: Cohort,
    task: Task,
    plan: Plan,
    measured: Moments,
    level: np.ndarray,
    *,
    labels: Collection[str],
    widening: float,
    seed: int,
) -> tuple[dict[str, Any], list[Note]]:
    """What batch-like patient columns and the number of cells tell -> name -> {leading score out of fold of the column
    alone, in_score: {r2, p}}, and warnings in words: batch_predicts_label, batch_in_score, cells_in_score,
    suspected_leak. `level` (R, B, K) are the scores out of fold, `labels` names the target and its time."""
    found: dict[str, Any] = {}
    notes: list[Note] = []
    for name in _batches(cohort, task, labels):
        codes = encoded(cohort.patients[name].astype("string"))
        reached = leading(baseline(codes, plan, task), plan, task, widening=widening, seed=seed)
        found[name] = {task.main: reached, "in_score": _in_score(codes, level, task, seed)}
        if reached["low"] > CHANCE[task.main]:
            figures = (
                f"{NAMES[task.main]} {reached['value']:.2f}, {reached['low']:.2f} to {reached['high']:.2f}"
            )
            words = (
                f"'{name}' alone predicts the label ({figures}): the score may show how samples were made."
            )
            notes.append(Note("batch_predicts_label", words))
        notes += _told_of(found[name]["in_score"], "batch_in_score", f"'{name}'")
    sizes = np.log(np.diff(cohort.offsets))[:, None].astype(float)
    found[CELLS] = {"in_score": _in_score(sizes, level, task, seed)}
    notes += _told_of(found[CELLS]["in_score"], "cells_in_score", "the number of cells")
    for name in _leaks(cohort, task, measured):
        words = f"Feature '{name}' nearly is the label and hardly varies within a patient. Drop it if not measured."
        notes.append(Note("suspected_leak", words))
    for name in _patient_leaks(cohort, task, [n for n in others(cohort, labels) if n not in found]):
        words = (
            f"Patient column '{name}' nearly is the label: no feature, but perhaps the label by another name."
        )
        notes.append(Note("suspected_leak", words))
    return found, notes


def _batches(cohort: Cohort, task: Task, labels: Collection[str]) -> list[str]:
    """Patient columns named like a batch, with at least two levels and some patients to each."""
    return [name for name in others(cohort, labels) if BATCH.search(name) and _levels(cohort, name, task)]


def _levels(cohort: Cohort, name: str, task: Task) -> bool:
    return 2 <= len(set(as_text(cohort.patients[name]))) <= task.labelled.sum() / 3


def _in_score(codes: np.ndarray, level: np.ndarray, task: Task, seed: int) -> dict[str, float]:
    """{r2, p}: the share of the score's variance among patients of one label that goes with columns (B, any), and how
    often it is as large when scores are shuffled among the patients of each label. Of several classes, the largest."""
    known = task.labelled
    strata, score = task.strata[known], level.mean(0)[known]
    order = np.hstack(
        [
            np.arange(len(score))[:, None],
            within(strata, SHUFFLES, np.random.default_rng([seed, 8])),
        ]
    )
    basis = np.linalg.qr(_apart(codes[known], strata))[0]
    score = _apart(score, strata)
    dealt = score[order]  # (n, shuffles, K)
    explained = (np.einsum("nb,npk->bpk", basis, dealt) ** 2).sum(0)
    share = (explained / np.maximum((score**2).sum(0), 1e-12)).max(1)
    return {"r2": float(share[0]), "p": float((share >= share[0] - 1e-12).mean())}


def _apart(values: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Columns (n, any) less the mean of each stratum."""
    one = (strata[:, None] == np.unique(strata)).astype(float)
    return values - one @ ((one.T @ values) / one.sum(0)[:, None])


def _told_of(found: dict[str, float], kind: str, what: str) -> Iterator[Note]:
    if found["p"] <= IN_SCORE:
        share = f"{found['r2']:.0%} of its variance, permutation p = {found['p']:.2g}"
        yield Note(kind, f"Among patients of one label the score still goes with {what} ({share}).")


def _leaks(cohort: Cohort, task: Task, measured: Moments) -> list[str]:
    """Features whose patients' means order the patients as the label does, and whose cells hardly differ within one."""
    count = np.maximum(measured.count, 1)
    mean = measured.total / count
    inside = np.maximum(measured.square / count - mean**2, 0)
    share = mean.var(0) / np.maximum(mean.var(0) + inside.mean(0), 1e-12)
    told = np.array([_told(column, task, task.labelled) for column in mean.T])
    return [cohort.names[f] for f in np.flatnonzero((share > NEARLY) & (told > NEARLY))]


def _patient_leaks(cohort: Cohort, task: Task, names: Collection[str]) -> list[str]:
    """Columns of numbers that order labelled patients as the label does, by their values or by where these are missing,
    and those whose few levels have one label each."""
    out = []
    for name in names:
        column = cohort.patients[name]
        if pd.api.types.is_numeric_dtype(column):
            out += [name] if _number_leaks(column.to_numpy(float, na_value=np.nan), task) else []
        elif len(task.classes) and _levels(cohort, name, task):
            text = as_text(column)[task.labelled]
            same = pd.crosstab(text, task.y[task.labelled]).max(axis=1).sum() / len(text)
            out += [name] if same > NEARLY else []
    return out


def _number_leaks(values: np.ndarray, task: Task) -> bool:
    there = np.isfinite(values)
    if there[task.labelled].mean() >= MOSTLY and _told(values, task, task.labelled & there) > NEARLY:
        return True
    return len(task.classes) > 0 and _told(there.astype(float), task, task.labelled) > NEARLY


def _told(column: np.ndarray, task: Task, known: np.ndarray) -> float:
    """How well one number a patient orders those `known` (B,) by label, in either direction: .5 to 1 (of a correlation,
    0 to 1)."""
    one_fold = np.zeros(known.sum())
    if task.outputs == 1:
        reached = float(task.ranked(column[known, None], task.y[known], one_fold))
        return max(reached, 2 * CHANCE[task.main] - reached)
    each = [float(auroc(column[known], task.y[known] == k, one_fold)) for k in range(task.outputs)]
    return max(max(value, 1 - value) for value in each)


def shifted(x: np.ndarray, region: np.ndarray, names: Collection[str]) -> list[Note]:
    """A warning of features x (N, F) whose variance lies between regions (N,) more than between the cells of one: they
    may show how regions were stained. None where there is one region."""
    share = _between(x, region)
    extreme = [
        name
        for _, name in sorted(zip(-share, names, strict=True))
        if share[list(names).index(name)] > SHIFTED
    ]
    if not extreme:
        return []
    rest = f" and {len(extreme) - SHOWN} more" if len(extreme) > SHOWN else ""
    listed = ", ".join(f"'{name}'" for name in extreme[:SHOWN]) + rest
    words = f"More than half of the variance lies between regions: {listed}. Staining may differ; try --centre region."
    return [Note("region_shift", words)]


def _between(x: np.ndarray, region: np.ndarray) -> np.ndarray:
    """(F,) share of the variance of each feature that lies between regions, missing values left out."""
    out, count = np.zeros(x.shape[1]), region.max() + 1
    for f, column in enumerate(x.T):
        known = ~np.isnan(column)
        values, at = column[known].astype(float), region[known]
        n = np.bincount(at, minlength=count)
        mean = np.bincount(at, values, count) / np.maximum(n, 1)
        whole = values.var()
        out[f] = (n @ (mean - values.mean()) ** 2) / max(n.sum(), 1) / whole if whole > 0 else 0
    return out
