"""The whole chain: from a cohort and settings to an analysis."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from milcore import neighbourhood, validation
from milcore.analysis import VERSION, Analysis
from milcore.baselines import baseline, summaries
from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.evidence import Shown, explain, member_scores
from milcore.faithfulness import faithfulness
from milcore.folds import Plan, plan
from milcore.neighbours import graph
from milcore.preprocess import Moments, moments, transformed
from milcore.probes import probe
from milcore.progress import Progress
from milcore.projection import umap_map
from milcore.stacking import Mixture, stack
from milcore.tasks import Binary, as_text, binary
from milcore.training import Member, Settings, cross_fit

__all__ = ["analyse"]

PERMUTATIONS = 1000
KINDS = 30  # of known cells that are reported, the most frequent ones
MEMBERS = {"auto": ("neighbourhood", "attention")}  # any other rule is its own only member
JUDGED = ("scores", "roc", "threshold", "null", "baselines", "probes", "faithfulness", "known", "verdict")
LIBRARIES = ("numpy", "scipy", "torch", "faiss-cpu", "umap-learn", "pandas")


@dataclass(frozen=True, eq=False)
class _Case:
    """What every step asks for: the cohort, the settings, the task, which patients take part (B,), and the folds."""

    cohort: Cohort
    settings: Settings
    task: Binary
    kept: np.ndarray
    plan: Plan


def analyse(cohort: Cohort, settings: Settings, progress: Progress | None = None) -> Analysis:
    """Trains, explains and validates; MilError where target and cohort do not allow it, Cancelled when stopped."""
    progress = progress or Progress()
    task, kept = _target(cohort, settings)
    dealt = plan(task.strata, cohort.groups, repeats=settings.rounds, seed=settings.seed)
    case = _Case(cohort, settings, task, kept, dealt)
    with progress.stage("neighbours"):
        cells = graph(cohort, settings.transform)
    x = transformed(cohort, settings.transform)
    measured = moments(x, cohort.offsets)
    members: dict[str, Member] = {}
    with progress.stage("neighbourhood"):
        around = neighbourhood.abundance(cells, cohort.offsets, kept, lambda s: progress.share(s / 2))
        if "neighbourhood" in _rule(settings):
            members["neighbourhood"] = _neighbourhood(case, around, progress)
    for name in [name for name in _rule(settings) if name != "neighbourhood"]:
        with progress.stage(name):
            members[name] = _networks(case, name, x, measured, progress)
    with progress.stage("evidence"):
        mixture, shown, alone = _explained(case, members)
    with progress.stage("validation"):
        judged = _judged(case, around, measured, shown, alone, progress)
        seen = np.flatnonzero(kept)
        judged["faithfulness"] = faithfulness(
            members, mixture, cohort.offsets, seen, seed=settings.seed, share=progress.share
        )
        judged["spread"] = {name: member_scores(one, cohort.offsets) for name, one in members.items()}
    with progress.stage("umap"):
        coordinates = umap_map(cells, cohort.owner, seed=settings.seed, share=progress.share)
    facts = _all_facts(case, mixture, alone, judged)
    facts["timings"] = {name: round(seconds, 3) for name, seconds in progress.timings.items()}
    table = _cells(case, shown, alone, coordinates)
    return Analysis(cohort, settings, facts, _predictions(case, shown), table, members, mixture)


def _rule(settings: Settings) -> tuple[str, ...]:
    return MEMBERS.get(settings.pooling, (settings.pooling,))


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
    task = binary(labels, target=settings.target, positive=settings.positive, groups=cohort.groups)
    return task, kept


def _neighbourhood(case: _Case, around: neighbourhood.Abundance, progress: Progress) -> Member:
    """The first member; its ranking of the patients is handed over as soon as there is one."""
    cohort, dealt, task = case.cohort, case.plan, case.task
    models, inner = neighbourhood.cross_fit(
        around.kernels, dealt, task, lambda s: progress.share(0.5 + s / 4)
    )
    patients = np.arange(cohort.B)
    ranked = np.stack([m.scores(around.kernels)[dealt.fold[r], patients] for r, m in enumerate(models)])
    progress.early(_early(case, "neighbourhood", ranked, inner))
    evidence = neighbourhood.evidence(around, models, dealt, cohort.owner, case.kept)
    equal = (1 / np.diff(cohort.offsets))[cohort.owner].astype(np.float32)
    return Member(np.broadcast_to(equal, evidence.shape), evidence, inner)


def _networks(case: _Case, pooling: str, x: np.ndarray, measured: Moments, progress: Progress) -> Member:
    offsets, seed = case.cohort.offsets, case.settings.seed
    return cross_fit(
        x, offsets, measured, case.plan, case.task, pooling=pooling, seed=seed, share=progress.share
    )


def _explained(case: _Case, members: dict[str, Member]) -> tuple[Mixture, Shown, dict[str, Shown]]:
    """The mixture and what it shows; and what each member would show alone, calibrated in the same way."""

    def explained(some: dict[str, Member]) -> tuple[Mixture, Shown]:
        mixture = stack(some, case.plan, case.task)
        return mixture, explain(some, mixture, case.cohort.offsets)

    mixture, shown = explained(members)
    if len(members) == 1:
        return mixture, shown, dict.fromkeys(members, shown)
    return mixture, shown, {name: explained({name: member})[1] for name, member in members.items()}


def _early(case: _Case, name: str, ranked: np.ndarray, inner: np.ndarray) -> dict[str, Any]:
    """One member's out-of-fold scores (R, B), calibrated, to be seen while the others train."""
    task, kept, known = case.task, case.kept, case.task.labelled
    mixture = stack({name: Member(np.empty(0), np.empty(0), inner)}, case.plan, task)
    scores = mixture.a + mixture.b[0] * ranked
    pairs = validation.auroc(scores[:, known], task.y[None, known], case.plan.fold[:, known])
    shown = Binary.link(scores.mean(0)[kept])
    rows = zip(case.cohort.patients["patient"][kept], task.words()[kept], shown, strict=True)
    return {
        "member": name,
        "positive": task.positive,
        "auroc": float(pairs.mean()),
        "predictions": [{"patient": str(p), "label": str(w), "prediction": float(v)} for p, w, v in rows],
    }


