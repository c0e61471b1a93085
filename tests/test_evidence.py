from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milcore.evidence import explain, leave_group_out, leave_one_out, member_scores
from milcore.stacking import Mixture
from milcore.training import Member

LOGITS = st.lists(st.floats(-40, 40), min_size=1, max_size=8)


def softmax(logits: list[float]) -> np.ndarray:
    e = np.exp(np.array(logits) - max(logits))
    return e / e.sum()


def by_hand(logits: list[float], v: np.ndarray, gone: np.ndarray) -> float:
    """Score with minus score without, the softmax taken anew."""
    rest = softmax([e for e, g in zip(logits, gone, strict=True) if not g])
    return float(softmax(logits) @ v - rest @ v[~gone])


@given(bags=st.lists(LOGITS, min_size=1, max_size=4), seed=st.integers(0, 9))
def test_leaving_one_cell_out_is_taking_the_softmax_anew(bags: list[list[float]], seed: int) -> None:
    offsets = np.concatenate([[0], np.cumsum([len(bag) for bag in bags])])
    v = np.random.default_rng(seed).normal(size=offsets[-1]).round(1)
    w = np.concatenate([softmax(bag) for bag in bags])
    loss = leave_one_out(w, v, offsets)
    for b, bag in enumerate(bags):
        here = slice(offsets[b], offsets[b + 1])
        for i in range(len(bag)):
            gone = np.arange(len(bag)) == i
            if len(bag) == 1:
                assert np.isnan(loss[here][i])
            elif w[here][~gone].sum() > 1e-12:  # below, the weights themselves no longer hold the answer
                assert loss[here][i] == pytest.approx(by_hand(bag, v[here], gone), rel=1e-3, abs=1e-6)


@given(logits=LOGITS, seed=st.integers(0, 9))
def test_leaving_a_group_out_is_taking_the_softmax_anew(logits: list[float], seed: int) -> None:
    draw = np.random.default_rng(seed)
    v, gone = draw.normal(size=len(logits)), draw.random(len(logits)) < 0.5
    w = softmax(logits)
    loss = leave_group_out(w, v, gone)
    if gone.all():
        assert np.isnan(loss)
    elif w[~gone].sum() > 1e-12:
        assert loss == pytest.approx(by_hand(logits, v, gone), rel=1e-3, abs=1e-6)


def case(seed: int) -> tuple[dict[str, Member], Mixture, np.ndarray]:
    draw = np.random.default_rng(seed)
    offsets, R = np.array([0, 1, 6, 30]), 3
    members = {}
    for name in ("one", "two"):
        w = draw.random((R, 30))
        w /= np.add.reduceat(w, offsets[:-1], axis=1)[:, np.repeat([0, 1, 2], [1, 5, 24])]
        members[name] = Member(
            w.astype(np.float32), draw.normal(size=(R, 30)).astype(np.float32), np.empty(0)
        )
    return members, Mixture(("one", "two"), draw.normal(size=(R, 3)), draw.random((2, R, 3))), offsets


def test_contributions_sum_to_the_score_and_attention_to_one() -> None:
    members, mixture, offsets = case(0)
    shown = explain(members, mixture, offsets)
    score = mixture.a + sum(
        b * member_scores(m, offsets) for b, m in zip(mixture.b, members.values(), strict=True)
    )
    np.testing.assert_allclose(shown.score, score)
    np.testing.assert_allclose(np.add.reduceat(shown.contribution, offsets[:-1]), score.mean(0), atol=1e-6)
    np.testing.assert_allclose(np.add.reduceat(shown.attention, offsets[:-1]), 1, atol=1e-6)


def test_evidence_is_the_score_of_a_patient_made_of_this_cell_alone() -> None:
    members, mixture, offsets = case(1)
    shown = explain(members, mixture, offsets)
    for i in (0, 3, 20):
        b = np.searchsorted(offsets, i, side="right") - 1
        alone = [
            mixture.a[r, b]
            + sum(mixture.b[m, r, b] * members[n].evidence[r, i] for m, n in enumerate(members))
            for r in range(3)
        ]
        assert shown.evidence[i] == pytest.approx(np.mean(alone), abs=1e-6)
        assert shown.evidence_sd[i] == pytest.approx(np.std(alone, ddof=1), abs=1e-6)


def test_the_mixtures_leave_one_out_is_the_members_losses_weighted() -> None:
    members, mixture, offsets = case(2)
    shown = explain(members, mixture, offsets)
    for i in range(1, 30):
        b = np.searchsorted(offsets, i, side="right") - 1
        here = slice(offsets[b], offsets[b + 1])
        gone = np.arange(here.start, here.stop) == i
        losses = [
            mixture.b[m, r, b] * leave_group_out(n.weight[r, here].astype(float), n.evidence[r, here], gone)
            for r in range(3)
            for m, n in enumerate(members.values())
        ]
        assert shown.leave_one_out[i] == pytest.approx(sum(losses) / 3, abs=1e-6)
    assert np.isnan(shown.leave_one_out[0])


def test_one_repeat_says_nothing_of_stability() -> None:
    members, mixture, offsets = case(3)
    once = {name: Member(m.weight[:1], m.evidence[:1], m.inner) for name, m in members.items()}
    shown = explain(once, Mixture(mixture.members, mixture.a[:1], mixture.b[:, :1]), offsets)
    assert np.isnan(shown.evidence_sd).all()
