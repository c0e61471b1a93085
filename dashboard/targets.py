"""Which patient columns could be a target, likely ones first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from milcore.cohort import Cohort, Note

MOST_LABELS = 10  # a column with more is a measurement or an id
TIME = re.compile("time|days|months|weeks|years|follow|surviv|pfs|dfs|^os")
OUTCOME = re.compile(
    "respon|outcome|label|status|group|diagnos|recur|relaps|progress|class|type|archit|grade|stage|target|event|surviv"
)
ASIDE = re.compile("batch|site|slide|plate|run|sex|gender|age|center|centre|scanner|date|hospital|core|tma")


@dataclass(frozen=True)
class Target:
    """A patient column that can be predicted: how many patients carry each label (of a number: none listed), and how
    many have none. `kinds`: what it may be taken as (binary, multiclass, regression, survival), the usual first."""

    name: str
    counts: dict[str, int]
    unlabelled: int
    kinds: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        return sorted(self.counts)


def barred(cohort: Cohort, *predicted: str | None) -> Note | None:
    """What forbids training on a cohort as it is, if anything does: whatever is predicted, or these columns."""
    grave = [note for note in cohort.notes if note.severity == "stop"]
    return next((note for note in grave if not note.target or note.target in predicted), None)


def targets(cohort: Cohort) -> list[Target]:
    """Columns with 2 to 10 labels, two of which at least 3 patients carry, and columns of numbers; likely outcomes
    first."""
    from milcore.labels import LEAST_VALUES
    from milcore.tasks import MIN_PATIENTS, as_text

    found, timed = [], bool(times(cohort))
    for name in cohort.patients.columns:
        if name in ("patient", "region"):
            continue
        text = as_text(cohort.patients[name])
        counts = pd.Series(text[text != ""], dtype="str").value_counts()
        missing = int((text == "").sum())
        number = pd.api.types.is_numeric_dtype(cohort.patients[name]) and len(text) - missing >= LEAST_VALUES
        if 2 <= len(counts) <= MOST_LABELS and (counts >= MIN_PATIENTS).sum() >= 2:
            several = len(counts) > 2
            kinds = ["multiclass", "binary"] if several else ["binary"]
            kinds += ["regression"] if several and number else ["survival"] if timed and not several else []
            found.append(
                Target(str(name), {str(k): int(v) for k, v in counts.items()}, missing, tuple(kinds))
            )
        elif number and len(counts) > MOST_LABELS:
            found.append(Target(str(name), {}, missing, ("regression",)))
    return sorted(found, key=_rank)


def times(cohort: Cohort) -> list[str]:
    """Columns of numbers that can be the time of a survival, likely ones first."""
    numbers = cohort.patients.select_dtypes("number")
    names = [
        str(name)
        for name in numbers
        if numbers[name].nunique() > MOST_LABELS and (numbers[name].dropna() >= 0).all()
    ]
    return sorted(names, key=lambda name: not TIME.search(name.casefold()))


def _rank(target: Target) -> tuple[bool, int, int, int]:
    plain = target.name.casefold()
    kind = 2 if ASIDE.search(plain) else 0 if OUTCOME.search(plain) else 1
    return target.kinds == ("regression",), kind, len(target.counts), target.unlabelled
