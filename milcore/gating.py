"""Gating rules: at most three thresholds that enclose the cells that matter most, so that others can count them.

The rule of a fold is learnt from cells of training patients, whose importance comes from `neighbourhood` models that
saw neither that fold nor the patient's own (neighbourhood.unseen_evidence). Counting it in the fold's patients gives
the rule's own out-of-fold score. The rule that is shown is learnt on all patients and describes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from milcore.case import Case
from milcore.cohort import Cohort
from milcore.folds import Plan
from milcore.measures import auroc
from milcore.validation import leading, widening

__all__ = ["HOW", "Gating", "Rule", "gate", "looked_at"]

TERMS = 3  # thresholds in a rule
SHARES = (0.005, 0.02, 0.05, 0.1)  # of the cells, by importance, that a rule may aim at
BETTER = 0.02  # gain in F1 that another threshold must bring
CLOSE = 0.03  # of the leading score, in sample: rules this near rank patients alike
BEAM = 3  # rules that are carried on to the next threshold
CELLS = 40_000  # looked at, from all patients alike
LEVELS = np.concatenate([[0.002, 0.005, 0.01], np.linspace(0.02, 0.98, 49), [0.99, 0.995, 0.998]])
DIGITS = 3  # significant ones of a threshold
HOW = (
    "Learnt in each fold on its training patients alone, from importance by neighbourhood models that saw neither the "
    "fold nor the patient (first repeat); the rule shown is learnt on all patients and is descriptive."
)


@dataclass(frozen=True)
class Rule:
    """`terms` of (feature, ">" or "≤", threshold in the units of the table), all to be met; cells that meet them argue
    for output `output`, or against it where `sign` is -1. `aim`: the share of cells, by importance, it was learnt to
    enclose; `f1` how well it does."""

    terms: tuple[tuple[str, str, float], ...]
    output: int
    sign: int
    aim: float
    f1: float

    @property
    def words(self) -> str:
        """The rule as a reader writes it down: "CD8 > 0.7 and Ki67 > 0.4"."""
        return " and ".join(f"{name} {way} {cut:g}" for name, way, cut in self.terms) or "no rule"

    def holds(self, cohort: Cohort) -> np.ndarray:
        """(N,) which cells meet it; none where there is no rule. A missing value meets nothing."""
        out = np.full(cohort.N, bool(self.terms))
        for name, way, cut in self.terms:
            value = cohort.features[:, cohort.names.index(name)]
            out &= value > cut if way == ">" else value <= cut
        return out


@dataclass(frozen=True, eq=False)
class Gating:
    """`facts` as in analysis.json; `patients`: how much of each patient meets the rules (gating.csv)."""

    facts: dict[str, Any]
    patients: pd.DataFrame


@dataclass(frozen=True, eq=False)
class _Sample:
    """Some cells, from all patients alike: their `owner` (n,) and `bins` (n, F): how many of the `cuts` (F, any) each
    value is above, or the most a byte holds where it is missing."""

    owner: np.ndarray
    bins: np.ndarray
    cuts: list[np.ndarray]


MISSING = 255


def looked_at(cohort: Cohort, seed: int) -> np.ndarray:
    """(n,) rows of the cells that rules are learnt from, from all patients alike."""
    draw, most = np.random.default_rng([seed, 10]), -(-CELLS // cohort.B)
    place = np.lexsort((draw.random(cohort.N), cohort.owner)) if cohort.N > CELLS else np.arange(cohort.N)
    kept = np.arange(cohort.N) - cohort.offsets[cohort.owner] < most
    return np.sort(place[kept])


def gate(
    case: Case,
    rows: np.ndarray,
    *,
    inner: np.ndarray,
    importance: np.ndarray,
    chance: dict[str, Any] | None,
) -> Gating:
    """Rules learnt from the cells `rows` (see looked_at): of all patients, by these cells' importance (n, K), and of
    each fold, by their `inner` evidence (folds, n, K); `chance` is the null, which widens the score's interval (see
    validation)."""
    cohort, task, plan = case.cohort, case.task, case.plan
    sample = _sample(cohort, rows)
    first = Plan(plan.fold[:1], plan.folds, plan.labelled, plan.groups)
    level, told = np.zeros((1, cohort.B, task.outputs)), []
    for f in range(plan.folds):
        rules = _learn(case, sample, inner[f], plan.training(0, (f,)))
        there = first.fold[0] == f
        level[0, there] = _frequencies(rules, cohort)[there] * [rule.sign for rule in rules]
        told.append([rule.words for rule in rules])
    wide = widening(chance, plan, task)
    reached = leading(level, first, task, widening=wide, seed=case.settings.seed)
    rules = _learn(case, sample, importance, task.labelled)
    facts = {
        "rules": [_plain(rule, case) for rule in rules],
        task.main: reached,
        "folds": told,
        "how": HOW,
    }
    return Gating(facts, _table(case, rules, level))


def _plain(rule: Rule, case: Case) -> dict[str, Any]:
    towards = case.task.classes[rule.output] if case.task.outputs > 1 else case.task.towards
    terms = [{"feature": name, "is": way, "threshold": cut} for name, way, cut in rule.terms]
    return {
        "words": rule.words,
        "terms": terms,
        "argues": "for" if rule.sign > 0 else "against",
        "towards": towards,
        "aim": rule.aim,
        "f1": rule.f1,
        "cells": int((rule.holds(case.cohort) & case.kept[case.cohort.owner]).sum()),
        "descriptive": True,
    }


def _table(case: Case, rules: list[Rule], level: np.ndarray) -> pd.DataFrame:
    """Share of each patient's cells: by the descriptive rule, and by the rule of its fold."""
    cohort, kept = case.cohort, case.kept
    keys = ["patient", "region"] if cohort.bag == "region" else ["patient"]
    table = cohort.patients.loc[kept, keys].reset_index(drop=True)
    every = _frequencies(rules, cohort)[kept]
    for k, rule in enumerate(rules):
        name = f"_{case.task.classes[rule.output]}" if case.task.outputs > 1 else ""
        table[f"share{name}"], table[f"share_out_of_fold{name}"] = every[:, k], np.abs(level[0, kept, k])
    return table


