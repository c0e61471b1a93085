"""An analysis: everything a user sees, and what answers a user's questions; kept in one folder.

It holds nothing about a patient that comes from a model that saw this patient (see chain and folds).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.evidence import leave_group_out
from milcore.folder import aside
from milcore.stacking import Mixture
from milcore.tasks import Binary
from milcore.training import Member, Settings

__all__ = ["VERSION", "Analysis"]

VERSION = 1  # of the folder


@dataclass(frozen=True, eq=False)
class Analysis:
    """`facts` is analysis.json; `predictions` a row for every patient kept, `cells` a row for every cell in the
    cohort's order (NaN for patients left out); `members` and `mixture` answer what-if questions exactly."""

    cohort: Cohort
    settings: Settings
    facts: dict[str, Any]
    predictions: pd.DataFrame
    cells: pd.DataFrame
    members: dict[str, Member]
    mixture: Mixture

    def judged(self) -> pd.DataFrame:
        """The predictions with `called` (above the threshold), `wrong` (labelled, and called otherwise) and `open` (the
        range over retrained models crosses the threshold: not decided)."""
        table, limit = self.predictions, self.facts["threshold"]
        called = table["prediction"] > limit
        known = (table["label"] != "") & table["prediction"].notna()
        wrong = known & (called != (table["label"] == self.facts["positive"]))
        return table.assign(
            called=called, wrong=wrong, open=(table["low"] <= limit) & (table["high"] > limit)
        )

    def without(self, cells: np.ndarray) -> pd.DataFrame:
        """What the score would be without counting some cells (indices or a mask, cohort order): one row for each
        patient that loses any, with score and prediction before and after; NaN where no cell would be left.

        Exact for these models; model, features and neighbours stay as they are.
        """
        gone = np.zeros(self.cohort.N, bool)
        gone[cells] = True
        gone &= ~np.isnan(self.cells["evidence"].to_numpy())
        touched = np.unique(self.cohort.owner[gone])
        names = self.cohort.patients["patient"].to_numpy()[touched]
        before = np.array([self._score(b) for b in touched])
        after = before - [self._loss(b, gone[self.cohort.rows(b)]) for b in touched]
        return pd.DataFrame(
            {
                "patient": names,
                "score": before,
                "score_without": after,
                "prediction": Binary.link(before),
                "prediction_without": Binary.link(after),
            }
        )

    def _score(self, b: int) -> float:
        return float(self.cells["contribution"].to_numpy()[self.cohort.rows(b)].sum())

    def _loss(self, b: int, gone: np.ndarray) -> float:
        """Mean over repeats of what the members' scores of patient b lose."""
        rows, R = self.cohort.rows(b), len(self.mixture.a)
        lost = 0.0
        for m, name in enumerate(self.mixture.members):
            w, v = self.members[name].weight[:, rows], self.members[name].evidence[:, rows]
            for r in range(R):
                lost += (
                    self.mixture.b[m, r, b]
                    * leave_group_out(w[r].astype(float), v[r].astype(float), gone)
                    / R
                )
        return lost

    def save(self, folder: Path, *, also: Callable[[Path], None] | None = None) -> Analysis:
        """Writes the analysis folder, complete or not at all, and opens it; `also` may add files before it appears.

        A cohort that has no folder of its own is kept inside. MilError if the folder exists and is not empty.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            problem = f"'{folder.name}' exists already."
            raise MilError(problem, str(folder), "Choose another folder, or delete this one.")
        with aside(folder) as part:
            _write(self, part)
            if also is not None:
                also(part)
        return Analysis.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Analysis:
        """The analysis of a folder, members memory-mapped; MilError if it is missing, damaged or of another version."""
        folder = Path(folder)
        facts = _facts(folder)
        cohort = Cohort.open(folder / facts["cohort"]["path"])
        try:
            return _read(folder, facts, cohort)
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            problem = f"The analysis in '{folder.name}' is damaged: {error}"
            raise MilError(problem, str(folder), "Run the analysis again.") from None


def _write(analysis: Analysis, folder: Path) -> None:
    cohort = analysis.cohort
    if cohort.path is None:
        cohort.save(folder / "cohort")
    (folder / "analysis.json").write_text(json.dumps(analysis.facts, indent=1, allow_nan=False))
    analysis.predictions.to_csv(folder / "predictions.csv", index=False)
    if cohort.bag == "region":
        _by_patient(analysis.predictions).to_csv(folder / "predictions_patient.csv", index=False)
    pq.write_table(_in_input_order(analysis.cells, cohort), folder / "cells.parquet", compression="zstd")
    members = folder / "members"
    members.mkdir()
    for name, member in analysis.members.items():
        np.save(members / f"w_{name}.npy", member.weight)
        np.save(members / f"v_{name}.npy", member.evidence)
    np.save(members / "a.npy", analysis.mixture.a)
    np.save(members / "b.npy", analysis.mixture.b)


def _by_patient(predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean score of a patient's regions; its label where they agree, else empty."""
    grouped = predictions.groupby("patient", sort=False)
    label = grouped["label"].agg(lambda labels: labels.iloc[0] if labels.nunique() == 1 else "")
    score = grouped["score"].mean()
    return pd.DataFrame({"label": label, "score": score, "prediction": Binary.link(score)}).reset_index()


def _in_input_order(cells: pd.DataFrame, cohort: Cohort) -> pa.Table:
    """One row for each input row; rows that belong to no patient are empty."""
    place = np.full(cohort.inputs, -1)
    place[cohort.order] = np.arange(cohort.N)
    return pa.Table.from_pandas(cells, preserve_index=False).take(pa.array(place, mask=place < 0))


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "analysis.json").read_text())
        saved = facts["version"]
        facts["cohort"]["path"]
    except FileNotFoundError:
        fix = "Give the folder that 'milscope run --out' wrote."
        problem = f"There is no analysis in '{folder.name}'."
        raise MilError(problem, str(folder), fix) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"The analysis in '{folder.name}' is damaged: {error}"
        raise MilError(problem, str(folder / "analysis.json"), "Run the analysis again.") from None
    if saved != VERSION:
        problem = (
            f"The analysis in '{folder.name}' has version {saved}; this Milscope reads version {VERSION}."
        )
        raise MilError(problem, str(folder), "Run the analysis again, or use the Milscope that wrote it.")
    return facts


def _read(folder: Path, facts: dict[str, Any], cohort: Cohort) -> Analysis:
    stored = pd.read_parquet(folder / "cells.parquet")
    cells = stored.take(cohort.order).reset_index(drop=True)
    predictions = pd.read_csv(
        folder / "predictions.csv",
        dtype={"patient": str, "region": str, "label": str},
        keep_default_na=False,
        na_values={"score": [""], "prediction": [""], "low": [""], "high": [""]},
        float_precision="round_trip",
    )
    names = tuple(facts["pooling"]["members"])
    a, b = (np.load(folder / "members" / f"{part}.npy", mmap_mode="r") for part in "ab")
    members = {}
    for name in names:
        w, v = (np.load(folder / "members" / f"{part}_{name}.npy", mmap_mode="r") for part in "wv")
        if w.shape != (len(a), cohort.N) or v.shape != w.shape:
            problem = f"members of shape {w.shape} for {cohort.N} cells"
            raise ValueError(problem)
        members[name] = Member(w, v, np.empty(0))
    return Analysis(
        cohort,
        Settings.from_json(facts["settings"]),
        facts,
        predictions,
        cells,
        members,
        Mixture(names, a, b),
    )
