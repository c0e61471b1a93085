"""The peers that training is measured beside, each cross-fitted as ours is: outer models, and pair models that choose.

`bag_loop` is what most people write: gated attention (Ilse 2018), one whole patient a step. `torchmil_trainer` is the
same network by torchmil's ABMIL and its Trainer. Rate and epochs of each are chosen for every outer fold on the
patients of the other folds by models that saw neither, among RATES and MARKS.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from milcore.case import Case
from milcore.models import GATE, HIDDEN
from milcore.preprocess import Moments

RATES, MARKS = (1e-3, 3e-3), (20, 60)
DECAY = 1e-4

Bags = list[torch.Tensor]
Learner = Callable[[Bags, torch.Tensor, np.ndarray, float, int], list[np.ndarray]]


def cross_fitted(learn: Learner, case: Case, x: np.ndarray, measured: Moments) -> np.ndarray:
    """(1, B, 1) out-of-fold scores of the first repeat."""
    plan, y = case.plan, torch.from_numpy(np.nan_to_num(case.task.y)).float()
    fold, known = plan.fold[0], plan.labelled

    def scores(out: tuple[int, ...], rate: float, epochs: int) -> list[np.ndarray]:
        train = plan.training(0, out)
        mean, sd = measured.scale(train[None])
        scaled = torch.nan_to_num(torch.from_numpy((x - mean) / sd))
        bags = list(scaled.split(np.diff(case.cohort.offsets).tolist()))
        torch.manual_seed(case.settings.seed)
        return learn(bags, y, np.flatnonzero(train), rate, epochs)

    loss = np.zeros((plan.folds, len(RATES), len(MARKS)))
    for f, g in plan.without(2):
        for i, rate in enumerate(RATES):
            for j, score in enumerate(scores((f, g), rate, MARKS[-1])):
                for outer, held in ((f, g), (g, f)):
                    there = known & (fold == held)
                    loss[outer, i, j] += case.task.total_loss(score[there, None], case.task.y[there])
    out = np.empty((1, len(fold), 1))
    for f in range(plan.folds):
        i, j = np.unravel_index(loss[f].argmin(), loss[f].shape)
        out[0, fold == f, 0] = scores((f,), RATES[i], MARKS[j])[-1][fold == f]
    return out


class Gated(nn.Module):
    """One bag (n, F) -> its score."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(features, HIDDEN), nn.Linear(HIDDEN, 1)
        self.tanh, self.sigmoid, self.look = (
            nn.Linear(HIDDEN, GATE),
            nn.Linear(HIDDEN, GATE),
            nn.Linear(GATE, 1),
        )

    def forward(self, bag: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.embed(bag))
        weight = torch.softmax(self.look(torch.tanh(self.tanh(h)) * torch.sigmoid(self.sigmoid(h))), 0)
        return self.head((weight * h).sum(0))[0]


def bag_loop(bags: Bags, y: torch.Tensor, train: np.ndarray, rate: float, epochs: int) -> list[np.ndarray]:
    """Scores (B,) at each mark up to `epochs`."""
    model = Gated(bags[0].shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=DECAY)
    out = []
    for epoch in range(1, epochs + 1):
        for b in train[torch.randperm(len(train)).numpy()]:
            loss = nn.functional.binary_cross_entropy_with_logits(model(bags[b]), y[b])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if epoch in MARKS:
            with torch.no_grad():
                out.append(np.array([float(model(bag)) for bag in bags]))
    return out


def torchmil_trainer(
    bags: Bags, y: torch.Tensor, train: np.ndarray, rate: float, epochs: int
) -> list[np.ndarray]:
    """The same by torchmil: bags one by one, since it pads those of a batch; it validates on one bag only, since each
    validation costs a pass."""
    from torch.utils.data import DataLoader
    from torchmetrics import Accuracy
    from torchmil.data import collate_fn
    from torchmil.models import ABMIL
    from torchmil.utils.trainer import Trainer

    F = bags[0].shape[1]
    embed = nn.Sequential(nn.Linear(F, HIDDEN), nn.ReLU())
    model = ABMIL(in_shape=(F,), att_dim=GATE, gated=True, feat_ext=embed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=DECAY)
    metrics = {"accuracy": Accuracy(task="binary")}
    quiet = {"disable_pbar": True, "verbose": False}
    trainer = Trainer(model, optimiser, metrics_dict=metrics, device="cpu", **quiet)
    told = [{"X": bags[b], "Y": y[b]} for b in train]
    turns = DataLoader(told, batch_size=1, shuffle=True, collate_fn=collate_fn)
    one = DataLoader(told[:1], batch_size=1, collate_fn=collate_fn)
    out, done = [], 0
    for mark in (mark for mark in MARKS if mark <= epochs):
        trainer.train(mark - done, turns, val_dataloader=one)
        done = mark
        with torch.no_grad():
            out.append(np.array([float(model(bag[None])) for bag in bags]))
    return out
