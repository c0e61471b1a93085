"""The whole chain: from a cohort and settings to an analysis."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from milcore import memory, neighbourhood, validation
from milcore.analysis import VERSION, Analysis, needs
from milcore.case import Case, case_of
from milcore.cohort import Cohort
from milcore.covariates import covariates
from milcore.crew import HERE, Crew
from milcore.effects import Effects, effects, in_short
from milcore.errors import MilError
from milcore.evidence import Shown, explain
from milcore.gating import Gating, gate, looked_at
from milcore.judgement import Explained, Judgement, counts, judge
from milcore.names import short
from milcore.neighbours import Graph, graph
from milcore.phenotypes import Phenotypes, phenotypes
from milcore.preprocess import Moments, Preparation, moments, named, preparation
from milcore.probes import shifted
from milcore.progress import Progress
from milcore.projection import Layout, cohort_map, of_file, umap_map
from milcore.results import cells_table, count_regions, level_of, predictions_table
from milcore.retraining import whole_null
from milcore.scorer import Reference, Scorer, reference_rows, scorer_card
from milcore.seen import look
from milcore.stacking import Mixture, best, stack
from milcore.surroundings import regions
from milcore.training import Member, Settings, cross_fit

__all__ = ["analyse", "lay_out", "prepare"]

MEMBERS = {"auto": ("neighbourhood", "attention")}  # any other rule is its own only member
FITTED_HELD = 2_500  # bytes of memory for each cell that UMAP fits
WHOLE = {"thorough": 20}  # permutations of the whole chain, by effort; none where --permutations is given
LIBRARIES = ("lifelines", "numpy", "scipy", "torch", "faiss-cpu", "igraph", "umap-learn", "pandas")


def analyse(
    cohort: Cohort, settings: Settings, progress: Progress | None = None, *, crew: Crew = HERE
) -> Analysis:
    """Trains, explains and validates; MilError where target and cohort do not allow it, Cancelled when stopped. The
    numbers are the same whoever the `crew` is."""
    progress = progress or Progress()
    memory.spare(needs(cohort, settings), "Training on these cells", cells=cohort.N)
    case = case_of(cohort, settings, crew)
    task, kept = case.task, case.kept
    beside = covariates(cohort, task, asked=settings.covariates, labels=settings.labels)
    with progress.stage("neighbours"):
        ready, x, cells = _prepared(cohort, settings, progress)
    with progress.stage("umap"):  # first, where it was prepared
        coordinates = _map(cohort, settings, cells, progress)
    measured, notes = moments(x, cohort.offsets), shifted(x[:, : cohort.F], regions(cohort), cohort.names)
    members: dict[str, Member] = {}
    with progress.stage("neighbourhood"):
        around = neighbourhood.abundance(cells, cohort.offsets, kept, lambda s: progress.share(s / 2))
        if "neighbourhood" in _rule(settings):
            members["neighbourhood"], unseen = _neighbourhood(case, around, progress)
        else:
            pairs = neighbourhood.pair_models(around.kernels, case.plan, task)
            _, unseen = neighbourhood.everywhere(around, [], pairs, kept)
    for name in [name for name in _rule(settings) if name != "neighbourhood"]:
        with progress.stage(name):
            members[name] = _networks(case, name, x, measured, progress)
    with progress.stage("evidence"):
        explained = _explained(case, members)
    with progress.stage("phenotypes"):
        features, groups = named(cohort, context=settings.context), _groups(cohort, settings, cells)
    with progress.stage("validation"):
        judged = judge(
            *(case, around, measured, explained),
            beside=beside,
            kind=groups.kind,
            notes=notes,
            progress=progress,
        )
    with progress.stage("drivers"):
        worth = _worth(case, groups, features, explained)
        gated = _gated(case, (unseen, cells.node), explained, judged)
    facts = _all_facts(case, explained, judged)
    facts |= _whole_null(case, around, x, measured, facts, progress)
    facts["prepared"] = ready.told(cohort.names)
    facts["umap"] = "approximate" if of_file(cohort) is None else "from file"
    facts["phenotyping"] = {"how": groups.how, "test": worth.test}
    facts |= {"phenotypes": in_short(worth), "gating": gated.facts}
    facts["timings"] = {name: round(seconds, 3) for name, seconds in progress.timings.items()}
    who, mixture, shown = (cohort, task, kept), explained.mixture, explained.shown
    predictions = predictions_table(*who, mixture=mixture, shown=shown)
    table = cells_table(
        *who,
        shown=shown,
        alone=explained.alone,
        groups=groups,
        coordinates=coordinates,
        also=judged.columns(cells.node),
    )
    scorer = _scorer(case, (ready, cells, measured, coordinates, groups), explained, facts)
    results = (predictions, table, worth, members, mixture, scorer, gated.patients)
    return Analysis(cohort, settings, facts, *results)


def prepare(cohort: Cohort, progress: Progress | None = None) -> None:
    """Leaves in a cohort's folder what an analysis with the usual settings begins with: the neighbour graph, the map
    and the groups of its cells. They know no label. MilError where memory is short."""
    progress, settings = progress or Progress(), Settings(target="")
    memory.spare(needs(cohort, settings), "Preparing these cells", cells=cohort.N)
    with progress.stage("neighbours"):
        _, _, cells = _prepared(cohort, settings, progress)
    with progress.stage("umap"):
        _map(cohort, settings, cells, progress)
    with progress.stage("phenotypes"):
        _groups(cohort, settings, cells)


def lay_out(
    cohort: Cohort, settings: Settings, layout: Layout, progress: Progress | None = None
) -> np.ndarray:
    """(N, 2) float32: another map of an analysis' cells; MilError where a feature is not among its own."""
    progress = progress or Progress()
    names = named(cohort, context=settings.context)
    for name in layout.features:
        if name not in names:
            problem = f"The models have no feature '{name}'."
            raise MilError(problem, "features of the map", f"Choose from {', '.join(names[:8])}, …")
    if layout.full:
        memory.spare(cohort.N * FITTED_HELD, "A map with every cell fitted", cells=cohort.N)
    with progress.stage("neighbours"):
        _, _, cells = _prepared(cohort, settings, progress)
        if layout.features:
            points = cells.points[:, [names.index(name) for name in layout.features]]
            none = np.empty((len(points), 0), np.int32)  # the neighbours by all features are not theirs
            cells = replace(cells, points=points, neighbours=none, distances=none)
    with progress.stage("umap"):
        return umap_map(cells, cohort.owner, seed=settings.seed, share=progress.share, layout=layout)