def _frequencies(rules: list[Rule], cohort: Cohort) -> np.ndarray:
    """(B, rules) share of each patient's cells that meets each rule."""
    count = np.diff(cohort.offsets)
    return np.stack(
        [np.add.reduceat(rule.holds(cohort), cohort.offsets[:-1], dtype=int) / count for rule in rules], 1
    )


def _sample(cohort: Cohort, rows: np.ndarray) -> _Sample:
    values = np.asarray(cohort.features[rows], np.float64)
    cuts, bins = [], np.empty(values.shape, np.uint8)
    for f, column in enumerate(values.T):
        known = np.isfinite(column)
        levels = np.quantile(column[known], LEVELS) if known.any() else np.empty(0)
        cuts.append(np.unique([float(f"{level:.{DIGITS}g}") for level in levels]))
        bins[:, f] = np.where(known, np.searchsorted(cuts[-1], column), MISSING)
    return _Sample(cohort.owner[rows], bins, cuts)


# ---------------------------------------------------------------- learning


def _learn(case: Case, sample: _Sample, importance: np.ndarray, train: np.ndarray) -> list[Rule]:
    """One rule for each output, from the importance (n, K) of the cells of the patients `train` (B,): of both sides and
    all aims the truest of those whose frequency ranks these patients about best."""
    task, here = case.task, np.flatnonzero(train[sample.owner])
    values = np.nan_to_num(importance[here], nan=0.0)
    out = []
    for k in range(task.outputs):
        sides = (1, -1) if task.outputs == 1 else (1,)
        rules = [
            _search(sample, here, sign * values[:, k], case.cohort.names, output=k, sign=sign, aim=aim)
            for sign in sides
            for aim in SHARES
        ]
        told = [_told(case, rule, train) for rule in rules]
        able = [rule for rule, one in zip(rules, told, strict=True) if one >= max(told) - CLOSE]
        out.append(max(able, key=lambda rule: rule.f1))
    return out


