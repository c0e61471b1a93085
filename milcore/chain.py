"""The whole chain: from a cohort and settings to an analysis."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from milcore import neighbourhood, validation
from milcore.analysis import VERSION, Analysis
from milcore.baselines import baseline, summaries
from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.evidence import Shown, explain
from milcore.folds import Plan, plan
from milcore.neighbours import graph
from milcore.preprocess import moments, transformed
from milcore.progress import Progress
from milcore.projection import umap_map
from milcore.stacking import Mixture, stack
from milcore.tasks import Binary, as_text, binary
from milcore.training import Member, Settings, cross_fit

__all__ = ["analyse"]

PERMUTATIONS = 1000
MEMBERS = {"auto": ("neighbourhood", "attention")}  # any other rule is its own only member
LIBRARIES = ("numpy", "scipy", "torch", "faiss-cpu", "umap-learn", "pandas")


def analyse(cohort: Cohort, settings: Settings, progress: Progress | None = None) -> Analysis:
    """Trains, explains and validates; MilError where target and cohort do not allow it, Cancelled when stopped."""
    progress = progress or Progress()
    task, kept = _target(cohort, settings)
    dealt = plan(task.strata, cohort.groups, repeats=settings.rounds, seed=settings.seed)
    with progress.stage("neighbours"):
        cells = graph(cohort, settings.transform)
    with progress.stage("neighbourhood"):
        around = neighbourhood.abundance(cells, cohort.offsets, kept, lambda s: progress.share(s / 2))
    members: dict[str, Member] = {}
    for name in MEMBERS.get(settings.pooling, (settings.pooling,)):
        with progress.stage(name):
            members[name] = _member(name, cohort, settings, task, dealt, around, kept, progress)
        if len(members) == 1:
            progress.early(_early(name, members, cohort, dealt, task, kept))
    with progress.stage("evidence"):
        mixture, shown, alone = _explained(members, dealt, task, cohort.offsets)
    with progress.stage("validation"):
        judged = _judged(cohort, settings, task, dealt, around, shown, alone, progress)
    with progress.stage("umap"):
        coordinates = umap_map(cells, cohort.owner, seed=settings.seed, share=progress.share)
    facts = _all_facts(cohort, settings, task, kept, dealt, mixture, alone, judged)
    facts["timings"] = {name: round(seconds, 3) for name, seconds in progress.timings.items()}
    predictions = _predictions(cohort, task, shown, kept)
    table = _cells(cohort, shown, alone, coordinates, kept)
    return Analysis(cohort, settings, facts, predictions, table, members, mixture)


def _target(cohort: Cohort, settings: Settings) -> tuple[Binary, np.ndarray]:
    """The task, and (B,) which patients take part: with --classes only those of these labels."""
    labels = cohort.label(settings.target)
    kept = np.ones(cohort.B, bool)
    if settings.classes:
        text = as_text(labels)
        for name in settings.classes:
            if not (text == name).any():
                there = ", ".join(f"'{label}'" for label in sorted(set(text) - {""}))
                problem = f"No patient has the label '{name}'."
                raise MilError(
                    problem,
                    f"--classes, column '{settings.target}'",
                    f"Labels: {there}.",
                )
        kept = np.isin(text, settings.classes)
        labels = pd.Series(np.where(kept, text, ""))
    return binary(labels, target=settings.target, positive=settings.positive), kept


def _member(
    name: str,
    cohort: Cohort,
    settings: Settings,
    task: Binary,
    dealt: Plan,
    around: neighbourhood.Abundance,
    kept: np.ndarray,
    progress: Progress,
) -> Member:
    if name == "neighbourhood":
        models, inner = neighbourhood.cross_fit(
            around.kernels, dealt, task, lambda s: progress.share(0.5 + s / 4)
        )
        evidence = neighbourhood.evidence(around, models, dealt, cohort.owner, kept)
        equal = (1 / np.diff(cohort.offsets))[cohort.owner].astype(np.float32)
        return Member(np.broadcast_to(equal, evidence.shape), evidence, inner)
    x = transformed(cohort, settings.transform)
    measured = moments(x, cohort.offsets)
    return cross_fit(
        x, cohort.offsets, measured, dealt, task, pooling=name, seed=settings.seed, share=progress.share
    )


def _explained(
    members: dict[str, Member], dealt: Plan, task: Binary, offsets: np.ndarray
) -> tuple[Mixture, Shown, dict[str, Shown]]:
    """The mixture and what it shows; and what each member would show alone, calibrated in the same way."""
    mixture = stack(members, dealt, task)
    shown = explain(members, mixture, offsets)
    if len(members) == 1:
        return mixture, shown, dict.fromkeys(members, shown)
    singles = {name: {name: member} for name, member in members.items()}
    return (
        mixture,
        shown,
        {name: explain(one, stack(one, dealt, task), offsets) for name, one in singles.items()},
    )


def _early(
    name: str, members: dict[str, Member], cohort: Cohort, dealt: Plan, task: Binary, kept: np.ndarray
) -> dict[str, Any]:
    """The first member's out-of-fold ranking, to be seen while the others train."""
    scores = explain(members, stack(members, dealt, task), cohort.offsets).score
    score, known = scores.mean(0), task.labelled
    rows = zip(cohort.patients["patient"][kept], task.words()[kept], Binary.link(score[kept]), strict=True)
    return {
        "member": name,
        "positive": task.positive,
        "auroc": float(validation.auroc(scores[:, known], task.y[None, known], dealt.fold[:, known]).mean()),
        "predictions": [{"patient": str(p), "label": str(w), "prediction": float(v)} for p, w, v in rows],
    }


