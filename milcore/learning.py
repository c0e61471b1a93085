"""How networks learn: those of all folds of a repeat together.

Each step draws a few patients for every model from its own training set, and a fixed number of cells from each, so a
step costs the same for any number of cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from milcore.models import Networks, device
from milcore.tasks import Task

__all__ = ["CELLS", "PATIENTS", "Descent", "Stack", "Top", "pooled", "trained"]

CELLS = 128  # drawn from each patient of a step
PATIENTS = 4  # drawn for each model of a step: few, or the networks undertrain
TOP_CELLS = 384  # for `topk`, whose share of the drawn cells must be some
WHOLE_CELLS = 4000  # of a model's step, where all patients are in each
RATE = 1e-2
DECAY = 1.0  # strong: cohorts are small (inner log-loss on Keren and MUSK1 halves against 1e-4)
MOMENTA, SQUARES, LEAST = (0.95, 0.85), 0.999, 1e-8  # of AdamW; its momentum is low while the rate is high
RISES = 0.3  # share of the steps in which the rate rises
FIRST, LAST = 1 / 25, 1 / 25e4  # rates, of the highest


@dataclass(frozen=True)
class Top:
    """Which cells count: the `share` that argues most for (sign 1) or against (-1) an output."""

    share: float
    output: int
    sign: int

    def rank(self, evidence: Any) -> Any:
        """What the cells are ranked by: evidence (..., K) -> (...)."""
        return evidence[..., self.output] * self.sign


@dataclass(frozen=True, eq=False)
class Stack:
    """The models of one repeat, which are trained together: all that this asks for but the cells. `fold` (B,);
    `left_out`: the folds that each model leaves out, outer models first; `train` (S, B): whom it learns from; `scaling`
    (S, F) twice: mean and sd."""

    task: Task
    offsets: np.ndarray
    fold: np.ndarray
    left_out: list[tuple[int, ...]]
    train: np.ndarray
    scaling: tuple[np.ndarray, np.ndarray]
    attends: bool
    top: Top | None
    epochs: int
    seed: tuple[int, ...]


class Descent:
    """AdamW (Loshchilov & Hutter 2019) on one vector, under one cycle of rates (Smith & Topin 2018) over so many
    `steps`. The same numbers as torch.optim's, whose import is slow."""

    def __init__(self, learnt: torch.Tensor, steps: int) -> None:
        self.learnt, self.steps, self.done = learnt, steps, 0
        self.mean, self.square = torch.zeros_like(learnt), torch.zeros_like(learnt)

    def step(self, slope: torch.Tensor) -> None:
        """Changes what is learnt by its gradient."""
        rate, momentum = self._now()
        self.done += 1
        self.mean.lerp_(slope, 1 - momentum)
        self.square.mul_(SQUARES).addcmul_(slope, slope, value=1 - SQUARES)
        size = self.square.sqrt().div_(math.sqrt(1 - SQUARES**self.done)).add_(LEAST)
        self.learnt.mul_(1 - rate * DECAY)
        self.learnt.addcdiv_(self.mean, size, value=-rate / (1 - momentum**self.done))

    def _now(self) -> tuple[float, float]:
        """Rate and momentum of the next step."""
        top = RISES * self.steps - 1
        if self.done <= top:
            return _eased(RATE * FIRST, RATE, self.done / top), _eased(*MOMENTA, self.done / top)
        fallen = (self.done - top) / (self.steps - 1 - top)
        return _eased(RATE, RATE * LAST, fallen), _eased(*MOMENTA[::-1], fallen)


def _eased(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))


def trained(x: np.ndarray, stack: Stack, tell: Callable[[float], None]) -> dict[str, np.ndarray]:
    """The parts of a stack's networks (see Networks), trained on cells x (N, F); `tell` hears how much is done."""
    torch.set_num_threads(1)  # small products gain little from more, and lose much on a busy machine
    draw = torch.Generator().manual_seed(int(np.random.SeedSequence(stack.seed).generate_state(1)[0]))
    mean, sd = map(torch.tensor, stack.scaling)
    networks = Networks.drawn(mean, sd, draw, attends=stack.attends, outputs=stack.task.outputs)
    cells, train = torch.from_numpy(x), torch.tensor(stack.train)
    first, count = torch.from_numpy(stack.offsets[:-1].copy()), torch.from_numpy(np.diff(stack.offsets))
    y = torch.from_numpy(np.array(stack.task.targets(stack.train)[0])).float().to(device())  # (S, B, ...)
    steps, patients, k = _sizes(stack)
    drawn = torch.empty(len(train), patients * k, cells.shape[1])
    descent, models = Descent(networks.learnt, stack.epochs * steps), torch.arange(len(train))[:, None]
    for epoch in range(stack.epochs):
        turns = _turns(train, steps, patients, draw)
        every = _drawn(first[turns], count[turns], k, draw)
        for turn, rows in zip(turns, every, strict=True):
            torch.index_select(cells, 0, rows.flatten(), out=drawn.view(-1, drawn.shape[2]))
            networks.backward(drawn, partial(_loss, stack, rows.shape, y[models, turn]))
            descent.step(networks.slope)
        tell((epoch + 1) / stack.epochs)
    return {name: part.cpu().numpy() for name, part in networks.parts.items()}


def _sizes(stack: Stack) -> tuple[int, int, int]:
    """Steps of an epoch, patients that each model has in a step, and cells drawn from each of them."""
    most, longest = int(stack.train.sum(1).max()), int(np.diff(stack.offsets).max())
    k = min(CELLS if stack.top is None else TOP_CELLS, longest)
    if stack.task.whole:  # a partial likelihood compares all patients
        return 1, most, max(1, min(k, WHOLE_CELLS // most))
    return -(-most // PATIENTS), PATIENTS, k


def _turns(train: torch.Tensor, steps: int, P: int, draw: torch.Generator) -> torch.Tensor:
    """(steps, S, P) patients: every model goes through its own training patients in random order, then round again."""
    order = torch.where(train, torch.rand(train.shape, generator=draw), 2.0).argsort(1)
    place = torch.arange(steps * P) % train.sum(1, keepdim=True)
    return order.gather(1, place).view(len(train), steps, P).transpose(0, 1)


def _drawn(first: torch.Tensor, count: torch.Tensor, k: int, draw: torch.Generator) -> torch.Tensor:
    """(..., k) random rows of patients (...) with `count` cells from row `first`."""
    share = torch.rand(*count.shape, k, generator=draw, dtype=torch.float64)
    return first[..., None] + (share * count[..., None]).long()


def _loss(
    stack: Stack, drawn: torch.Size, y: torch.Tensor, evidence: torch.Tensor, logit: torch.Tensor | None
) -> torch.Tensor:
    """The loss of all models together, which share no parameters: each learns alone."""
    return stack.task.loss(pooled(stack.top, drawn, evidence, logit), y).sum()


def pooled(
    top: Top | None, drawn: torch.Size, evidence: torch.Tensor, logit: torch.Tensor | None
) -> torch.Tensor:
    """(S, P, K) scores of drawn cells (S, P, k) by their evidence (S, P * k, K) and attention logits (S, P * k)."""
    evidence = evidence.view(*drawn, -1)
    if top is not None:
        k = max(1, round(top.share * drawn[-1]))
        first = top.rank(evidence).topk(k, -1).indices
        return evidence.gather(2, first[..., None].expand(*first.shape, evidence.shape[-1])).mean(2)
    if logit is None:
        return evidence.mean(2)
    return (torch.softmax(logit.view(drawn), -1)[..., None] * evidence).sum(2)
