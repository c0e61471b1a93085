"""Settings, and cross-fitting: the networks of all folds of a repeat learn together, repeats side by side; then they
score whole patients, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from milcore.crew import HERE, THREADS, Crew
from milcore.errors import MilError
from milcore.folds import Plan
from milcore.learning import PATIENTS, Stack, Top, trained
from milcore.matrix import blocks, on_disk
from milcore.models import POOLINGS, Networks
from milcore.preprocess import Moments
from milcore.tasks import TASKS, Task

__all__ = ["EFFORTS", "RULES", "Member", "Settings", "apply", "cross_fit"]

EFFORTS = {"quick": 2, "standard": 4, "thorough": 10}  # repeats of the cross-validation
RULES = ("auto", "neighbourhood", *POOLINGS)
SHARES = (0.01, 0.05, 0.25)  # of a patient's cells that count in `topk`, chosen on inner scores
STARTS = {"quick": 1, "standard": 2, "thorough": 5}  # of `topk` for each: few starts find a rare group
EPOCHS = (60, 180)  # inner scores choose: rare cells need long schedules, which overfit small tissue cohorts
MANY_STEPS = 2000  # a schedule that has so many is long already
WHOLE_EPOCHS = 300  # steps, where all patients are in each step
ROWS = 1 << 16  # cells scored at a time
# About so many cells, of whole patients, are a part of the scoring, whoever does it: a product of another length may
# round otherwise.
BLOCK = 1 << 20
TRAINING = 0.85  # of the time, beside scoring


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a user can set of an analysis; JSON both ways. Command line, page and report are made from it."""

    target: str  # column of labels
    task: str = "auto"  # kind of label: auto, binary, multiclass, regression, survival
    time: str | None = None  # column of times, for survival
    classes: tuple[str, ...] = ()  # keep only patients with these labels
    positive: str | None = None  # label that scores argue for; None: by a word list, else the rarer
    pooling: str = "auto"  # auto stacks neighbourhood and attention; else one of RULES
    effort: str = "standard"  # repeats 2, 4 or 10
    repeats: int | None = None  # overrides effort
    permutations: int | None = None  # of the null; None: 1000
    covariates: tuple[str, ...] = ()  # patient columns to compare with; (): those recognised by name
    transform: str = "auto"  # of features: auto, none, log1p, arcsinh:COFACTOR
    centre: str = "none"  # what each region's features are centred by: none, region
    context: int = 0  # cells around each cell whose mean features are added; 0: none
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("task", self.task, TASKS)
        _one_of("centre", self.centre, ("none", "region"))
        _one_of("pooling", self.pooling, RULES)
        _one_of("effort", self.effort, tuple(EFFORTS))
        _at_least("repeats", self.repeats, 1)
        _at_least("permutations", self.permutations, 0)
        _at_least("seed", self.seed, 0)
        _at_least("context", self.context, 0)
        if self.classes and len(set(self.classes)) < 2:
            problem = "One class was named; two or more are needed."
            raise MilError(
                problem, f"--classes {','.join(self.classes)}", "Name different labels: --classes A,B."
            )

    @property
    def rounds(self) -> int:
        """Repeats of the cross-validation."""
        return EFFORTS[self.effort] if self.repeats is None else self.repeats

    @property
    def epochs(self) -> tuple[int, ...]:
        """How long networks may learn; of several lengths inner scores choose."""
        return EPOCHS[:1] if self.effort == "quick" else EPOCHS

    @property
    def starts(self) -> int:
        """How often `topk` begins anew from other weights; inner scores drop the weak ones."""
        return STARTS[self.effort]

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns that hold the label."""
        return (self.target, self.time) if self.time else (self.target,)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"classes": list(self.classes), "covariates": list(self.covariates)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Settings:
        """MilError for names this version does not know."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(saved) - known):
            problem = f"'{unknown[0]}' is not a setting."
            raise MilError(problem, "settings", f"Known: {', '.join(sorted(known))}.")
        lists = {name: tuple(saved.get(name, ())) for name in ("classes", "covariates")}
        return cls(**saved | lists)


@dataclass(frozen=True, eq=False)
class Member:
    """One pooling after cross-fitting. `weight` (R, N), `evidence` (R, N, K) float32 come from the outer model of each
    cell's patient; `inner` (R, folds, B, K) are the inner held-out scores (see folds). `topk` also has what ranks the
    cells, `rank` (R, N), and the `share` (R, B) of a patient's cells that count. `learnt` is what scores new patients,
    arrays (R, folds, ...) of the outer models; None once a folder is opened, which keeps it elsewhere (see scorer)."""

    weight: np.ndarray
    evidence: np.ndarray
    inner: np.ndarray
    rank: np.ndarray | None = None
    share: np.ndarray | None = None
    learnt: dict[str, np.ndarray] | None = None

    def of(self, rows: slice, patients: slice) -> Member:
        """What it says of some patients, whose cells are `rows`; without what it has learnt."""
        rank = None if self.rank is None else self.rank[:, rows]
        share = None if self.share is None else self.share[:, patients]
        return Member(self.weight[:, rows], self.evidence[:, rows], np.empty(0), rank, share)


