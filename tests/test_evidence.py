from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milcore import evidence, training
from milcore.evidence import by_group, explain, leave_group_out, leave_one_out, member_scores
from milcore.stacking import Mixture
from milcore.training import Member

LOGITS = st.lists(st.floats(-40, 40), min_size=1, max_size=8)


def softmax(logits: list[float]) -> np.ndarray:
    e = np.exp(np.array(logits) - max(logits))
    return e / e.sum()


def by_hand(logits: list[float], v: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Scores with minus scores without, the softmax taken anew."""
    rest = softmax([e for e, g in zip(logits, gone, strict=True) if not g])
    return softmax(logits) @ v - rest @ v[~gone]


def attending(bags: list[list[float]], K: int, seed: int) -> tuple[Member, np.ndarray]:
    """A member of one repeat whose weights are the softmax of each bag's logits, in full precision."""
    offsets = np.concatenate([[0], np.cumsum([len(bag) for bag in bags])])
    v = np.random.default_rng(seed).normal(size=(1, offsets[-1], K)).round(1)
    return Member(np.concatenate([softmax(bag) for bag in bags])[None], v, np.empty(0)), offsets


@given(bags=st.lists(LOGITS, min_size=1, max_size=4), K=st.sampled_from([1, 3]), seed=st.integers(0, 9))
def test_leaving_one_cell_out_is_taking_the_softmax_anew(bags: list[list[float]], K: int, seed: int) -> None:
    member, offsets = attending(bags, K, seed)
    loss = leave_one_out(member, 0, offsets)
    for b, bag in enumerate(bags):
        here = slice(offsets[b], offsets[b + 1])
        for i in range(len(bag)):
            gone = np.arange(len(bag)) == i
            if len(bag) == 1:
                assert np.isnan(loss[here][i]).all()
            elif member.weight[0, here][~gone].sum() > 1e-12:  # below, the weights no longer hold the answer
                expected = by_hand(bag, member.evidence[0, here], gone)
                np.testing.assert_allclose(loss[here][i], expected, rtol=1e-3, atol=1e-6)


@given(logits=LOGITS, K=st.sampled_from([1, 3]), seed=st.integers(0, 9))
def test_leaving_a_group_out_is_taking_the_softmax_anew(logits: list[float], K: int, seed: int) -> None:
    member, _ = attending([logits], K, seed)
    gone = np.random.default_rng(seed).random(len(logits)) < 0.5
    loss = leave_group_out(member, 0, slice(0, len(logits)), gone, 0)
    if gone.all():
        assert np.isnan(loss).all()
    elif member.weight[0][~gone].sum() > 1e-12:
        np.testing.assert_allclose(loss, by_hand(logits, member.evidence[0], gone), rtol=1e-3, atol=1e-6)


def top(values: list[int], share: float) -> Member:
    """A `topk` member of one patient whose cells have these evidences."""
    v = np.array(values, float)
    owner, count = np.zeros(len(v), int), np.array([len(v)])
    weight = training._top_weight(v, owner, count, share)
    return Member(weight[None], v[None, :, None], np.empty(0), v[None], np.array([[share]]))


def top_score(values: np.ndarray, share: float) -> float:
    """Mean of the top share by the definition: whole cells, then the fraction of the next one."""
    ordered, left, total = np.sort(values)[::-1], max(1.0, share * len(values)), 0.0
    size = left
    for value in ordered:
        total += value * min(1.0, left)
        left = max(left - 1.0, 0.0)
    return total / size


VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)
SHARE = st.sampled_from([0.01, 0.1, 0.25, 0.33, 0.5, 1.0])


@given(values=VALUES, share=SHARE, seed=st.integers(0, 9))
def test_the_next_cell_moves_up_when_one_of_the_top_is_left_out(
    values: list[int], share: float, seed: int
) -> None:
    member, n = top(values, share), len(values)
    v = np.array(values, float)
    offsets = np.array([0, n])
    assert member_scores(member, offsets)[0, 0, 0] == pytest.approx(top_score(v, share))
    one = leave_one_out(member, 0, offsets)
    for i in range(n):
        if n == 1:
            assert np.isnan(one).all()
        else:
            expected = top_score(v, share) - top_score(np.delete(v, i), share)
            assert one[i, 0] == pytest.approx(expected, abs=1e-9)
    gone = np.random.default_rng(seed).random(n) < 0.5
    lost = leave_group_out(member, 0, slice(0, n), gone, 0)[0]
    if gone.all():
        assert np.isnan(lost)
    else:
        assert lost == pytest.approx(top_score(v, share) - top_score(v[~gone], share), abs=1e-9)


@given(values=VALUES, share=SHARE)
def test_cells_of_equal_rank_have_equal_weight(values: list[int], share: float) -> None:
    weight, v = top(values, share).weight[0], np.array(values)
    assert weight.sum() == pytest.approx(1)
    for value in set(values):
        assert np.ptp(weight[v == value]) < 1e-12


def case(seed: int) -> tuple[dict[str, Member], Mixture, np.ndarray]:
    draw = np.random.default_rng(seed)
    offsets, R, K = np.array([0, 1, 6, 30]), 3, 2
    members = {}
    for name in ("one", "two"):
        w = draw.random((R, 30))
        w /= np.add.reduceat(w, offsets[:-1], axis=1)[:, np.repeat([0, 1, 2], [1, 5, 24])]
        v = draw.normal(size=(R, 30, K)).astype(np.float32)
        members[name] = Member(w.astype(np.float32), v, np.empty(0))
    mixture = Mixture(("one", "two"), draw.normal(size=(R, 3, K)), draw.random((2, R, 3)), np.zeros((R, 3)))
    return members, mixture, offsets