def _judged(
    cohort: Cohort,
    settings: Settings,
    task: Binary,
    dealt: Plan,
    around: neighbourhood.Abundance,
    shown: Shown,
    alone: dict[str, Shown],
    progress: Progress,
) -> dict[str, Any]:
    """Scores, those of the members, the null, baselines, and the verdict."""
    cut = _thresholds(dealt, task)
    out: dict[str, Any] = {"threshold": float(Binary.link(cut).mean())}
    permutations = PERMUTATIONS if settings.permutations is None else settings.permutations
    if permutations and len(np.unique(cohort.groups)) == cohort.B:  # bags of one patient are not exchangeable
        out["null"] = validation.null(
            around.kernels,
            dealt,
            task,
            permutations=permutations,
            seed=settings.seed,
            share=lambda s: progress.share(s / 2),
        )
    wide = validation.widening(out.get("null"), task)

    def scored(score: np.ndarray) -> dict[str, dict[str, Any]]:
        return validation.scores(score, dealt, task, threshold=cut, widening=wide, seed=settings.seed)

    out["scores"], out["roc"] = scored(shown.score), validation.roc(shown.score, dealt, task)
    out["members"] = {name: scored(one.score) for name, one in alone.items()}
    out["baselines"] = {}
    for name, summary in summaries(
        cohort, around.graph, transform=settings.transform, seed=settings.seed
    ).items():
        out["baselines"][name] = baseline(summary, dealt, task, widening=wide, seed=settings.seed)
        progress.share(0.5 + len(out["baselines"]) / 10)
    out["verdict"] = validation.verdict(out["scores"], out.get("null"), task)
    return out


def _thresholds(dealt: Plan, task: Binary) -> np.ndarray:
    """(B,) log-odds at which a patient is called positive: the share of positives among its training patients, which is
    where calibrated scores balance sensitivity and specificity; mean over repeats."""
    cut = np.empty(dealt.fold.shape)
    for r in range(dealt.repeats):
        for f in range(dealt.folds):
            share = task.y[dealt.training(r, (f,))].mean()
            cut[r, dealt.fold[r] == f] = np.log(share / (1 - share))
    return cut.mean(0)