def cross_fit(
    x: np.ndarray,
    offsets: np.ndarray,
    measured: Moments,
    plan: Plan,
    task: Task,
    *,
    pooling: str,
    seed: int,
    share: Callable[[float], None],
    epochs: tuple[int, ...] = EPOCHS[:1],
    starts: int = 1,
    crew: Crew = HERE,
) -> list[Member]:
    """Trains outer and pair models of every repeat on x (N, F), each repeat as one stack, and scores the patients each
    model has not seen. One candidate for each useful length among `epochs` (`topk`: for each share, side and start), of
    which inner scores choose (see stacking). The numbers do not depend on who of the `crew` trains what, and when."""
    enough = MANY_STEPS * PATIENTS / max(1, plan.labelled.sum())
    lengths = epochs[:1] + tuple(more for less, more in pairwise(epochs) if less < enough)
    lengths = (WHOLE_EPOCHS,) if task.whole else lengths
    kinds: list[tuple[Top | None, int]] = [(None, length) for length in lengths]
    if pooling == "topk":
        tops = [Top(q, k, sign) for q in SHARES for k, sign in _sides(task)]
        kinds = [(top, lengths[0]) for top in tops for _ in range(starts)]
    left_out = plan.without(1) + plan.without(2)
    stacks = []
    for i, (top, length) in enumerate(kinds):
        for r, fold in enumerate(plan.fold):
            train = np.stack([plan.training(r, out) for out in left_out])
            how = (pooling == "attention", top, length, (seed, 5 if top is None else 7, i, r))
            stacks.append(Stack(task, offsets, fold, left_out, train, measured.scale(train), *how))
    return _members(x, stacks, len(kinds), share, crew)


def _members(
    x: np.ndarray, stacks: list[Stack], kinds: int, share: Callable[[float], None], crew: Crew
) -> list[Member]:
    """Trains the stacks, those of each kind one after another, and scores with them."""
    offsets, K, R = stacks[0].offsets, stacks[0].task.outputs, len(stacks) // kinds
    B, folds = len(offsets) - 1, int(stacks[0].fold.max()) + 1
    parts = [(x, stack) for stack in stacks]
    found = list(crew.each(trained, parts, lambda done: share(TRAINING * done), threads=THREADS))
    weight, evidence = on_disk((len(stacks), len(x))), on_disk((len(stacks), len(x), K))
    inner = np.empty((len(stacks), folds, B, K))
    places = [(s, block) for s in range(len(stacks)) for block in blocks(offsets, BLOCK)]
    scored = crew.each(
        _scored,
        [(x, stacks[s], found[s], block) for s, block in places],
        lambda done: share(TRAINING + (1 - TRAINING) * done),
        threads=THREADS,
    )
    for (s, block), (w, v, scores) in zip(places, scored, strict=True):
        rows = slice(offsets[block.start], offsets[block.stop])
        weight[s, rows], evidence[s, rows], inner[s, :, block] = w, v, scores
    torch.set_num_threads(THREADS)
    learnt = [_learnt(stack, each) for stack, each in zip(stacks, found, strict=True)]
    out = []
    for some in (slice(i * R, (i + 1) * R) for i in range(kinds)):
        every = {name: np.stack([one[name] for one in learnt[some]]) for name in learnt[0]}
        member = Member(weight[some], evidence[some], inner[some], learnt=every)
        out.append(_ranked(member, stacks[some][0].top))
    return out


def _ranked(member: Member, top: Top | None) -> Member:
    """The member with what `topk` ranks cells by, and the share that counts."""
    if top is None:
        return member
    R, _, B, _ = member.inner.shape
    return replace(member, rank=top.rank(member.evidence), share=np.full((R, B), top.share))


def _sides(task: Task) -> list[tuple[int, int]]:
    """What a rare group of cells can argue for: either side of a score, or any of several classes."""
    return [(0, 1), (0, -1)] if task.outputs == 1 else [(k, 1) for k in range(task.outputs)]


