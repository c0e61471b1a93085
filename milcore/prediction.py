"""New patients: scored by all outer models of an analysis together, never mixed with its own out-of-fold results.

The result is an analysis too, marked `new`, so that every view and every what-if question works on it. What its models
have not seen is said: features that are missing or shifted, and cells that lie far from the training cells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milcore import judgement, validation
from milcore.analysis import VERSION, Analysis
from milcore.case import Case
from milcore.cohort import Cohort, Note
from milcore.effects import Effects, effects, in_short
from milcore.errors import MilError
from milcore.evidence import Shown, explain
from milcore.folds import Plan
from milcore.labels import relabelled
from milcore.neighbours import interpolated, nearest
from milcore.patients import listed
from milcore.phenotypes import Phenotypes
from milcore.preprocess import named
from milcore.progress import Progress
from milcore.projection import placed
from milcore.readers import Columns, read_cohort
from milcore.results import cells_table, count_regions, level_of, predictions_table
from milcore.scorer import MODEL, Reference, Scorer
from milcore.seen import Seen
from milcore.stacking import Mixture
from milcore.tasks import Multiclass, Survival, Task, as_text
from milcore.training import Member, Settings, apply

__all__ = ["open_model", "predict", "read_new"]

FAR = 3.0  # times the share of any training patient's cells, and
LEAST_FAR = 0.05  # of a patient's cells, that must lie far out for a warning
KEPT = (
    "task",
    "task_why",
    "classes",
    "positive",
    "towards",
    "main",
    "chance",
    "threshold",
    "folds",
    "repeats",
)


def open_model(analysis: Path) -> tuple[Scorer, list[str]]:
    """The scorer of an analysis folder, and the names of its training patients; of a model file alone, no names."""
    if analysis.is_file():
        return Scorer.open(analysis), []
    scorer = Scorer.open(analysis / MODEL)
    return scorer, [str(name) for name in Analysis.open(analysis).predictions["patient"].unique()]


def read_new(
    scorer: Scorer, cells: Sequence[Path], *, patients: Path | None = None, progress: Progress | None = None
) -> Cohort:
    """The cohort of tables of new patients, their columns taken as those of the training cohort where they bear the
    same names; MilError as for any tables."""
    card = scorer.card
    labels = tuple(name for name in (card["settings"]["target"], card["settings"]["time"]) if name)
    features = tuple(name for name in card["names"] if _category(name, card) is None)
    columns = Columns(
        **card["columns"],
        features=(*features, *card["categories"]),
        labels=labels,
        bag=card["bag"],
        trained=True,
    )
    return read_cohort(cells, patients=patients, columns=columns, progress=progress)


def predict(
    scorer: Scorer, cohort: Cohort, *, trained_on: Collection[str] = (), progress: Progress | None = None
) -> Analysis:
    """Scores and explains a cohort of new patients; scores only where they have labels. `trained_on`: the names of the
    training patients, if known.

    MilError where features are missing or the bags are of another kind.
    """
    progress = progress or Progress()
    with progress.stage("matching"):
        fitting, notes = _matched(cohort, scorer.card)
        task, unknown = _task(fitting, scorer.card)
        x = scorer.preparation.apply(fitting)
    members: dict[str, Member] = {}
    for name in scorer.members:
        with progress.stage(name):
            members[name] = _member(scorer, name, x, fitting.offsets)
    with progress.stage("evidence"):
        mixture, shown = _explained(scorer.mixture, members, fitting)
        alone = {name: _explained(scorer.alone[name], {name: one}, fitting) for name, one in members.items()}
    with progress.stage("distance"):
        points = scorer.seen.standardised(x)
        far = np.add.reduceat(scorer.seen.far(points).astype(float), fitting.offsets[:-1])
        far /= np.diff(fitting.offsets)
        notes += unknown + _names_known(fitting, trained_on) + _shift_notes(scorer, fitting, far)
    everyone = np.ones(fitting.B, bool)
    given = (fitting, task, everyone)
    predictions = predictions_table(*given, mixture=mixture, shown=shown).assign(far=far)
    places = np.full((fitting.N, 2), np.nan, np.float32)
    if scorer.reference is not None:
        places = placed(scorer.reference.points, scorer.reference.umap, points)
    groups = _phenotypes(scorer, points)
    table = cells_table(*given, shown=shown, alone=alone, groups=groups, coordinates=places)
    facts = _facts(scorer, fitting, task, [*cohort.notes, *notes])
    settings = Settings.from_json(scorer.card["settings"])
    together = Plan(np.zeros(mixture.base.shape, int), 1, task.labelled, fitting.groups)
    case = Case(fitting, settings, task, everyone, together)
    worth = _worth(case, groups, (members, mixture, shown))
    facts["counts"] = judgement.counts(case)
    facts |= _validated(scorer, level_of(mixture, shown.score), fitting, task)
    facts["verdict"] = {"kind": "new", "words": _verdict(facts, fitting)}
    facts |= {"phenotyping": {"how": groups.how, "test": worth.test}, "phenotypes": in_short(worth)}
    facts["distance"] = {"far": float(far.mean()), "far_in_training": float(scorer.seen.limit[1])}
    facts["timings"] = {name: round(seconds, 3) for name, seconds in progress.timings.items()}
    return Analysis(fitting, settings, facts, predictions, table, worth, members, mixture)


# ---------------------------------------------------------------- the same features


def _matched(cohort: Cohort, card: dict[str, Any]) -> tuple[Cohort, list[Note]]:
    """The cohort with exactly the model's features in the model's order, and what was ignored."""
    if cohort.bag != card["bag"]:
        problem = f"The model scores {card['bag']}s, and these cells are given as {cohort.bag}s."
        raise MilError(problem, "the cells", f"Read them with bag '{card['bag']}'.")
    names, place = card["names"], {name: j for j, name in enumerate(cohort.names)}
    filled = {name: _filled(name, cohort, card) for name in names if name not in place}
    if missing := [name for name, values in filled.items() if values is None]:
        problem = (
            f"The cells lack {len(missing)} of the {len(names)} features of the model: {listed(missing)}."
        )
        where = ", ".join(cohort.source.get("files", [])) or "the cells"
        raise MilError(problem, where, f"Add them under these names. There is: {listed(cohort.names)}.")
    x = np.empty((cohort.N, len(names)), np.float32)
    for j, name in enumerate(names):
        x[:, j] = cohort.features[:, place[name]] if name in place else filled[name]
    notes = []
    if extra := [name for name in cohort.names if name not in names]:
        words = f"Features that the model does not know, ignored ({len(extra)}): {listed(extra)}."
        notes.append(Note("features_ignored", words))
    return replace(cohort, features=x, names=tuple(names), path=None), notes


def _category(name: str, card: dict[str, Any]) -> str | None:
    """The column of words of whose values a feature is one."""
    return next((column for column in card["categories"] if name.startswith(f"{column}: ")), None)


def _filled(name: str, cohort: Cohort, card: dict[str, Any]) -> np.ndarray | None:
    """The values of a category that no new cell has: 0, missing where its column is; None for any other feature."""
    column = _category(name, card)
    others = [j for j, other in enumerate(cohort.names) if column and other.startswith(f"{column}: ")]
    if not others:
        return None
    return np.where(np.isnan(cohort.features[:, others]).all(1), np.nan, 0.0)


# ---------------------------------------------------------------- labels, where there are some


def _task(cohort: Cohort, card: dict[str, Any]) -> tuple[Task, list[Note]]:
    """The model's task with whatever labels the new patients have, and which of them it does not know."""
    target, time = card["settings"]["target"], card["settings"]["time"]
    none = pd.Series([None] * cohort.B, dtype=object)
    labels = cohort.patients.get(target, none)
    task = relabelled(
        card["task"], card["classes"], target, labels=labels, times=cohort.patients.get(time, none)
    )
    odd = sorted(set(as_text(labels)[~task.labelled]) - {""})
    notes = []
    if odd and card["task"] != "survival":
        words = f"Labels that the model does not know, counted as none: {listed(odd)}."
        notes.append(Note("unknown_labels", words))
    return task, notes


