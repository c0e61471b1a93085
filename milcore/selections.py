"""Some chosen cells: how they differ from the others, and what scores would be if they did not count.

Patients are the unit throughout. Nothing is trained again: model, features and neighbours stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from milcore.case import Case, case_of
from milcore.cohort import Cohort
from milcore.effects import leading_without
from milcore.evidence import leave_group_out
from milcore.preprocess import Moments, Preparation, moments, preparation
from milcore.tasks import KINDS

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["Without", "cohort_without", "differences", "patient_without"]

FEWEST = 3  # cells on either side from which a patient says how they differ
DRAWS = 50  # random removals of the same size


def differences(analysis: Analysis, chosen: np.ndarray, other: np.ndarray | None = None) -> pd.DataFrame:
    """How chosen cells (N,) differ from `other` ones, by default all others: the difference of means within each
    patient, in standard deviations of all cells, averaged over the patients that have FEWEST cells of both.

    Columns `feature`, `difference`, `low`, `high` (95 %, t over patients; NaN with one), `patients`; the largest first.
    Features are transformed as in the analysis, not centred.
    """
    cohort, kept = analysis.cohort, analysis.cells["evidence"].notna().to_numpy()
    prepared, every = _scaled(cohort, analysis.settings.transform)
    inside = _sums(cohort, prepared, chosen & kept)
    outside = _sums(cohort, prepared, other & kept & ~chosen) if other is not None else _rest(every, inside)
    spread = every.scale(np.ones((1, cohort.B), bool))[1][0]
    both = (inside.count >= FEWEST) & (outside.count >= FEWEST)
    means = [one.total / np.maximum(one.count, 1) for one in (inside, outside)]
    each = pd.DataFrame(np.where(both, (means[0] - means[1]) / spread, np.nan)).groupby(cohort.groups).mean()
    n = each.notna().sum().to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * each.std().to_numpy() / np.sqrt(n)
    mean = each.mean().to_numpy()
    table = pd.DataFrame(
        {"feature": cohort.names, "difference": mean, "low": mean - half, "high": mean + half}
    )
    order = table["difference"].abs().sort_values(ascending=False, kind="stable").index
    return table.assign(patients=n).loc[order].dropna(subset=["difference"]).reset_index(drop=True)


@lru_cache(maxsize=2)
def _scaled(cohort: Cohort, transform: str) -> tuple[Preparation, Moments]:
    """How the features are transformed, and their sums over every patient's cells."""
    prepared = preparation(cohort, transform=transform)
    return prepared, moments(prepared.apply(cohort), cohort.offsets)


def _sums(cohort: Cohort, prepared: Preparation, cells: np.ndarray) -> Moments:
    """The sums (B, F) over some cells (N,) of every patient."""
    rows = np.flatnonzero(cells)
    x = prepared.values(np.asarray(cohort.features[rows])).astype(float)
    known = np.isfinite(x)
    owner = pd.Series(cohort.owner[rows])
    every = pd.RangeIndex(cohort.B)
    count, total = (
        pd.DataFrame(part).groupby(owner.to_numpy()).sum().reindex(every, fill_value=0).to_numpy(float)
        for part in (known, np.where(known, x, 0))
    )
    return Moments(count, total, np.zeros_like(total))


def _rest(every: Moments, inside: Moments) -> Moments:
    return Moments(every.count - inside.count, every.total - inside.total, every.square)


# ---------------------------------------------------------------- what if


@dataclass(frozen=True)
class Without:
    """A figure before and without some cells, and `low`, `high`: where it would lie without as many cells taken at
    random (95 %; NaN where that was not asked). NaN where there is no way to say. `patients`: how many it is of;
    `emptied`: how many would have no cell left."""

    before: float
    after: float
    low: float = np.nan
    high: float = np.nan
    patients: int = 1
    emptied: int = 0


def cohort_without(analysis: Analysis, chosen: np.ndarray) -> Without:
    """The leading score, as the verdict has it, if chosen cells (N,) did not count; NaN of new patients."""
    if "folds" not in analysis.facts:
        return Without(np.nan, np.nan, patients=0)
    case, lost = _case(analysis), analysis.lost(chosen)
    before, after = leading_without(case, analysis.score, lost)
    emptied = np.isnan(lost).any((0, 2))
    counted = int((case.task.labelled & ~emptied).sum())
    return Without(before, after, patients=counted, emptied=int(emptied.sum()))


@lru_cache(maxsize=4)
def _case(analysis: Analysis) -> Case:
    return case_of(analysis.cohort, analysis.settings)


def patient_without(analysis: Analysis, b: int, chosen: np.ndarray, *, seed: int = 0) -> Without:
    """The prediction of patient b (of several classes, of the predicted one) if its chosen cells (N,) did not count,
    beside DRAWS removals of as many of its cells by chance."""
    rows, output = analysis.cohort.rows(b), int(analysis.outputs[b])
    gone, link = chosen[rows], KINDS[analysis.facts["task"]].link
    level = analysis.score[:, b].mean(0) + analysis.mixture.base[:, b].mean()
    draw = np.random.default_rng([seed, 11, b])
    by_chance = np.argsort(draw.random((DRAWS, len(gone))), 1) < gone.sum()
    lost = np.stack([_lost(analysis, b, one) for one in (gone, *by_chance)])
    before, (after, *others) = link(level)[output], link(level - lost)[:, output]
    low, high = np.quantile(others, [0.025, 0.975])
    return Without(float(before), float(after), float(low), float(high))


def _lost(analysis: Analysis, b: int, gone: np.ndarray) -> np.ndarray:
    """(K,) mean over repeats of what the score of patient b loses without the cells `gone` (n,) of its own."""
    rows, R = analysis.cohort.rows(b), len(analysis.mixture.a)
    each = [
        analysis.mixture.b[m, r, b] * leave_group_out(member, r, rows, gone, b)
        for m, member in enumerate(analysis.members.values())
        for r in range(R)
    ]
    return np.sum(each, 0) / R
