from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from milcore import permutation, validation
from milcore.associations import LEVEL, Associations, _rates, associations
from milcore.folds import plan
from milcore.neighbourhood import Abundance, abundance, relative_abundance
from milcore.tasks import Binary, Multiclass, Regression, Survival, Task
from tests.planted import Planted, graph_of, planted

KINDS = ("binary", "multiclass", "regression", "survival")


def spread(case: Planted) -> Abundance:
    everyone = np.ones(case.cohort.B, bool)
    return abundance(graph_of(case.cohort), case.cohort.offsets, everyone, lambda share: None)


def found(case: Planted, task: Task | None = None, *, seed: int = 0) -> Associations:
    task = task or case.task
    dealt = plan(task.strata, case.cohort.groups, repeats=1, seed=seed)
    out = associations(spread(case), dealt, task, cells=case.cohort.N, permutations=200, seed=seed)
    assert out is not None
    return out


def test_planted_cells_stand_out_and_few_others() -> None:
    case = planted(0, share=0.1, shift=4.0, cells=100, patients=30)
    out = found(case)
    here = (out.fdr <= LEVEL)[graph_of(case.cohort).node]
    assert here[case.drivers].mean() > 0.8
    assert (here & ~case.drivers).sum() < 0.15 * here.sum()
    assert out.facts["p"] == pytest.approx(1 / 201)
    assert out.facts["found"] == here.sum() == sum(out.facts["sides"].values())
    assert out.facts["sides"]["for"] > 10 * out.facts["sides"]["against"]


def test_the_correlation_is_that_of_relative_abundance_with_the_label() -> None:
    case = planted(1)
    out, around = found(case), spread(case)
    r = np.concatenate([part for _, part in relative_abundance(around, 1, np.ones(24, bool))])
    for node in (0, 50, 500):
        assert out.correlation[node, 0] == pytest.approx(pearsonr(r[node], case.task.y).statistic, abs=1e-5)


def test_nothing_stands_out_where_nothing_is_planted() -> None:
    """p, held to 5 %, is as rare as it says over null cohorts; five times in sixty would be one in a thousand."""
    p = [found(planted(seed, shift=0.0, patients=16, cells=30), seed=seed).facts["p"] for seed in range(30)]
    assert (np.array(p) <= 0.05).sum() <= 5
    assert 0.3 < np.mean(p) < 0.7


def test_rates_are_mean_false_cells_by_cells_found() -> None:
    tail = np.array([[10.0, 8, 4], [10, 2, 0], [10, 4, 0]])
    np.testing.assert_allclose(_rates(tail)[0], [1, 3 / 8, 0])
    np.testing.assert_allclose(_rates(tail)[1], [1, 1, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_label_finds_its_cells(kind: str) -> None:
    case = planted(2, share=0.2, shift=4.0, patients=30, cells=80)
    y, draw = case.task.y, np.random.default_rng(0)
    tasks = {
        "binary": case.task,
        "multiclass": Multiclass(("a", "b", "c"), np.where(y == 1, 2, np.arange(30) // 2 % 2).astype(float)),
        "regression": Regression("age", 50 + 5 * y + draw.normal(size=30)),
        "survival": Survival("dead", np.stack([np.exp(-2 * y + 0.3 * draw.normal(size=30)), np.ones(30)], 1)),
    }
    out = found(case, tasks[kind])
    here = (out.fdr <= LEVEL)[graph_of(case.cohort).node]
    assert here[case.drivers].mean() > 0.6
    side = "c" if kind == "multiclass" else "for"
    assert out.facts["sides"][side] == max(out.facts["sides"].values())


def test_too_few_permutations_say_nothing() -> None:
    case = planted(0)
    dealt = plan(case.task.strata, case.cohort.groups, repeats=1, seed=0)
    assert associations(spread(case), dealt, case.task, cells=1, permutations=50, seed=0) is None


def test_the_permutations_are_those_of_the_null() -> None:
    case = planted(0)
    dealt = plan(case.task.strata, case.cohort.groups, repeats=1, seed=0)
    order = permutation.deals(dealt, case.task, 20, 3)
    np.testing.assert_array_equal(order[:, 0], np.arange(24))
    for f in range(dealt.folds):
        here = np.flatnonzero(dealt.fold[0] == f)
        assert (np.sort(order[here], 0) == here[:, None]).all()


def test_the_verdict_says_that_one_rare_group_stands_out_only_where_the_score_does_not() -> None:
    task = Binary(("a", "b"), (np.arange(60) % 2).astype(float))
    dealt = plan(task.strata, np.arange(60), repeats=1, seed=0)
    cells = {"found": 84, "share": 0.001, "level": 0.05, "p": 0.002}

    def said(low: float, p: float, some: dict) -> dict[str, str]:
        score = {"auroc": {"value": 0.7, "low": low, "high": 0.9}}
        return validation.verdict(score, {"p": p, "cells": some}, dealt, task)

    alone = said(0.3, 0.6, cells)
    assert alone["kind"] == "unclear"
    assert "one rare group of cells stands out (84 cells" in alone["words"]
    assert "stand" not in said(0.6, 0.001, cells)["words"]
    assert said(0.3, 0.6, cells | {"p": 0.2})["kind"] == "none"
    assert said(0.3, 0.6, cells | {"found": 0})["kind"] == "none"
