"""The two tables a user sees, patients and cells, from what was explained (see evidence).

Rows of patients that take no part (`kept` (B,) False) are left out of the first and empty in the second.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from milcore.cohort import Cohort
from milcore.evidence import Shown
from milcore.phenotypes import Phenotypes
from milcore.stacking import Mixture
from milcore.tasks import Survival, Task

__all__ = ["cells_table", "count_regions", "level_of", "outputs", "own_output", "predictions_table"]


def outputs(shown: Shown) -> np.ndarray:
    """(B,) the output that a patient's plain numbers speak of: the predicted class where there are several."""
    return shown.score.mean(0).argmax(1)


def own_output(values: np.ndarray, outputs: np.ndarray, cohort: Cohort) -> np.ndarray:
    """(N,) of cell values (N, K) those of each patient's own output."""
    return np.take_along_axis(values, outputs[cohort.owner][:, None], 1)[:, 0]


def level_of(mixture: Mixture, score: np.ndarray) -> np.ndarray:
    """Scores (R, B, K) as the link takes them."""
    return score + mixture.base[..., None]


def count_regions(cohort: Cohort, kept: np.ndarray) -> int:
    """Number of different (patient, region) among the kept patients' cells; 0 where no region is known."""
    region = cohort.cells["region"].cat.codes.to_numpy().astype(np.int64)
    known = (region >= 0) & kept[cohort.owner]
    return len(np.unique(cohort.groups[cohort.owner][known] * (region.max() + 1) + region[known]))


def predictions_table(
    cohort: Cohort, task: Task, kept: np.ndarray, *, mixture: Mixture, shown: Shown
) -> pd.DataFrame:
    """The rows of predictions.csv; low and high are the range over retrained models."""
    table = _names(cohort, kept)
    table["label"] = task.words()[kept]
    if isinstance(task, Survival):
        table["time"], table["event"] = task.y[kept].T
    score, level = shown.score[:, kept], level_of(mixture, shown.score)[:, kept]
    own = outputs(shown)[kept]
    each, rows = task.link(level), np.arange(len(own))
    mean = task.link(level.mean(0))
    table["score"] = score.mean(0)[rows, own]
    table["prediction"] = np.array(task.classes)[own] if task.outputs > 1 else mean[:, 0]
    table["low"], table["high"] = each.min(0)[rows, own], each.max(0)[rows, own]
    if task.outputs > 1:
        table = table.assign(**{f"score_{c}": score.mean(0)[:, k] for k, c in enumerate(task.classes)})
        table = table.assign(**{f"p_{c}": mean[:, k] for k, c in enumerate(task.classes)})
    return table


def _names(cohort: Cohort, kept: np.ndarray) -> pd.DataFrame:
    """patient, and region where that is the bag, of the kept patients."""
    columns = ["patient", "region"] if cohort.bag == "region" else ["patient"]
    return cohort.patients.loc[kept, columns].reset_index(drop=True)


def cells_table(
    cohort: Cohort,
    task: Task,
    kept: np.ndarray,
    *,
    shown: Shown,
    alone: dict[str, tuple[Mixture, Shown]],
    groups: Phenotypes,
    coordinates: np.ndarray,
) -> pd.DataFrame:
    """The columns of cells.parquet, in the cohort's order. `alone` holds what each member would show by itself,
    `coordinates` (N, 2) the map."""
    own = outputs(shown)
    seen = kept[cohort.owner]
    count = np.diff(cohort.offsets)[cohort.owner]
    contribution = own_output(shown.contribution, own, cohort)
    numbers = {
        "evidence": own_output(shown.evidence, own, cohort),
        "evidence_sd": own_output(shown.evidence_sd, own, cohort),
        "attention": shown.attention,
        "contribution": contribution,
        "leave_one_out": own_output(shown.leave_one_out, own, cohort),
        "umap_1": coordinates[:, 0],
        "umap_2": coordinates[:, 1],
        "importance": contribution * count,
    }
    for name, (_, one) in alone.items():
        numbers[f"evidence_{name}"] = own_output(one.evidence, own, cohort)
        numbers[f"importance_{name}"] = own_output(one.contribution, own, cohort) * count
    if task.outputs > 1:
        for k, label in enumerate(task.classes):
            numbers[f"evidence_{label}"] = shown.evidence[:, k]
            numbers[f"contribution_{label}"] = shown.contribution[:, k]
    patient = pd.Categorical.from_codes(
        cohort.groups[cohort.owner], categories=cohort.patients["patient"].unique()
    )
    table = {"patient": patient} | {c: cohort.cells[c] for c in ("region", "cell_id", "x", "y")}
    phenotype = np.where(seen, groups.kind, -1)
    table["phenotype"] = pd.Categorical.from_codes(phenotype, categories=list(groups.names))
    return pd.DataFrame(table | {name: np.where(seen, value, np.nan) for name, value in numbers.items()})
