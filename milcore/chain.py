"""The whole chain: from a cohort and settings to an analysis."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from milcore import neighbourhood, permutation, validation
from milcore.analysis import VERSION, Analysis
from milcore.baselines import baseline, summaries
from milcore.case import Case, case_of
from milcore.cohort import Cohort
from milcore.evidence import Shown, explain, member_scores
from milcore.faithfulness import faithfulness
from milcore.folds import Plan
from milcore.neighbours import graph
from milcore.preprocess import Moments, moments, named, prepared
from milcore.probes import probe
from milcore.progress import Progress
from milcore.projection import umap_map
from milcore.results import cells_table, count_regions, level_of, outputs, own_output, predictions_table
from milcore.stacking import Mixture, best, stack
from milcore.tasks import Binary, Multiclass, Regression, Survival
from milcore.training import Member, Settings, cross_fit

__all__ = ["analyse"]

PERMUTATIONS = 1000
KINDS = 30  # of known cells that are reported, the most frequent ones
MEMBERS = {"auto": ("neighbourhood", "attention")}  # any other rule is its own only member
JUDGED = (
    "scores",
    "roc",
    "confusion",
    "survival",
    "threshold",
    "null",
    "baselines",
    "probes",
    "faithfulness",
    "known",
    "verdict",
)
LIBRARIES = ("lifelines", "numpy", "scipy", "torch", "faiss-cpu", "umap-learn", "pandas")


def analyse(cohort: Cohort, settings: Settings, progress: Progress | None = None) -> Analysis:
    """Trains, explains and validates; MilError where target and cohort do not allow it, Cancelled when stopped."""
    progress = progress or Progress()
    case = case_of(cohort, settings)
    task, kept = case.task, case.kept
    with progress.stage("neighbours"):
        x = prepared(cohort, transform=settings.transform, centre=settings.centre, context=settings.context)
        cells = graph(cohort, x, f"{settings.transform} {settings.centre} {settings.context}")
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
        judged = _judged(case, around, measured, members, mixture, shown, alone, progress)
        seen = np.flatnonzero(kept)
        judged["faithfulness"] = faithfulness(
            members,
            mixture,
            cohort.offsets,
            seen,
            outputs=outputs(shown),
            seed=settings.seed,
            share=progress.share,
        )
        judged["spread"] = {name: member_scores(one, cohort.offsets) for name, one in members.items()}
    with progress.stage("umap"):
        coordinates = umap_map(cells, cohort.owner, seed=settings.seed, share=progress.share)
    facts = _all_facts(case, mixture, alone, judged)
    facts["timings"] = {name: round(seconds, 3) for name, seconds in progress.timings.items()}
    given = (cohort, task, kept)
    predictions = predictions_table(*given, mixture=mixture, shown=shown)
    table = cells_table(*given, shown=shown, alone=alone, coordinates=coordinates)
    return Analysis(cohort, settings, facts, predictions, table, members, mixture)


def _rule(settings: Settings) -> tuple[str, ...]:
    return MEMBERS.get(settings.pooling, (settings.pooling,))


def _neighbourhood(case: Case, around: neighbourhood.Abundance, progress: Progress) -> Member:
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
    return Member(np.broadcast_to(equal, evidence.shape[:2]), evidence, inner)


def _networks(case: Case, pooling: str, x: np.ndarray, measured: Moments, progress: Progress) -> Member:
    offsets, seed = case.cohort.offsets, case.settings.seed
    candidates = cross_fit(
        x, offsets, measured, case.plan, case.task, pooling=pooling, seed=seed, share=progress.share
    )
    return best(candidates, offsets, case.plan, case.task)


def _explained(
    case: Case, members: dict[str, Member]
) -> tuple[Mixture, Shown, dict[str, tuple[Mixture, Shown]]]:
    """The mixture and what it shows; and what each member would show alone, calibrated in the same way."""

    def explained(some: dict[str, Member]) -> tuple[Mixture, Shown]:
        mixture = stack(some, case.plan, case.task)
        return mixture, explain(some, mixture, case.cohort.offsets)

    mixture, shown = explained(members)
    if len(members) == 1:
        return mixture, shown, dict.fromkeys(members, (mixture, shown))
    return mixture, shown, {name: explained({name: member}) for name, member in members.items()}


def _early(case: Case, name: str, ranked: np.ndarray, inner: np.ndarray) -> dict[str, Any]:
    """One member's out-of-fold scores (R, B, K), calibrated, to be seen while the others train."""
    task, kept, known = case.task, case.kept, case.task.labelled
    mixture = stack({name: Member(np.empty(0), np.empty(0), inner)}, case.plan, task)
    level = level_of(mixture, mixture.a + mixture.b[0][..., None] * ranked)
    reached = task.ranked(level[:, known], task.y[known][None], case.plan.fold[:, known])
    shown = task.link(level.mean(0)[kept])
    names, labels = case.cohort.patients["patient"][kept], task.words()[kept]
    called = np.array(task.classes)[shown.argmax(1)] if task.outputs > 1 else np.full(len(shown), "")
    rows = zip(names, labels, shown.max(1), called, strict=True)
    return {
        "member": name,
        "task": task.name,
        "towards": task.towards,
        "positive": task.positive,
        "main": task.main,
        "value": float(reached.mean()),
        "predictions": [
            {"patient": str(p), "label": str(w), "prediction": float(v), "called": str(c)}
            for p, w, v, c in rows
        ],
    }


