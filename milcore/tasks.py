"""Everything that differs by kind of label: how it is read, its loss, its link, and its words.

A task turns a score (one number a patient, linear in the evidence of the cells) into a prediction and compares it
with the label. Everything else in milcore is the same for all tasks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from milcore.errors import MilError

__all__ = ["MIN_PATIENTS", "Binary", "as_text", "binary"]

MIN_PATIENTS = 3  # in the smallest class: fewer cannot be in three folds

POSITIVE_WORDS = frozenset(
    [
        "yes",
        "y",
        "true",
        "t",
        "1",
        "1.0",
        "positive",
        "pos",
        "+",
        "responder",
        "response",
        "responding",
        "case",
        "disease",
        "diseased",
        "patient",
        "tumor",
        "tumour",
        "cancer",
        "malignant",
        "relapse",
        "relapsed",
        "recurrence",
        "recurrent",
        "progression",
        "progressed",
        "dead",
        "death",
        "died",
        "deceased",
        "event",
        "mutated",
        "mutant",
        "high",
        "treated",
    ]
)
NEGATION = re.compile(r"^(non|no|not)[\s_-]+|^non(?=[a-z])")


@dataclass(frozen=True, eq=False)
class Binary:
    """Two classes. The score is the log-odds of the positive one, the prediction its probability.

    `classes` are (negative, positive); `y` (B,) is 1 for positive, 0 for negative, NaN without a label.
    """

    classes: tuple[str, str]
    y: np.ndarray

    name = "binary"

    @property
    def positive(self) -> str:
        return self.classes[1]

    @property
    def labelled(self) -> np.ndarray:
        """(B,) which patients have a label."""
        return ~np.isnan(self.y)

    @property
    def strata(self) -> np.ndarray:
        """(B,) the class that folds are balanced over; -1 without a label."""
        return np.where(self.labelled, np.nan_to_num(self.y), -1).astype(int)

    @staticmethod
    def link(score: np.ndarray) -> np.ndarray:
        """Score to probability."""
        return 1 / (1 + np.exp(-np.clip(score, -700, 700)))

    @staticmethod
    def loss(score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-loss of each score, same shape."""
        return functional.softplus(score) - y * score

    @staticmethod
    def total_loss(score: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Log-loss summed over the last axis."""
        return (np.logaddexp(0, score) - y * score).sum(-1)

    @staticmethod
    def newton(score: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient of the log-likelihood and its negative second derivative at each score."""
        p = Binary.link(score)
        return y - p, np.maximum(p * (1 - p), 1e-10)

    def words(self) -> np.ndarray:
        """(B,) labels as text, "" without one."""
        return np.where(self.labelled, np.array(self.classes)[np.nan_to_num(self.y).astype(int)], "")


def binary(
    labels: pd.Series, *, target: str, positive: str | None = None, groups: np.ndarray | None = None
) -> Binary:
    """Reads a column of two labels; missing, blank and infinite ones count as no label.

    MilError unless there are exactly two labels, each with at least 3 patients (`groups` (B,) where bags are not
    patients), and `positive` is one of them.
    """
    text = as_text(labels)
    rows = pd.DataFrame({"label": text, "group": np.arange(len(text)) if groups is None else groups})
    counts = rows[text != ""].drop_duplicates()["label"].value_counts()
    classes = sorted(counts.index)
    if len(classes) != 2:
        raise _not_two(target, counts)
    if positive is not None and positive not in classes:
        problem = f"'{positive}' is not a label of '{target}'."
        raise MilError(problem, f"Labels: {_listed(classes)}", "Give one of these as --positive.")
    if counts.min() < MIN_PATIENTS:
        problem = f"Class '{counts.idxmin()}' of '{target}' has {counts.min()} patient(s); {MIN_PATIENTS} are needed."
        raise MilError(
            problem, f"Patients per label: {_counted(counts)}", "Add patients or choose another target."
        )
    yes = positive if positive is not None else _positive(counts)
    no = next(c for c in classes if c != yes)
    y = np.where(text == yes, 1.0, np.where(text == no, 0.0, np.nan))
    y.flags.writeable = False
    return Binary((no, yes), y)


def as_text(labels: pd.Series) -> np.ndarray:
    """Labels as stripped text, "" where missing; whole numbers without a decimal point."""
    if pd.api.types.is_numeric_dtype(labels) and not pd.api.types.is_bool_dtype(labels):
        numbers = labels.to_numpy(float, na_value=np.nan, copy=True)
        numbers[~np.isfinite(numbers)] = np.nan
        known = numbers[~np.isnan(numbers)]
        if (known == np.round(known)).all():
            return np.array(["" if np.isnan(v) else str(int(v)) for v in numbers])
        return np.array(["" if np.isnan(v) else repr(float(v)) for v in numbers])
    return labels.astype("string").str.strip().fillna("").to_numpy(str)


def _positive(counts: pd.Series) -> str:
    """The label a word list calls positive, else the rarer, else the later one."""
    named = [label for label in sorted(counts.index) if _sounds_positive(label)]
    if len(named) == 1:
        return named[0]
    first, second = sorted(counts.index)
    return first if counts[first] < counts[second] else second


def _sounds_positive(label: str) -> bool:
    plain = label.strip().casefold()
    bare = NEGATION.sub("", plain)
    words = re.split(r"[\s_]+", bare)
    return bare == plain and any(word in POSITIVE_WORDS for word in words)


def _not_two(target: str, counts: pd.Series) -> MilError:
    if len(counts) == 0:
        return MilError(f"'{target}' has no labels.", "Every value is missing.", "Choose another target.")
    if len(counts) == 1:
        problem = f"'{target}' has one class only: '{counts.index[0]}' ({counts.iloc[0]} patients)."
        return MilError(problem, "A model needs two to tell apart.", "Choose another target.")
    problem = f"'{target}' has {len(counts)} different labels; two are needed."
    return MilError(
        problem, f"Patients per label: {_counted(counts)}", "Keep two of them with --classes A,B."
    )


def _counted(counts: pd.Series) -> str:
    shown = ", ".join(f"{label} {n}" for label, n in counts.head(8).items())
    return shown + (", ..." if len(counts) > 8 else "")


def _listed(labels: list[str]) -> str:
    return ", ".join(f"'{label}'" for label in labels)