def _judged(
    case: _Case,
    around: neighbourhood.Abundance,
    measured: Moments,
    shown: Shown,
    alone: dict[str, Shown],
    progress: Progress,
) -> dict[str, Any]:
    """Scores, those of the members, the null, baselines, probes, known cells, and the verdict."""
    cohort, settings, task, dealt = case.cohort, case.settings, case.task, case.plan
    cut = _thresholds(dealt, task)
    out: dict[str, Any] = {"threshold": float(Binary.link(cut).mean())}
    permutations = PERMUTATIONS if settings.permutations is None else settings.permutations
    if permutations and dealt.one_bag_each:  # bags of one patient are not exchangeable
        out["null"] = validation.null(
            around.kernels,
            dealt,
            task,
            permutations=permutations,
            seed=settings.seed,
            share=lambda s: progress.share(s / 2),
        )
    wide = validation.widening(out.get("null"), dealt, task)

    def scored(score: np.ndarray) -> dict[str, dict[str, Any]]:
        return validation.scores(score, dealt, task, threshold=cut, widening=wide, seed=settings.seed)

    out["scores"], out["roc"] = scored(shown.score), validation.roc(shown.score, dealt, task)
    out["members"] = {name: scored(one.score) for name, one in alone.items()}
    out["baselines"] = {}
    for name, summary in summaries(cohort, around.graph, measured, seed=settings.seed).items():
        out["baselines"][name] = baseline(summary, dealt, task, widening=wide, seed=settings.seed)
        progress.share(0.5 + len(out["baselines"]) / 10)
    out["probes"], out["notes"] = probe(cohort, task, dealt, measured, widening=wide, seed=settings.seed)
    out["known"] = _known(case, shown)
    out["verdict"] = validation.verdict(out["scores"], out.get("null"), dealt, task)
    return out


