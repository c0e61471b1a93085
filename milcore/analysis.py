"""An analysis: everything a user sees, and what answers a user's questions; kept in one folder.

It holds nothing about a patient that comes from a model that saw this patient (see chain and folds).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from milcore.cellfile import CELLS, read_cells, write_cells
from milcore.cohort import Cohort
from milcore.effects import Effects
from milcore.errors import Damaged, MilError
from milcore.evidence import member_scores, without_cells
from milcore.folder import aside, checked, seal
from milcore.scorer import MODEL, Scorer
from milcore.stacking import Mixture
from milcore.tasks import KINDS
from milcore.training import RULES, Member, Settings

__all__ = ["VERSION", "Analysis", "needs", "space"]

VERSION = 4  # of the folder
MEND = "Run the analysis again."
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    pa.ArrowException,
)
CELL_BYTES, MEMBER_BYTES = 160, 16  # of a cell: its row of the table; its part of a member, each repeat
# Bytes of memory in training: for all (programs, the map's compiler, groups of landmarks), of a cell, and of each of
# its features, which the neighbour search holds; after the peaks at 200,000 and a million cells. What members say of a
# cell lies on disk.
BASE_HELD, CELL_HELD, FEATURE_HELD = 580 << 20, 150, 4
MIXED = ("a", "b", "base")  # parts of the mixture, a file each


def space(cohort: Cohort, settings: Settings) -> int:
    """About how many bytes the folder of an analysis will take, without the cohort: a little too many."""
    members = 2 if settings.pooling == "auto" else 1
    return cohort.N * (CELL_BYTES + MEMBER_BYTES * members * settings.rounds)


def needs(cohort: Cohort, settings: Settings) -> int:
    """About how many bytes of memory training takes, to tell what cannot fit: a rough figure, not a bound."""
    wide = cohort.F * (2 if settings.context else 1)
    return BASE_HELD + cohort.N * (CELL_HELD + FEATURE_HELD * wide)


@dataclass(frozen=True, eq=False)
class Analysis:
    """`facts` is analysis.json; `predictions` a row for every patient kept, `cells` a row for every cell in the
    cohort's order (NaN for patients left out); `phenotypes` what its groups of cells are worth; `members` and `mixture`
    answer what-if questions exactly. `scorer` scores new patients; once saved, it is read from the folder when it is
    needed (Scorer.open). `gating`: how much of each patient meets the gating rule; None of new patients. `layouts` are
    maps of the cells by name, its own "", and `layout` is the one in `cells` (see `laid_out`)."""

    cohort: Cohort
    settings: Settings
    facts: dict[str, Any]
    predictions: pd.DataFrame
    cells: pd.DataFrame
    phenotypes: Effects
    members: dict[str, Member]
    mixture: Mixture
    scorer: Scorer | None = None
    gating: pd.DataFrame | None = None
    layout: str = ""
    layouts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def outputs(self) -> np.ndarray:
        """(B,) the output that a patient's plain numbers speak of: the predicted class where there are several."""
        if self.facts["task"] != "multiclass":
            return np.zeros(self.cohort.B, int)
        names = ["patient", "region"] if self.cohort.bag == "region" else ["patient"]
        called = self.predictions.astype(dict.fromkeys(names, str)).set_index(names)["prediction"]
        every = pd.MultiIndex.from_frame(self.cohort.patients[names].astype(str))
        place = called.set_axis(pd.MultiIndex.from_frame(called.index.to_frame())).reindex(every)
        codes = pd.Categorical(place, categories=self.facts["classes"]).codes
        return np.maximum(codes, 0).astype(int)

    def judged(self) -> pd.DataFrame:
        """The predictions with `called` (above the threshold; the class), `wrong` (labelled, and called otherwise) and
        `open` (not decided: the range over retrained models crosses the threshold, or reaches the next class). A number
        or a risk is not called anything."""
        table, kind = self.predictions, self.facts["task"]
        known = (table["label"] != "") & table["prediction"].notna()
        if kind == "binary":
            limit = self.facts["threshold"]
            called = table["prediction"] > limit
            wrong = known & (called != (table["label"] == self.facts["positive"]))
            return table.assign(
                called=called, wrong=wrong, open=(table["low"] <= limit) & (table["high"] > limit)
            )
        if kind == "multiclass":
            second = np.sort(table[[f"p_{name}" for name in self.facts["classes"]]].to_numpy(), 1)[:, -2]
            called = table["prediction"]
            return table.assign(
                called=called, wrong=known & (called != table["label"]), open=table["low"] <= second
            )
        return table.assign(called=False, wrong=False, open=False)

    def without(self, cells: np.ndarray) -> pd.DataFrame:
        """What the score would be without counting some cells (indices or a mask, cohort order): one row for each
        patient that loses any, with score and prediction before and after (of several classes, those of the predicted
        one); NaN where no cell would be left.

        Exact for these models; model, features and neighbours stay as they are.
        """
        gone = self._seen(cells)
        touched = np.unique(self.cohort.owner[gone])
        names = self.cohort.patients["patient"].to_numpy()[touched]
        before = self.score.mean(0)[touched]
        after = before - self.lost(gone).mean(0)[touched]
        base, output = self.mixture.base[:, touched].mean(0)[:, None], self.outputs[touched][:, None]
        link = KINDS[self.facts["task"]].link
        shown = {
            "score": before,
            "score_without": after,
            "prediction": link(before + base),
            "prediction_without": link(after + base),
        }
        own = {name: np.take_along_axis(values, output, 1)[:, 0] for name, values in shown.items()}
        return pd.DataFrame({"patient": names} | own)

    def renamed(self, names: Mapping[str, str]) -> Analysis:
        """The same with other names for some phenotypes, wherever these are named."""
        own = list(self.cells["phenotype"].cat.categories)
        new = {name: names[name] for name in own if name in names}
        if not new or len({new.get(name, name) for name in own}) < len(own):
            return self
        worth = self.phenotypes
        table, patients = (
            one.assign(phenotype=one["phenotype"].replace(new)) for one in (worth.table, worth.patients)
        )
        told = [
            row | {"phenotype": new.get(row["phenotype"], row["phenotype"])}
            for row in self.facts["phenotypes"]
        ]
        return replace(
            self,
            facts=self.facts | {"phenotypes": told},
            cells=_with(self.cells, {"phenotype": self.cells["phenotype"].cat.rename_categories(new)}),
            phenotypes=Effects(table, patients, worth.test),
        )

    def laid_out(self, layouts: Mapping[str, np.ndarray], shown: str) -> Analysis:
        """The same with more maps (N, 2) of its cells, by name; the one `shown` is that of the table, where there is
        one of that name."""
        columns = ["umap_1", "umap_2"]
        own = self.cells[columns].to_numpy() if "" not in self.layouts else self.layouts[""]
        placed = np.isfinite(own).all(1, keepdims=True)
        every = {"": own} | {name: np.where(placed, places, np.nan) for name, places in layouts.items()}
        shown = shown if shown in every else ""
        cells = _with(self.cells, dict(zip(columns, every[shown].T, strict=True)))
        return replace(self, cells=cells, layout=shown, layouts=every)

    def beside(self, cohort: Cohort) -> Analysis:
        """The same with its cohort in a folder of its own, which is not kept inside once more."""
        path = str(cohort.path.resolve()) if cohort.path else "cohort"
        told = self.facts["cohort"] | {"path": path}
        return replace(self, cohort=cohort, facts=self.facts | {"cohort": told})

    def lost(self, cells: np.ndarray) -> np.ndarray:
        """(R, B, K) what every patient's score loses when some cells (indices or a mask) are not counted: 0 for those
        that lose none, NaN where no cell would be left."""
        scores, offsets = self._member_scores, self.cohort.offsets
        return without_cells(self.members, self.mixture, offsets, self._seen(cells), scores)

    @cached_property
    def score(self) -> np.ndarray:
        """(R, B, K) every patient's score in each repeat."""
        return self.mixture.a + (self.mixture.b[..., None] * self._member_scores).sum(0)

    @cached_property
    def _member_scores(self) -> np.ndarray:
        """(members, R, B, K)."""
        return np.stack([member_scores(one, self.cohort.offsets) for one in self.members.values()])

    def _seen(self, cells: np.ndarray) -> np.ndarray:
        """(N,) which of some cells take part in the analysis."""
        gone = np.zeros(self.cohort.N, bool)
        gone[cells] = True
        return gone & ~np.isnan(self.cells["evidence"].to_numpy())

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
            seal(part)
            if also is not None:
                also(part)
        cohort = self.cohort if self.cohort.path else Cohort.open(folder / "cohort")
        return _read(folder, _facts(folder), cohort, self.cells)

    @classmethod
    def open(cls, folder: Path) -> Analysis:
        """The analysis of a folder, members memory-mapped; MilError if it is missing, damaged or of another version."""
        folder = Path(folder)
        facts = _facts(folder)
        checked(folder, "analysis", MEND)
        cohort = Cohort.open(folder / facts["cohort"]["path"])
        try:
            return _read(folder, facts, cohort, read_cells(folder / CELLS, cohort))
        except DAMAGE as error:
            problem = f"The analysis in '{folder.name}' is damaged: {error}"
            raise Damaged(problem, str(folder), MEND) from None


