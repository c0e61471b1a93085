"""Two analyses side by side, and the analyses that a workspace keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dashboard import comparing
from dashboard.workspace import Workspace
from milcore.analysis import Analysis
from milcore.case import case_of
from milcore.measures import auroc
from milcore.tasks import KINDS

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once


def other_seed(analysis: Analysis, scores: np.ndarray) -> Analysis:
    """An analysis that was dealt other folds and scored the patients (B,) so in every repeat."""
    a = np.broadcast_to(scores[None, :, None], analysis.mixture.a.shape)
    mixture = replace(analysis.mixture, a=a, b=np.zeros_like(analysis.mixture.b))
    return replace(analysis, settings=replace(analysis.settings, seed=9), mixture=mixture)


def test_levels_are_those_of_the_predictions(analysis: Analysis) -> None:
    case = case_of(analysis.cohort, analysis.settings)
    level = comparing._level(analysis, case)
    shown = KINDS["binary"].link(level.mean(0)[case.kept])[:, 0]
    assert shown == pytest.approx(analysis.predictions["prediction"].to_numpy(), abs=1e-5)


def test_the_difference_is_paired_and_under_own_folds(analysis: Analysis) -> None:
    same = comparing.difference(analysis, analysis)
    assert same == {"value": 0.0, "se": 0.0}
    case = case_of(analysis.cohort, analysis.settings)
    truth = np.nan_to_num(case.task.y)
    perfect = other_seed(analysis, truth)
    found = comparing.difference(analysis, perfect)
    level, known = comparing._level(analysis, case)[..., 0], case.task.labelled
    mine = auroc(level[:, known], case.task.y[known][None], case.plan.fold[:, known]).mean()
    assert found
    assert found["value"] == pytest.approx(mine - 1.0)
    back = comparing.difference(perfect, analysis)
    assert back
    assert back["value"] == pytest.approx(-found["value"])


def test_other_questions_are_not_compared(analysis: Analysis) -> None:
    turned = replace(analysis, facts=analysis.facts | {"positive": "no", "towards": "no"})
    assert comparing.difference(analysis, turned) is None
    facts = analysis.facts | {"cohort": analysis.facts["cohort"] | {"fingerprint": "other"}}
    assert comparing.difference(analysis, replace(analysis, facts=facts)) is None
    assert comparing.agreement(analysis, replace(analysis, facts=facts)) is None


def test_agreement_of_cells(analysis: Analysis) -> None:
    found = comparing.agreement(analysis, analysis)
    assert found
    assert (found.median, found.low, found.high) == pytest.approx((1, 1, 1))
    turned = replace(analysis, cells=analysis.cells.assign(evidence=-analysis.cells["evidence"]))
    against = comparing.agreement(analysis, turned)
    assert against
    assert against.median == pytest.approx(-1)
    assert against.predictions == pytest.approx(1)
    assert against.patients == 16


def test_only_what_differs_is_listed(analysis: Analysis) -> None:
    table = comparing.side_by_side(
        analysis, replace(analysis, settings=replace(analysis.settings, context=5))
    )
    assert table.set_index("what").loc["context"].tolist() == ["0", "5"]
    assert "seed" not in set(table["what"])
    assert {"AUROC", "Verdict"} <= set(table["what"])


def test_kept_named_deleted_and_brought_back(tmp_path: Path) -> None:
    home, key = Workspace(tmp_path), "20260101-120000-abcdef"
    home.analysis(key).mkdir(parents=True)
    facts = {"cohort": {"fingerprint": "f"}, "version": 3}
    (home.analysis(key) / "analysis.json").write_text(json.dumps(facts))
    assert home.every_analysis() == [(key, facts)]
    home.note(key, name="mine")
    home.note(key, slides=["P1"])
    assert home.about(key) == {"name": "mine", "slides": ["P1"]}
    assert home.size(key) > 20
    home.delete(key)
    assert home.every_analysis() == []
    assert home.deleted() == [(key, facts)]
    home.note(key, name="nobody")
    assert not home.analysis(key).exists(), "a deleted analysis cannot be named"
    home.restore(key)
    assert home.about(key)["name"] == "mine"
    home.delete(key)
    home.purge(key)
    assert home.deleted() == []
    for hostile in ("../../etc", "..", ""):
        home.delete(hostile)
        home.purge(hostile)
    assert tmp_path.exists()
