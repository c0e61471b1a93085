"""What phenotypes are worth, with patients as the unit: their shares against the label, their importance, what scores
lose without them, and where they lie in the tissue.

Phenotypes are formed without labels, so their shares may be tested against them; cells chosen by importance may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from milcore.case import Case
from milcore.evidence import by_group
from milcore.measures import concordance
from milcore.phenotypes import Phenotypes
from milcore.stability import ASSESSED
from milcore.stacking import Mixture
from milcore.surroundings import company
from milcore.tasks import Binary, Task
from milcore.training import Member

__all__ = ["Effects", "effects", "in_short", "leading_without", "shares_tested"]

AROUND = 10  # nearest cells that make a cell's company in the tissue
DRAWS = 1000  # of patients, for intervals
TOLD = 8  # markers of a phenotype in analysis.json


@dataclass(frozen=True, eq=False)
class Effects:
    """`table`: one row for each phenotype (phenotypes.csv); `patients`: one for each phenotype of each patient
    (phenotypes_patient.csv); `test`: the name of the test behind p."""

    table: pd.DataFrame
    patients: pd.DataFrame
    test: str


def effects(
    case: Case,
    found: Phenotypes,
    features: tuple[str, ...],
    *,
    members: dict[str, Member],
    mixture: Mixture,
    score: np.ndarray,
) -> Effects:
    """All that is known of every phenotype. `features` name the columns of its markers, `score` (R, B, K) is what the
    phenotypes' contributions sum to."""
    cohort, P = case.cohort, len(found.names)
    place = cohort.owner.astype(np.int64) * P + found.kind
    count = np.bincount(place, minlength=cohort.B * P).reshape(-1, P)
    share = count / count.sum(1, keepdims=True)
    own = score.mean(0).argmax(1)[None, :, None, None]
    contribution, lost = by_group(members, mixture, cohort.offsets, found.kind)
    held = np.take_along_axis(contribution, own, 3)[..., 0]  # (R, B, P)
    effect, p, test = shares_tested(share, case.task, cohort.groups)
    table = pd.DataFrame({"phenotype": found.names, "cells": count[case.kept].sum(0)})
    table["share"] = share[case.kept].mean(0)
    for k, name in enumerate(case.task.classes):
        here = case.kept & (case.task.y == k)  # none of them among new patients without labels
        table[f"share_{name}"] = share[here].mean(0) if here.any() else np.nan
    table["effect"], table["p"], table["fdr"] = effect, p, _fdr(p)
    table = table.join(_importance(held.mean(0), count, case))
    pairs = [leading_without(case, score, lost[:, :, k]) for k in range(P)]
    table["leave_out"] = [before - after for before, after in pairs]
    steady = _steady(held)
    table["stability"] = _share_held(steady[case.kept] == len(held), count[case.kept] > 0, len(held))
    table["nearby"] = _nearby(found, case)
    markers = pd.DataFrame(found.markers, columns=[f"mean {name}" for name in features])
    gone = np.take_along_axis(score[:, :, None] - lost, own, 3)[..., 0].mean(0)
    rows = _per_patient(
        case, found, count, {"contribution": held.mean(0), "score_without": gone, "same_sign": steady}
    )
    return Effects(pd.concat([table, markers], axis=1), rows, test)


def in_short(found: Effects) -> list[dict[str, Any]]:
    """The table as analysis.json has it: numbers or None, and the markers that stand out most."""
    out = []
    markers = [name for name in found.table if name.startswith("mean ")]
    for row in found.table.to_dict("records"):
        order = sorted(markers, key=lambda name: -abs(row[name]))[:TOLD]
        short = {name: _json(value) for name, value in row.items() if name not in markers}
        short["markers"] = {name.removeprefix("mean "): round(float(row[name]), 3) for name in order}
        out.append(short)
    return out


def _json(value: Any) -> Any:
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value


def leading_without(case: Case, score: np.ndarray, lost: np.ndarray) -> tuple[float, float]:
    """The leading score (within folds, mean over repeats) of scores (R, B, K), and of what is left without what they
    lose (R, B, K), over the labelled patients that keep cells; NaN where these lack one of the classes."""
    task = case.task
    able = task.labelled & np.isfinite(lost).all((0, 2))
    if not able.any() or (task.classes and len(np.unique(task.y[able])) < len(task.classes)):
        return float("nan"), float("nan")
    y, fold = task.y[able][None], case.plan.fold[:, able]
    before, after = (task.ranked(s[:, able], y, fold).mean() for s in (score, score - np.nan_to_num(lost)))
    return float(before), float(after)


# ---------------------------------------------------------------- shares against the label


