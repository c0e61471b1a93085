"""What a cell may be coloured by, on which scale, and which cells are drawn when there are too many.

A scale belongs to the whole cohort, never to one patient, so that two patients' maps can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import outcome, theme
from milcore.errors import MilError

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

__all__ = [
    "Colouring",
    "bags_of",
    "choices",
    "classes",
    "colouring",
    "drawn",
    "feature_of",
    "labels",
    "names_of",
    "numbers",
    "of_cohort",
    "region_rows",
    "rows_of",
    "spoken",
    "unit",
]

_SIGNED = ("importance", "evidence", "leave_one_out")
_MEMBERS = ("neighbourhood", "attention", "mean", "topk")
SAME_SIGN = 0.9  # share of retrained models in which a cell's importance must keep its sign
_PLACES = ("region", "cell_id", "x", "y")
LEAST = 0.5  # log-odds at the end of a scale, or more: a model that knows nothing is grey
_SAMPLE = 200_000  # values read for a quantile: its error is far below one shade
_WORDS = {
    "importance": "Importance",
    "evidence": "Evidence",
    "leave_one_out": "Leave-one-out",
    "fdr": "Cells that stand out",
    "same_sign": "Stability",
    "attention": "Attention",
    "label": "Label",
    "patient": "Patient",
    "region": "Region",
    "fold": "Fold",
    "phenotype": "Phenotype",
}


@dataclass(frozen=True, eq=False)
class Colouring:
    """Colour values of some cells. `values` (n,) are numbers, or codes into `names` (missing: NaN); `low,
    high` is the cohort's range; `ramp` is a name of `theme.ramp`, or "" for classes, which have `hues` (one
    per name)."""

    key: str
    values: np.ndarray
    title: str
    low: float
    high: float
    ramp: str
    names: tuple[str, ...] = ()
    hues: tuple[str, ...] = ()

    @property
    def strength(self) -> np.ndarray:
        """How much a cell matters to a reader: size of a signed value, height of others; classes are all
        alike."""
        if not self.ramp:
            return np.zeros(len(self.values))
        value = np.abs(self.values) if self.ramp == "signed" else self.values
        return np.nan_to_num(value, nan=-np.inf)


def choices(analysis: Analysis) -> list[str]:
    """Every key that `colouring` takes, the usual ones first: importance, evidence, attention, leave_one_out, fdr,
    same_sign, each member's own, label, patient, region, fold, the categorical columns (cell types), and every
    feature."""
    columns = analysis.cells.columns
    own = [c for c in columns if c.startswith(("importance_", "evidence_")) and c != "evidence_sd"]
    known = [key for key in ("fdr", "same_sign") if key in columns]
    first = ["importance", "evidence", "attention", "leave_one_out", *known, *own, *classes(analysis)]
    taken = set(first)
    return first + [f"feature {name}" if name in taken else name for name in analysis.cohort.names]


def classes(analysis: Analysis) -> list[str]:
    """The choices whose colours are classes, not numbers."""
    places = ["region"] if analysis.cohort.cells["region"].notna().any() else []
    folds = ["fold"] if "dealt" in analysis.facts else []
    return ["label", "patient", *places, *_kinds(analysis), *folds]


def numbers(analysis: Analysis) -> list[str]:
    """The choices whose colours are numbers on a scale."""
    named = set(classes(analysis))
    return [key for key in choices(analysis) if key not in named]


def names_of(analysis: Analysis, key: str) -> tuple[str, ...]:
    """The names of the classes of a choice."""
    return colouring(analysis, key, np.empty(0, np.int64)).names


def spoken(key: str) -> str:
    """The name of a choice as a reader sees it; plain text, to be escaped where markup is read."""
    if key in _WORDS:
        return _WORDS[key]
    kind, _, member = key.partition("_")
    if kind in ("importance", "evidence") and member:
        return f"{_WORDS[kind]} ({member} alone)" if member in _MEMBERS else f"{_WORDS[kind]} for {member}"
    return "Cell type" if key == "cell_type" else key


def colouring(analysis: Analysis, key: str, rows: np.ndarray) -> Colouring:
    """The colours of the cells `rows` (indices in cohort order) by `key`; MilError for a key that is no
    choice."""
    if key not in choices(analysis):
        problem = f"Cells cannot be coloured by '{key}'."
        raise MilError(
            problem, "colour", f"Choose one of {', '.join(choices(analysis)[:8])}, … or a feature."
        )
    if key.startswith(_SIGNED) and key in analysis.cells:
        return _signed(analysis, key, rows)
    if key == "fdr" and key in analysis.cells:
        return _standing_out(analysis, rows)
    if key == "same_sign" and key in analysis.cells:
        return _steady(analysis, rows)
    if key == "fold" and "dealt" in analysis.facts:
        return _fold(analysis, rows)
    if key == "attention":
        return _attention(analysis, rows)
    if key == "label":
        return _label(analysis, rows)
    if key == "phenotype" and key in analysis.cells:
        kinds = analysis.cells[key].astype("category")
        return _classes(key, kinds.cat.codes.to_numpy()[rows], tuple(map(str, kinds.cat.categories)))
    return of_cohort(analysis.cohort, key, rows)


def of_cohort(cohort: Cohort, key: str, rows: np.ndarray) -> Colouring:
    """Colours that need no analysis: `patient`, `region`, a categorical column or a feature."""
    if key == "patient":
        names = tuple(cohort.patients["patient"].astype(str).unique())
        codes = pd.Categorical(cohort.patients["patient"].astype(str), categories=names).codes
        return _classes(key, codes[cohort.owner[rows]], names)
    if key == "region" or key in _categories(cohort):
        column = cohort.cells[key].iloc[rows].astype("category")
        whole = cohort.cells[key].astype("category").cat.categories
        return _classes(key, column.cat.set_categories(whole).cat.codes.to_numpy(), tuple(map(str, whole)))
    return _feature(cohort, key, rows)


def feature_of(cohort: Cohort, key: str) -> int:
    """The column of `features` that the choice `key` names."""
    name = key if key in cohort.names else key.removeprefix("feature ")
    return cohort.names.index(name)


def labels(analysis: Analysis) -> np.ndarray:
    """(B,) group (see outcome) of every patient of the cohort, '' for those without a label or left out."""
    found = np.full(analysis.cohort.B, "", object)
    found[bags_of(analysis)] = outcome.patients(analysis)["group"]
    return found


def bags_of(analysis: Analysis) -> np.ndarray:
    """The index b in the cohort of every row of the predictions; bags left out of the analysis have no row."""
    cohort = analysis.cohort
    keys = ["patient", "region"] if cohort.bag == "region" else ["patient"]
    places = pd.Series(np.arange(cohort.B), index=pd.MultiIndex.from_frame(cohort.patients[keys].astype(str)))
    return places.loc[pd.MultiIndex.from_frame(analysis.predictions[keys].astype(str))].to_numpy()


def rows_of(cohort: Cohort, patient: str) -> np.ndarray:
    """The patient's cells, also where each region is a bag of its own."""
    bags = np.flatnonzero(cohort.patients["patient"].astype(str).to_numpy() == patient)
    parts = [np.arange(cohort.offsets[b], cohort.offsets[b + 1]) for b in bags]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def region_rows(cohort: Cohort, patient: str, region: str | None) -> tuple[np.ndarray, str]:
    """The cells with coordinates of one region of a patient, and that region's name ('' where there are
    none)."""
    rows = rows_of(cohort, patient)
    rows = rows[cohort.cells[["x", "y"]].iloc[rows].notna().all(axis=1).to_numpy()]
    regions = cohort.cells["region"].iloc[rows]
    if not len(rows) or regions.isna().all():
        return rows, ""
    wanted = str(regions.dropna().iloc[0]) if region is None else region
    return rows[(regions.astype(str) == wanted).to_numpy()], wanted


