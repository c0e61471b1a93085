"""What phenotypes are worth: identities against brute force, tests that keep their level, and the sample's truth."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from scipy.stats import chi2

from milcore.analysis import Analysis
from milcore.case import case_of
from milcore.cohort import Cohort
from milcore.effects import _cox_score, _fdr, leading_without, shares_tested
from milcore.evidence import by_group, explain, leave_group_out
from milcore.measures import log_rank
from milcore.stacking import Mixture
from milcore.surroundings import company
from milcore.tasks import Binary, Multiclass, Regression, Survival
from milcore.training import Member


def members(draw: np.random.Generator, offsets: np.ndarray) -> tuple[dict[str, Member], Mixture]:
    """Weights so uneven that some group weighs almost everything, equal ones, and a top share; two outputs."""
    N, B, R, K = offsets[-1], len(offsets) - 1, 2, 2
    v = draw.normal(size=(3, R, N, K)).astype(np.float32)
    count = np.diff(offsets)
    heavy = np.exp(draw.normal(size=(R, N)) * 6)
    heavy /= np.add.reduceat(heavy, offsets[:-1], 1).repeat(count, 1)
    equal = np.broadcast_to((1 / count).repeat(count), (R, N))
    rank = v[2, ..., 0]
    share = np.full((R, B), 0.3)
    top = np.zeros((R, N))
    for r in range(R):
        for i, j in itertools.pairwise(offsets):
            size = max(1.0, 0.3 * (j - i))
            order = np.argsort(-rank[r, i:j], kind="stable")
            top[r, i:j][order] = np.clip(size - np.arange(j - i), 0, 1) / size
    made = {
        "attention": Member(heavy, v[0], np.empty(0)),
        "neighbourhood": Member(equal, v[1], np.empty(0)),
        "topk": Member(top, v[2], np.empty(0), rank, share),
    }
    a, b = draw.normal(size=(R, B, K)), draw.random((3, R, B))
    return made, Mixture(tuple(made), a, b, np.zeros((R, B)))


def test_every_group_of_every_patient_is_left_out_as_one_by_one() -> None:
    draw = np.random.default_rng(0)
    offsets = np.array([0, 1, 13, 60])
    group = draw.integers(0, 4, 60)
    group[1:13] = 2  # a patient of one kind of cells
    made, mixture = members(draw, offsets)
    contribution, lost = by_group(made, mixture, offsets, group)
    shown = explain(made, mixture, offsets)
    owner = np.repeat(np.arange(3), np.diff(offsets))
    np.testing.assert_allclose(contribution.sum(2), shown.score, atol=1e-6)
    for b in range(3):
        rows = slice(offsets[b], offsets[b + 1])
        for p in range(4):
            gone = group[rows] == p
            held = shown.contribution[rows][gone].sum(0)
            np.testing.assert_allclose(contribution[:, b, p].mean(0), held, atol=1e-6)
            for r in range(2):
                if not gone.any():
                    expected = np.zeros(2)
                else:
                    each = [leave_group_out(m, r, rows, gone, b) for m in made.values()]
                    expected = sum(mixture.b[m, r, b] * one for m, one in enumerate(each))
                np.testing.assert_allclose(lost[r, b, p], expected, atol=1e-6)
    assert np.isnan(lost[:, 1, 2]).all()
    assert owner.max() == 2


def test_company_counts_the_nearest_of_the_region() -> None:
    draw = np.random.default_rng(1)
    region, kind = np.repeat(["A", "B", "C"], [30, 20, 1]), draw.integers(0, 3, 51)
    cells = pd.DataFrame({"region": region, "x": draw.random(51), "y": draw.random(51)})
    cells.loc[3, "x"] = np.nan
    cohort = Cohort.of(draw.normal(size=(51, 2)), np.repeat("P", 51), cells=cells)
    alike, expected = company(kind, cohort, 4)
    assert np.isnan(alike[[3, 50]]).all()
    for name in "AB":
        rows = np.flatnonzero((region == name) & cells["x"].notna())
        tree = cKDTree(cells.loc[rows, ["x", "y"]])
        for i in rows:
            near = rows[tree.query(cells.loc[i, ["x", "y"]].to_numpy(float), 5)[1]]
            assert alike[i] == pytest.approx((kind[near[near != i]] == kind[i]).mean())
            assert expected[i] == pytest.approx((kind[rows[rows != i]] == kind[i]).mean())


# ---------------------------------------------------------------- tests against the label


def test_the_score_test_of_two_groups_is_the_log_rank_test() -> None:
    draw = np.random.default_rng(2)
    x, time = np.repeat([0.0, 1.0], 20), draw.permutation(40) + 1.0
    y = np.stack([time, draw.integers(0, 2, 40)], 1)
    _, p = _cox_score(x, y)
    assert p == pytest.approx(chi2.sf(log_rank(y, x > 0.5), 1), rel=1e-6)


def test_shares_that_go_with_the_label_are_found_in_every_kind() -> None:
    draw = np.random.default_rng(3)
    z = draw.normal(size=30)
    share = np.stack([z, draw.normal(size=30), np.ones(30)], 1)
    time = np.exp(-2 * z + 0.1 * draw.normal(size=30))
    tasks = [
        Binary(("no", "yes"), (z > 0).astype(float)),
        Multiclass(("a", "b", "c"), np.digitize(z, [-0.5, 0.5]).astype(float)),
        Regression("z", z + 0.1 * draw.normal(size=30)),
        Survival("dead", np.stack([time, np.ones(30)], 1)),
    ]
    for task in tasks:
        effect, p, _ = shares_tested(share, task, np.arange(30))
        assert p[0] < 1e-4 < p[1]
        assert p[2] == 1
        assert effect[0] > 0.7


def test_bags_of_one_patient_count_once_and_pairs_are_paired() -> None:
    draw = np.random.default_rng(4)
    groups, y = np.repeat(np.arange(12), 3), np.repeat(np.arange(12) % 2, 3).astype(float)
    share = draw.normal(size=(36, 1)) + 3 * draw.normal(size=(12, 1)).repeat(3, 0)
    _, p, _ = shares_tested(share, Binary(("no", "yes"), y), groups)
    means = share.reshape(12, 3).mean(1)[:, None]
    _, once, _ = shares_tested(means, Binary(("no", "yes"), y[::3]), np.arange(12))
    assert p[0] == once[0]
    paired = 10 * draw.normal(size=(10, 1)).repeat(2, 0) + np.tile([[0.0], [1.0]], (10, 1))
    effect, p, test = shares_tested(
        paired + 0.1 * draw.normal(size=(20, 1)),
        Binary(("before", "after"), np.tile([0.0, 1.0], 10)),
        np.repeat(np.arange(10), 2),
    )
    assert p[0] < 0.01
    assert effect[0] == 1
    assert "signed-rank" in test


def test_without_signal_a_cohort_rarely_has_a_phenotype_below_the_fdr() -> None:
    draw = np.random.default_rng(5)
    y, false = (np.arange(24) % 2).astype(float), 0
    for _ in range(100):
        share = draw.dirichlet(np.full(12, 2.0), 24)
        _, p, _ = shares_tested(share, Binary(("no", "yes"), y), np.arange(24))
        false += bool((_fdr(p) < 0.1).any())
    assert false <= 19  # of 100 at a level of .1: more would come by chance once in 500 times


# ---------------------------------------------------------------- in an analysis


def test_the_tables_of_an_analysis_agree_with_its_what_if(analysis: Analysis) -> None:
    table, rows = analysis.phenotypes.table, analysis.phenotypes.patients
    assert list(table["phenotype"]) == list(analysis.cells["phenotype"].cat.categories)
    summed = rows.groupby("patient")["contribution"].sum()
    score = analysis.predictions.set_index("patient")["score"]
    np.testing.assert_allclose(summed[score.index], score, atol=1e-5)
    for row in rows.iloc[::3].to_dict("records"):
        b = analysis.cohort.position(row["patient"])
        here = (analysis.cells["phenotype"] == row["phenotype"]).to_numpy() & (analysis.cohort.owner == b)
        assert here.sum() == row["cells"]
        without = analysis.without(here)["score_without"].iloc[0]
        assert row["score_without"] == pytest.approx(without, abs=1e-5, nan_ok=True)
    assert analysis.facts["phenotypes"][0]["stability"] is None, "two repeats do not tell stability"
    top = max(analysis.facts["phenotypes"], key=lambda one: one["importance"])
    assert "m0" in top["markers"]


def test_the_leading_score_without_a_phenotype_is_within_folds(analysis: Analysis) -> None:
    case = case_of(analysis.cohort, analysis.settings)
    score = np.stack([_scores(analysis, r) for r in range(case.plan.repeats)])
    reached = case.task.ranked(
        score[:, case.task.labelled],
        case.task.y[case.task.labelled][None],
        case.plan.fold[:, case.task.labelled],
    ).mean()
    assert reached == pytest.approx(analysis.facts["scores"]["auroc"]["value"])
    assert leading_without(case, score, np.zeros_like(score)) == pytest.approx((reached, reached))
    assert leading_without(case, score, 2 * score) == pytest.approx((reached, 1 - reached))


def _scores(analysis: Analysis, r: int) -> np.ndarray:
    score = analysis.mixture.a[r].copy()
    for m, name in enumerate(analysis.mixture.members):
        w, v = analysis.members[name].weight[r], analysis.members[name].evidence[r]
        score += analysis.mixture.b[m, r][:, None] * np.add.reduceat(
            w[:, None].astype(float) * v, analysis.cohort.offsets[:-1]
        )
    return score
