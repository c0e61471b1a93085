"""What drives one patient's score, as small tables: by group of cells, and by the markers of the strongest
cells."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import outcome, theme
from dashboard.colouring import labels, rows_of

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

__all__ = ["by_class", "compared", "grouped", "groups", "profile", "rule", "steady", "what_if"]

REST = "all others"


def groups(analysis: Analysis, patient: str, *, limit: int = 9) -> pd.DataFrame:
    """What drives one patient's score, largest first: columns `group, cells, share, contribution`.

    Groups are the phenotypes; what is left beyond `limit` rows is summed as 'all others', so the contributions
    always sum to the patient's score.
    """
    rows, group = grouped(analysis, patient, limit)
    contribution = analysis.cells["contribution"].to_numpy(dtype=float)[rows]
    table = pd.DataFrame({"group": group, "contribution": contribution}).groupby("group", sort=True)
    table = table["contribution"].agg(["size", "sum"]).reset_index()
    table.columns = ["group", "cells", "contribution"]
    table = table.sort_values("contribution", key=np.abs, ascending=False, kind="stable")
    last = (table["group"] == REST).to_numpy()
    table = pd.concat([table[~last], table[last]], ignore_index=True)
    table["share"] = table["cells"] / max(len(rows), 1)
    return table[["group", "cells", "share", "contribution"]]


def what_if(analysis: Analysis, patient: str, *, limit: int = 9) -> pd.DataFrame:
    """`groups` with the patient's prediction without each group's cells, exactly: column
    `prediction_without`.

    NaN where no cell would be left. Not for cohorts whose regions are what is predicted.
    """
    rows, group = grouped(analysis, patient, limit)
    table = groups(analysis, patient, limit=limit)
    gone = [analysis.without(rows[group == name]) for name in table["group"]]
    return table.assign(prediction_without=[float(after["prediction_without"].iloc[0]) for after in gone])


def compared(analysis: Analysis) -> list[str]:
    """Those of `outcome.groups` that have patients; "" alone, the patients without a label, where none has."""
    there = set(labels(analysis))
    return [name for name in outcome.groups(analysis.facts) if name in there] or [""]


def by_class(analysis: Analysis) -> pd.DataFrame:
    """What phenotypes contribute, patients as the unit: one row for each, largest difference first.

    Columns `group`; for each c of `compared` `contribution c` (mean over its patients of the phenotype's summed
    contribution) and `share c` (mean share of cells). Descriptive: contributions are judged with the outcome in view.
    """
    cohort, types = analysis.cohort, analysis.cells["phenotype"].cat
    known = types.codes.to_numpy() >= 0
    at = cohort.owner[known], types.codes.to_numpy()[known]
    summed, counted = np.zeros((2, cohort.B, len(types.categories)))
    np.add.at(summed, at, analysis.cells["contribution"].to_numpy(dtype=float)[known])
    np.add.at(counted, at, 1)
    counted /= np.maximum(counted.sum(axis=1, keepdims=True), 1)
    label, table = labels(analysis), pd.DataFrame({"group": types.categories.astype(str)})
    names = compared(analysis)
    for name in names:
        table[f"contribution {name}"] = summed[label == name].mean(axis=0)
        table[f"share {name}"] = counted[label == name].mean(axis=0)
    means = table[[f"contribution {name}" for name in names]].to_numpy()
    gap = pd.Series(np.ptp(means, axis=1) if len(names) > 1 else np.abs(means[:, 0]))
    return table.loc[gap.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def steady(analysis: Analysis, patient: str, *, top: int = 50) -> tuple[int, int]:
    """Of the patient's `top` cells by size of importance: how many have evidence of one sign in every
    repeat, of how many."""
    rows = rows_of(analysis.cohort, patient)
    importance = np.nan_to_num(analysis.cells["importance"].to_numpy(dtype=float)[rows])
    cells = rows[np.argsort(-np.abs(importance), kind="stable")[:top]]
    owner, mixture = analysis.cohort.owner[cells], analysis.mixture
    output = analysis.outputs[owner]
    evidence = mixture.a[:, owner, output].astype(float)  # (R, top)
    for m, name in enumerate(mixture.members):
        evidence += mixture.b[m][:, owner] * analysis.members[name].evidence[:, cells, output]
    signs = np.sign(evidence)
    return int((signs == signs[0]).all(axis=0).sum()), len(cells)


def grouped(analysis: Analysis, patient: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The patient's cells and the group of each; all but the `limit` - 1 weightiest groups are folded into
    one."""
    rows = rows_of(analysis.cohort, patient)
    contribution = analysis.cells["contribution"].to_numpy(dtype=float)[rows]
    group = analysis.cells["phenotype"].iloc[rows].astype(str).to_numpy(object)
    weight = pd.Series(contribution).groupby(group).sum().abs().sort_values(ascending=False, kind="stable")
    if len(weight) > limit:
        group = np.where(np.isin(group, weight.index[limit - 1 :].to_numpy()), REST, group)
    return rows, group


def profile(
    analysis: Analysis, patient: str, *, for_positive: bool, top: int = 50, limit: int = 12
) -> pd.DataFrame:
    """How the patient's `top` cells for (or against) the positive class differ from the patient's other
    cells.

    Columns `feature, top, others` in standard deviations from the cohort's mean, the `limit` largest
    differences first; no rows where no cell argues that way. `attrs["cells"]` is how many cells `top` really
    is.
    """
    rows = rows_of(analysis.cohort, patient)
    importance = analysis.cells["importance"].to_numpy()[rows] * (1 if for_positive else -1)
    importance = np.nan_to_num(importance, nan=-np.inf)
    best = np.argsort(-importance, kind="stable")[:top]
    best = best[importance[best] > 0]
    chosen = np.zeros(len(rows), bool)
    chosen[best] = True
    empty = pd.DataFrame({"feature": [], "top": [], "others": []})
    if not chosen.any() or chosen.all():
        return empty
    mean, sd = _moments(analysis.cohort)
    values = (np.asarray(analysis.cohort.features[rows], dtype=float) - mean) / sd
    means = [np.ma.masked_invalid(values[part]).mean(axis=0).filled(np.nan) for part in (chosen, ~chosen)]
    table = pd.DataFrame({"feature": analysis.cohort.names, "top": means[0], "others": means[1]}).dropna()
    difference = (table["top"] - table["others"]).abs()
    table = table.loc[difference.sort_values(ascending=False, kind="stable").index[:limit]].reset_index(
        drop=True
    )
    table.attrs["cells"] = int(chosen.sum())
    return table


@lru_cache(maxsize=2)
def _moments(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (F,) of the features over the cohort, from at most 100,000 evenly spaced cells."""
    some = np.ma.masked_invalid(np.asarray(cohort.features[:: max(1, cohort.N // 100_000)], dtype=float))
    sd = some.std(axis=0).filled(1.0)
    return some.mean(axis=0).filled(0.0), np.where(sd > 0, sd, 1.0)


def rule(facts: Mapping[str, Any]) -> list[str]:
    """The gating rules, in sentences: what they enclose, and how their frequency does out of fold."""
    found = facts.get("gating")
    if not found:
        return []
    words = [
        f"{theme.short(rule['words'], 90)} ({rule['cells']:,} cells, which argue {rule['argues']} "
        f"{theme.short(rule['towards'], 30)})."
        for rule in found["rules"]
    ]
    score = theme.interval(found[facts["main"]])
    words.append(
        f"Learnt anew in each fold and counted in the patients it had not seen, its frequency reaches "
        f"{outcome.main(facts)} {score}. The rule above is learnt on all patients: descriptive."
    )
    return words