def _learnt(stack: Stack, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the outer models, which come first, have learnt; evidence in the label's units."""
    folds = sum(len(out) == 1 for out in stack.left_out)
    targets = stack.task.targets(stack.train[:folds])
    _, shift, unit = (np.array(part, np.float32)[:, None, None] for part in targets)
    parts = {name: part[:folds] for name, part in found.items()}
    parts |= {"head": parts["head"] * unit, "bias": parts["bias"] * unit + shift}
    if stack.top is not None:
        parts["top"] = np.tile(np.array(astuple(stack.top), np.float32), (folds, 1))
    return parts


@torch.no_grad()
def apply(learnt: dict[str, np.ndarray], x: np.ndarray, offsets: np.ndarray) -> Member:
    """What trained networks say of other patients' cells x (N, F): a member with a "repeat" for each of the S = R folds
    outer models."""
    parts = {name: torch.from_numpy(part.reshape(-1, *part.shape[2:])) for name, part in learnt.items()}
    tops = parts.pop("top", None)
    networks, cells = Networks(parts), torch.from_numpy(x)
    S, N, rows = len(parts["mean"]), len(x), np.arange(len(x))
    weight = np.empty((S, N), np.float32)
    evidence = np.empty((S, N, networks.outputs), np.float32)
    every = [None] * S if tops is None else [Top(float(q), int(k), int(sign)) for q, k, sign in tops]
    for s, top in enumerate(every):
        evidence[s], weight[s] = _whole(networks, cells, top, s, (rows, offsets[:-1]))
    if tops is None:
        return Member(weight, evidence, np.empty(0))
    rank = np.stack([top.rank(v) for top, v in zip(every, evidence, strict=True) if top])
    share = np.repeat(tops[:, :1].double().numpy(), len(offsets) - 1, 1)
    return Member(weight, evidence, np.empty(0), rank, share)


@torch.no_grad()
def _scored(
    x: np.ndarray, stack: Stack, found: dict[str, np.ndarray], block: slice, tell: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the n cells of a block of patients weight (n,) and evidence (n, K) by outer models, and inner held-out scores
    (folds, patients, K); `found` are the stack's parameters."""
    torch.set_num_threads(1)
    networks = Networks({name: torch.tensor(part) for name, part in found.items()})
    fold, cells = stack.fold[block], torch.from_numpy(x)
    own = stack.offsets[block.start : block.stop + 1]
    n, K = own[-1] - own[0], stack.task.outputs
    _, shift, unit = stack.task.targets(stack.train)
    weight, evidence = np.empty(n, np.float32), np.empty((n, K), np.float32)
    inner = np.full((stack.fold.max() + 1, len(fold), K), np.nan)
    for s, out in enumerate(stack.left_out):
        unseen = np.flatnonzero(np.isin(fold, out))
        if len(unseen) == 0:  # in a block of few patients
            continue
        rows, starts = _rows(own, unseen)
        v, w = _whole(networks, cells, stack.top, s, (rows, starts))
        v = v * unit[s] + shift[s]
        if len(out) == 1:
            evidence[rows - own[0]], weight[rows - own[0]] = v, w
        else:
            scores = np.add.reduceat(w[:, None] * v, starts)
            for f, g in (out, out[::-1]):
                there = fold[unseen] == g
                inner[f, unseen[there]] = scores[there]
        tell((s + 1) / len(stack.left_out))
    return weight, evidence, inner


def _rows(offsets: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of some patients, one after another, and where each begins among them."""
    count = np.diff(offsets)[patients]
    starts = np.cumsum(count) - count
    return np.arange(count.sum()) + np.repeat(offsets[patients] - starts, count), starts


def _whole(
    networks: Networks, cells: torch.Tensor, top: Top | None, s: int, bags: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Evidence (n, K) and weight (n,), float64, that model s gives the rows of some bags; weights sum to 1 from each
    start to the next."""
    rows, starts = bags
    parts = [networks(cells[part][None], slice(s, s + 1)) for part in torch.from_numpy(rows).split(ROWS)]
    v = torch.cat([part[0][0] for part in parts]).double().cpu().numpy()
    count = np.diff(starts, append=len(rows))
    if top is not None:
        return v, _top_weight(top.rank(v), np.repeat(np.arange(len(count)), count), count, top.share)
    if not networks.attends:
        return v, np.repeat(1 / count, count)
    logit = torch.cat([part[1][0] for part in parts if part[1] is not None]).double().cpu().numpy()
    e = np.exp(logit - np.repeat(np.maximum.reduceat(logit, starts), count))
    return v, e / np.repeat(np.add.reduceat(e, starts), count)


def _top_weight(rank: np.ndarray, owner: np.ndarray, count: np.ndarray, share: float) -> np.ndarray:
    """(n,) equal weights of the top share of each patient's cells (of one cell at least): the last one enters by its
    fraction, cells of equal rank share theirs."""
    order = np.lexsort((-rank, owner))
    place = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    top = np.maximum(1.0, share * count)[owner]
    weight = np.clip(top - place, 0, 1) / top
    ranked = rank[order]
    tied = np.flatnonzero(np.append(True, (np.diff(ranked) != 0) | (np.diff(owner) != 0)))
    size = np.diff(tied, append=len(order))
    out = np.empty(len(order))
    out[order] = np.repeat(np.add.reduceat(weight, tied) / size, size)
    return out


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        problem = f"'{value}' is not a choice."
        raise MilError(problem, f"--{name}", f"Choose one of: {', '.join(allowed)}.")


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        problem = f"{value} is too small."
        raise MilError(problem, f"--{name}", f"Give {least} or more.")
