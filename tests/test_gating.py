"""Gating rules: found by brute force too, honest about held-out patients, and silent without signal."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from milcore import gating, neighbourhood
from milcore.case import Case, case_of
from milcore.cohort import Cohort
from milcore.gating import Gating, Rule, gate, looked_at
from milcore.training import Settings
from tests.planted import Planted, graph_of, planted


def gated(case: Case) -> Gating:
    """The rules by the neighbourhood models alone."""
    cohort = case.cohort
    around = neighbourhood.abundance(graph_of(cohort), cohort.offsets, case.kept, lambda share: None)
    models, _, pairs = neighbourhood.cross_fit(around.kernels, case.plan, case.task, lambda share: None)
    at, unseen = neighbourhood.everywhere(around, models, pairs, case.kept)
    node = around.graph.node
    rows = looked_at(cohort, case.settings.seed)
    inner = neighbourhood.unseen_evidence(unseen, node[rows], case.plan, cohort.owner[rows])
    outer = neighbourhood.evidence(at, node[rows], case.plan, cohort.owner[rows])
    return gate(case, rows, inner=inner, importance=outer.mean(0), chance=None)


@pytest.fixture(scope="module")
def made() -> Planted:
    return planted(0, patients=30)


@pytest.fixture(scope="module")
def case(made: Planted) -> Case:
    return case_of(made.cohort, Settings(target="response", positive="yes", repeats=1))


def test_the_rule_encloses_the_planted_cells(made: Planted, case: Case) -> None:
    found = gated(case)
    (rule,) = found.facts["rules"]
    assert {term["feature"] for term in rule["terms"]} <= set(made.cohort.names[:2])
    terms = tuple((term["feature"], term["is"], term["threshold"]) for term in rule["terms"])
    inside = Rule(terms, 0, 1, 0, 0).holds(made.cohort)
    assert inside.sum() == rule["cells"]
    assert made.drivers[inside].mean() > 0.8
    assert rule["argues"] == "for"
    assert rule["words"].count(" and ") <= 2
    assert found.facts["auroc"]["value"] > 0.85
    count = np.diff(made.cohort.offsets)
    share = np.add.reduceat(inside.astype(float), made.cohort.offsets[:-1]) / count
    np.testing.assert_allclose(found.patients["share"], share)


def test_a_label_that_is_held_out_changes_nothing_of_the_patients_rule(made: Planted, case: Case) -> None:
    """Turning every label of one fold round must leave that fold's rule and frequencies as they are."""
    there = case.plan.fold[0] == 1
    y = case.task.y.copy()
    y[there] = 1 - y[there]
    turned = Case(made.cohort, case.settings, type(case.task)(case.task.classes, y), case.kept, case.plan)
    first, again = gated(case), gated(turned)
    assert first.facts["folds"][1] == again.facts["folds"][1]
    column = "share_out_of_fold"
    np.testing.assert_array_equal(first.patients[column][there], again.patients[column][there])
    assert first.facts["folds"] != again.facts["folds"], (
        "the others' rules must have learnt from these labels"
    )


def test_without_signal_a_rule_ranks_patients_by_chance() -> None:
    reached = []
    for seed in range(4):
        made = planted(seed, patients=24, shift=0.0, cells=40)
        case = case_of(made.cohort, Settings(target="response", positive="yes", repeats=1))
        reached.append(gated(case).facts["auroc"]["value"])
    assert 0.25 < np.mean(reached) < 0.7


def test_one_threshold_is_the_best_of_all() -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(300, 3)).round(2)
    x[:5, 1] = np.nan
    cohort = Cohort.of(x, np.repeat(np.arange(10), 30), names=["A", "B", "C"])
    sample = gating._sample(cohort, looked_at(cohort, 0))
    value = np.nan_to_num(cohort.features[:, 1]) + 0.3 * draw.normal(size=300)
    rule = gating._search(sample, np.arange(300), value, cohort.names, output=0, sign=1, aim=0.1)
    target = np.zeros(300, bool)
    target[np.argsort(-value, kind="stable")[:30]] = True
    best = 0.0
    for f, way in product(range(3), (">", "≤")):
        for cut in sample.cuts[f]:
            inside = Rule(((cohort.names[f], way, float(cut)),), 0, 1, 0, 0).holds(cohort)
            best = max(best, 2 * (inside & target).sum() / (inside.sum() + target.sum()))
    first = gating._narrower(
        sample,
        np.arange(300),
        np.stack([np.ones(300), target]),
        gating._Enclosed((), np.arange(300), 0.0),
    )[0]
    assert first.f1 == pytest.approx(best)
    inside = rule.holds(cohort)
    assert rule.f1 == pytest.approx(2 * (inside & target).sum() / (inside.sum() + target.sum()), abs=0.03)
    assert rule.f1 >= best - 0.03


def test_a_rule_in_words() -> None:
    assert Rule((("CD8", ">", 0.7), ("Ki67", ">", 0.4)), 0, 1, 0.02, 0.9).words == "CD8 > 0.7 and Ki67 > 0.4"
    cohort = Cohort.of(np.ones((3, 1)), np.repeat("P", 3), names=["A"])
    assert not Rule((), 0, 1, 0.02, 0.0).holds(cohort).any()
