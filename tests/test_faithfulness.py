from __future__ import annotations

import numpy as np
import pytest

from milcore.faithfulness import STEPS, curves, faithfulness
from milcore.stacking import Mixture
from milcore.training import Member

OFFSETS = np.array([0, 40, 100])


def case(*, driven: bool, R: int = 3) -> tuple[dict[str, Member], Mixture]:
    """Two patients; `driven`: a tenth of the cells carries the score in every repeat, else noise anew in each."""
    draw = np.random.default_rng(0)
    w = np.repeat(1 / np.diff(OFFSETS), np.diff(OFFSETS))[None].repeat(R, 0)
    v = draw.normal(size=(R, 100)) * (0.1 if driven else 1)
    if driven:
        v[:, ::10] += 5
    member = Member(w.astype(np.float32), v[..., None].astype(np.float32), np.empty(0))
    return {"one": member}, Mixture(("one",), np.zeros((R, 2, 1)), np.ones((1, R, 2)), np.zeros((R, 2)))


def test_a_curve_is_scoring_again_without_the_cells() -> None:
    members, mixture = case(driven=True, R=2)
    found = curves(members, mixture, OFFSETS, 1, output=0, seed=0)["importance"][0]
    rows = slice(40, 100)
    by_hand = np.zeros(len(STEPS))
    for r, scored in ((0, 1), (1, 0)):
        order = np.argsort(-members["one"].evidence[r, rows, 0], kind="stable")
        v = members["one"].evidence[scored, rows, 0].astype(float)
        for i, share in enumerate(STEPS):
            rest = order[int(share * 60) :]
            by_hand[i] += (v.mean() - v[rest].mean()) / 2
    np.testing.assert_allclose(found, by_hand, atol=1e-6)


def test_taking_the_driving_cells_away_lowers_the_score_far_more_than_chance() -> None:
    out = faithfulness(*case(driven=True), OFFSETS, np.array([0, 1]), outputs=np.zeros(2, int), seed=0)
    assert out["importance"]["first_tenth"] > out["random"]["first_tenth"][1] + 0.1
    assert out["importance"]["all"] > 2 * out["random"]["all"][1]
    assert len(out["steps"]) == len(out["importance"]["curve"]) == len(out["random"]["low"])


def test_an_explanation_that_does_not_repeat_is_no_better_than_chance() -> None:
    """Orders come from another repeat than scores: a formula that fits its own repeat gains nothing."""
    out = faithfulness(*case(driven=False), OFFSETS, np.array([0, 1]), outputs=np.zeros(2, int), seed=0)
    assert out["importance"]["all"] < out["random"]["all"][1] + 0.15


def test_equal_attention_is_no_explanation() -> None:
    out = faithfulness(*case(driven=True), OFFSETS, np.array([0, 1]), outputs=np.zeros(2, int), seed=0)
    assert out["attention"]["all"] < out["importance"]["all"] / 2


def test_one_repeat_leaves_nothing_to_score_with() -> None:
    assert (
        faithfulness(*case(driven=True, R=1), OFFSETS, np.array([0, 1]), outputs=np.zeros(2, int), seed=0)
        == {}
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_support_is_meant_for_the_class_the_patient_is_scored_as(sign: float) -> None:
    members, mixture = case(driven=True)
    turned = {"one": Member(members["one"].weight, (sign * members["one"].evidence), np.empty(0))}
    assert curves(turned, mixture, OFFSETS, 0, output=0, seed=0)["importance"][0][8] > 0.3


def test_a_curve_of_topk_ranks_the_cells_that_are_left_anew() -> None:
    members, mixture = case(driven=True, R=2)
    rank, share = members["one"].evidence[..., 0], np.full((2, 2), 0.1)
    ranked = {"one": Member(members["one"].weight, members["one"].evidence, np.empty(0), rank, share)}
    found = curves(ranked, mixture, OFFSETS, 1, output=0, seed=0)["evidence"][0]
    rows, by_hand = slice(40, 100), np.zeros(len(STEPS))
    for r, scored in ((0, 1), (1, 0)):
        order = np.argsort(-rank[r, rows], kind="stable")
        v = rank[scored, rows].astype(float)
        for i, part in enumerate(STEPS):
            left = np.sort(v[order[int(part * 60) :]])[::-1]
            top = max(1.0, 0.1 * len(left))
            whole = int(top)
            rest = left[:whole].sum() + (top - whole) * (left[whole] if whole < len(left) else 0)
            by_hand[i] += (np.sort(v)[::-1][:6].mean() - rest / top) / 2
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


def test_leave_out_order_and_least_important_first() -> None:
    members, mixture = case(driven=True)
    found = faithfulness(members, mixture, OFFSETS, np.array([0, 1]), outputs=np.zeros(2, int), seed=0)
    assert found["leave_out"]["curve"] == pytest.approx(found["importance"]["curve"])  # of equal weights
    assert found["importance"]["least"][12] < found["random"]["low"][12]
    assert "phenotype" not in found
    at = found["steps"].index(0.1)
    assert found["importance"]["tenth"] == pytest.approx(found["importance"]["curve"][at], abs=1e-4)
    for name in ("importance", "attention"):
        early = np.trapezoid(found[name]["curve"][: at + 1], found["steps"][: at + 1]) / 0.1
        assert found[name]["first_tenth"] == pytest.approx(early, abs=1e-3)


def test_phenotypes_as_units_go_one_whole_kind_after_another() -> None:
    members, mixture = case(driven=True)
    kind = (np.arange(100) % 10 == 0).astype(int)  # the driving cells, and the others
    found = faithfulness(
        members, mixture, OFFSETS, np.array([0, 1]), outputs=np.zeros(2, int), seed=0, kind=kind
    )
    at = found["steps"].index(0.1)
    assert found["phenotype"]["curve"][at] == pytest.approx(found["importance"]["curve"][at], abs=0.02)
    mixed = faithfulness(
        members, mixture, OFFSETS, np.array([0, 1]), outputs=np.zeros(2, int), seed=0, kind=np.arange(100) % 3
    )
    assert mixed["phenotype"]["tenth"] < found["phenotype"]["tenth"] / 2