def _prepared(
    cohort: Cohort, settings: Settings, progress: Progress
) -> tuple[Preparation, np.ndarray, Graph]:
    """How features are prepared, the prepared ones (N, any), and the graph of the cells by them."""
    transform, centre, context = settings.transform, settings.centre, settings.context
    ready = preparation(cohort, transform=transform, centre=centre, context=context)
    x = ready.apply(cohort)
    return ready, x, graph(cohort, x, _how(settings), progress.share)


def _map(cohort: Cohort, settings: Settings, cells: Graph, progress: Progress) -> np.ndarray:
    """(N, 2) float32: where each cell lies by likeness; as the tables say, where they do."""
    if (brought := of_file(cohort)) is not None:
        return brought
    return cohort_map(cohort, cells, _how(settings), seed=settings.seed, share=progress.share)


def _groups(cohort: Cohort, settings: Settings, cells: Graph) -> Phenotypes:
    features = named(cohort, context=settings.context)
    return phenotypes(cohort, cells, features, _how(settings), seed=settings.seed)


def _how(settings: Settings) -> str:
    """The settings that features are prepared by."""
    return f"{settings.transform} {settings.centre} {settings.context}"


def _worth(case: Case, groups: Phenotypes, features: tuple[str, ...], explained: Explained) -> Effects:
    """What the groups of cells are worth."""
    members, mixture, score = explained.members, explained.mixture, explained.shown.score
    return effects(case, groups, features, members=members, mixture=mixture, score=score)


def _gated(
    case: Case, unseen: tuple[np.ndarray, np.ndarray], explained: Explained, judged: Judgement
) -> Gating:
    """The gating rules, from what pair models say at each node (M, pairs, K) and the node of each cell (N,)."""
    cohort, (pairs, node) = case.cohort, unseen
    rows = looked_at(cohort, case.settings.seed)
    owner = cohort.owner[rows]
    inner = neighbourhood.unseen_evidence(pairs, node[rows], case.plan, owner)
    importance = explained.shown.contribution[rows] * np.diff(cohort.offsets)[owner, None]
    return gate(case, rows, inner=inner, importance=importance, chance=judged.facts.get("null"))


def _scorer(
    case: Case,
    prepared: tuple[Preparation, Graph, Moments, np.ndarray, Phenotypes],
    explained: Explained,
    facts: dict[str, Any],
) -> Scorer:
    """What scores new patients; `prepared`: how features were, the cells' graph, their moments, their map and
    their phenotypes."""
    ready, cells, measured, coordinates, groups = prepared
    cohort, dealt, rows = case.cohort, case.plan, _reference(case)
    scale = np.concatenate(measured.scale(np.ones((1, cohort.B), bool)))
    own = (cells.points[cells.node[rows]], coordinates[rows], groups.kind[rows])
    placed = Reference(*(part.astype(np.float32) for part in own))
    return Scorer(
        scorer_card(facts, cohort, ready) | {"phenotypes": list(groups.names)},
        ready,
        look(cohort, cells, groups.kind, scale, taught=case.task.labelled, seed=case.settings.seed),
        {name: member.learnt or {} for name, member in explained.members.items()},
        explained.mixture.by_fold(dealt),
        {name: own.by_fold(dealt) for name, (own, _) in explained.alone.items()},
        placed if "neighbourhood" in explained.members else None,
    )


