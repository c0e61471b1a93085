"""Everything that scores new patients, as one file: tensors and a card in words and figures (safetensors and JSON).

Kept are all outer models of the cross-validation, with how their features were prepared, how they are mixed, and what
the training cells looked like. With `neighbourhood` also some cells of the training patients, which are patient data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.models import POOLINGS, Networks
from milcore.preprocess import Preparation
from milcore.seen import Seen
from milcore.stacking import Mixture
from milcore.tasks import KINDS
from milcore.training import RULES, Settings

__all__ = ["MODEL", "Reference", "Scorer", "card_of", "reference_rows", "scorer_card"]

MODEL = "model.safetensors"  # its name in the folder of an analysis
VERSION = 1  # of the file
MOST_CELLS = 2_000  # reference cells of each training patient
MOST_HEADER = 16_000_000  # bytes of names and card
CARD = (
    *(
        "settings",
        "features",
        "task",
        "task_why",
        "classes",
        "positive",
        "towards",
        "main",
        "chance",
        "counts",
    ),
    *("folds", "repeats", "threshold", "pooling", "scores", "null", "verdict", "versions"),
)
READ_AS = ("patient", "region", "cell", "x", "y", "cell_type")  # roles of columns that new tables share
READ_HOW = {"pattern": str, "names_in": str, "merge_labels": bool, "layer": str}  # what else they share
FREE = -1  # a length that the file may choose
USE = "Research use only. Not for diagnosis or treatment decisions."


@dataclass(frozen=True, eq=False)
class Reference:
    """Training cells that new cells are placed among: `points` (n, F') standardised features, `umap` (n, 2),
    `kind` (n,) their phenotypes."""

    points: np.ndarray
    umap: np.ndarray
    kind: np.ndarray


@dataclass(frozen=True, eq=False)
class Scorer:
    """`card`: what was trained, on what, and how good it is, in plain JSON. `members`: what each pooling's R x folds
    outer models learnt, arrays (R, folds, ...); `mixture`: how they are mixed; `alone`: how each would be calibrated by
    itself; both with a place for each fold where the patients were. `reference` where `neighbourhood` is a member."""

    card: dict[str, Any]
    preparation: Preparation
    seen: Seen
    members: dict[str, dict[str, np.ndarray]]
    mixture: Mixture
    alone: dict[str, Mixture]
    reference: Reference | None = None

    def save(self, file: Path) -> None:
        """Writes the file."""
        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(part) for name, part in _tensors(self).items()}
        file.write_bytes(save(tensors, {"milscope": json.dumps(self.card)}))  # `save_file` shuts others out

    @classmethod
    def open(cls, file: Path) -> Scorer:
        """The scorer of a file; MilError if it is missing, damaged, of another version, or holds anything else."""
        file = Path(file)
        if not file.is_file():
            problem = f"There is no model '{file.name}'."
            fix = "Give the folder that 'milscope run --out' wrote, or run the analysis again."
            raise MilError(problem, str(file.parent), fix)
        try:
            return _read(file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            problem = f"The model in '{file.name}' cannot be used: {error}"
            raise MilError(problem, str(file), "Run the analysis again.") from None


def card_of(facts: dict[str, Any]) -> dict[str, Any]:
    """The model card of an analysis: what it is, how it was made, how good it is, and what it is for."""
    made = {key: facts[key] for key in CARD if key in facts}
    size = {key: facts["cohort"][key] for key in ("patients", "regions", "cells", "fingerprint")}
    null = {key: value for key, value in facts.get("null", {}).items() if key != "values"}
    return made | {"cohort": size, "use": USE} | ({"null": null} if null else {})


def scorer_card(facts: dict[str, Any], cohort: Cohort, ready: Preparation) -> dict[str, Any]:
    """The model card, with all that is needed to read the tables of new patients as those of the cohort were."""
    roles = {role["name"]: role["role"] for role in cohort.source.get("columns", [])}
    mapping = cohort.source.get("mapping", {}).get("columns", {})
    columns = {what: mapping[what] for what in (*READ_AS, *READ_HOW) if mapping.get(what)}
    words = [name for name, role in roles.items() if role == "feature" and name not in cohort.names]
    return card_of(facts) | {
        "version": VERSION,
        "names": list(cohort.names),
        "categories": words,
        "columns": columns,
        "bag": cohort.bag,
        "preparation": {part: getattr(ready, part) for part in ("transform", "centre", "context")},
    }


def reference_rows(offsets: np.ndarray, taught: np.ndarray, *, seed: int) -> np.ndarray:
    """(n,) rows of the cells that stand for those of the training patients `taught` (B,): all, or some at random."""
    draw = np.random.default_rng([seed, 8])
    drawn = [
        np.sort(draw.permutation(np.arange(offsets[b], offsets[b + 1]))[:MOST_CELLS])
        for b in np.flatnonzero(taught)
    ]
    return np.concatenate(drawn)


def _tensors(scorer: Scorer) -> dict[str, np.ndarray]:
    """Every array of a scorer under its name in the file."""
    out = {f"preparation/{part}": getattr(scorer.preparation, part) for part in ("cofactor", "low", "high")}
    out |= {f"seen/{part}": getattr(scorer.seen, part) for part in Seen.__dataclass_fields__}
    for name, learnt in scorer.members.items():
        out |= {f"{name}/{part}": values for part, values in learnt.items()}
    for name, mixture in {"": scorer.mixture, **scorer.alone}.items():
        out |= {f"mixture/{name}{part}": values for part, values in _mixed(mixture).items()}
    if scorer.reference is not None:
        out |= {f"reference/{part}": values for part, values in vars(scorer.reference).items()}
    return out


def _mixed(mixture: Mixture) -> dict[str, np.ndarray]:
    return {"/a": mixture.a, "/b": mixture.b, "/base": mixture.base}


# ---------------------------------------------------------------- reading, trusting nothing


def _read(file: Path) -> Scorer:
    from safetensors import SafetensorError, safe_open

    with file.open("rb") as begin:
        header = int.from_bytes(begin.read(8), "little")
    if not 2 <= header <= min(MOST_HEADER, file.stat().st_size - 8):
        problem = f"a header of {header:,} bytes"
        raise ValueError(problem)
    try:
        with safe_open(file, framework="numpy") as opened:
            card = json.loads((opened.metadata() or {})["milscope"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(error) from None
    _check_card(card)
    _check_tensors(tensors, card)
    return _scorer(card, tensors)


def _check_card(card: Any) -> None:
    if not isinstance(card, dict) or card.get("version") != VERSION:
        version = card.get("version") if isinstance(card, dict) else None
        problem = f"it has version {version}; this Milscope reads version {VERSION}"
        raise ValueError(problem)
    Settings.from_json(card["settings"])
    members, names = card["pooling"]["members"], card["names"]
    if not members or not set(members) <= set(RULES) - {"auto"}:
        problem = f"unknown poolings {sorted(members)[:3]}"
        raise ValueError(problem)
    if (
        card["task"] not in KINDS
        or not isinstance(card["classes"], list)
        or card["bag"] not in ("patient", "region")
    ):
        problem = f"unknown task '{card['task']}'"
        raise ValueError(problem)
    _check_columns(card["columns"])
    whole = [card["repeats"], card["folds"], card["preparation"]["context"]]
    if not all(type(n) is int and n >= least for n, least in zip(whole, (1, 2, 0), strict=True)):
        problem = f"numbers out of range: {whole}"
        raise ValueError(problem)
    for what, given in (("features", names), ("phenotypes", card["phenotypes"])):
        if not given or not all(isinstance(name, str) for name in given) or len(set(given)) != len(given):
            problem = f"{what} without names of their own"
            raise ValueError(problem)


def _check_columns(columns: Any) -> None:
    """ValueError unless these are words on how tables are read."""
    kinds = dict.fromkeys(READ_AS, str) | READ_HOW
    for what, said in columns.items():
        if type(said) is not kinds.get(what):
            problem = f"it reads {what!r:.40} as {said!r:.40}"
            raise ValueError(problem)


def _check_tensors(tensors: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    """ValueError unless the file holds exactly the arrays that its card promises, in kind, shape and range."""
    expected = _expected(card)
    if odd := sorted(set(tensors) ^ set(expected)):
        there = "holds an unknown" if odd[0] in tensors else "lacks the"
        problem = f"it {there} array {odd[0][:60]!r}"
        raise ValueError(problem)
    for name, shape in expected.items():
        found, kind = tensors[name], np.float64 if name.startswith("mixture/") else np.float32
        fits = len(found.shape) == len(shape) and all(
            n == want or (want == FREE and n > 0) for n, want in zip(found.shape, shape, strict=True)
        )
        if not fits or found.dtype != kind:
            problem = f"array '{name}' is {found.dtype} of shape {found.shape}"
            raise ValueError(problem)
        if not name.startswith("preparation/") and not np.isfinite(found).all():
            problem = f"array '{name}' holds values that are no numbers"
            raise ValueError(problem)
    if "topk/top" in expected:
        share, output, sign = np.moveaxis(tensors["topk/top"], 2, 0)
        K = tensors["topk/bias"].shape[-1]
        if not (((share > 0) & (share <= 1) & np.isin(output, range(K)) & (np.abs(sign) == 1)).all()):
            problem = "array 'topk/top' names cells that cannot be"
            raise ValueError(problem)
    kinds = [values for name, values in tensors.items() if name.endswith("/kind")]
    if not np.isin(np.concatenate(kinds), range(len(card["phenotypes"]))).all():
        problem = "cells of a phenotype that has no name"
        raise ValueError(problem)
    if len({len(values) for name, values in tensors.items() if name.startswith("reference/")}) > 1:
        problem = "reference cells without a place"
        raise ValueError(problem)


def _expected(card: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array."""
    F, models = len(card["names"]), (card["repeats"], card["folds"])
    wide = 2 * F if card["preparation"]["context"] else F
    K = len(card["classes"]) if card["task"] == "multiclass" else 1
    members = card["pooling"]["members"]
    out: dict[str, tuple[int, ...]] = {f"preparation/{part}": (F,) for part in ("cofactor", "low", "high")}
    out |= {f"seen/{part}": (F,) for part in ("average", "average_sd", "spread", "spread_sd", "gaps")}
    out |= {"seen/scale": (2, wide), "seen/centres": (FREE, wide), "seen/kind": (FREE,)}
    out["seen/limit"] = (2,)
    for name, count in {"": len(members), **dict.fromkeys(members, 1)}.items():
        out |= {f"mixture/{name}/a": (*models, K), f"mixture/{name}/b": (count, *models)}
        out[f"mixture/{name}/base"] = models
    for name in set(members) & set(POOLINGS):
        blank = torch.ones(1, wide)
        one = Networks.drawn(blank, blank, torch.Generator(), attends=name == "attention", outputs=K)
        out |= {f"{name}/{part}": (*models, *value.shape[1:]) for part, value in one.parts.items()}
    if "topk" in members:
        out["topk/top"] = (*models, 3)
    if "neighbourhood" in members:
        out |= {"reference/points": (FREE, wide), "reference/umap": (FREE, 2), "reference/kind": (FREE,)}
        out["neighbourhood/evidence"] = (*models, FREE, K)
    return out


def _scorer(card: dict[str, Any], tensors: dict[str, np.ndarray]) -> Scorer:
    names: tuple[str, ...] = tuple(card["pooling"]["members"])
    asked: dict[str, Any] = card["preparation"]
    ready = Preparation(**asked | _under(tensors, "preparation/"))
    mixture = {
        name: Mixture(of, **_under(tensors, f"mixture/{name}/")) for name, of in _mixtures(names).items()
    }
    reference = Reference(**_under(tensors, "reference/")) if "reference/points" in tensors else None
    if reference is not None and tensors["neighbourhood/evidence"].shape[2] != len(reference.points):
        problem = "reference cells without evidence"
        raise ValueError(problem)
    members = {name: _under(tensors, f"{name}/") for name in names}
    return Scorer(card, ready, Seen(**_under(tensors, "seen/")), members, mixture.pop(""), mixture, reference)


def _mixtures(members: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The members of every mixture that is kept, that of all of them under ""."""
    return {"": members} | {name: (name,) for name in members}


def _under(tensors: dict[str, np.ndarray], place: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(place): values for name, values in tensors.items() if name.startswith(place)}