def _known(case: _Case, shown: Shown) -> dict[str, dict[str, Any]]:
    """How well importance finds each kind of cell of the --known column: value -> {cells, auroc, average_precision}."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    columns = [c["name"] for c in case.cohort.source.get("columns", []) if c["role"] == "known"]
    seen = case.kept[case.cohort.owner]
    importance = (shown.contribution * np.diff(case.cohort.offsets)[case.cohort.owner])[seen]
    out = {}
    for column in columns:
        text = pd.Series(case.cohort.cells[column])[seen].astype("string")
        for value in text.dropna().value_counts().index[:KINDS]:
            here = (text == value).fillna(value=False).to_numpy(bool)
            if not here.all():
                auroc = float(roc_auc_score(here, importance))
                precision = float(average_precision_score(here, importance))
                out[str(value)] = {"cells": int(here.sum()), "auroc": auroc, "average_precision": precision}
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
    case: _Case, mixture: Mixture, alone: dict[str, Shown], judged: dict[str, Any]
) -> dict[str, Any]:
    cohort, settings, task, kept, dealt = case.cohort, case.settings, case.task, case.kept, case.plan
    words = task.words()[kept]
    weight = mixture.weights(judged["spread"])
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
    facts |= {key: judged[key] for key in JUDGED if judged.get(key)}
    notes = [{"kind": note.kind, "words": note.words} for note in (*cohort.notes, *judged["notes"])]
    facts["warnings"] = notes + _warnings(case, facts)
    facts["versions"] = {name: version(name) for name in ("milscope", *LIBRARIES)}
    return facts


def _regions(cohort: Cohort, kept: np.ndarray) -> int:
    """Number of different (patient, region) among the kept patients' cells; 0 where no region is known."""
    region = cohort.cells["region"].cat.codes.to_numpy().astype(np.int64)
    known = (region >= 0) & kept[cohort.owner]
    return len(np.unique(cohort.groups[cohort.owner][known] * (region.max() + 1) + region[known]))


def _warnings(case: _Case, facts: dict[str, Any]) -> list[dict[str, str]]:
    """What this analysis itself gives reason to warn of."""
    out = []
    unlabelled = facts["counts"]["unlabelled"]
    smaller = min(case.plan.patients(case.task.y == kind) for kind in (0, 1))
    if smaller < validation.FEW:
        words = f"Exploratory: {smaller} patients in the smaller class; below {validation.FEW} scores carry no claim."
        out.append({"kind": "small_cohort", "words": words})
    if unlabelled:
        words = f"{unlabelled} patient(s) have no label: kept out of training, predicted, and marked."
        out.append({"kind": "unlabelled_patients", "words": words})
    number = facts["baselines"]["number of cells"]["auroc"]
    if number["low"] > 0.5:
        words = f"The number of cells alone tells the classes apart (AUROC {number['value']:.2f})."
        out.append({"kind": "cells_predict_label", "words": words})
    plain = {name: scores["auroc"]["value"] for name, scores in facts["baselines"].items()}
    best, reached = max(plain, key=lambda name: plain[name]), facts["scores"]["auroc"]["value"]
    if plain[best] > reached:
        words = f"A plain model of {best} does no worse (AUROC {plain[best]:.2f}, the cells' {reached:.2f})."
        out.append({"kind": "baseline_better", "words": words})
    return out


def _names(cohort: Cohort, kept: np.ndarray) -> pd.DataFrame:
    """patient, and region where that is the bag, of the kept patients."""
    columns = ["patient", "region"] if cohort.bag == "region" else ["patient"]
    return cohort.patients.loc[kept, columns].reset_index(drop=True)


def _predictions(case: _Case, shown: Shown) -> pd.DataFrame:
    """The rows of predictions.csv; low and high are the range over repeats of training."""
    cohort, task, kept = case.cohort, case.task, case.kept
    table, score = _names(cohort, kept), shown.score[:, kept]
    table["label"] = task.words()[kept]
    table["score"] = score.mean(0)
    table["prediction"] = Binary.link(score.mean(0))
    table["low"], table["high"] = Binary.link(score.min(0)), Binary.link(score.max(0))
    return table


def _cells(case: _Case, shown: Shown, alone: dict[str, Shown], coordinates: np.ndarray) -> pd.DataFrame:
    """The columns of cells.parquet, in the cohort's order; numbers of patients left out are NaN."""
    cohort, kept = case.cohort, case.kept
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