def unit(cohort: Cohort) -> str:
    """The unit of the coordinates as the x column's own name tells it."""
    names = [str(c["name"]).lower() for c in cohort.source.get("columns", []) if c.get("role") == "x"]
    name = names[0] if names else ""
    if any(sign in name for sign in ("µm", "μm", "_um", " um", ".um", "micron")):
        return "µm"
    return "px" if "px" in name or "pixel" in name else "units of x and y"


def drawn(strength: np.ndarray, limit: int, *, seed: int, keep: np.ndarray | None = None) -> np.ndarray:
    """Which of n cells to draw, at most `limit`, in drawing order: weak first, so that the strong lie on top.

    A fifth of the room goes to the strongest, the rest to a seeded draw, so that the map stays a fair
    picture. `keep` (n,) marks cells that are taken first and drawn last.
    """
    n, rng = len(strength), np.random.default_rng(seed)
    kept = np.zeros(n, bool) if keep is None else keep
    shuffled = rng.permutation(n)
    if n <= limit:
        return shuffled[np.lexsort((strength[shuffled], kept[shuffled]))]
    chosen = shuffled[kept[shuffled]][:limit]
    rest = shuffled[~kept[shuffled]]
    room = limit - len(chosen)
    rest = rest[np.argsort(-strength[rest], kind="stable")]
    strong, others = rest[: room // 5], rest[room // 5 :]
    rest = np.concatenate([strong, rng.choice(others, room - len(strong), replace=False)])
    rest = rest[np.argsort(strength[rest], kind="stable")]
    return np.concatenate([rest, chosen])


def _categories(cohort: Cohort) -> list[str]:
    columns = [c for c in cohort.cells.columns if c not in _PLACES]
    found = [c for c in columns if isinstance(cohort.cells[c].dtype, pd.CategoricalDtype)]
    return sorted(found, key=lambda c: c != "cell_type")


def _kinds(analysis: Analysis) -> list[str]:
    """The columns that tell kinds of cells apart: phenotypes, and the cohort's own."""
    return ["phenotype", *(name for name in _categories(analysis.cohort) if name != "phenotype")]


def _signed(analysis: Analysis, key: str, rows: np.ndarray) -> Colouring:
    column = analysis.cells[key].to_numpy()
    most = _quantile(np.abs(_some(column)), 0.995) or 1.0
    if not key.startswith("leave") and analysis.facts["task"] != "regression":
        most = max(most, LEAST)
    title = f"{spoken(key)}: blue argues against, orange for “{outcome.towards(analysis.facts)}”"
    if analysis.facts["task"] in ("regression", "survival"):
        title += "; 0: average training patient"
    values = column[rows]
    if key == "importance" and "same_sign" in analysis.cells:
        values = np.where(analysis.cells["same_sign"].to_numpy()[rows] < SAME_SIGN, 0.0, values)
        title += "; grey also where retrained models disagree about the sign"
    return Colouring(key, values, title, -most, most, "signed")


def _standing_out(analysis: Analysis, rows: np.ndarray) -> Colouring:
    """The importance of cells that stand out in the cohort, 0 for all others."""
    shown = _signed(analysis, "importance", rows)
    level = analysis.facts["null"]["cells"]["level"]
    stands = analysis.cells["fdr"].to_numpy()[rows] <= level
    title = (
        f"Importance of cells that stand out in the cohort (false discovery rate {level:.0%}); others grey"
    )
    return replace(shown, key="fdr", values=np.where(stands, shown.values, 0.0), title=title)


def _attention(analysis: Analysis, rows: np.ndarray) -> Colouring:
    sizes = np.diff(analysis.cohort.offsets)
    values = analysis.cells["attention"].to_numpy()
    relative = values[rows] * sizes[analysis.cohort.owner[rows]]
    some = np.arange(0, len(values), _stride(len(values)))
    high = _quantile(values[some] * sizes[analysis.cohort.owner[some]], 0.995) or 1.0
    return Colouring(
        "attention",
        relative,
        "Attention: where the model looks (1 = an average cell)",
        0.0,
        high,
        "attention",
    )


def _label(analysis: Analysis, rows: np.ndarray) -> Colouring:
    classes = tuple(outcome.groups(analysis.facts))
    codes = pd.Categorical(labels(analysis), categories=classes).codes
    return _classes("label", codes[analysis.cohort.owner[rows]], classes)


def _steady(analysis: Analysis, rows: np.ndarray) -> Colouring:
    """Below half a sign is no better than a coin."""
    title = "Stability: share of repeats in which a cell's importance keeps its sign"
    values = analysis.cells["same_sign"].to_numpy()[rows]
    return Colouring("same_sign", values, title, 0.5, 1.0, "steady")


def _fold(analysis: Analysis, rows: np.ndarray) -> Colouring:
    """Which fold scored each patient, in the first repeat."""
    codes = np.full(analysis.cohort.B, -1)
    codes[bags_of(analysis)] = [folds[0] for folds in analysis.facts["dealt"]["fold"]]
    names = tuple(f"{fold + 1} of repeat 1" for fold in range(analysis.facts["folds"]))
    return _classes("fold", codes[analysis.cohort.owner[rows]], names)


def _classes(key: str, codes: np.ndarray, names: tuple[str, ...]) -> Colouring:
    values = np.where(codes < 0, np.nan, codes.astype(float))
    hues = tuple(theme.hues(len(names)))
    return Colouring(key, values, spoken(key), -0.5, len(names) - 0.5, "", names, hues)


def _feature(cohort: Cohort, key: str, rows: np.ndarray) -> Colouring:
    k = feature_of(cohort, key)
    some = np.asarray(cohort.features[:: _stride(cohort.N), k])
    low, high = _quantile(some, 0.01), _quantile(some, 0.99)
    values = np.asarray(cohort.features[rows, k], dtype=float)
    return Colouring(key, values, f"{key} (as measured)", low, high if high > low else low + 1.0, "feature")


def _stride(n: int) -> int:
    return max(1, n // _SAMPLE)


def _some(column: np.ndarray) -> np.ndarray:
    return column[:: _stride(len(column))]


def _quantile(values: np.ndarray, share: float) -> float:
    finite: Any = values[np.isfinite(values)]
    return float(np.quantile(finite, share)) if len(finite) else 0.0
