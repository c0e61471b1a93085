"""Two analyses of one cohort side by side: their settings and scores, and whether they agree on patients and cells."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from dashboard import theme

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.case import Case

__all__ = ["Agreement", "agreement", "difference", "same_cohort", "same_question", "side_by_side"]


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of cell evidence within patients: `median`, and where the middle half of the `patients` lies;
    `predictions` is that of the patients' scores."""

    median: float
    low: float
    high: float
    patients: int
    predictions: float


def same_cohort(first: Analysis, second: Analysis) -> bool:
    """Whether both speak of the same cells, out of fold: never of new patients, whose models may have seen them."""
    one, other = first.facts, second.facts
    new = one.get("new") or other.get("new")
    return not new and one["cohort"]["fingerprint"] == other["cohort"]["fingerprint"]


def same_question(first: Analysis, second: Analysis) -> bool:
    """Whether both predict the same label of the same patients, towards the same side."""
    asked = ("task", "classes", "positive", "towards", "counts")
    same = all(first.facts[name] == second.facts[name] for name in asked)
    return same_cohort(first, second) and first.settings.target == second.settings.target and same


def side_by_side(first: Analysis, second: Analysis) -> pd.DataFrame:
    """A row for each score and for each setting in which they differ: columns `what, first, second`, in words."""
    one, other = first.facts, second.facts
    rows: list[tuple[str, ...]] = [("Verdict", one["verdict"]["words"], other["verdict"]["words"])]
    scores = [facts.get("scores", {}) for facts in (one, other)]
    for name in dict.fromkeys([*scores[0], *scores[1]]):
        both = [_said(known.get(name)) for known in scores]
        rows.append((theme.score_name(name), *both))
    mine, its = first.settings.to_json(), second.settings.to_json()
    rows += [(name, _plain(mine[name]), _plain(its[name])) for name in mine if mine[name] != its[name]]
    return pd.DataFrame(rows, columns=["what", "first", "second"])


def _said(score: dict[str, Any] | None) -> str:
    return theme.interval(score) if score else "n/a"


def _plain(value: Any) -> str:
    return (
        ", ".join(value) if isinstance(value, (list, tuple)) else "not set" if value is None else str(value)
    )


def difference(first: Analysis, second: Analysis) -> dict[str, float] | None:
    """{value, se}: the leading score of the first less that of the second, paired by patient, each under its own folds;
    the jackknife's standard error (see `milcore.validation.difference`). None where they ask different questions."""
    from milcore.case import case_of
    from milcore.validation import difference as paired

    if not same_question(first, second):
        return None
    one, other = (case_of(each.cohort, each.settings) for each in (first, second))
    return paired(_level(first, one), _level(second, other), one.plan, one.task, other_plan=other.plan)


def _level(analysis: Analysis, case: Case) -> np.ndarray:
    """(R, B, K) out-of-fold scores as the link takes them, of every repeat; 0 for patients left out."""
    from milcore.evidence import member_scores

    mixture, offsets = analysis.mixture, analysis.cohort.offsets
    score = mixture.a + mixture.base[..., None]
    for m, name in enumerate(mixture.members):
        score = score + mixture.b[m][..., None] * member_scores(analysis.members[name], offsets)
    return np.where(case.kept[:, None], score, 0.0)


def agreement(first: Analysis, second: Analysis) -> Agreement | None:
    """How alike they rank the cells of each patient by evidence, and the patients by score; None for other
    cohorts, and for new patients."""
    if not same_cohort(first, second):
        return None
    offsets = first.cohort.offsets
    evidence = [each.cells["evidence"].to_numpy(float) for each in (first, second)]
    each = [
        _rank_correlation(*(values[start:stop] for values in evidence)) for start, stop in pairwise(offsets)
    ]
    known = np.array([value for value in each if np.isfinite(value)])
    low, median, high = np.quantile(known, (0.25, 0.5, 0.75)) if len(known) else [np.nan] * 3
    names = ["patient", "region"] if first.cohort.bag == "region" else ["patient"]
    scores = first.predictions.merge(second.predictions, on=names, suffixes=("", "_second"))
    told = _rank_correlation(scores["score"].to_numpy(float), scores["score_second"].to_numpy(float))
    return Agreement(float(median), float(low), float(high), len(known), told)


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's; NaN where fewer than three pairs are there, or one side is all alike."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 3 or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(one[both]), rankdata(other[both]))[0, 1])
