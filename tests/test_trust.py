"""Whether an analysis can be believed, in words: what the sentences say of numbers that are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dashboard import trust, worth


def analysis(**facts: Any) -> Any:
    """An analysis that holds nothing but facts, of two members."""
    pooling = {"members": {"neighbourhood": {}, "attention": {}}}
    known = {"pooling": pooling, "task": "binary", "main": "auroc", "towards": "ill"}
    return SimpleNamespace(facts=known | facts, cohort=SimpleNamespace(bag="patient"))


def deleted(importance: float, attention: float, low: float = -0.069, high: float = 0.041) -> dict[str, Any]:
    """facts["faithfulness"] with these values where a tenth of the cells is gone."""
    return {
        "steps": [0.0, 0.05, 0.1, 0.15],
        "importance": {"curve": [0, 9, importance, 9]},
        "attention": {"curve": [0, 9, attention, 9]},
        "random": {"low": [0, 9, low, 9], "high": [0, 9, high, 9]},
    }


@pytest.mark.parametrize(
    ("importance", "attention", "verdict", "rest"),
    [
        (5.09, 2.87, "lowers the score by 5.1 (log-odds), more than", "lowers it by 2.9, which is less."),
        (0.5, 1.2, "lowers the score by 0.50 (log-odds), more than", "lowers it by 1.2, which is more."),
        (
            0.02,
            -0.3,
            "lowers the score by 0.02 (log-odds), no more than",
            "raises it by 0.30, which is less.",
        ),
        (-12.4, -12.4, "raises the score by 12 (log-odds), less than", "raises it by 12 too."),
    ],
)
def test_faithfulness_beside_chance_and_attention(
    importance: float, attention: float, verdict: str, rest: str
) -> None:
    words = trust.faithful(analysis(faithfulness=deleted(importance, attention)))
    assert f"{verdict} a random tenth would (-0.07 to 0.04); " in words
    assert words.endswith(rest)


def test_what_reads_alike_is_not_called_more() -> None:
    """A model without signal: everything rounds to 0.00."""
    words = trust.faithful(analysis(faithfulness=deleted(0.002, 0.001, -0.001, 0.001)))
    assert words.startswith("Taking away the most important tenth of the cells does not change the score")
    assert "more than" not in words
    alike = trust.faithful(analysis(faithfulness=deleted(0.044, 0.0)))
    assert "lowers the score by 0.04 (log-odds), no more than" in alike
    found = {"importance": {"tenth": 0.001}, "random": {"tenth": [-0.002, 0.0]}}
    assert trust.faithful_here(found, {"task": "binary"})[0] == "No better than chance"


def test_attention_is_not_compared_where_nothing_attends() -> None:
    alone = {"members": {"neighbourhood": {}}}
    words = trust.faithful(analysis(pooling=alone, faithfulness=deleted(5.1, 2.9)))
    assert "attention" not in words
    assert words.endswith("0.04).")


def test_old_analyses_and_one_repeat_are_not_assessed() -> None:
    assert trust.faithful(analysis()) == "Not assessed: needs at least two repeats."


def reached(value: float) -> dict[str, Any]:
    return {"auroc": {"value": value, "low": value - 0.2, "high": value + 0.2}}


def test_no_confounder_names_the_strongest_with_its_interval() -> None:
    found = {
        "main": "auroc",
        "probes": {"site": reached(0.4)},
        "baselines": {"number of cells": reached(0.57), "x": reached(0.9)},
    }
    assert list(trust.probed(found)) == ["site", "number of cells"]
    assert trust.confounded(found) == (
        "Nothing tested clearly explains the label by itself: number of cells alone reaches AUROC 0.57 (0.37 to 0.77), "
        "the highest of 2."
    )


def test_a_warning_takes_the_sentence_and_each_is_shown_once() -> None:
    kinds = ("missing_values", "suspected_leak", "batch_predicts_label", "small_cohort")
    found = {
        "main": "auroc",
        "probes": {"site": reached(0.9)},
        "warnings": [{"kind": kind, "words": f"W {kind}"} for kind in kinds],
    }
    assert trust.confounded(found) == "Something other than biology could explain the score: 2 warnings."
    mine, others = (trust.doubts(found, confounding=yes) for yes in (True, False))
    assert mine == ["W suspected_leak", "W batch_predicts_label"]
    assert others == ["W missing_values", "W small_cohort"]


@pytest.mark.parametrize(
    ("value", "rest"), [(0.03, "argue against ill."), (0.9, "argue for ill."), (0.52, "close to chance.")]
)
def test_the_known_kind_that_is_set_apart_most(value: float, rest: str) -> None:
    one = analysis(known={"B": {"auroc": 0.51}, "NK": {"auroc": value}})
    one.cohort.source = {"columns": [{"name": "m", "role": "feature"}, {"name": "truth", "role": "known"}]}
    words = trust.known(one)
    assert words.startswith("Of 2 kinds of cells in “truth”, importance sets “NK” apart most: AUROC 0.")
    assert words.endswith(rest)


def test_nothing_is_said_of_known_cells_without_any() -> None:
    assert trust.known(analysis()) == ""


def test_the_range_over_repeats_is_no_interval_and_each_member_has_its_weight() -> None:
    scores = {"auroc": {"value": 0.9, "low": 0.7, "high": 0.97, "spread": [0.88, 0.93]}}
    facts = analysis(scores=scores, repeats=4).facts
    assert worth.spread(facts) == (
        "Over the 4 repeats of the training, on the same patients, AUROC went from 0.88 to 0.93: not an interval."
    )
    assert worth.spread(facts | {"repeats": 1}) == ""
    assert worth.by_patient(facts) == ""
    regions = worth.by_patient(facts | {"scores_patient": scores})
    assert regions == "By patient, each the mean of its regions: AUROC 0.90 (0.70 to 0.97)."
    assert worth.spread(facts | {"new": True}) == ""
    for name, weight in (("neighbourhood", 0.25), ("attention", 0.75)):
        facts["pooling"]["members"][name] = {"weight": weight, "scores": reached(0.8)}
    assert worth.members(facts) == (
        "Combined from neighbourhood (weight 0.25, alone 0.80 (0.60 to 1.00)) and attention (weight 0.75, alone 0.80 "
        "(0.60 to 1.00))."
    )
    assert worth.members({"pooling": {"members": {"mean": {}}}}) == ""


def test_of_several_classes_each_has_a_level_of_its_own() -> None:
    right, low = ({"value": v, "low": v - 0.5, "high": v + 0.5} for v in (0.1, 0.8))
    found = {"slope": right | {"high": 2.0}, "intercepts": {"a": right, "b": low}}
    words = worth.calibrated({"calibration": found})
    assert words.endswith(
        "On the whole some classes are off (intercept, 0 is right): b too low, 0.80 (0.30 to 1.30)."
    )
    found["intercepts"] = {"a": right}
    assert worth.calibrated({"calibration": found}).endswith(
        "no class is clearly predicted too high or too low."
    )


def test_how_patients_were_scored() -> None:
    size = {"patients": 48}
    outer, inner, shared = trust.unseen(analysis(folds=5, repeats=2, cohort=size))
    assert "48 patients were dealt 2 times into 5 folds" in outer
    assert "learns from the other 4." in outer
    assert inner.startswith("What weighs neighbourhood and attention was chosen")
    assert "by 10 pair models a repeat" in inner
    assert "never saw labels; they do share marker distributions" in shared
    dealt = {"fold": [[0, 1]] * 48, "seen": 0}
    counted, *_ = trust.unseen(analysis(folds=5, repeats=2, cohort=size, dealt=dealt))
    assert "Counted: 0 of 96 scorings were by a model that had learnt from the same patient." in counted
    alone = analysis(folds=3, repeats=1, cohort=size, pooling={"members": {"neighbourhood": {}}})
    alone.cohort.bag = "region"
    outer, inner, shared = trust.unseen(alone)
    assert outer.startswith(
        "No region was scored by a model that saw it: 48 patients were dealt once into 3 folds"
    )
    assert outer.endswith("regions of one patient always share a fold.")
    assert "by 3 pair models" in inner
    assert "networks" not in shared