def _told(case: Case, rule: Rule, train: np.ndarray) -> float:
    """How well a rule's frequency ranks the patients `train` (B,), in sample."""
    task, one = case.task, np.zeros(train.sum())
    frequency = rule.sign * _frequencies([rule], case.cohort)[train]
    if task.outputs > 1:
        return float(auroc(frequency[:, 0], task.y[train] == rule.output, one))
    return float(task.ranked(frequency, task.y[train], one))


def _search(
    sample: _Sample,
    here: np.ndarray,
    value: np.ndarray,
    names: tuple[str, ...],
    *,
    output: int,
    sign: int,
    aim: float,
) -> Rule:
    """The best rule for the top share `aim` of the cells `here` (n,) by value (n,), patients counting alike."""
    weight = 1 / np.bincount(sample.owner[here])[sample.owner[here]]
    order = np.argsort(-value, kind="stable")
    target = np.zeros(len(here), bool)
    target[order[: np.searchsorted(np.cumsum(weight[order]), aim * weight.sum()) + 1]] = True
    weights = np.stack([weight, weight * (target & (value > 0))])
    best = _Enclosed((), np.arange(len(here)), 0.0)
    beam = [best]
    for _ in range(TERMS):
        found = [one for start in beam for one in _narrower(sample, here, weights, start)]
        beam = sorted(found, key=lambda one: -one.f1)[:BEAM]
        if not beam or beam[0].f1 < best.f1 + BETTER:
            break
        best = beam[0]
    terms = tuple((names[f], way, float(sample.cuts[f][cut])) for f, way, cut in best.terms)
    return Rule(terms, output, sign, aim, best.f1)


@dataclass(frozen=True, eq=False)
class _Enclosed:
    """`inside`: which of the cells at hand meet the `terms` of (feature, way, number of the cut)."""

    terms: tuple[tuple[int, str, int], ...]
    inside: np.ndarray
    f1: float


def _narrower(sample: _Sample, here: np.ndarray, weights: np.ndarray, start: _Enclosed) -> list[_Enclosed]:
    """The best ways to add a threshold: `weights` (2, n) of the cells `here`, of all of them and of those aimed at."""
    bins, inside = sample.bins[here[start.inside]], weights[:, start.inside]
    F, used = bins.shape[1], {(f, way) for f, way, _ in start.terms}
    place = (bins + np.arange(F) * 256).ravel()
    total, hit = (np.bincount(place, one.repeat(F), F * 256).reshape(F, 256)[:, :MISSING] for one in inside)
    wanted = weights[1].sum()
    found = []
    for way in (">", "≤"):
        passed, right = (_passing(one, way) for one in (total, hit))
        f1 = 2 * right / np.maximum(wanted + passed, 1e-12)
        for f in range(F):
            cuts = len(sample.cuts[f])
            if cuts and (f, way) not in used:
                cut = int(f1[f, :cuts].argmax())
                found.append((float(f1[f, cut]), f, way, cut))
    out = []
    for f1, f, way, cut in sorted(found, key=lambda one: -one[0])[:BEAM]:
        met = (bins[:, f] > cut) & (bins[:, f] < MISSING) if way == ">" else bins[:, f] <= cut
        out.append(_Enclosed((*start.terms, (f, way, cut)), start.inside[met], f1))
    return out


def _passing(histogram: np.ndarray, way: str) -> np.ndarray:
    """(F, bins) what lies above, or not above, each cut of histograms (F, bins)."""
    if way == "≤":
        return np.cumsum(histogram, 1)
    return histogram.sum(1, keepdims=True) - np.cumsum(histogram, 1)