def _with(cells: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The table with other columns, all else shared: `assign` would copy it."""
    out = cells.copy(deep=False)
    for name, values in columns.items():
        out[name] = values
    return out


def _write(analysis: Analysis, folder: Path) -> None:
    cohort = analysis.cohort
    if cohort.path is None:
        cohort.save(folder / "cohort")
    cohort.write_mapping(folder / "mapping.json")
    (folder / "analysis.json").write_text(json.dumps(analysis.facts, indent=1, allow_nan=False))
    analysis.predictions.to_csv(folder / "predictions.csv", index=False)
    analysis.phenotypes.table.to_csv(folder / "phenotypes.csv", index=False)
    analysis.phenotypes.patients.to_csv(folder / "phenotypes_patient.csv", index=False)
    if analysis.gating is not None:
        analysis.gating.to_csv(folder / "gating.csv", index=False)
        (folder / "gating.json").write_text(json.dumps(analysis.facts["gating"], indent=1, allow_nan=False))
    if cohort.bag == "region":
        _by_patient(analysis).to_csv(folder / "predictions_patient.csv", index=False)
    write_cells(analysis.cells, cohort, folder / CELLS)
    members = folder / "members"
    members.mkdir()
    for name, member in analysis.members.items():
        np.save(members / f"w_{name}.npy", member.weight)
        np.save(members / f"v_{name}.npy", member.evidence)
        if member.rank is not None and member.share is not None:
            np.save(members / f"rank_{name}.npy", member.rank)
            np.save(members / f"share_{name}.npy", member.share)
    for part in MIXED:
        np.save(members / f"{part}.npy", getattr(analysis.mixture, part))
    if analysis.scorer is not None:
        analysis.scorer.save(folder / MODEL)


def _by_patient(analysis: Analysis) -> pd.DataFrame:
    """Mean score of a patient's regions; its label where they agree, else empty."""
    predictions, kind = analysis.predictions, analysis.facts["task"]
    grouped = predictions.groupby("patient", sort=False)
    label = grouped["label"].agg(lambda labels: labels.iloc[0] if labels.nunique() == 1 else "")
    if kind == "multiclass":
        classes = analysis.facts["classes"]
        scores = grouped[[f"score_{name}" for name in classes]].mean()
        p = KINDS[kind].link(scores.to_numpy())
        called = p.argmax(1)
        every = pd.DataFrame(p, scores.index, [f"p_{name}" for name in classes])
        table = pd.DataFrame({"label": label, "score": scores.to_numpy()[np.arange(len(p)), called]})
        return table.assign(prediction=np.array(classes)[called]).join(scores).join(every).reset_index()
    score = grouped["score"].mean()
    value = grouped["prediction"].mean() if kind == "regression" else KINDS[kind].link(score)
    return pd.DataFrame({"label": label, "score": score, "prediction": value}).reset_index()


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
        raise Damaged(problem, str(folder / "analysis.json"), MEND) from None
    if saved != VERSION:
        problem = (
            f"The analysis in '{folder.name}' has version {saved}; this Milscope reads version {VERSION}."
        )
        raise MilError(problem, str(folder), "Run the analysis again, or use the Milscope that wrote it.")
    return facts


def _read(folder: Path, facts: dict[str, Any], cohort: Cohort, cells: pd.DataFrame) -> Analysis:
    """The analysis of a folder with its `cells`, which whoever has just written them need not read again."""
    names = tuple(facts["pooling"]["members"])
    if unknown := sorted(set(names) - set(RULES)):
        problem = f"'{unknown[0]}' is no member"
        raise ValueError(problem)
    mixed = {part: _numbers(folder / "members" / f"{part}.npy") for part in MIXED}
    if mixed["base"].shape != mixed["a"].shape[:2] or mixed["b"].shape != (len(names), *mixed["base"].shape):
        problem = "parts of the mixture do not fit together"
        raise ValueError(problem)
    members = {name: _member(folder / "members", name, (len(mixed["a"]), cohort.N)) for name in names}
    settings, mixture = Settings.from_json(facts["settings"]), Mixture(names, **mixed)
    predictions = _predictions(folder, facts)
    groups, patients = (_table(folder / f"{name}.csv") for name in ("phenotypes", "phenotypes_patient"))
    worth = Effects(groups, patients, facts["phenotyping"]["test"])
    gating = _table(folder / "gating.csv") if "gating" in facts else None
    return Analysis(cohort, settings, facts, predictions, cells, worth, members, mixture, gating=gating)


def _table(file: Path) -> pd.DataFrame:
    """A table of names and numbers."""
    text = dict.fromkeys(("patient", "region", "phenotype"), str)
    empty = {"na_values": [""], "keep_default_na": False}
    return pd.read_csv(file, dtype=text, float_precision="round_trip", **empty)


def _predictions(folder: Path, facts: dict[str, Any]) -> pd.DataFrame:
    text = {"patient": str, "region": str, "label": str}
    numbers = ["score", "low", "high", "time", "event"]
    if facts["task"] == "multiclass":
        text["prediction"] = str
    else:
        numbers.append("prediction")
    return pd.read_csv(
        folder / "predictions.csv",
        dtype=text,
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
        float_precision="round_trip",
    )


def _numbers(file: Path) -> np.ndarray:
    """A mapped array of numbers; never objects, which would be code."""
    array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    if array.dtype.kind != "f":
        problem = f"'{file.name}' holds {array.dtype}, not numbers"
        raise ValueError(problem)
    return array


def _member(folder: Path, name: str, shape: tuple[int, int]) -> Member:
    def part(kind: str) -> np.ndarray | None:
        file = folder / f"{kind}_{name}.npy"
        return _numbers(file) if kind in "wv" or file.exists() else None

    w, v = part("w"), part("v")
    if w is None or v is None or w.shape != shape or v.shape[:2] != shape:
        problem = f"members of another shape than {shape}"
        raise ValueError(problem)
    return Member(w, v, np.empty(0), part("rank"), part("share"))
