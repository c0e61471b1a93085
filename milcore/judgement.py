"""Whether an analysis can be believed: everything that is measured beside the predictions, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from milcore import permutation, validation
from milcore.associations import associations
from milcore.baselines import baseline, summaries
from milcore.calibration import calibration
from milcore.case import Case
from milcore.cohort import Cohort, Note
from milcore.covariates import Covariates, with_cells
from milcore.evidence import Shown, member_scores
from milcore.faithfulness import faithfulness
from milcore.neighbourhood import Abundance
from milcore.preprocess import Moments
from milcore.probes import CELLS, probe
from milcore.progress import Progress
from milcore.results import level_of, outputs, own_output
from milcore.stability import Stability, stability
from milcore.stacking import Mixture
from milcore.tasks import Binary, Multiclass, Regression, Survival, as_text
from milcore.training import Member

__all__ = ["COVARIATES", "Explained", "Judgement", "counts", "judge"]

PERMUTATIONS = 1000
COVARIATES = "covariates"  # the plain model of all of them
KINDS = 30  # of known cells that are reported, the most frequent ones


@dataclass(frozen=True, eq=False)
class Explained:
    """The members, their mixture and what it shows; `alone`, what each member would show by itself, calibrated in the
    same way; and `fold` (R, B), which patients share a mixture."""

    fold: np.ndarray
    members: dict[str, Member]
    mixture: Mixture
    shown: Shown
    alone: dict[str, tuple[Mixture, Shown]]

    @property
    def level(self) -> np.ndarray:
        """(R, B, K) scores out of fold as the link takes them."""
        return level_of(self.mixture, self.shown.score)

    def inner(self, r: int, f: int) -> np.ndarray:
        """(B, K) inner held-out scores of the mixture for the outer fold f of repeat r; NaN in f."""
        return self.mixture.held_out(self.members, self.fold, r, f)


@dataclass(frozen=True, eq=False)
class Judgement:
    """`facts`: parts of analysis.json by their names; `members`: name -> {weight, scores, difference}; `notes`: what to
    warn of; `fdr` (M,) of the nodes of the graph (see associations) and `steady`: None where not measured."""

    facts: dict[str, Any]
    members: dict[str, dict[str, Any]]
    notes: list[Note]
    fdr: np.ndarray | None
    steady: Stability | None

    def columns(self, node: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of each cell (N,), whose nodes of the graph are given: fdr and same_sign, where measured."""
        out = {} if self.fdr is None else {"fdr": self.fdr[node]}
        return out if self.steady is None else out | {"same_sign": self.steady.same_sign}


def judge(
    case: Case,
    around: Abundance,
    measured: Moments,
    explained: Explained,
    *,
    beside: Covariates,
    kind: np.ndarray,
    notes: list[Note],
    progress: Progress,
) -> Judgement:
    """Scores, those of the members, the null, baselines, probes, known cells, faithfulness, stability, and the verdict;
    `kind` (N,) is the phenotype of each cell, and `notes` go first."""
    cohort, settings, task, dealt = case.cohort, case.settings, case.task, case.plan
    facts, fdr = _null(case, around, progress)
    wide = validation.widening(facts.get("null"), dealt, task)
    facts |= _scored(case, explained, wide=wide, chance=facts.get("null"))
    facts["baselines"] = _baselines(case, around, measured, explained.level, wide, progress)
    facts |= _beside(case, explained, beside, facts["baselines"], wide)
    facts["probes"], more = probe(
        cohort,
        task,
        dealt,
        measured,
        explained.level,
        labels=settings.labels,
        widening=wide,
        seed=settings.seed,
    )
    facts["baselines"][CELLS] |= facts["probes"].pop(CELLS)
    facts["dealt"] = _dealt(case)
    facts["known"] = _known(case, explained.shown)
    facts["faithfulness"] = faithfulness(
        explained.members,
        explained.mixture,
        cohort.offsets,
        np.flatnonzero(case.kept),
        outputs=outputs(explained.shown),
        seed=settings.seed,
        kind=kind,
        share=progress.share,
    )
    steady = stability(explained.members, explained.mixture, cohort.offsets, outputs(explained.shown))
    facts["stability"] = _stability(steady, case)
    facts["verdict"] = validation.verdict(facts["scores"], facts.get("null"), dealt, task)
    facts = {name: found for name, found in facts.items() if found}
    return Judgement(
        facts, _members(case, explained, wide), [*notes, *more, *_warnings(case, facts)], fdr, steady
    )