def _validated(scorer: Scorer, level: np.ndarray, cohort: Cohort, task: Task) -> dict[str, Any]:
    """Scores of the mean prediction on patients that no model has seen, where enough of them have labels; with 95 %
    intervals for these models as they are."""
    known, card = task.labelled, scorer.card
    words = pd.Series(task.words()[known])
    enough = words.nunique() > 1 if not isinstance(task, Survival) else np.nansum(task.y[:, 1]) > 1
    if not enough:
        return {}
    together = Plan(np.zeros((1, cohort.B), int), 1, known, cohort.groups)
    cut = card.get("threshold", 0.5)
    scores = validation.scores(
        level.mean(0)[None],
        together,
        task,
        threshold=np.full(cohort.B, np.log(cut / (1 - cut))),
        widening=1.0,
        seed=card["settings"]["seed"],
    )
    out = {"scores": scores, "roc": validation.roc(level.mean(0)[None], together, task)}
    if isinstance(task, Multiclass):
        out["confusion"] = validation.confusion(level.mean(0)[None], task)
    few = validation.too_few(together, task)
    return {name: found for name, found in out.items() if found} | ({"exploratory": few} if few else {})


def _verdict(facts: dict[str, Any], cohort: Cohort) -> str:
    """What may be said of new patients: by how many models they were scored, and how well, where they have labels."""
    models, main = facts["folds"] * facts["repeats"], facts["main"]
    words = (
        f"{cohort.B:,} new {cohort.bag}{'' if cohort.B == 1 else 's'}, scored by all {models} models together"
    )
    if main not in facts.get("scores", {}):
        return f"{words}; too few of them have a label to say how well."
    here, there = (validation.figure(main, one["scores"][main]) for one in (facts, facts["model"]))
    claim = f". Exploratory ({facts['exploratory'].split(';')[0]})" if "exploratory" in facts else ""
    known = f"on the {cohort.B - facts['counts']['unlabelled']:,} with a label"
    return f"{words}{claim}: {here} {known}; in training, out of fold, {there}."


