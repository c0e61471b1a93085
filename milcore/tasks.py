"""Everything that differs by kind of label: its likelihood, its link, and its words.

A task turns the scores of a patient (K outputs, each a weighted mean of cell evidence) into a prediction and compares
it with the label. Everything else in milcore is the same for all tasks. Throughout, y has the patients on its first
axis: (B,) of 0/1 (binary), class numbers (multiclass) or values (regression), (B, 2) of time and event (survival);
NaN where there is no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from milcore.measures import auroc, concordance, rank_correlation

__all__ = [
    "KINDS",
    "LEAST_EVENTS",
    "MIN_PATIENTS",
    "TASKS",
    "Binary",
    "Multiclass",
    "Regression",
    "Survival",
    "Task",
    "as_text",
]

LEAST_EVENTS = 5  # events for survival: one for each fold
MIN_PATIENTS = 3  # in the smallest class: fewer cannot be in three folds
TASKS = ("auto", "binary", "multiclass", "regression", "survival")


class Task:
    """What the kinds of label have in common. `outputs` K: scores a patient; `main`: the name of the leading measure.

    Likelihoods work on any number of sets of patients at once: score (..., T, K), y (..., T) or (..., T, 2).
    """

    name: ClassVar[str]
    main: ClassVar[str]
    whole: ClassVar[bool] = False  # whether a loss needs all training patients at once
    y: np.ndarray
    classes: tuple[str, ...]
    positive: str | None = None

    @property
    def outputs(self) -> int:
        """Scores a patient has."""
        return 1

    @property
    def towards(self) -> str:
        """What positive evidence argues for."""
        raise NotImplementedError

    @property
    def labelled(self) -> np.ndarray:
        """(B,) which patients have a label."""
        return ~np.isnan(self.y.reshape(len(self.y), -1)).any(1)

    @property
    def strata(self) -> np.ndarray:
        """(B,) the class that folds are balanced over; -1 without a label."""
        return np.where(self.labelled, np.nan_to_num(self.y), -1).astype(int)

    def targets(self, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What models learn that may see train (m, B): y (m, B, ...), with shift and scale (m,) that bring their
        outputs back to the label's units."""
        y = np.broadcast_to(np.nan_to_num(self.y), (len(train), *self.y.shape))
        return y, np.zeros(len(train)), np.ones(len(train))

    def base(self, train: np.ndarray) -> float:
        """The label of the average of the patients `train` (B,), which scores are told from: 0 but in regression."""
        return 0.0

    @staticmethod
    def link(score: np.ndarray) -> np.ndarray:
        """Scores (..., K) to predictions of the same shape: probabilities, the value, or the relative risk."""
        raise NotImplementedError

    def loss(self, score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood of each set, per patient: (..., T, K) -> (...)."""
        raise NotImplementedError

    def total_loss(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of each set: (..., T, K) -> (...)."""
        raise NotImplementedError

    def gradient(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Of the log-likelihood, (T, K), for one set."""
        raise NotImplementedError

    def newton(self, kernel: np.ndarray, score: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """One Newton step of ridge regression in kernels (m, T, T), in dual coordinates: scores (m, T, K) at the old
        ones -> new ones (m, T, K), zero outside mask (m, T)."""
        raise NotImplementedError

    def ranked(self, score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """The leading measure, within folds: score (..., n, K), y (..., n), fold (..., n) -> (...)."""
        raise NotImplementedError

    def linear(self, y: np.ndarray) -> np.ndarray:
        """The label as numbers that least squares can learn: y (T, ...) of training patients -> (T, L)."""
        return y[:, None]

    def words(self) -> np.ndarray:
        """(B,) labels as text, "" without one."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Binary(Task):
    """Two classes. The score is the log-odds of the positive one, the prediction its probability.

    `classes` are (negative, positive); `y` (B,) is 1 for positive, 0 for negative, NaN without a label.
    """

    classes: tuple[str, ...]
    y: np.ndarray

    name = "binary"
    main = "auroc"

    @property
    def positive(self) -> str:  # type: ignore[override]
        """The class that scores argue for."""
        return self.classes[1]

    @property
    def towards(self) -> str:
        return self.positive

    @staticmethod
    def link(score: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(score, -700, 700)))

    def loss(self, score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        s = score[..., 0]
        return (functional.softplus(s) - y * s).mean(-1)

    def total_loss(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        s = score[..., 0]
        return (np.logaddexp(0, s) - y * s).sum(-1)

    def gradient(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        return y[..., None] - self.link(score)

    def newton(self, kernel: np.ndarray, score: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
        # Rasmussen & Williams 2006, algorithm 3.1, which stays well conditioned when curvatures vanish.
        s = score[..., 0]
        p = self.link(s)
        root = np.sqrt(np.maximum(p * (1 - p), 1e-10) * mask)
        b = root**2 * s + (y - p) * mask
        system = np.eye(s.shape[-1]) + root[:, :, None] * kernel * root[:, None, :]
        inner = root * np.einsum("mpq,mq->mp", kernel, b)
        return (b - root * np.linalg.solve(system, inner[..., None])[..., 0])[..., None]

    def ranked(self, score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
        return auroc(score[..., 0], y, fold)

    def words(self) -> np.ndarray:
        return _class_words(self)


@dataclass(frozen=True, eq=False)
class Multiclass(Task):
    """Three or more classes. Scores are centred over the classes, predictions their softmax; `y` (B,) is the number of
    the class."""

    classes: tuple[str, ...]
    y: np.ndarray

    name = "multiclass"
    main = "auroc_macro"

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def towards(self) -> str:
        return "the predicted class"

    def _hot(self, y: np.ndarray) -> np.ndarray:
        return (y[..., None] == np.arange(self.outputs)).astype(float)

    @staticmethod
    def link(score: np.ndarray) -> np.ndarray:
        e = np.exp(score - score.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def loss(self, score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        chosen = score.gather(-1, y.long()[..., None])[..., 0]
        return (torch.logsumexp(score, -1) - chosen).mean(-1)

    def total_loss(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        top = score.max(-1)
        whole = top + np.log(np.exp(score - top[..., None]).sum(-1))
        return (whole - (score * self._hot(y)).sum(-1)).sum(-1)

    def gradient(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._hot(y) - self.link(score)

    def newton(self, kernel: np.ndarray, score: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
        # Rasmussen & Williams 2006, algorithm 3.3: one T x T system for each class and one that joins them.
        p = np.maximum(self.link(score), 1e-8) * mask[..., None]
        b = p * score - p * (p * score).sum(-1, keepdims=True) + (self._hot(y) - p) * mask[..., None]
        root = np.moveaxis(np.sqrt(p), -1, 1)  # (m, K, T)
        T = score.shape[1]
        system = np.eye(T) + root[..., :, None] * kernel[:, None] * root[..., None, :]
        e = root[..., :, None] * np.linalg.solve(system, root[..., None] * np.eye(T))  # (m, K, T, T)
        c = np.einsum("mkpq,mqk->mkp", e, np.einsum("mpq,mqk->mpk", kernel, b))
        joined = e.sum(1) + np.eye(T) * ~mask[:, None, :]
        shared = np.linalg.solve(joined, c.sum(1)[..., None])[..., 0]
        return b - np.moveaxis(c, 1, -1) + np.einsum("mkpq,mq->mpk", e, shared)

    def ranked(self, score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Mean over the classes of each one's AUROC against the rest."""
        each = [auroc(score[..., k], (y == k).astype(float), fold) for k in range(self.outputs)]
        return np.mean(each, axis=0)

    def linear(self, y: np.ndarray) -> np.ndarray:
        return self._hot(y)

    def words(self) -> np.ndarray:
        return _class_words(self)


@dataclass(frozen=True, eq=False)
class Regression(Task):
    """A number. The score is its distance from the average training patient's, the prediction the number itself."""

    target: str
    y: np.ndarray

    name = "regression"
    classes = ()
    main = "spearman"

    @property
    def towards(self) -> str:
        return f"higher {self.target}"

    @property
    def strata(self) -> np.ndarray:
        """Runs of five or more patients in order of value, so that every fold holds low and high ones."""
        known = np.flatnonzero(self.labelled)
        out = np.full(len(self.y), -1)
        out[known[np.argsort(self.y[known], kind="stable")]] = (
            np.arange(len(known)) * max(1, len(known) // 5) // len(known)
        )
        return out

    def targets(self, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shift, scale = np.array([self._units(one) for one in train]).T
        return (np.nan_to_num(self.y) - shift[:, None]) / scale[:, None], shift, scale

    def _units(self, train: np.ndarray) -> tuple[float, float]:
        return float(self.y[train].mean()), float(self.y[train].std()) or 1.0

    def base(self, train: np.ndarray) -> float:
        return self._units(train)[0]

    @staticmethod
    def link(score: np.ndarray) -> np.ndarray:
        return score

    def loss(self, score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((score[..., 0] - y) ** 2).mean(-1) / 2

    def total_loss(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        return ((score[..., 0] - y) ** 2).sum(-1) / 2

    def gradient(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        return y[..., None] - score

    def newton(self, kernel: np.ndarray, score: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
        both = mask[:, :, None] & mask[:, None, :]
        return np.linalg.solve(np.eye(score.shape[1]) + kernel * both, (y * mask)[..., None])

    def ranked(self, score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
        return rank_correlation(score[..., 0], y, fold)

    def words(self) -> np.ndarray:
        return as_text(pd.Series(self.y))


@dataclass(frozen=True, eq=False)
class Survival(Task):
    """Time until an event, or until a patient was last seen without it. The score is the log-risk against the average
    training patient (Cox 1972, ties as in Breslow 1974), the prediction the relative risk; `y` (B, 2): time, event."""

    target: str
    y: np.ndarray

    name = "survival"
    classes = ()
    main = "c_index"
    whole = True

    @property
    def towards(self) -> str:
        return "higher risk"

    @property
    def strata(self) -> np.ndarray:
        """Events and censored patients, where there are enough of both to be in every fold."""
        known, event = self.labelled, self.y[:, 1] == 1
        both = (known & ~event).sum() >= LEAST_EVENTS
        return np.where(known, event * 1 if both else 0, -1)

    @staticmethod
    def link(score: np.ndarray) -> np.ndarray:
        return np.exp(np.clip(score, -700, 700))

    def loss(self, score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        s, time, event = score[..., 0], y[..., 0], y[..., 1]
        risk = time[..., None, :] >= time[..., :, None]  # [i, j]: j was still there when i's event came
        at_risk = torch.where(risk, s[..., None, :], -torch.inf).logsumexp(-1)
        return ((at_risk - s) * event).sum(-1) / event.sum(-1).clamp(min=1)

    def total_loss(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        s, time, event = score[..., 0], y[..., 0], y[..., 1]
        risk = time[..., None, :] >= time[..., :, None]
        there = np.where(risk, s[..., None, :], -np.inf)
        top = there.max(-1)
        at_risk = top + np.log(np.exp(there - top[..., None]).sum(-1))
        return ((at_risk - s) * event).sum(-1)

    def gradient(self, score: np.ndarray, y: np.ndarray) -> np.ndarray:
        share = self._shares(score[None], y[None], np.ones((1, len(y)), bool))[0]
        return (y[:, 1] - share.sum(0))[:, None]

    def _shares(self, score: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(m, T, T): row i holds each patient's share of the risk when i's event came; 0 without an event."""
        time = y[..., 0]
        risk = (time[:, None, :] >= time[:, :, None]) & mask[:, None, :]
        there = np.where(risk, score[:, None, :, 0], -np.inf)
        e = np.exp(there - np.maximum(there.max(2, keepdims=True), -1e300))
        share = e / np.maximum(e.sum(2, keepdims=True), 1e-300)
        return share * (y[..., 1] * mask)[:, :, None]

    def newton(self, kernel: np.ndarray, score: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
        share = self._shares(score, y, mask)
        expected = share.sum(1)
        curvature = np.eye(len(mask[0])) * expected[:, None, :] - np.swapaxes(share, 1, 2) @ share
        b = np.einsum("mpq,mq->mp", curvature, score[..., 0]) + (y[..., 1] - expected) * mask
        return np.linalg.solve(np.eye(len(mask[0])) + curvature @ kernel, b[..., None])

    def ranked(self, score: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
        return concordance(score[..., 0], y, fold)

    def linear(self, y: np.ndarray) -> np.ndarray:
        """Martingale residuals without any score (Therneau, Biometrika 1990): events less those expected by then."""
        time, event = y.T
        risk = (time >= time[:, None]).sum(1)
        expected = ((event / risk) * (time <= time[:, None])).sum(1)
        return (event - expected)[:, None]

    def words(self) -> np.ndarray:
        """The time, with a + where the event had not come."""
        time = as_text(pd.Series(self.y[:, 0]))
        plus = np.where(self.y[:, 1] == 1, "", "+")
        return np.where(self.labelled, np.char.add(time, plus), "")


def as_text(labels: pd.Series) -> np.ndarray:
    """Labels as stripped text, "" where missing; whole numbers without a decimal point."""
    if pd.api.types.is_numeric_dtype(labels) and not pd.api.types.is_bool_dtype(labels):
        numbers = labels.to_numpy(float, na_value=np.nan, copy=True)
        numbers[~np.isfinite(numbers)] = np.nan
        known = numbers[~np.isnan(numbers)]
        if (known == np.round(known)).all():
            return np.array(["" if np.isnan(v) else str(int(v)) for v in numbers])
        return np.array(["" if np.isnan(v) else repr(float(v)) for v in numbers])
    return labels.astype("string").str.strip().fillna("").to_numpy(str)


def _class_words(task: Binary | Multiclass) -> np.ndarray:
    return np.where(task.labelled, np.array(task.classes)[np.nan_to_num(task.y).astype(int)], "")


KINDS: dict[str, type[Task]] = {kind.name: kind for kind in (Binary, Multiclass, Regression, Survival)}
