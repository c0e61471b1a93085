"""A short version of tests/validity.py, and the page that it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import validity
from tests.planted import planted


def test_p_values_are_uniform_on_a_few_null_cohorts() -> None:
    found = validity.null_p(30, permutations=100)
    assert found["score"]["ks_p"] > 0.01
    assert found["cells"]["ks_p"] > 0.01
    assert found["any_cell"] <= 0.2


@pytest.mark.parametrize("shift", validity.STRENGTHS.values())
def test_intervals_hold_what_the_procedure_reaches(shift: float) -> None:
    found = [validity.interval(planted(seed, patients=30, cells=24, shift=shift), seed) for seed in range(25)]
    reached = np.mean([one["value"] for one in found])
    assert np.mean([one["low"] <= reached <= one["high"] for one in found]) >= 0.84


def test_the_page_is_that_of_the_committed_figures() -> None:
    kept = json.loads((validity.RESULTS / "validity.json").read_text())
    assert validity.page(kept) == (validity.RESULTS / "validity.md").read_text()
    assert set(kept) == set(validity.SECTIONS)
    assert min(kept["null"][p]["ks_p"] for p in ("score", "cells")) > 0.01
    assert kept["chain"]["verdicts"]["signal"] <= 4
    assert all(0.9 <= row["covered"] <= 0.98 for row in kept["coverage"])
    for name, member in kept["chain"]["members"].items():  # where permuted labels put the null's chain
        apart, cohorts = member["mean"] - kept["chain"]["permuted"]["mean"], kept["chain"]["cohorts"]
        assert abs(apart) < 3 * member["sd"] / np.sqrt(cohorts), name
    assert all(member["ks_p"] > 0.01 for member in kept["members"]["members"].values())
