"""Chosen cells: their differences and what scores would be without them, against brute force."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from dashboard.selection import _weighed
from milcore.analysis import Analysis
from milcore.evidence import leave_group_out, member_scores, without_cells
from milcore.selections import cohort_without, differences, patient_without
from milcore.stacking import Mixture
from milcore.training import Member
from tests.test_effects import members


def test_all_patients_lose_what_each_would_alone() -> None:
    draw = np.random.default_rng(0)
    offsets = np.array([0, 1, 13, 60, 90])
    made, mixture = members(draw, offsets)
    gone = draw.random(90) < 0.3
    gone[1:13], gone[60:] = True, False
    scores = np.stack([member_scores(one, offsets) for one in made.values()])
    lost = without_cells(made, mixture, offsets, gone, scores)
    assert (lost[:, 3] == 0).all()
    assert np.isnan(lost[:, 1]).all()
    for r in range(2):
        rows = slice(13, 60)
        each = [leave_group_out(m, r, rows, gone[rows], 2) for m in made.values()]
        expected = sum(mixture.b[m, r, 2] * one for m, one in enumerate(each))
        np.testing.assert_allclose(lost[r, 2], expected, atol=1e-6)


def test_differences_are_within_patients(analysis: Analysis) -> None:
    cohort = analysis.cohort
    chosen = (cohort.cells["cell_type"] == "driver").to_numpy()
    table = differences(analysis, chosen)
    assert table["feature"].iloc[0] == "m0"
    x = cohort.features.astype(float)
    sd = x.std(0)
    each = []
    for b in range(cohort.B):
        rows = cohort.rows(b)
        inside, outside = x[rows][chosen[rows]], x[rows][~chosen[rows]]
        if len(inside) >= 3:
            each.append((inside.mean(0) - outside.mean(0)) / sd)
    mean, n = np.mean(each, 0), len(each)
    half = stats.t.ppf(0.975, n - 1) * np.std(each, 0, ddof=1) / np.sqrt(n)
    row = table.set_index("feature").loc[list(cohort.names)]
    np.testing.assert_allclose(row["difference"], mean, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(row["high"] - row["difference"], half, rtol=0.05, atol=0.02)
    assert (row["patients"] == n).all()


def test_two_selections_are_told_from_each_other_and_not_from_the_rest(analysis: Analysis) -> None:
    one = (analysis.cohort.cells["cell_type"] == "driver").to_numpy()
    half = one & (np.arange(len(one)) % 2 == 0)
    table = differences(analysis, half, other=one)
    assert abs(table.loc[table["feature"] == "m0", "difference"].iloc[0]) < 0.5
    assert differences(analysis, one).loc[0, "difference"] > 1
    assert differences(analysis, np.zeros(len(one), bool)).empty


def test_a_patient_without_chosen_cells_beside_chance(analysis: Analysis) -> None:
    b = analysis.cohort.position("P01")
    chosen = (analysis.cohort.cells["cell_type"] == "driver").to_numpy()
    found = patient_without(analysis, b, chosen)
    row = analysis.without(chosen & (analysis.cohort.owner == b)).iloc[0]
    assert found.before == pytest.approx(row["prediction"], abs=1e-6)
    assert found.after == pytest.approx(row["prediction_without"], abs=1e-6)
    assert found.after < found.low < found.high, "the planted cells weigh more than as many others"


def test_the_cohort_without_chosen_cells(analysis: Analysis) -> None:
    cohort = analysis.cohort
    chosen = (cohort.cells["cell_type"] == "driver").to_numpy()
    found = cohort_without(analysis, chosen)
    assert found.before == pytest.approx(analysis.facts["scores"]["auroc"]["value"])
    assert found.after < found.before
    assert found.emptied == 0
    chosen[cohort.rows(0)] = True
    assert cohort_without(analysis, chosen).emptied == 1
    assert np.isnan(cohort_without(analysis, np.ones(cohort.N, bool)).after)


def test_one_what_if_at_200_000_cells_is_at_once() -> None:
    draw = np.random.default_rng(1)
    offsets = np.linspace(0, 200_000, 61).astype(int)
    N, R, K = 200_000, 4, 1
    weight = np.broadcast_to((1 / np.diff(offsets)).repeat(np.diff(offsets)).astype(np.float32), (R, N))
    some = {
        name: Member(weight, draw.normal(size=(R, N, K)).astype(np.float32), np.empty(0)) for name in "ab"
    }
    mixture = Mixture(("a", "b"), np.zeros((R, 60, K)), np.ones((2, R, 60)), np.zeros((R, 60)))
    scores = np.stack([member_scores(one, offsets) for one in some.values()])
    gone = draw.random(N) < 0.1
    used = []
    for _ in range(3):
        begun = time.process_time()
        without_cells(some, mixture, offsets, gone, scores)
        used.append(time.process_time() - begun)
    assert min(used) < 0.1


@pytest.mark.parametrize(
    ("value", "said"), [(172.4, "172"), (9.97, "10"), (-6.0, "-6.0"), (-0.034, "-0.034"), (1e-5, "0")]
)
def test_importances_are_said_with_two_digits(value: float, said: str) -> None:
    assert _weighed(value) == said