def test_contributions_sum_to_the_score_and_attention_to_one() -> None:
    members, mixture, offsets = case(0)
    shown = explain(members, mixture, offsets)
    score = mixture.a + sum(
        b[..., None] * member_scores(m, offsets) for b, m in zip(mixture.b, members.values(), strict=True)
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
        np.testing.assert_allclose(shown.evidence[i], np.mean(alone, 0), atol=1e-6)
        np.testing.assert_allclose(shown.evidence_sd[i], np.std(alone, 0, ddof=1), atol=1e-6)


def test_the_mixtures_leave_one_out_is_the_members_losses_weighted() -> None:
    members, mixture, offsets = case(2)
    shown = explain(members, mixture, offsets)
    for i in range(1, 30):
        b = np.searchsorted(offsets, i, side="right") - 1
        here = slice(offsets[b], offsets[b + 1])
        gone = np.arange(here.start, here.stop) == i
        losses = [
            mixture.b[m, r, b] * leave_group_out(n, r, here, gone, b)
            for r in range(3)
            for m, n in enumerate(members.values())
        ]
        np.testing.assert_allclose(shown.leave_one_out[i], sum(losses) / 3, atol=1e-6)
    assert np.isnan(shown.leave_one_out[0]).all()


def test_patients_explained_one_at_a_time_are_explained_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    members, mixture, offsets = case(4)
    group = np.arange(30) % 3

    def everything() -> list[np.ndarray]:
        shown = explain(members, mixture, offsets)
        return [*vars(shown).values(), *by_group(members, mixture, offsets, group)]

    together = everything()
    monkeypatch.setattr(evidence, "AT_ONCE", 1)
    for one, other in zip(together, everything(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_repeat_says_nothing_of_stability() -> None:
    members, mixture, offsets = case(3)
    once = {name: Member(m.weight[:1], m.evidence[:1], m.inner) for name, m in members.items()}
    shown = explain(
        once, Mixture(mixture.members, mixture.a[:1], mixture.b[:, :1], mixture.base[:1]), offsets
    )
    assert np.isnan(shown.evidence_sd).all()


def scored_anew(member: Member, r: int, rows: slice, kept: np.ndarray, b: int) -> np.ndarray:
    """(K,) a member's score of patient b by the definition, of the cells that are kept."""
    w, v = member.weight[r, rows].astype(float), member.evidence[r, rows].astype(float)
    if member.rank is None or member.share is None:
        return w[kept] @ v[kept] / w[kept].sum()
    rank, share = member.rank[r, rows], float(member.share[r, b])
    order = np.flatnonzero(kept)[np.argsort(-rank[kept], kind="stable")]
    count = np.array([len(order)])
    weight = training._top_weight(rank[order], np.zeros(len(order), int), count, share)
    return weight @ v[order]


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    K=st.sampled_from([1, 3]),
    heavy=st.sampled_from([1.0, 12.0]),
    seed=st.integers(0, 30),
)
def test_a_mixture_of_all_poolings_loses_what_scoring_anew_says(
    sizes: list[int], K: int, heavy: float, seed: int
) -> None:
    """One output (binary, a number, survival) and several (classes); equal weights, softmax and topk stacked."""
    draw, offsets, R = np.random.default_rng(seed), np.concatenate([[0], np.cumsum(sizes)]), 2
    N, B = offsets[-1], len(sizes)
    owner = np.repeat(np.arange(B), sizes)
    equal = np.tile((1 / np.array(sizes))[owner], (R, 1))
    logits = draw.normal(size=(R, N)) * heavy
    soft = np.concatenate([softmax(logits[r, owner == b]) for r in range(R) for b in range(B)]).reshape(R, N)
    v = [draw.normal(size=(R, N, K)) for _ in range(3)]
    rank, share = draw.permuted(np.tile(np.arange(N, dtype=float), (R, 1)), axis=1), np.full((R, B), 0.4)
    count = np.array(sizes)
    top = np.stack([training._top_weight(rank[r], owner, count, 0.4) for r in range(R)])
    members = {
        "mean": Member(equal, v[0], np.empty(0)),
        "attention": Member(soft, v[1], np.empty(0)),
        "topk": Member(top, v[2], np.empty(0), rank, share),
    }
    a, slopes = draw.normal(size=(R, B, K)), draw.random((3, R, B)) + 0.1
    shown = explain(members, Mixture(tuple(members), a, slopes, np.zeros((R, B))), offsets)
    np.testing.assert_allclose(
        np.add.reduceat(shown.contribution, offsets[:-1]), shown.score.mean(0), atol=1e-9
    )
    for i in range(N):
        b, rows = owner[i], slice(offsets[owner[i]], offsets[owner[i] + 1])
        kept = np.arange(rows.start, rows.stop) != i
        if not kept.any():
            assert np.isnan(shown.leave_one_out[i]).all()
            continue
        expected = np.zeros(K)
        for r in range(R):
            for slope, member in zip(slopes[:, r, b], members.values(), strict=True):
                whole = scored_anew(member, r, rows, np.ones(sizes[b], bool), b)
                expected += slope * (whole - scored_anew(member, r, rows, kept, b)) / R
        np.testing.assert_allclose(shown.leave_one_out[i], expected, rtol=1e-3, atol=1e-6)