# ---------------------------------------------------------------- all models together


def _member(scorer: Scorer, name: str, x: np.ndarray, offsets: np.ndarray) -> Member:
    """What a pooling's outer models say of the new cells, one "repeat" each."""
    if name != "neighbourhood" or scorer.reference is None:
        return apply(scorer.members[name], x, offsets)
    at = scorer.members[name]["evidence"]  # (R, folds, n, K)
    at = np.moveaxis(at.reshape(-1, *at.shape[2:]), 0, 1)
    points = scorer.seen.standardised(x)
    evidence = np.moveaxis(interpolated(scorer.reference.points, at, points), 0, 1)
    equal = np.repeat(1 / np.diff(offsets), np.diff(offsets)).astype(np.float32)
    return Member(np.broadcast_to(equal, evidence.shape[:2]), evidence, np.empty(0))


def _explained(mixture: Mixture, members: dict[str, Member], cohort: Cohort) -> tuple[Mixture, Shown]:
    """The mixture of every outer model for every new patient, and what it shows."""
    K, models = mixture.a.shape[2], mixture.base.size
    every = Mixture(
        mixture.members,
        np.repeat(mixture.a.reshape(models, 1, K), cohort.B, 1),
        np.repeat(mixture.b.reshape(len(members), models, 1), cohort.B, 2),
        np.repeat(mixture.base.reshape(models, 1), cohort.B, 1),
    )
    return every, explain(members, every, cohort.offsets)


def _phenotypes(scorer: Scorer, points: np.ndarray) -> Phenotypes:
    """The training phenotype that each new cell is most like: points (N, F') standardised."""
    known: Reference | Seen = scorer.seen if scorer.reference is None else scorer.reference
    among = known.centres if isinstance(known, Seen) else known.points
    number = known.kind.astype(int)[nearest(among, points, 1)[0][:, 0]]
    there, kind = np.unique(number, return_inverse=True)
    means = np.stack([points[kind == k].mean(0) for k in range(len(there))])
    names = tuple(scorer.card["phenotypes"][k] for k in there)
    nearest_ones = "group of training cells" if isinstance(known, Seen) else "training cell"
    return Phenotypes(names, kind, means, f"Each cell counts as what the nearest {nearest_ones} is.")


def _worth(case: Case, groups: Phenotypes, explained: tuple[dict[str, Member], Mixture, Shown]) -> Effects:
    """What the phenotypes are worth among the new patients; all models score all of them, so there is one fold."""
    members, mixture, shown = explained
    features = named(case.cohort, context=case.settings.context)
    return effects(case, groups, features, members=members, mixture=mixture, score=shown.score)


# ---------------------------------------------------------------- what must be known


def _names_known(cohort: Cohort, trained_on: Collection[str]) -> list[Note]:
    again = [name for name in cohort.patients["patient"].unique() if name in set(trained_on)]
    if not again:
        return []
    words = (
        f"Patients with the name of a training patient ({len(again)}): {listed(again)}. If they are the same, the"
        " models have seen them and their scores here prove nothing."
    )
    return [Note("patients_of_training", words)]


def _shift_notes(scorer: Scorer, cohort: Cohort, far: np.ndarray) -> list[Note]:
    """Features and patients unlike those of the training cohort."""
    out = [Note("shifted_feature", words) for words in scorer.seen.shifts(cohort)]
    most = float(scorer.seen.limit[1])
    away = np.flatnonzero(far > max(FAR * most, LEAST_FAR))
    if len(away):
        names = cohort.patients["patient"].to_numpy()[away]
        words = (
            f"Patients many of whose cells lie far from all training cells ({len(away)}): {listed(names)}; up to"
            f" {far.max():.0%} of a patient's cells (at most {most:.1%} in training). Their scores are guesses."
        )
        out.append(Note("far_from_training", words))
    return out


def _facts(scorer: Scorer, cohort: Cohort, task: Task, notes: list[Note]) -> dict[str, Any]:
    """What analysis.json says of new patients; the figures of the model's own validation stay under `model`."""
    card, everyone = scorer.card, np.ones(cohort.B, bool)
    settings = Settings.from_json(card["settings"])
    members = {name: {"weight": one["weight"]} for name, one in card["pooling"]["members"].items()}
    facts = {
        "version": VERSION,
        "new": True,
        "settings": card["settings"],
        "cohort": {
            "fingerprint": cohort.fingerprint,
            "path": "cohort",
            "patients": len(np.unique(cohort.groups)),
            "regions": count_regions(cohort, everyone),
            "cells": cohort.N,
            "features": cohort.F,
        },
        "features": list(named(cohort, context=settings.context)),
        "pooling": {"rule": card["pooling"]["rule"], "members": members},
        "model": {key: card[key] for key in ("cohort", "scores", "verdict", "counts", "versions")},
        "warnings": [{"kind": note.kind, "words": note.words} for note in notes],
        "versions": {"milscope": version("milscope")},
    }
    return facts | {key: card[key] for key in KEPT if key in card}