def _reference(case: Case) -> np.ndarray:
    """(n,) rows of the training cells that new cells may be placed among."""
    return reference_rows(case.cohort.offsets, case.task.labelled, seed=case.settings.seed)


def _whole_null(
    case: Case,
    around: neighbourhood.Abundance,
    x: np.ndarray,
    measured: Moments,
    facts: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """{null} with what the whole chain reaches on shuffled labels, where the effort allows it; it runs last."""
    settings = case.settings
    permutations = WHOLE.get(settings.effort, 0) if settings.permutations is None else 0
    if not permutations or "null" not in facts:
        return {}
    with progress.stage("whole null"):
        found = whole_null(
            *(case, around.kernels, x, measured),
            members=_rule(settings),
            permutations=permutations,
            progress=progress,
        )
    return {"null": facts["null"] | {"whole": found}} if found else {}


def _rule(settings: Settings) -> tuple[str, ...]:
    return MEMBERS.get(settings.pooling, (settings.pooling,))


def _neighbourhood(
    case: Case, around: neighbourhood.Abundance, progress: Progress
) -> tuple[Member, np.ndarray]:
    """The first member, and what its pair models say at each node (M, pairs, K); its ranking of the patients is handed
    over as soon as there is one."""
    cohort, dealt, task = case.cohort, case.plan, case.task
    models, inner, pairs = neighbourhood.cross_fit(
        around.kernels, dealt, task, lambda s: progress.share(0.5 + s / 4), crew=case.crew
    )
    patients = np.arange(cohort.B)
    ranked = np.stack([m.scores(around.kernels)[dealt.fold[r], patients] for r, m in enumerate(models)])
    progress.early(_early(case, "neighbourhood", ranked, inner))
    at, unseen = neighbourhood.everywhere(around, models, pairs, case.kept)
    node = around.graph.node
    evidence = neighbourhood.evidence(at, node, dealt, cohort.owner)
    equal = (1 / np.diff(cohort.offsets)).astype(np.float32)[cohort.owner]
    learnt = {"evidence": np.moveaxis(at[node[_reference(case)]], 0, 2)}  # of the reference cells
    return Member(np.broadcast_to(equal, evidence.shape[:2]), evidence, inner, learnt=learnt), unseen


def _networks(case: Case, pooling: str, x: np.ndarray, measured: Moments, progress: Progress) -> Member:
    offsets, seed = case.cohort.offsets, case.settings.seed
    candidates = cross_fit(
        x,
        offsets,
        measured,
        case.plan,
        case.task,
        pooling=pooling,
        seed=seed,
        share=progress.share,
        epochs=case.settings.epochs,
        starts=case.settings.starts,
        crew=case.crew,
    )
    return best(candidates, offsets, case.plan, case.task)


def _explained(case: Case, members: dict[str, Member]) -> Explained:
    """The mixture and what it shows; and what each member would show alone, calibrated in the same way."""

    def explained(some: dict[str, Member]) -> tuple[Mixture, Shown]:
        mixture = stack(some, case.plan, case.task)
        return mixture, explain(some, mixture, case.cohort.offsets)

    mixture, shown = explained(members)
    if len(members) == 1:
        return Explained(case.plan.fold, members, mixture, shown, dict.fromkeys(members, (mixture, shown)))
    alone = {name: explained({name: member}) for name, member in members.items()}
    return Explained(case.plan.fold, members, mixture, shown, alone)


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


def _all_facts(case: Case, explained: Explained, judged: Judgement) -> dict[str, Any]:
    cohort, settings, task, kept, dealt = case.cohort, case.settings, case.task, case.kept, case.plan
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
        "counts": counts(case),
        "folds": dealt.folds,
        "repeats": dealt.repeats,
        "pooling": {
            "rule": "stacked on inner held-out scores" if len(explained.members) > 1 else settings.pooling,
            "members": judged.members,
        },
    }
    facts |= judged.facts
    facts["warnings"] = [{"kind": n.kind, "words": n.words} for n in (*cohort.notes, *judged.notes)]
    facts["versions"] = {name: version(name) for name in ("milscope", *LIBRARIES)}
    return facts


def _task_why(case: Case) -> str:
    """One sentence: what kind of label this is, and who said so."""
    name, settings = case.task.name, case.settings
    kinds = {
        "binary": "two classes",
        "multiclass": f"{len(case.task.classes)} classes",
        "regression": "a number",
        "survival": f"time until an event, in '{short(settings.time, 60)}'",
    }
    why = "recognised from the column" if settings.task == "auto" and settings.time is None else "as asked"
    return f"'{short(settings.target, 60)}' is taken as {kinds[name]} ({name}), {why}."
