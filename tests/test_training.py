from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from milcore import training
from milcore.errors import MilError
from milcore.evidence import leave_one_out, member_scores
from milcore.folds import plan
from milcore.measures import auroc
from milcore.models import Networks
from milcore.preprocess import moments, preparation
from milcore.training import Member, Settings, cross_fit
from tests.planted import planted


@pytest.fixture(scope="module")
def trained():
    case = planted(0)
    x = preparation(case.cohort, transform="auto").apply(case.cohort)
    dealt = plan(case.task.strata, case.cohort.groups, repeats=1, seed=0)
    members = {
        pooling: cross_fit(
            x,
            case.cohort.offsets,
            moments(x, case.cohort.offsets),
            dealt,
            case.task,
            pooling=pooling,
            seed=0,
            share=lambda share: None,
        )[0]
        for pooling in ("attention", "mean", "topk")
    }
    return case, dealt, members


@pytest.mark.parametrize("pooling", ["attention", "mean", "topk"])
def test_planted_signal_is_found_out_of_fold(trained, pooling: str) -> None:
    case, dealt, members = trained
    score = member_scores(members[pooling], case.cohort.offsets)
    assert auroc(score[..., 0], case.task.y[None], dealt.fold).mean() > 0.8


@pytest.mark.parametrize("pooling", ["attention", "mean", "topk"])
def test_weights_sum_to_one_and_inner_scores_are_complete(trained, pooling: str) -> None:
    case, dealt, members = trained
    sums = np.add.reduceat(members[pooling].weight.astype(float), case.cohort.offsets[:-1], axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    for f in range(dealt.folds):
        np.testing.assert_array_equal(np.isnan(members[pooling].inner[0, f, :, 0]), dealt.fold[0] == f)


@pytest.mark.parametrize("pooling", ["attention", "mean", "topk"])
def test_what_was_learnt_scores_other_patients_as_the_outer_models_do(trained, pooling: str) -> None:
    case, dealt, members = trained
    member, x = members[pooling], preparation(case.cohort, transform="auto").apply(case.cohort)
    again = training.apply(member.learnt, x, case.cohort.offsets)
    cells = np.arange(case.cohort.N)
    own = dealt.fold[0][case.cohort.owner]  # with one repeat the outer models are the folds
    np.testing.assert_allclose(again.evidence[own, cells], member.evidence[0], atol=1e-5)
    np.testing.assert_allclose(again.weight[own, cells], member.weight[0], atol=1e-5)
    if pooling == "topk":
        np.testing.assert_allclose(again.rank[own, cells], member.rank[0], atol=1e-5)


def test_patients_may_be_scored_some_at_a_time(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    case, dealt, members = trained
    x = preparation(case.cohort, transform="auto").apply(case.cohort)
    monkeypatch.setattr(training, "BLOCK", 150)  # some blocks of two or three patients lack folds
    how = {"pooling": "attention", "seed": 0, "share": lambda share: None}
    again = cross_fit(x, case.cohort.offsets, moments(x, case.cohort.offsets), dealt, case.task, **how)[0]
    for part in ("weight", "evidence", "inner"):
        np.testing.assert_allclose(getattr(again, part), getattr(members["attention"], part), atol=1e-6)


@pytest.mark.parametrize("pooling", ["attention", "topk"])
def test_leave_one_out_is_scoring_again_without_the_cell(pooling: str) -> None:
    draw = torch.Generator().manual_seed(0)
    attends = pooling == "attention"
    networks = Networks(torch.zeros(2, 4), torch.ones(2, 4), draw, attends=attends, outputs=3)
    offsets, top = np.array([0, 12, 30]), None if attends else training._Top(0.2, 1, -1)
    cells = torch.randn(30, 4, generator=draw)
    with torch.no_grad():
        v, w = training._whole(networks, cells, top, 1, (np.arange(30), offsets[:-1]))
        more = {} if attends else {"rank": top.rank(v)[None], "share": np.full((1, 2), 0.2)}
        loss = leave_one_out(Member(w[None], v[None], np.empty(0), **more), 0, offsets)
        for i in range(30):
            patient = np.arange(12) if i < 12 else np.arange(12, 30)
            rest = patient[patient != i]
            v_rest, w_rest = training._whole(networks, cells, top, 1, (rest, np.array([0])))
            np.testing.assert_allclose(loss[i], w[patient] @ v[patient] - w_rest @ v_rest, atol=1e-6)


def test_models_of_a_stack_do_not_know_each_other() -> None:
    """A network trained beside others is the network trained alone."""
    draw = torch.Generator().manual_seed(0)
    networks = Networks(torch.zeros(3, 4), torch.ones(3, 4), draw, attends=True, outputs=1)
    x = torch.randn(3, 10, 4, generator=draw)
    evidence, logit = networks(x.clone())
    one, look = networks(x[1:2], slice(1, 2))
    torch.testing.assert_close(evidence[1:2], one)
    torch.testing.assert_close(logit[1:2], look)
    evidence[1].sum().backward()
    assert all((p.grad[[0, 2]] == 0).all() for p in networks.parameters() if p.grad is not None)


def test_drawn_cells_belong_to_their_patients() -> None:
    first, count = torch.tensor([0, 5, 6]), torch.tensor([5, 1, 100])
    rows = training._drawn(first, count, 500, torch.Generator().manual_seed(0))
    for p in range(3):
        assert rows[p].min() >= first[p]
        assert rows[p].max() < first[p] + count[p]


def test_every_training_patient_has_its_turn_and_no_other() -> None:
    train = torch.zeros(2, 11, dtype=torch.bool)
    train[0, :9], train[1, 4:] = True, True
    turns = training._turns(train, 3, training.PATIENTS, torch.Generator().manual_seed(0))
    assert turns.shape == (3, 2, training.PATIENTS)
    assert set(turns[:, 0].flatten().tolist()) == set(range(9))
    assert set(turns[:, 1].flatten().tolist()) == set(range(4, 11))


def test_settings_survive_json() -> None:
    settings = Settings(target="grade", classes=("a", "b"), time="days", context=10, effort="quick", seed=3)
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    assert (settings.rounds, Settings(target="t", repeats=7).rounds) == (2, 7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pooling": "max"},
        {"effort": "heroic"},
        {"task": "clustering"},
        {"centre": "patient"},
        {"context": -1},
        {"repeats": 0},
        {"seed": -1},
        {"permutations": -5},
        {"classes": ("a",)},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(MilError) as caught:
        Settings(target="t", **wrong)
    assert caught.value.fix


def test_unknown_settings_are_named() -> None:
    with pytest.raises(MilError, match="'colour'"):
        Settings.from_json({"target": "t", "colour": 1})
