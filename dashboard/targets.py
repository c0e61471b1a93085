"""Which patient columns could be a target, likely ones first, and what so many patients can show."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from milcore.cohort import Cohort

MOST_LABELS = 12  # a column with more is a measurement or an id
OUTCOME = re.compile(
    "respon|outcome|label|status|group|diagnos|recur|relaps|progress|class|type|archit|grade|stage|target|event|surviv"
)
ASIDE = re.compile("batch|site|slide|plate|run|sex|gender|age|center|centre|scanner|date|hospital|core|tma")


@dataclass(frozen=True)
class Target:
    """A patient column with labels: how many patients carry each, and how many have none."""

    name: str
    counts: dict[str, int]
    unlabelled: int

    @property
    def labels(self) -> list[str]:
        return sorted(self.counts)


def targets(cohort: Cohort) -> list[Target]:
    """Columns with 2 to 12 labels, two of which at least 3 patients carry; likely outcomes first."""
    from milcore.tasks import MIN_PATIENTS, as_text

    found = []
    for name in cohort.patients.columns:
        if name in ("patient", "region"):
            continue
        text = as_text(cohort.patients[name])
        counts = pd.Series(text[text != ""], dtype="str").value_counts()
        if 2 <= len(counts) <= MOST_LABELS and (counts >= MIN_PATIENTS).sum() >= 2:
            found.append(
                Target(str(name), {str(k): int(v) for k, v in counts.items()}, int((text == "").sum()))
            )
    return sorted(found, key=_rank)


def _rank(target: Target) -> tuple[int, int, int]:
    plain = target.name.casefold()
    kind = 2 if ASIDE.search(plain) else 0 if OUTCOME.search(plain) else 1
    return kind, len(target.counts), target.unlabelled


def reach(first: int, second: int) -> str:
    """What classes of these sizes can show, in words.

    Under no signal the AUROC has variance (m + n + 1) / 12mn (Mann and Whitney 1947); at 0.8 Hanley and McNeil 1982;
    both as much wider as cross-validation usually makes them.
    """
    from milcore.validation import WIDENED

    lucky = 0.5 + 1.96 * math.sqrt(WIDENED * (first + second + 1) / (12 * first * second))
    if lucky >= 0.99:
        return f"With {first} and {second} patients no AUROC can be told from luck."
    q1, q2, a = 0.8 / 1.2, 2 * 0.64 / 1.8, 0.8
    spread = a * (1 - a) + (first - 1) * (q1 - a * a) + (second - 1) * (q2 - a * a)
    wide = 1.96 * math.sqrt(WIDENED * spread / (first * second))
    words = (
        f"With {first} and {second} patients, a model that knows nothing reaches an AUROC of {lucky:.2f} by luck "
        f"in one run of 40; an AUROC of 0.80 would carry an interval of about ±{wide:.2f}."
    )
    if min(first, second) < 10:
        words += " With fewer than 10 patients in a class this is exploratory: it allows no claim."
    return words