def _judged(
    case: Case,
    around: neighbourhood.Abundance,
    measured: Moments,
    members: dict[str, Member],
    mixture: Mixture,
    shown: Shown,
    alone: dict[str, tuple[Mixture, Shown]],
    progress: Progress,
) -> dict[str, Any]:
    """Scores, those of the members, the null, baselines, probes, known cells, and the verdict."""
    cohort, settings, task, dealt = case.cohort, case.settings, case.task, case.plan
    cut = _thresholds(dealt, task) if isinstance(task, Binary) else np.zeros(cohort.B)
    out: dict[str, Any] = {}
    if isinstance(task, Binary):
        out["threshold"] = float(task.link(cut).mean())
    permutations = PERMUTATIONS if settings.permutations is None else settings.permutations
    if permutations:
        out["null"] = permutation.null(
            around.kernels,
            dealt,
            task,
            permutations=permutations,
            seed=settings.seed,
            share=lambda s: progress.share(s / 2),
        )
    wide = validation.widening(out.get("null"), dealt, task)

    def scored(level: np.ndarray) -> dict[str, dict[str, Any]]:
        return validation.scores(level, dealt, task, threshold=cut, widening=wide, seed=settings.seed)

    level = level_of(mixture, shown.score)
    out["scores"], out["roc"] = scored(level), validation.roc(level, dealt, task)
    if isinstance(task, Multiclass):
        out["confusion"] = validation.confusion(level, task)
    if isinstance(task, Survival):
        cuts = _risk_cuts(case, members, mixture)
        out["survival"] = validation.survival_groups(level, cuts, task, out.get("null"))
    out["members"] = {
        name: {"scores": scored(level_of(own, one.score))} for name, (own, one) in alone.items()
    }
    if len(alone) > 1:
        for name, (own, one) in alone.items():
            apart = validation.difference(level, level_of(own, one.score), dealt, task)
            out["members"][name]["difference"] = apart
    out["baselines"] = {}
    for name, summary in summaries(cohort, around.graph, measured, seed=settings.seed).items():
        plain = baseline(summary, dealt, task)
        reached = validation.leading(plain, dealt, task, widening=wide, seed=settings.seed)
        apart = validation.difference(level, plain, dealt, task)
        out["baselines"][name] = {task.main: reached, "difference": apart}
        progress.share(0.5 + len(out["baselines"]) / 10)
    out["probes"], out["notes"] = probe(cohort, task, dealt, measured, widening=wide, seed=settings.seed)
    out["known"] = _known(case, shown)
    out["verdict"] = validation.verdict(out["scores"], out.get("null"), dealt, task)
    return out


def _risk_cuts(case: Case, members: dict[str, Member], mixture: Mixture) -> np.ndarray:
    """(R, B) the score that parts higher from lower risk: median inner held-out score of the training patients."""
    dealt, out = case.plan, np.empty(case.plan.fold.shape)
    for r in range(dealt.repeats):
        for f in range(dealt.folds):
            there, train = np.flatnonzero(dealt.fold[r] == f), dealt.training(r, (f,))
            inner = mixture.a[r, there[0], 0] + sum(
                mixture.b[m, r, there[0]] * member.inner[r, f, train, 0]
                for m, member in enumerate(members.values())
            )
            out[r, there] = np.median(inner)
    return out