def shares_tested(share: np.ndarray, task: Task, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """How shares (B, P) go with the label: effect (P,) from -1 to 1 (of several classes 0 to 1), p (P,), and the test.

    Patients (`groups` (B,) of bags) are the unit. Bags of one patient under one label count as their mean; under both
    labels of two their difference is tested. NaN where there is no test: a patient's bags under several other labels.
    """
    known = task.labelled
    share, y, groups = share[known], task.y[known], groups[known]
    if len(y) < 3 or len(np.unique(y, axis=0)) < 2:
        nothing = np.full(share.shape[1], np.nan)
        return nothing, nothing, "none: too few labels"
    _, group = np.unique(groups, return_inverse=True)
    if group.max() + 1 < len(group):
        low, high = (_by(group, y, how) for how in ("min", "max"))
        if (low != high).any():
            return _paired(share, y, group, task)
        share, y = _by(group, share, "mean"), low if y.ndim > 1 else low[:, 0]
    columns = [TESTS[task.name](x, y) if np.ptp(x) > 0 else (0.0, 1.0) for x in share.T]
    effect, p = np.array(columns).T
    return effect, p, NAMES[task.name]


def _by(group: np.ndarray, values: np.ndarray, how: str) -> np.ndarray:
    """(groups, any) mean, min or max of the rows (n, any) of each group."""
    return np.asarray(pd.DataFrame(values.reshape(len(values), -1)).groupby(group).agg(how))


def _rank_sum(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    one, other = x[y == 1], x[y == 0]
    found = stats.mannwhitneyu(one, other)
    return 2 * found.statistic / (len(one) * len(other)) - 1, found.pvalue


def _kruskal(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    found = stats.kruskal(*(x[y == k] for k in np.unique(y)))
    return found.statistic / (len(x) - 1), found.pvalue


def _spearman(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    found = stats.spearmanr(x, y)
    return found.statistic, found.pvalue


def _cox_score(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Cox's score test of the ranks of x (ties among times as in Breslow)."""
    rank, (time, event) = stats.rankdata(x), y.T
    risk = (time >= time[:, None]).astype(float)
    n = risk.sum(1)
    mean = risk @ rank / n
    variance = (event * (risk @ rank**2 / n - mean**2)).sum()
    apart = (event * (rank - mean)).sum()
    p = stats.chi2.sf(apart**2 / variance, 1) if variance > 0 else 1.0
    return float(2 * concordance(x, y, np.zeros(len(x))) - 1), float(p)


TESTS = {"binary": _rank_sum, "multiclass": _kruskal, "regression": _spearman, "survival": _cox_score}
NAMES = {
    "binary": "Wilcoxon rank-sum test over patients",
    "multiclass": "Kruskal-Wallis test over patients",
    "regression": "Spearman's rank correlation over patients",
    "survival": "score test of Cox's model on ranks over patients",
}


def _paired(
    share: np.ndarray, y: np.ndarray, group: np.ndarray, task: Task
) -> tuple[np.ndarray, np.ndarray, str]:
    """Wilcoxon's signed-rank test of the difference between a patient's bags of either label."""
    nothing = np.full(share.shape[1], np.nan)
    if not isinstance(task, Binary):
        return nothing, nothing, "none: the samples of a patient differ in label"
    one, other = (pd.DataFrame(share[y == k]).groupby(group[y == k]).mean() for k in (1, 0))
    apart = (one - other).dropna().to_numpy()
    effect, p = np.array([_signed_rank(column) for column in apart.T]).T
    return effect, p, "Wilcoxon signed-rank test within patients"


def _signed_rank(apart: np.ndarray) -> tuple[float, float]:
    apart = apart[apart != 0]
    if not len(apart):
        return 0.0, 1.0
    rank = stats.rankdata(np.abs(apart))
    return float((rank * np.sign(apart)).sum() / rank.sum()), float(stats.wilcoxon(apart).pvalue)


def _fdr(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p (1995) of those that were tested."""
    out, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        out[known] = stats.false_discovery_control(p[known])
    return out


# ---------------------------------------------------------------- importance, stability, place


def _importance(held: np.ndarray, count: np.ndarray, case: Case) -> pd.DataFrame:
    """Mean importance of a phenotype's cells, patients counting alike, with the 95 % range over draws of patients."""
    kept = case.kept
    size = count[kept].sum(1, keepdims=True)
    each = np.divide(held[kept] * size, count[kept], out=np.zeros(count[kept].shape), where=count[kept] > 0)
    _, group = np.unique(case.plan.groups[kept], return_inverse=True)
    n = int(group.max()) + 1
    draws = np.random.default_rng([case.settings.seed, 9]).multinomial(n, np.full(n, 1 / n), DRAWS)[:, group]
    weight = np.vstack([np.ones(len(group)), draws])
    with np.errstate(invalid="ignore"):
        means = (weight @ each) / (weight @ (count[kept] > 0))
    low, high = np.nanquantile(means, [0.025, 0.975], axis=0)
    return pd.DataFrame({"importance": means[0], "importance_low": low, "importance_high": high})


def _steady(held: np.ndarray) -> np.ndarray:
    """(B, P) in how many repeats the contribution (R, B, P) has the sign of its mean."""
    return (np.sign(held) == np.sign(held.mean(0))).sum(0)


def _share_held(holds: np.ndarray, there: np.ndarray, repeats: int) -> np.ndarray:
    """(P,) share of the patients `there` (n, P) in which the sign holds (n, P); NaN with too few repeats."""
    if repeats < ASSESSED:
        return np.full(holds.shape[1], np.nan)
    return (holds & there).sum(0) / np.maximum(there.sum(0), 1)


def _nearby(found: Phenotypes, case: Case) -> np.ndarray:
    """(P,) how much more often than by chance a cell's neighbours in the tissue are of its own phenotype; NaN without
    coordinates."""
    alike, expected = company(found.kind, case.cohort, AROUND)
    able, P = np.isfinite(alike) & case.kept[case.cohort.owner], len(found.names)
    seen, by_chance = (np.bincount(found.kind[able], one[able], P) for one in (alike, expected))
    return np.divide(seen, by_chance, out=np.full(P, np.nan), where=by_chance > 0)


def _per_patient(
    case: Case, found: Phenotypes, count: np.ndarray, values: dict[str, np.ndarray]
) -> pd.DataFrame:
    """One row for each phenotype that a patient who takes part has cells of."""
    b, p = np.nonzero((count > 0) & case.kept[:, None])
    keys = ["patient", "region"] if case.cohort.bag == "region" else ["patient"]
    rows = case.cohort.patients.loc[b, keys].reset_index(drop=True)
    rows["phenotype"] = np.array(found.names)[p]
    rows["cells"], rows["share"] = count[b, p], (count / count.sum(1, keepdims=True))[b, p]
    return rows.assign(**{name: value[b, p] for name, value in values.items()})
