from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from milcore.case import case_of
from milcore.preprocess import moments
from milcore.training import Settings
from tests.bench import compare, memory, peers, scaling
from tests.planted import planted


def test_a_map_is_judged_as_scikit_learn_does(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 5)).astype(np.float32)
    placed = (x[:, :2] + 0.3 * draw.normal(size=(300, 2))).astype(np.float32)
    monkeypatch.setattr(compare, "JUDGED", 300)
    found = compare.judged(x, placed)
    wanted = trustworthiness(x, placed, n_neighbors=compare.NEAR)
    assert found["trustworthiness"] == pytest.approx(wanted, abs=1e-4)
    assert compare.judged(x, x)["neighbours kept"] == 1


def test_a_peer_is_scored_by_models_that_saw_no_label_of_the_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "RATES", (1e-3, 1e-2))
    monkeypatch.setattr(peers, "MARKS", (1,))
    cohort = planted(0, patients=12).cohort
    case = case_of(cohort, Settings(target="response", positive="yes", repeats=1))
    x = np.array(cohort.features)
    measured = moments(x, cohort.offsets)
    scores = peers.cross_fitted(peers.bag_loop, case, x, measured)
    there = case.plan.fold[0] == 0
    y = case.task.y.copy()
    y[there] = 1 - y[there]
    other = replace(case, task=replace(case.task, y=y))  # type: ignore[type-var]
    again = peers.cross_fitted(peers.bag_loop, other, x, measured)
    np.testing.assert_array_equal(scores[0, there], again[0, there])
    assert (scores[0, ~there] != again[0, ~there]).all()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory")
def test_memory_is_told_by_stage() -> None:
    watch = memory.Watch()
    with watch.watching():
        watch.enter("little")
        time.sleep(0.1)
        watch.enter("much")
        held = np.ones(10_000_000)
        while watch.peaks.get("much", 0) < watch.peaks["little"] + 70:  # 80 MB
            time.sleep(0.01)
    assert watch.cpu["much"] > 0
    assert len(held)
    rows = [{"cells": 5, "step": "read", "stage": "much", "mb": 90.0, "cpu_s": 1.0}]
    kept = {"features": 40, "patients": 50, "effort": "quick", "machine": "a machine", "rows": rows}
    assert "5 cells: 90 MB at the highest, in much." in memory.page(kept)


def test_the_table_holds_medians_and_says_what_fails() -> None:
    runs = {"ours": [{"CPU s": 3.0}, {"CPU s": 1.0}, {"CPU s": 2.0}], "theirs": []}
    about = {"cells": 1000, "threads": 1, "load": 0.0, "runs": runs}
    about["failed"] = {"theirs": "no module"}
    table = compare.page({"machine": "a machine", "versions": {}, "matters": {"maps": about}})
    assert "| ours | 2.0 | 3 |" in table
    assert "theirs: fails (no module)" in table


def test_what_was_found_goes_on_by_the_formula_that_the_page_names() -> None:
    def run(**other: int) -> scaling.Run:
        size = scaling.BASE | other
        n, b = size["cells"] / 50_000, size["patients"] / 50
        steps = {"neighbours": [3 * n**1.5, 60 * n], "diffusion": [n * b, 60 * n + 10 * n * b]}
        return {"size": size, "load": 0.5, "code": "abc", "steps": steps}

    runs = [run(cells=n) for n in (50_000, 200_000)]
    runs += [run(**{what: size}) for what in ("patients", "features", "repeats") for size in (20, 100)]
    assert scaling.growth(runs, "cells", "neighbours") == pytest.approx(1.5)
    assert scaling.growth(runs, "patients", "diffusion") == pytest.approx(1)
    assert scaling.growth(runs, "cells", "umap") is None
    assert scaling.seconds(runs, "neighbours") == pytest.approx(3 * 10_000**1.5)
    assert scaling.seconds(runs, "diffusion") == pytest.approx(10_000 * 10)
    assert scaling.megabytes(runs, "diffusion") == pytest.approx(60 * 10_000 + 10 * 10_000 * 10)
    table = scaling.page({"machine": "a machine", "runs": runs})
    assert "| neighbours | 3.0 | 24.0 |" in table
    assert "| diffusion | 20.0 | 1, 1.00 | 1, 1.00 | 27.8 | 1,562 | this computer |" in table
    assert "time in neighbours (833 hours of one processor), memory in diffusion (1,562 GB)" in table