def _known(case: Case, shown: Shown) -> dict[str, dict[str, Any]]:
    """How well importance finds each kind of cell of the --known column: value -> {cells, auroc, average_precision}."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    columns = [c["name"] for c in case.cohort.source.get("columns", []) if c["role"] == "known"]
    seen = case.kept[case.cohort.owner]
    own = own_output(shown.contribution, outputs(shown), case.cohort)
    importance = (own * np.diff(case.cohort.offsets)[case.cohort.owner])[seen]
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
    case: Case, mixture: Mixture, alone: dict[str, tuple[Mixture, Shown]], judged: dict[str, Any]
) -> dict[str, Any]:
    cohort, settings, task, kept, dealt = case.cohort, case.settings, case.task, case.kept, case.plan
    weight = mixture.weights(judged["spread"])
    facts: dict[str, Any] = {
        "version": VERSION,
        "settings": settings.to_json(),
        "cohort": {
            "fingerprint": cohort.fingerprint,
            "path": str(cohort.path.resolve()) if cohort.path else "cohort",
            "patients": len(np.unique(cohort.groups[kept])),
            "regions": count_regions(cohort, kept),
            "cells": int(np.diff(cohort.offsets)[kept].sum()),
            "features": cohort.F,
        },
        "features": list(named(cohort, context=settings.context)),
        "task": task.name,
        "task_why": _task_why(case),
        "classes": list(task.classes),
        "positive": task.positive,
        "towards": task.towards,
        "main": task.main,
        "chance": validation.CHANCE[task.main],
        "counts": _counts(case),
        "folds": dealt.folds,
        "repeats": dealt.repeats,
        "pooling": {
            "rule": "stacked on inner held-out scores" if len(alone) > 1 else settings.pooling,
            "members": {name: {"weight": weight[name]} | judged["members"][name] for name in alone},
        },
    }
    facts |= {key: judged[key] for key in JUDGED if judged.get(key)}
    notes = [{"kind": note.kind, "words": note.words} for note in (*cohort.notes, *judged["notes"])]
    facts["warnings"] = notes + _warnings(case, facts)
    facts["versions"] = {name: version(name) for name in ("milscope", *LIBRARIES)}
    return facts


def _task_why(case: Case) -> str:
    """One sentence: what kind of label this is, and who said so."""
    name, settings = case.task.name, case.settings
    kinds = {
        "binary": "two classes",
        "multiclass": f"{len(case.task.classes)} classes",
        "regression": "a number",
        "survival": f"time until an event, in '{settings.time}'",
    }
    why = "recognised from the column" if settings.task == "auto" and settings.time is None else "as asked"
    return f"'{settings.target}' is taken as {kinds[name]} ({name}), {why}."


def _counts(case: Case) -> dict[str, int]:
    """Bags of each kind of label, and without one."""
    task, words = case.task, case.task.words()[case.kept]
    if isinstance(task, Survival):
        kinds = {"events": int(np.nansum(task.y[:, 1])), "censored": int(np.nansum(1 - task.y[:, 1]))}
    elif isinstance(task, Regression):
        kinds = {"values": int(task.labelled.sum())}
    else:
        kinds = {c: int((words == c).sum()) for c in task.classes}
    return kinds | {"unlabelled": int((words == "").sum())}


def _warnings(case: Case, facts: dict[str, Any]) -> list[dict[str, str]]:
    """What this analysis itself gives reason to warn of."""
    out, main = [], facts["main"]
    unlabelled = facts["counts"]["unlabelled"]
    if few := validation.too_few(case.plan, case.task):
        out.append({"kind": "small_cohort", "words": f"Exploratory: {few}; scores carry no claim."})
    if unlabelled:
        words = f"{unlabelled} patient(s) have no label: kept out of training, predicted, and marked."
        out.append({"kind": "unlabelled_patients", "words": words})
    number, named = facts["baselines"]["number of cells"][main], validation.NAMES[main]
    if number["low"] > facts["chance"]:
        words = f"The number of cells alone predicts the label ({named} {number['value']:.2f})."
        out.append({"kind": "cells_predict_label", "words": words})
    plain = {name: scores[main]["value"] for name, scores in facts["baselines"].items()}
    top, reached = max(plain, key=lambda name: plain[name]), facts["scores"][main]["value"]
    if plain[top] > reached:
        words = f"A plain model of {top} does no worse ({named} {plain[top]:.2f}, the cells' {reached:.2f})."
        out.append({"kind": "baseline_better", "words": words})
    return out