def _null(case: Case, around: Abundance, progress: Progress) -> tuple[dict[str, Any], np.ndarray | None]:
    """{null}, with the cells that stand out, and their false discovery rates; nothing where none was asked for."""
    cohort, settings, task, dealt = case.cohort, case.settings, case.task, case.plan
    permutations = PERMUTATIONS if settings.permutations is None else settings.permutations
    if not permutations:
        return {}, None
    found = permutation.null(
        around.kernels,
        dealt,
        task,
        permutations=permutations,
        seed=settings.seed,
        share=lambda s: progress.share(s / 2),
        crew=case.crew,
    )
    size = int(np.diff(cohort.offsets)[case.kept].sum())
    cells = associations(around, dealt, task, cells=size, permutations=permutations, seed=settings.seed)
    if cells is None:
        return {"null": found}, None
    return {"null": found | {"cells": cells.facts}}, cells.fdr


def _dealt(case: Case) -> dict[str, Any]:
    """{fold, learnt_from, seen}: the fold of each patient in each repeat, in the order of the predictions, from how
    many patients the model that scored it learnt, and how often a model scored a patient it had learnt from (never)."""
    plan, kept = case.plan, np.flatnonzero(case.kept)
    learnt, seen = np.empty(plan.fold.shape, int), 0
    for r in range(plan.repeats):
        for f in range(plan.folds):
            train, there = plan.training(r, (f,)), plan.fold[r] == f
            learnt[r, there] = plan.patients(train)
            seen += len(set(plan.groups[train]) & set(plan.groups[there & case.kept]))
    return {"fold": plan.fold[:, kept].T.tolist(), "learnt_from": learnt[:, kept].T.tolist(), "seen": seen}


def _stability(found: Stability | None, case: Case) -> dict[str, Any]:
    """{median, patients: agreement of each, in the order of the predictions}; empty where it was not assessed."""
    if found is None:
        return {}
    agreement = found.agreement[case.kept]
    each = [None if np.isnan(value) else round(float(value), 4) for value in agreement]
    return {"median": float(np.nanmedian(agreement)), "patients": each}


def _scored(
    case: Case, explained: Explained, *, wide: float, chance: dict[str, Any] | None
) -> dict[str, Any]:
    """{scores, scores_patient, calibration, and by the kind of label threshold, roc, confusion, survival}."""
    task, dealt, level = case.task, case.plan, explained.level
    cut = _thresholds(case)
    seed = case.settings.seed
    out: dict[str, Any] = {
        "scores": validation.scores(level, dealt, task, threshold=cut, widening=wide, seed=seed),
        "scores_patient": validation.by_patient(level, dealt, task, widening=wide, seed=seed),
        "roc": validation.roc(level, dealt, task),
        "calibration": calibration(level, dealt, task, seed=seed),
    }
    if isinstance(task, Binary):
        out["threshold"] = float(task.link(cut).mean())
    if isinstance(task, Multiclass):
        out["confusion"] = validation.confusion(level, task)
    if isinstance(task, Survival):
        cuts = explained.mixture.medians(explained.members, dealt)
        out["survival"] = validation.survival_groups(level, cuts, task, chance)
    return out


def _members(case: Case, explained: Explained, wide: float) -> dict[str, dict[str, Any]]:
    """name -> {weight, scores, difference: the mixture's less its own} of each member alone."""
    task, dealt, seed = case.task, case.plan, case.settings.seed
    spread = {name: member_scores(one, case.cohort.offsets) for name, one in explained.members.items()}
    weight, out = explained.mixture.weights(spread), {}
    for name, (own, one) in explained.alone.items():
        level = level_of(own, one.score)
        scores = validation.scores(level, dealt, task, threshold=_thresholds(case), widening=wide, seed=seed)
        out[name] = {"weight": weight[name], "scores": scores}
        if len(explained.alone) > 1:
            out[name]["difference"] = validation.difference(explained.level, level, dealt, task)
    return out


def _baselines(
    case: Case,
    around: Abundance,
    measured: Moments,
    level: np.ndarray,
    wide: float,
    progress: Progress,
) -> dict[str, Any]:
    """name -> {leading score, difference: the mixture's less its own} of each plain model under the same folds."""
    out: dict[str, Any] = {}
    for name, summary in summaries(case.cohort, around.graph, measured, seed=case.settings.seed).items():
        out[name] = _compared(case, level, baseline(summary, case.plan, case.task), wide)
        progress.share(0.5 + len(out) / 10)
    return out


def _compared(case: Case, level: np.ndarray, plain: np.ndarray, wide: float) -> dict[str, Any]:
    """{leading score, difference} of scores `plain` (R, B, K), and of `level` less these."""
    task, dealt, seed = case.task, case.plan, case.settings.seed
    reached = validation.leading(plain, dealt, task, widening=wide, seed=seed)
    return {task.main: reached, "difference": validation.difference(level, plain, dealt, task)}


