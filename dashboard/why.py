"""Why one patient is predicted so: its groups of cells, what it would be without them, and the sentence. No screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import outcome, theme
from dashboard.colouring import bags_of, rows_of
from dashboard.drivers import REST, grouped, groups, what_if
from milcore.stability import ASSESSED

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

LIMIT = 9  # groups shown, the rest are summed
MOVES = 0.01  # a smaller change is not worth a sentence: of a probability, or of the spread of predictions


def row_of(analysis: Analysis, patient: str, region: str = "") -> pd.Series:
    """The patient's row of `outcome.patients`; where regions are predicted that of `region`, else of its first one."""
    frame = outcome.patients(analysis)
    here = (frame["patient"].astype(str) == patient).to_numpy()
    if "region" in frame and (here & (frame["region"].astype(str) == region)).any():
        here &= (frame["region"].astype(str) == region).to_numpy()
    return frame.iloc[int(np.argmax(here))]


def faithful_of(analysis: Analysis, row: pd.Series) -> dict[str, Any]:
    """As facts["faithfulness"], of the patient (or region) in this row alone."""
    from milcore.faithfulness import faithfulness

    bag = int(bags_of(analysis)[analysis.predictions.index.get_loc(row.name)])
    return faithfulness(
        analysis.members,
        analysis.mixture,
        analysis.cohort.offsets,
        np.array([bag]),
        outputs=analysis.outputs,
        seed=analysis.settings.seed,
    )


def regions_of(cohort: Cohort, patient: str) -> list[str]:
    """Names of the patient's regions, in the order of its cells."""
    found = cohort.cells["region"].iloc[rows_of(cohort, patient)].dropna().astype(str)
    return list(dict.fromkeys(found))


def ordered(analysis: Analysis, order: str) -> list[str]:
    """Patients by `score` (highest first), `error` (most wrong first, then those without a label) or `name`."""
    frame = outcome.patients(analysis).drop_duplicates("patient")
    if order == "name":
        return sorted(frame["patient"].astype(str))
    frame = frame.sort_values("error" if order == "error" else "score", ascending=False, kind="stable")
    return list(frame["patient"].astype(str))


def cells_of(analysis: Analysis, patient: str, group: str) -> np.ndarray:
    """Indices (cohort order) of the patient's cells of one group of `without_groups`."""
    rows, names = grouped(analysis, patient, LIMIT)
    return rows[names == group]


def without_groups(analysis: Analysis, patient: str) -> pd.DataFrame:
    """The patient's groups, largest argument first: group, cells, share, contribution, prediction_without.

    The last is the prediction when the group is not counted; NaN where nothing would be left, and where regions
    are predicted.
    """
    if analysis.cohort.bag == "region":
        return groups(analysis, patient, limit=LIMIT).assign(prediction_without=np.nan)
    return what_if(analysis, patient, limit=LIMIT)


def sign_holds(analysis: Analysis, patient: str, table: pd.DataFrame) -> list[str]:
    """For each of the patient's groups, in how many trainings its contribution has the sign of its mean;
    n/a where there were too few."""
    repeats, rows = len(analysis.mixture.base), analysis.phenotypes.patients
    if repeats < ASSESSED or "region" in rows:
        return ["n/a"] * len(table)
    own = rows[rows["patient"].astype(str) == patient].set_index("phenotype")["same_sign"]
    return [f"{own[group]:.0f} of {repeats}" if group in own else "" for group in table["group"]]


def sentence(analysis: Analysis, row: pd.Series, table: pd.DataFrame) -> str:
    """Why, in plain words made from the numbers alone."""
    facts = analysis.facts
    words = f"{theme.short(_called(row), 60)} {outcome.headline(facts, row)}"
    if facts["task"] != "multiclass":
        others = analysis.predictions.drop(index=row.name).dropna(subset=["score"])
        below = int((others["score"] < row["score"]).sum())
        words += f", higher than {below} of the {len(others)} others"
    return f"{words}. {strongest(analysis, row, table)}"


def _called(row: pd.Series) -> str:
    """The patient, with its region where regions are predicted."""
    return f"{row['patient']}, {row['region']}," if "region" in row else str(row["patient"])


def strongest(analysis: Analysis, row: pd.Series, table: pd.DataFrame) -> str:
    """Which group of cells moves the prediction most, in one sentence."""
    facts, least = analysis.facts, MOVES
    if facts["task"] == "regression":
        least *= float(np.ptp(analysis.predictions["prediction"])) or 1.0
    move = (table["prediction_without"] - row["value"]).abs().where(table["group"] != REST)
    if not (move > least).any():
        return "No single group of cells decides it."
    best = table.loc[move.idxmax()]
    return (
        f"The group that moves this most is {theme.short(best['group'], 40)} ({theme.percent(best['share'])} of "
        f"its cells): without counting it, {outcome.said(facts, best['prediction_without'])}."
    )


def top_cells(analysis: Analysis, patient: str, *, for_positive: bool, top: int = 10) -> pd.DataFrame:
    """The strongest cells for or against: cell, region, cell type where known, importance, evidence, attention."""
    cohort, rows = analysis.cohort, rows_of(analysis.cohort, patient)
    signed = analysis.cells["importance"].to_numpy()[rows] * (1 if for_positive else -1)
    best = rows[np.argsort(-np.nan_to_num(signed, nan=-np.inf), kind="stable")[:top]]
    about, values = cohort.cells.iloc[best], analysis.cells.iloc[best]
    table = pd.DataFrame({"Cell": about["cell_id"].astype(str)})
    if about["region"].notna().any():
        table["Region"] = about["region"].astype(str)
    if "cell_type" in about:
        table["Cell type"] = about["cell_type"].astype(str)
    for name in ("importance", "evidence"):
        table[name.capitalize()] = [f"{value:+.2f}" for value in values[name]]
    relative = values["attention"].to_numpy() * len(rows)
    table["Attention (1 = average)"] = [theme.two(float(value)) for value in relative]
    return table
