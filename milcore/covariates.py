"""What is known of patients beside their cells: age, sex, stage, grade, site, batch, as rows of numbers.

Recognised by name, or named by the user. A column that itself tells of an outcome explains nothing and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.folds import Plan
from milcore.neighbourhood import fit
from milcore.tasks import Task, as_text

__all__ = ["BATCH", "Covariates", "covariates", "encoded", "others", "with_cells"]

BATCH = re.compile(
    r"batch|site|scanner|slide|plate|run|centre|center|hospital|institution|stain|tma|panel", re.IGNORECASE
)
USUAL = frozenset(
    ("age", "sex", "gender", "stage", "grade", "tnm", "bmi", "smoking", "smoker")
)  # words of a name
OUTCOME = re.compile(
    r"respon|outcome|surviv|recur|relaps|progress|dead|death|died|deceas|event|censor|follow|status|label"
    r"|(^|_)(os|pfs|dfs|rfs|efs)(_|$)|days|months",
)
MOST_LEVELS = 10  # of text
COST = 10.0  # inverse ridge of covariates joined with the cells' score: all are few, and standardised


@dataclass(frozen=True)
class Covariates:
    """`columns`: name -> (B, any) numbers; `excluded`: name -> why, of columns that might have been taken for one."""

    columns: dict[str, np.ndarray]
    excluded: dict[str, str]

    @property
    def together(self) -> np.ndarray:
        """(B, any) all of them side by side."""
        return np.hstack(list(self.columns.values()))


def covariates(cohort: Cohort, task: Task, *, asked: Collection[str], labels: Collection[str]) -> Covariates:
    """Exactly the `asked` patient columns, else those whose name means one; `labels` names the target and its time.

    MilError for an asked column that is missing or is the target.
    """
    there = others(cohort, labels)
    for name in asked:
        if name not in there:
            what = "part of the label itself" if name in labels else "no column of the patients"
            problem = f"'{name}' is {what}."
            raise MilError(problem, "--covariates", f"Patient columns: {', '.join(there[:12]) or 'none'}.")
    found, excluded = {}, {}
    for name in asked or there:
        outcome = not asked and OUTCOME.search(_words(name)) is not None
        if not asked and not outcome and not _recognised(name):
            continue
        why = "tells of an outcome" if outcome else _unfit(cohort.patients[name], task)
        if why:
            excluded[name] = why
        else:
            found[name] = encoded(cohort.patients[name])
    return Covariates(found, excluded)


def others(cohort: Cohort, labels: Collection[str]) -> list[str]:
    """Patient columns beside names and labels."""
    return [str(name) for name in cohort.patients if name not in ("patient", "region", *labels)]


def _words(name: str) -> str:
    """'AgeAtDiagnosis' and 'Age at diagnosis' to 'age_at_diagnosis'."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


def _recognised(name: str) -> bool:
    words = _words(name)
    return bool(USUAL & set(words.split("_"))) or BATCH.search(words) is not None


def _unfit(column: pd.Series, task: Task) -> str:
    """Why a column cannot be a covariate; empty if it can."""
    levels = len(set(as_text(column)[task.labelled]) - {""})
    if levels < 2:
        return "is the same for everyone"
    if _number(column) or levels <= min(MOST_LEVELS, task.labelled.sum() / 3):
        return ""
    return f"has {levels} different texts"


def _number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def encoded(column: pd.Series) -> np.ndarray:
    """(B, any) a number as it is, beside whether it is missing; a text as one column for each level, none of them
    missing."""
    if not _number(column):
        return pd.get_dummies(pd.Series(as_text(column))).to_numpy(float)
    values = column.to_numpy(float, na_value=np.nan, copy=True)
    gone = ~np.isfinite(values)
    values[gone] = np.nanmean(np.where(gone, np.nan, values)) if not gone.all() else 0.0
    return np.column_stack([values, gone]) if gone.any() else values[:, None]


def with_cells(known: np.ndarray, inner: np.ndarray, level: np.ndarray, plan: Plan, task: Task) -> np.ndarray:
    """(R, B, K) out-of-fold scores of a ridge regression on covariates (B, any) and the cells' score.

    For the training patients of fold f the score is held out inside, `inner` (R, folds, B, K), else it would promise
    too much of the cells; for the patients of f it is their own out-of-fold one, `level` (R, B, K).
    """
    out = np.empty((plan.repeats, len(known), task.outputs))
    z = _standard(known)
    for r in range(plan.repeats):
        train = np.stack([plan.training(r, (f,)) for f in range(plan.folds)])
        kernels = []
        for f in range(plan.folds):
            cells = np.where((plan.fold[r] == f)[:, None], level[r], inner[r, f])
            both = np.hstack([z, _standard(np.nan_to_num(cells), among=train[f])])
            kernels.append(both @ both.T / both.shape[1])
        every = np.stack(kernels)
        models = fit(every, np.arange(plan.folds), np.full(plan.folds, COST), train, task)
        out[r] = models.scores(every)[plan.fold[r], np.arange(len(z))]
    return out


def _standard(values: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Columns with mean 0 and sd 1 over the patients `among`; constant ones 0."""
    some = values if among is None else values[among]
    sd = some.std(0)
    return np.where(sd > 0, (values - some.mean(0)) / np.where(sd > 0, sd, 1), 0)
