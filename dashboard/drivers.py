"""What drives one patient's score, as small tables: by group of cells, and by the markers of the strongest
cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dashboard.colouring import rows_of

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

__all__ = ["groups", "profile"]


def groups(analysis: Analysis, patient: str, *, limit: int = 9) -> pd.DataFrame:
    """What drives one patient's score, largest first: columns `group, cells, share, contribution`.

    Groups are the cell types where the cohort has them, else strong and weak arguments for and against; what
    is left beyond `limit` rows is summed as 'all others', so the contributions always sum to the patient's
    score.
    """
    rows = rows_of(analysis.cohort, patient)
    contribution = analysis.cells["contribution"].to_numpy(dtype=float)[rows]
    if "cell_type" in analysis.cohort.cells:
        group = analysis.cohort.cells["cell_type"].iloc[rows].astype(str).fillna("no cell type").to_numpy()
    else:
        strong = np.abs(contribution) >= np.quantile(np.abs(contribution), 0.99)
        side = np.where(contribution > 0, "for", "against")
        group = np.where(strong, "strongest 1 %, ", "other cells ").astype(object) + side
    table = pd.DataFrame({"group": group, "contribution": contribution}).groupby("group", sort=True)[
        "contribution"
    ]
    table = table.agg(["size", "sum"]).rename(columns={"size": "cells", "sum": "contribution"}).reset_index()
    table = table.sort_values("contribution", key=np.abs, ascending=False, kind="stable", ignore_index=True)
    if len(table) > limit:
        rest = table.iloc[limit - 1 :]
        others = {
            "group": "all others",
            "cells": rest["cells"].sum(),
            "contribution": rest["contribution"].sum(),
        }
        table = pd.concat([table.iloc[: limit - 1], pd.DataFrame([others])], ignore_index=True)
    table["share"] = table["cells"] / max(len(rows), 1)
    return table[["group", "cells", "share", "contribution"]]


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


def _moments(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (F,) of the features over the cohort, from at most 100,000 evenly spaced cells."""
    some = np.ma.masked_invalid(np.asarray(cohort.features[:: max(1, cohort.N // 100_000)], dtype=float))
    sd = some.std(axis=0).filled(1.0)
    return some.mean(axis=0).filled(0.0), np.where(sd > 0, sd, 1.0)
