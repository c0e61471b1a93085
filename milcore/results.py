"""The two tables a user sees, patients and cells, from what was explained (see evidence).

Rows of patients that take no part (`kept` (B,) False) are left out of the first and empty in the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from milcore.cohort import Cohort
from milcore.evidence import Shown
from milcore.matrix import on_disk
from milcore.neighbours import pieces
from milcore.phenotypes import Phenotypes
from milcore.stacking import Mixture
from milcore.tasks import Survival, Task

__all__ = ["cells_table", "count_regions", "level_of", "outputs", "own_output", "predictions_table"]


def outputs(shown: Shown) -> np.ndarray:
    """(B,) the output that a patient's plain numbers speak of: the predicted class where there are several."""
    return shown.score.mean(0).argmax(1)


def own_output(values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(n,) of cell values (n, K) those of each patient's own output (n,)."""
    return np.take_along_axis(values, own[:, None], 1)[:, 0]


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
    also: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> pd.DataFrame:
    """The columns of cells.parquet, in the cohort's order. `alone` holds what each member would show by itself,
    `coordinates` (N, 2) the map, `also` more columns (N,)."""
    patient = pd.Categorical.from_codes(
        cohort.groups[cohort.owner], categories=cohort.patients["patient"].unique()
    )
    table = {"patient": patient} | {c: cohort.cells[c] for c in ("region", "cell_id", "x", "y")}
    phenotype = np.where(kept[cohort.owner], groups.kind, -1)
    table["phenotype"] = pd.Categorical.from_codes(phenotype, categories=list(groups.names))
    own, count = outputs(shown), np.diff(cohort.offsets)
    numbers: dict[str, np.ndarray] = {}
    for rows in pieces(cohort.N):
        owner = cohort.owner[rows]
        every = {name: one.of(rows) for name, (_, one) in alone.items()}
        part = _numbers(shown.of(rows), every, (own[owner], count[owner], coordinates[rows]), task)
        part |= {name: values[rows] for name, values in also.items()}
        for name, values in part.items():
            if name not in numbers:
                numbers[name] = on_disk((cohort.N,), values.dtype.type)
            numbers[name][rows] = np.where(kept[owner], values, np.nan)
    return pd.DataFrame(table | numbers, copy=False)


def _numbers(
    shown: Shown, alone: dict[str, Shown], cells: tuple[np.ndarray, np.ndarray, np.ndarray], task: Task
) -> dict[str, np.ndarray]:
    """The columns of some cells, of which `cells` tells the patient's own output (n,) and number of cells (n,), and the
    place on the map (n, 2)."""
    own, count, place = cells
    contribution = own_output(shown.contribution, own)
    out = {
        "evidence": own_output(shown.evidence, own),
        "evidence_sd": own_output(shown.evidence_sd, own),
        "attention": shown.attention,
        "contribution": contribution,
        "leave_one_out": own_output(shown.leave_one_out, own),
        "umap_1": place[:, 0],
        "umap_2": place[:, 1],
        "importance": contribution * count,
    }
    for name, one in alone.items():
        out[f"evidence_{name}"] = own_output(one.evidence, own)
        out[f"importance_{name}"] = own_output(one.contribution, own) * count
    if task.outputs > 1:
        for k, label in enumerate(task.classes):
            out[f"evidence_{label}"] = shown.evidence[:, k]
            out[f"contribution_{label}"] = shown.contribution[:, k]
    return out
