"""Reading a column of labels: which kind of label it holds, which class is positive, and whether it is enough."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from milcore.errors import MilError
from milcore.tasks import LEAST_EVENTS, MIN_PATIENTS, Binary, Multiclass, Regression, Survival, Task, as_text

__all__ = ["LEAST_VALUES", "binary", "read_task", "relabelled"]

MOST_CLASSES = 10  # a column of numbers with more different values is a measurement
LEAST_VALUES = 10  # patients with a value for regression
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


def read_task(
    labels: pd.Series,
    *,
    target: str,
    kind: str = "auto",
    positive: str | None = None,
    times: pd.Series | None = None,
    time: str | None = None,
    groups: np.ndarray | None = None,
) -> Task:
    """Reads a column of labels (and of `times`, named `time`, for survival); missing, blank and infinite ones count as
    no label. `kind` auto: survival where a time is given, classes where there are few different values, else a number.

    MilError unless there is enough to learn from: 3 patients of every class (`groups` (B,) where bags are not
    patients), 10 patients with different values, or 5 events.
    """
    if kind == "auto":
        kind = "survival" if time is not None else _kind(labels)
    if time is not None and kind != "survival":
        problem = f"A time has no use in {kind}."
        raise MilError(problem, f"--time {time}", "Leave it out, or choose --task survival.")
    if positive is not None and kind != "binary":
        problem = f"No class is positive in {kind}."
        raise MilError(problem, f"--positive {positive}", "Leave --positive out.")
    if kind == "survival":
        if times is None:
            problem = "Survival needs a time."
            raise MilError(problem, "--time", "Name the column of times with --time.")
        return _survival(labels, times, target=target, time=str(time))
    if kind == "regression":
        return _regression(labels, target=target)
    if kind == "multiclass":
        return _multiclass(labels, target=target, groups=groups)
    return binary(labels, target=target, positive=positive, groups=groups)


def relabelled(
    kind: str, classes: Sequence[str], target: str, *, labels: pd.Series, times: pd.Series | None = None
) -> Task:
    """The task of a trained model with the labels of other patients, of whom any may have none. Class labels that the
    model does not know and texts where numbers are needed count as none."""
    if kind == "regression":
        return Regression(target, _fixed(_numbers(labels)[0]))
    if kind == "survival":
        time = np.full(len(labels), np.nan) if times is None else _numbers(times)[0]
        y = np.stack([time, _events(labels, target)], 1)
        y[np.isnan(y).any(1)] = np.nan
        return Survival(target, _fixed(y))
    place = {label: float(k) for k, label in enumerate(classes)}
    y = _fixed(np.array([place.get(label, np.nan) for label in as_text(labels)]))
    return Binary(tuple(classes), y) if kind == "binary" else Multiclass(tuple(classes), y)


def _kind(labels: pd.Series) -> str:
    text = as_text(labels)
    different = len(set(text) - {""})
    if different > MOST_CLASSES and len(_numbers(labels)[1]) == 0:
        return "regression"
    return "multiclass" if different > 2 else "binary"


def binary(
    labels: pd.Series, *, target: str, positive: str | None = None, groups: np.ndarray | None = None
) -> Binary:
    """Reads a column of two labels, as `read_task`; MilError also where `positive` is not one of them."""
    text = as_text(labels)
    counts = _counts(text, groups)
    classes = sorted(counts.index)
    if len(classes) != 2:
        raise _not_two(target, counts)
    if positive is not None and positive not in classes:
        problem = f"'{positive}' is not a label of '{target}'."
        raise MilError(problem, f"Labels: {_listed(classes)}", "Give one of these as --positive.")
    _enough(counts, target)
    yes = positive if positive is not None else _positive(counts)
    no = next(c for c in classes if c != yes)
    return Binary((no, yes), _fixed(np.where(text == yes, 1.0, np.where(text == no, 0.0, np.nan))))


def _multiclass(labels: pd.Series, *, target: str, groups: np.ndarray | None) -> Multiclass:
    text = as_text(labels)
    counts = _counts(text, groups)
    if len(counts) < 3:
        problem = f"'{target}' has {len(counts)} different labels; multiclass needs three or more."
        raise MilError(problem, f"Patients per label: {_counted(counts)}", "Choose --task auto.")
    _enough(counts, target)
    classes = tuple(sorted(counts.index))
    place = {label: float(k) for k, label in enumerate(classes)}
    return Multiclass(classes, _fixed(np.array([place.get(label, np.nan) for label in text])))


def _regression(labels: pd.Series, *, target: str) -> Regression:
    values, odd = _numbers(labels)
    if len(odd):
        problem = f"'{odd[0]}' in '{target}' is not a number."
        raise MilError(problem, f"{len(odd)} such value(s)", "Mend them, or choose --task multiclass.")
    known = values[~np.isnan(values)]
    if len(known) < LEAST_VALUES or len(set(known)) < 3:
        problem = (
            f"'{target}' has {len(known)} value(s), {len(set(known))} different; {LEAST_VALUES} are needed."
        )
        raise MilError(problem, "--task regression", "Add patients or choose another target.")
    return Regression(target, _fixed(values))


def _survival(labels: pd.Series, times: pd.Series, *, target: str, time: str) -> Survival:
    t, odd = _numbers(times)
    if len(odd):
        problem = f"'{odd[0]}' in '{time}' is not a number."
        raise MilError(problem, "--time", "Times must be numbers, such as days.")
    if (t < 0).any():
        problem = f"{t[t < 0][0]:g} in '{time}' is negative."
        raise MilError(problem, "--time", "Mend it; times count from the start.")
    event = _events(labels, target)
    if (event == 1).sum() < LEAST_EVENTS:
        problem = f"'{target}' has {int((event == 1).sum())} event(s); {LEAST_EVENTS} are needed."
        raise MilError(
            problem, "An event is 1, yes, true or dead.", "Add patients, or check what the column means."
        )
    y = np.stack([t, event], 1)
    y[np.isnan(y).any(1)] = np.nan
    if (y[:, 1] == 1).sum() < LEAST_EVENTS:
        problem = f"Only {int((y[:, 1] == 1).sum())} event(s) of '{target}' have a time in '{time}'."
        raise MilError(problem, f"{LEAST_EVENTS} are needed.", "Fill in the times.")
    return Survival(target, _fixed(y))


def _events(labels: pd.Series, target: str) -> np.ndarray:
    """(B,) 1 where the event happened, 0 where not, NaN where unknown."""
    text = as_text(labels)
    different = sorted(set(text) - {""})
    if len(different) > 2:
        problem = f"'{target}' has {len(different)} different values; an event happened or not."
        raise MilError(problem, f"Values: {_listed(different[:8])}", "Name a column of 0 and 1 as --target.")
    happened = [label for label in different if _sounds_positive(label)]
    if len(different) == 2 and len(happened) != 1:
        problem = f"It is not clear which of {_listed(different)} in '{target}' is the event."
        raise MilError(problem, "--target", "Use 1 where it happened and 0 where it did not.")
    return np.where(text == "", np.nan, np.isin(text, happened).astype(float))


def _numbers(labels: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Values (B,), NaN where missing or infinite; and the texts that are not numbers."""
    text = as_text(labels)
    values = pd.to_numeric(pd.Series(text), errors="coerce").to_numpy(float, copy=True)
    odd = text[np.isnan(values) & (text != "") & (np.char.lower(text) != "nan")]
    values[~np.isfinite(values)] = np.nan
    return values, odd


