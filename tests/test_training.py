from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from milcore import learning, models, training
from milcore.errors import MilError
from milcore.evidence import leave_one_out, member_scores
from milcore.folds import plan
from milcore.learning import Descent, Top
from milcore.measures import auroc
from milcore.models import Networks
from milcore.preprocess import moments, preparation
from milcore.tasks import Binary, Multiclass, Regression, Survival
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
    networks = Networks.drawn(torch.zeros(2, 4), torch.ones(2, 4), draw, attends=attends, outputs=3)
    offsets, top = np.array([0, 12, 30]), None if attends else Top(0.2, 1, -1)
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
    networks = Networks.drawn(torch.zeros(3, 4), torch.ones(3, 4), draw, attends=True, outputs=1)
    x = torch.randn(3, 10, 4, generator=draw)
    evidence, logit = networks(x.clone())
    one, look = networks(x[1:2].clone(), slice(1, 2))
    torch.testing.assert_close(evidence[1:2], one)
    torch.testing.assert_close(logit[1:2], look)
    networks.backward(x, lambda evidence, logit: evidence[1].sum() + logit[1].square().sum())
    before = {name: part.clone() for name, part in networks.parts.items()}
    Descent(networks.learnt, 10).step(networks.slope)
    for name, part in networks.parts.items():
        if name in ("mean", "sd"):
            continue
        changed = (part != before[name] * (1 - learning.RATE * learning.FIRST)).flatten(1).any(1)
        assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_gradients_are_those_of_automatic_differentiation(pooling: str, outputs: int) -> None:
    attends = pooling == "attention"
    draw = torch.Generator().manual_seed(0)
    S, n, F = 2, 12, 5
    mean, sd = torch.randn(S, F, generator=draw), torch.rand(S, F, generator=draw) + 0.5
    networks = Networks.drawn(mean, sd, draw, attends=attends, outputs=outputs)
    x = torch.randn(S, n, F, generator=draw)
    x[0, 3, 1] = torch.nan
    towards = torch.randn(S, n, outputs, generator=draw)
    weigh = torch.randn(S, n, generator=draw)

    def loss(evidence: torch.Tensor, logit: torch.Tensor | None) -> torch.Tensor:
        paid = (evidence * towards).square().sum()
        return paid if logit is None else paid + (logit * weigh).exp().sum()

    parts = {name: part.clone().requires_grad_() for name, part in networks.parts.items()}
    scaled = torch.nan_to_num((x - parts["mean"]) / parts["sd"])
    h = torch.relu(scaled @ parts["embed"] + parts["embed_bias"])
    evidence = h @ parts["head"] + parts["bias"]
    evidence = evidence - evidence.mean(-1, keepdim=True) * (outputs > 1)
    logit = None
    if attends:
        gate = torch.tanh(h @ parts["tanh_gate"]) * torch.sigmoid(h @ parts["sigmoid_gate"])
        logit = (gate @ parts["look"])[..., 0]
    loss(evidence, logit).backward()
    said, look = networks(x.clone())
    torch.testing.assert_close(said, evidence.detach())
    for _ in range(2):  # the memory of the first time is used again
        networks.backward(x.clone(), loss)
    assert (look is None) == (logit is None)
    networks.learnt.copy_(networks.slope)  # by name, then
    for name, part in networks.parts.items():
        if name not in ("mean", "sd"):
            torch.testing.assert_close(part, parts[name].grad)


@pytest.mark.parametrize("top", [None, Top(0.5, 0, 1)], ids=["attention", "topk"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "survival"])
def test_a_step_leaves_nothing_on_another_device(kind: str, top: Top | None, monkeypatch) -> None:
    """On torch's "meta" device, which has no memory and refuses tensors of others, as a GPU does."""
    monkeypatch.setattr(models, "device", lambda: torch.device("meta"))
    task = {
        "binary": Binary(("no", "yes"), np.array([0.0, 1, 0, 1])),
        "multiclass": Multiclass(("a", "b", "c"), np.array([0.0, 1, 2, 1])),
        "regression": Regression("number", np.array([1.0, 2, 3, 4])),
        "survival": Survival("days", np.array([[1.0, 1], [2, 0], [3, 1], [4, 1]])),
    }[kind]
    scaling = torch.zeros(2, 5), torch.ones(2, 5)
    networks = Networks.drawn(*scaling, torch.Generator(), attends=top is None, outputs=task.outputs)
    y = torch.from_numpy(np.tile(task.y, (2,) + (1,) * task.y.ndim)).float().to("meta")
    drawn = torch.Size((2, 4, 6))

    def loss(evidence: torch.Tensor, logit: torch.Tensor | None) -> torch.Tensor:
        return task.loss(learning.pooled(top, drawn, evidence, logit), y).sum()

    networks.backward(torch.zeros(2, 24, 5), loss)
    Descent(networks.learnt, 60).step(networks.slope)
    assert networks.slope.device == networks(torch.zeros(2, 24, 5))[0].device == torch.device("meta")


def test_descent_is_that_of_torch() -> None:
    begin = torch.randn(7, generator=torch.Generator().manual_seed(0))
    ours, theirs = begin.clone(), begin.clone().requires_grad_()
    descent = Descent(ours, 60)
    optimiser = torch.optim.AdamW([theirs], lr=learning.RATE, weight_decay=learning.DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning.RATE, total_steps=60)
    for _ in range(60):
        descent.step(4 * ours**3 - ours)
        theirs.grad = (4 * theirs**3 - theirs).detach()
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(ours, theirs.detach())
    assert not torch.allclose(ours, begin, atol=1e-2)


def test_drawn_cells_belong_to_their_patients() -> None:
    first, count = torch.tensor([0, 5, 6]), torch.tensor([5, 1, 100])
    rows = learning._drawn(first, count, 500, torch.Generator().manual_seed(0))
    for p in range(3):
        assert rows[p].min() >= first[p]
        assert rows[p].max() < first[p] + count[p]


def test_every_training_patient_has_its_turn_and_no_other() -> None:
    train = torch.zeros(2, 11, dtype=torch.bool)
    train[0, :9], train[1, 4:] = True, True
    turns = learning._turns(train, 3, learning.PATIENTS, torch.Generator().manual_seed(0))
    assert turns.shape == (3, 2, learning.PATIENTS)
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