def _all_facts(
    cohort: Cohort,
    settings: Settings,
    task: Binary,
    kept: np.ndarray,
    dealt: Plan,
    mixture: Mixture,
    alone: dict[str, Shown],
    judged: dict[str, Any],
) -> dict[str, Any]:
    words = task.words()[kept]
    weight = mixture.weights({name: one.score for name, one in alone.items()})
    facts: dict[str, Any] = {
        "version": VERSION,
        "settings": settings.to_json(),
        "cohort": {
            "fingerprint": cohort.fingerprint,
            "path": str(cohort.path.resolve()) if cohort.path else "cohort",
            "patients": len(np.unique(cohort.groups[kept])),
            "regions": _regions(cohort, kept),
            "cells": int(np.diff(cohort.offsets)[kept].sum()),
            "features": cohort.F,
        },
        "task": task.name,
        "classes": list(task.classes),
        "positive": task.positive,
        "counts": {
            **{c: int((words == c).sum()) for c in task.classes},
            "unlabelled": int((words == "").sum()),
        },
        "folds": dealt.folds,
        "repeats": dealt.repeats,
        "pooling": {
            "rule": "stacked on inner held-out scores" if len(alone) > 1 else settings.pooling,
            "members": {name: {"weight": weight[name], "scores": judged["members"][name]} for name in alone},
        },
    }
    facts |= {
        key: judged[key]
        for key in ("scores", "roc", "threshold", "null", "baselines", "verdict")
        if key in judged
    }
    facts["warnings"] = [{"kind": note.kind, "words": note.words} for note in cohort.notes] + _warnings(facts)
    facts["versions"] = {name: version(name) for name in ("milscope", *LIBRARIES)}
    return facts


def _regions(cohort: Cohort, kept: np.ndarray) -> int:
    """Number of different (patient, region) among the kept patients' cells."""
    region = cohort.cells["region"].cat.codes.to_numpy().astype(np.int64)
    pairs = cohort.groups[cohort.owner] * (region.max() + 2) + region + 1
    return len(np.unique(pairs[kept[cohort.owner]]))


def _warnings(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What this analysis itself gives reason to warn of."""
    out = []
    counts, unlabelled = [facts["counts"][c] for c in facts["classes"]], facts["counts"]["unlabelled"]
    if min(counts) < validation.FEW:
        few = f"{min(counts)} patients in the smaller class"
        words = f"Exploratory: {few}; below {validation.FEW} scores carry no claim."
        out.append({"kind": "small_cohort", "words": words})
    if unlabelled:
        words = f"{unlabelled} patient(s) have no label: kept out of training, predicted, and marked."
        out.append({"kind": "unlabelled_patients", "words": words})
    number = facts["baselines"]["number of cells"]["auroc"]
    if number["low"] > 0.5:
        words = f"The number of cells alone tells the classes apart (AUROC {number['value']:.2f})."
        out.append({"kind": "cells_predict_label", "words": words})
    return out


def _names(cohort: Cohort, kept: np.ndarray) -> pd.DataFrame:
    """patient, and region where that is the bag, of the kept patients."""
    columns = ["patient", "region"] if cohort.bag == "region" else ["patient"]
    return cohort.patients.loc[kept, columns].reset_index(drop=True)


def _predictions(cohort: Cohort, task: Binary, shown: Shown, kept: np.ndarray) -> pd.DataFrame:
    """The rows of predictions.csv; low and high are the range over repeats of training."""
    table, score = _names(cohort, kept), shown.score[:, kept]
    table["label"] = task.words()[kept]
    table["score"] = score.mean(0)
    table["prediction"] = Binary.link(score.mean(0))
    table["low"], table["high"] = Binary.link(score.min(0)), Binary.link(score.max(0))
    return table


def _cells(
    cohort: Cohort, shown: Shown, alone: dict[str, Shown], coordinates: np.ndarray, kept: np.ndarray
) -> pd.DataFrame:
    """The columns of cells.parquet, in the cohort's order; numbers of patients left out are NaN."""
    seen = kept[cohort.owner]
    count = np.diff(cohort.offsets)[cohort.owner]
    numbers = {
        "evidence": shown.evidence,
        "evidence_sd": shown.evidence_sd,
        "attention": shown.attention,
        "contribution": shown.contribution,
        "leave_one_out": shown.leave_one_out,
        "umap_1": coordinates[:, 0],
        "umap_2": coordinates[:, 1],
        "importance": shown.contribution * count,
    }
    for name, one in alone.items():
        numbers[f"evidence_{name}"] = one.evidence
        numbers[f"importance_{name}"] = one.contribution * count
    patient = pd.Categorical.from_codes(
        cohort.groups[cohort.owner], categories=cohort.patients["patient"].unique()
    )
    table = {"patient": patient} | {c: cohort.cells[c] for c in ("region", "cell_id", "x", "y")}
    return pd.DataFrame(table | {name: np.where(seen, value, np.nan) for name, value in numbers.items()})