def _fixed(y: np.ndarray) -> np.ndarray:
    y.flags.writeable = False
    return y


def _counts(text: np.ndarray, groups: np.ndarray | None) -> pd.Series:
    """Patients of each label."""
    rows = pd.DataFrame({"label": text, "group": np.arange(len(text)) if groups is None else groups})
    return rows[text != ""].drop_duplicates()["label"].value_counts()


def _enough(counts: pd.Series, target: str) -> None:
    if counts.min() < MIN_PATIENTS:
        problem = f"Class '{counts.idxmin()}' of '{target}' has {counts.min()} patient(s); {MIN_PATIENTS} are needed."
        keep = "Keep the larger classes with --classes A,B, add" if len(counts) > 2 else "Add"
        fix = f"{keep} patients, or choose another target."
        raise MilError(problem, f"Patients per label: {_counted(counts)}", fix)


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
        problem,
        f"Patients per label: {_counted(counts)}",
        "Keep two of them with --classes A,B, or choose --task multiclass.",
    )


def _counted(counts: pd.Series) -> str:
    shown = ", ".join(f"{label} {n}" for label, n in counts.head(8).items())
    return shown + (", ..." if len(counts) > 8 else "")


def _listed(labels: list[str]) -> str:
    return ", ".join(f"'{label}'" for label in labels)