def _beside(
    case: Case, explained: Explained, found: Covariates, plain: dict[str, Any], wide: float
) -> dict[str, Any]:
    """{covariates}: {columns, excluded, alone, with_cells, added}; all of them together join the
    `plain` models. `added`: what the cells' score adds to them, as a paired difference."""
    task, dealt = case.task, case.plan
    out: dict[str, Any] = {"columns": list(found.columns), "excluded": found.excluded}
    if not found.columns:
        return {"covariates": out} if found.excluded else {}
    level = explained.level
    out["alone"] = {
        name: _compared(case, level, baseline(one, dealt, task), wide) for name, one in found.columns.items()
    }
    together = baseline(found.together, dealt, task)
    inner = np.stack([[explained.inner(r, f) for f in range(dealt.folds)] for r in range(dealt.repeats)])
    both = with_cells(found.together, inner, explained.shown.score, dealt, task)
    plain[COVARIATES] = _compared(case, level, together, wide)
    out["with_cells"] = _compared(case, level, both, wide)
    out["added"] = validation.difference(both, together, dealt, task)
    return {"covariates": out}


def _known_columns(cohort: Cohort) -> dict[str, bool]:
    """The columns of --known: name -> whether it holds kinds of cells, not numbers of which there are too many."""
    names = [c["name"] for c in cohort.source.get("columns", []) if c["role"] == "known"]
    every = {name: cohort.cells[name] for name in names}
    return {n: not pd.api.types.is_numeric_dtype(c) or c.nunique() <= KINDS for n, c in every.items()}


def _known(case: Case, shown: Shown) -> dict[str, dict[str, Any]]:
    """How well importance finds each kind of cell of the --known column: value -> {cells, auroc, average_precision},
    among the cells that have a value; among all where there is one value only."""
    columns = [name for name, kinds in _known_columns(case.cohort).items() if kinds]
    if not columns:
        return {}
    from sklearn.metrics import average_precision_score, roc_auc_score

    owner = case.cohort.owner
    seen = case.kept[owner]
    own = own_output(shown.contribution, outputs(shown)[owner])
    importance = (own * np.diff(case.cohort.offsets)[owner])[seen]
    out = {}
    for column in columns:
        text = as_text(pd.Series(case.cohort.cells[column])[seen])
        values = pd.Series(text[text != ""]).value_counts().index[:KINDS]
        among = (text != "") | (len(values) == 1)
        for value in values:
            here = (text == value)[among]
            if not here.all():
                auroc = float(roc_auc_score(here, importance[among]))
                precision = float(average_precision_score(here, importance[among]))
                out[str(value)] = {"cells": int(here.sum()), "auroc": auroc, "average_precision": precision}
    return out


def _thresholds(case: Case) -> np.ndarray:
    """(B,) log-odds at which a patient is called positive: the share of positives among its training patients, which is
    where calibrated scores balance sensitivity and specificity; mean over repeats. 0 without two classes."""
    dealt, task = case.plan, case.task
    if not isinstance(task, Binary):
        return np.zeros(case.cohort.B)
    cut = np.empty(dealt.fold.shape)
    for r in range(dealt.repeats):
        for f in range(dealt.folds):
            share = task.y[dealt.training(r, (f,))].mean()
            cut[r, dealt.fold[r] == f] = np.log(share / (1 - share))
    return cut.mean(0)


def counts(case: Case) -> dict[str, int]:
    """Bags of each kind of label, and without one."""
    task, words = case.task, case.task.words()[case.kept]
    if isinstance(task, Survival):
        kinds = {"events": int(np.nansum(task.y[:, 1])), "censored": int(np.nansum(1 - task.y[:, 1]))}
    elif isinstance(task, Regression):
        kinds = {"values": int(task.labelled.sum())}
    else:
        kinds = {c: int((words == c).sum()) for c in task.classes}
    return kinds | {"unlabelled": int((words == "").sum())}


def _warnings(case: Case, facts: dict[str, Any]) -> list[Note]:
    """What this analysis itself gives reason to warn of."""
    out, main = [], case.task.main
    unlabelled = counts(case)["unlabelled"]
    for name in (name for name, kinds in _known_columns(case.cohort).items() if not kinds):
        words = f"'{name}' holds numbers, not kinds of cells: importance was not held against it."
        out.append(Note("known_numbers", words))
    if few := validation.too_few(case.plan, case.task):
        out.append(Note("small_cohort", f"Exploratory: {few}; scores carry no claim."))
    if unlabelled:
        words = f"{unlabelled} patient(s) have no label: kept out of training, predicted, and marked."
        out.append(Note("unlabelled_patients", words))
    number, named = facts["baselines"][CELLS][main], validation.NAMES[main]
    if number["low"] > validation.CHANCE[main]:
        words = f"The number of cells alone predicts the label ({named} {number['value']:.2f})."
        out.append(Note("cells_predict_label", words))
    plain = {name: scores[main]["value"] for name, scores in facts["baselines"].items()}
    top, reached = max(plain, key=lambda name: plain[name]), facts["scores"][main]["value"]
    if plain[top] > reached:
        words = f"A plain model of {top} does no worse ({named} {plain[top]:.2f}, the cells' {reached:.2f})."
        out.append(Note("baseline_better", words))
    return out
