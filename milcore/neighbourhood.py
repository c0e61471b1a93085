"""The `neighbourhood` pooling: how much of each patient lies around each cell, regressed on the label.

Covarying neighbourhood analysis (Reshef et al., Nat Biotechnol 2022) turned into an out-of-fold predictor whose score
is exactly the mean of its cells' evidence. Every patient's cells are spread over the neighbour graph for s steps; the
relative abundance R (M, B) of patients around each node gives the patients' kernel G = R'R, in which every model is a
small ridge regression. Being linear in R, its score is carried back to the cells without loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from milcore.crew import HERE, THREADS, Crew
from milcore.folds import Plan
from milcore.matrix import laid_down, on_disk
from milcore.neighbours import Graph, pieces
from milcore.tasks import Task

__all__ = [
    "SCALES",
    "Abundance",
    "Ridge",
    "abundance",
    "cross_fit",
    "everywhere",
    "evidence",
    "fit",
    "kernel_regression",
    "pair_models",
    "relative_abundance",
    "unseen_evidence",
]

SCALES = (1, 3, 6, 12, 24)  # diffusion steps: real cohorts like 1 to 6, rare subsets 12 to 24
# Inverse ridge, against a kernel of mean variance 1: rare subsets need weak ridges.
COSTS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
USUAL = (
    0.4,
    10.0,
)  # place among the kernels and cost where too few folds are left to choose with: 6 steps of SCALES
AT_ONCE = 100_000  # numbers of the kernels of models that are fitted together: what a processor's cache holds
COLUMNS = 8  # models whose evidence is carried back together: bounds memory
BIAS = 100.0  # prior variance of the intercept: nearly free
NEWTON, SETTLED = 12, 1e-5  # steps at most, and the largest change of a coefficient that ends them


@dataclass(frozen=True, eq=False)
class Abundance:
    """`kernels` (scales, B, B) float64; `spread` (scales, M, B) float32 share of each patient's cells around each node,
    on disk, where it takes less time to be found than to be made again; `mean` (scales, M) float32 its mean over
    patients; `mass` (M,) share of all these cells at each node."""

    graph: Graph
    kernels: np.ndarray
    spread: np.ndarray
    mean: np.ndarray
    mass: np.ndarray


@dataclass(frozen=True, eq=False)
class Ridge:
    """Models in the kernel, one entry a model: `scale` (m,), `coefficients` (m, B, K), `constant` (m, K). Scores of
    patient p = kernels[scale] [p] @ coefficients + constant, in units of the label."""

    scale: np.ndarray
    coefficients: np.ndarray
    constant: np.ndarray

    def scores(self, kernels: np.ndarray) -> np.ndarray:
        """(m, B, K) scores of all patients, seen or not: the caller keeps those a model may score."""
        out = np.empty_like(self.coefficients)
        for scale in np.unique(self.scale):  # a copy of its kernel for each model would not fit in memory
            here = self.scale == scale
            out[here] = kernels[scale] @ self.coefficients[here]
        return out + self.constant[:, None]


def abundance(
    graph: Graph, offsets: np.ndarray, kept: np.ndarray, share: Callable[[float], None]
) -> Abundance:
    """Spreads the cells of the kept patients over the graph; patients not in `kept` (B,) have no abundance."""
    start, mass = _start(graph, offsets, kept)
    (M, B), n = start.shape, len(SCALES)
    kernels, means, spread = np.empty((n, B, B)), on_disk((n, M)), on_disk((n, M, B))
    for done, q in _diffused(graph, start, SCALES[-1]):
        if done in SCALES:
            at = SCALES.index(done)
            spread[at] = q
            kernels[at] = _kernel(q, means[at], mass, kept)
        share(done / SCALES[-1])
    return Abundance(graph, kernels, spread, means, mass)


def _start(graph: Graph, offsets: np.ndarray, kept: np.ndarray) -> tuple[sparse.csr_array, np.ndarray]:
    """(M, B) float32 share of each patient's cells at each node, and the `mass` of an Abundance."""
    M, B, counts = len(graph.size), len(offsets) - 1, np.diff(offsets)
    owner = np.repeat(np.arange(B, dtype=np.int32), counts)
    weight = np.where(kept, 1 / counts, 0)[owner]
    start = sparse.csr_array((weight, (graph.node, owner)), shape=(M, B))
    parts = (laid_down(start.data.astype(np.float32)), laid_down(start.indices), start.indptr)
    cells = np.bincount(graph.node, kept[owner], M)
    return sparse.csr_array(parts, shape=start.shape), cells / cells.sum()


def relative_abundance(
    around: Abundance, scale: int, among: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Some nodes at a time, (n, B) float32 abundance of each patient around each of them at a scale (its place among
    SCALES), relative to the mean of the patients `among` (B,), less 1."""
    for rows in pieces(len(around.mass)):
        q = around.spread[scale, rows]
        yield rows, _relative(q, q[:, among].mean(1), among)


def _diffused(graph: Graph, start: sparse.csr_array, steps: int) -> Iterator[tuple[int, np.ndarray]]:
    """(1, q), (2, q), ... with q (M, B) float32 what `start` has become after so many steps; each is overwritten by the
    one after the next."""
    q, other = on_disk(start.shape), on_disk(start.shape)
    for rows in pieces(len(q)):
        q[rows] = start[rows].toarray()
    with ThreadPoolExecutor(THREADS) as pool:
        for done in range(1, steps + 1):
            list(pool.map(partial(_step, graph, q, other), pieces(len(q))))
            q, other = other, q
            yield done, q


def _step(graph: Graph, q: np.ndarray, to: np.ndarray, rows: slice) -> None:
    to[rows] = graph.step[rows] @ q


def _kernel(q: np.ndarray, mean: np.ndarray, mass: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(B, B) kernel of the abundance q (M, B); writes its `mean` (M,) over the kept patients."""
    out = np.zeros((q.shape[1], q.shape[1]))
    for rows in pieces(len(q)):
        mean[rows] = q[rows][:, kept].mean(1)
        r = _relative(q[rows], mean[rows], kept)
        r *= np.sqrt(mass[rows], dtype=np.float32)[:, None]
        out += r.T @ r
    return out


def _relative(q: np.ndarray, mean: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Abundance relative to the mean patient, less 1; 0 where no kept patient is near."""
    inverse = np.divide(1, mean, out=np.zeros_like(mean), where=mean > 0)
    return np.where((mean > 0)[:, None] & kept, q * inverse[:, None] - 1, 0).astype(np.float32)


def kernel_regression(kernels: np.ndarray, train: np.ndarray, y: np.ndarray, task: Task) -> np.ndarray:
    """Ridge regression of y on the principal coordinates of each kernel, by the likelihood of the task.

    kernels (m, T, T) already centred and multiplied by the inverse ridge, train (m, T), y (m, T, ...)
    -> dual coefficients (m, T, K), zero outside `train`.
    """
    full = kernels + BIAS
    dual = np.zeros((*train.shape, task.outputs))
    going = np.ones(len(train), bool)  # each model stops by itself: none may feel how long another takes
    for _ in range(NEWTON):
        new = task.newton(full, full @ dual, y, train)
        moved = np.abs(new - dual).max((1, 2))
        dual[going] = new[going]
        going &= moved >= SETTLED
        if not going.any():
            break
    return dual


def fit(kernels: np.ndarray, scale: np.ndarray, cost: np.ndarray, train: np.ndarray, task: Task) -> Ridge:
    """One model for each row of `train` (m, B), at its own scale and cost (m,)."""
    some = max(1, AT_ONCE // (task.outputs * int(train.sum(1).max()) ** 2))
    with threadpool_limits(1, user_api="blas"):  # on small systems threads would wait for each other
        parts = [
            _fit(kernels, scale[i : i + some], cost[i : i + some], train[i : i + some], task)
            for i in range(0, len(train), some)
        ]
    return Ridge(scale, np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def _fit(
    kernels: np.ndarray, scale: np.ndarray, cost: np.ndarray, train: np.ndarray, task: Task
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (m, B, K) and constants (m, K)."""
    # Only the rows of training patients, first in `who`; shorter sets are filled up and masked.
    who = np.argsort(~train, axis=1, kind="stable")[:, : train.sum(1).max()]
    mask = np.take_along_axis(train, who, 1)
    raw = kernels[scale[:, None, None], who[:, :, None], who[:, None, :]]
    pick = mask / mask.sum(1, keepdims=True)
    row = np.einsum("mpq,mq->mp", raw, pick)
    centred = raw - row[:, :, None] - row[:, None, :] + np.einsum("mp,mp->m", row, pick)[:, None, None]
    variance = np.einsum("mpp,mp->m", centred, pick)
    strength = cost / np.maximum(variance, 1e-12)
    y, shift, unit = task.targets(train)
    learnt = y[np.arange(len(who))[:, None], who]
    dual = kernel_regression(centred * strength[:, None, None], mask, learnt, task) * unit[:, None, None]
    weighted = dual * strength[:, None, None]
    weighted -= pick[..., None] * weighted.sum(1, keepdims=True)
    coefficients = np.zeros((*train.shape, task.outputs))
    np.put_along_axis(coefficients, who[..., None], weighted, 1)
    return coefficients, BIAS * dual.sum(1) - np.einsum("mp,mpk->mk", row, weighted) + shift[:, None]


def cross_fit(
    kernels: np.ndarray, plan: Plan, task: Task, share: Callable[[float], None], *, crew: Crew = HERE
) -> tuple[list[Ridge], np.ndarray, Ridge]:
    """Outer models of every repeat, one Ridge (folds models) each; inner held-out scores (R, folds, B, K): [r, f, p]
    are the scores of p for the outer model of f, by a model that saw neither f nor p's own fold (NaN in f); and the
    `pair_models`. Each model's kernel (of kernels (n, B, B)) and ridge are chosen by the loss on inner held-out
    scores."""
    parts = [(kernels, plan, r, task) for r in range(plan.repeats)]
    outer, inner, pairs = zip(*crew.each(_cross_fit_once, parts, share), strict=True)
    return list(outer), np.stack(inner), pairs[0]


def _cross_fit_once(
    kernels: np.ndarray, plan: Plan, r: int, task: Task, tell: Callable[[float], None]
) -> tuple[Ridge, np.ndarray, Ridge]:
    singles, pairs = plan.without(1), plan.without(2)
    grid, best_pair = _grid(kernels, plan, r, task, pairs), _chosen_pairs(kernels, plan, r, task)
    best = np.full(len(singles), best_pair[0])
    if plan.folds > 3:
        best = _chosen(singles, pairs, grid.scores, plan.fold[r], plan.labelled, task)
    paired, scores = grid.at(best_pair)
    inner = _inner(pairs, scores, plan.fold[r], plan.folds)
    return _at(kernels, plan, r, task, singles, best), inner, paired


def pair_models(kernels: np.ndarray, plan: Plan, task: Task) -> Ridge:
    """The models of the first repeat that leave out two folds, in the order of `plan.without(2)`."""
    return _at(kernels, plan, 0, task, plan.without(2), _chosen_pairs(kernels, plan, 0, task))


@dataclass(frozen=True, eq=False)
class _Grid:
    """Models at every choice of scale and cost, and their `scores` (models, choices, B, K)."""

    models: Ridge
    scores: np.ndarray

    def at(self, choice: np.ndarray) -> tuple[Ridge, np.ndarray]:
        """Each model at its choice (models,), and its scores (models, B, K)."""
        each = np.arange(len(choice))
        picked = each * self.scores.shape[1] + choice
        models = self.models
        own = Ridge(models.scale[picked], models.coefficients[picked], models.constant[picked])
        return own, self.scores[each, choice]


def _grid(kernels: np.ndarray, plan: Plan, r: int, task: Task, left_out: list[tuple[int, ...]]) -> _Grid:
    """The models of one repeat that leave out these folds, at every scale and cost."""
    m, c = len(left_out), len(kernels) * len(COSTS)
    choice = np.tile(np.arange(c), m)
    models = _at(kernels, plan, r, task, [out for out in left_out for _ in range(c)], choice)
    return _Grid(models, models.scores(kernels).reshape(m, c, -1, task.outputs))


def _at(
    kernels: np.ndarray, plan: Plan, r: int, task: Task, left_out: list[tuple[int, ...]], choice: np.ndarray
) -> Ridge:
    """The models of one repeat, each at its choice of scale and cost."""
    scale, cost = np.divmod(choice, len(COSTS))
    train = np.stack([plan.training(r, out) for out in left_out])
    return fit(kernels, scale, np.array(COSTS)[cost], train, task)


def _chosen_pairs(kernels: np.ndarray, plan: Plan, r: int, task: Task) -> np.ndarray:
    """The choice of every pair model, by the triple models; the usual one where there are too few folds for these."""
    pairs, triples = plan.without(2), plan.without(3)
    if plan.folds <= 3:
        return np.full(len(pairs), int(USUAL[0] * len(kernels)) * len(COSTS) + COSTS.index(USUAL[1]))
    scores = _grid(kernels, plan, r, task, triples).scores
    return _chosen(pairs, triples, scores, plan.fold[r], plan.labelled, task)


def _chosen(
    models: list[tuple[int, ...]],
    smaller: list[tuple[int, ...]],
    scores: np.ndarray,
    fold: np.ndarray,
    labelled: np.ndarray,
    task: Task,
) -> np.ndarray:
    """For each model the choice of scale and cost whose loss is least on patients that models leaving out one fold
    more have not seen: scores (len(smaller), choices, B, K)."""
    losses = np.zeros((len(models), scores.shape[1]))
    for i, out in enumerate(models):
        for j, more in enumerate(smaller):
            extra = set(more) - set(out)
            if len(extra) == 1:
                held = labelled & (fold == extra.pop())
                losses[i] += task.total_loss(scores[j][:, held], task.y[held])
    return losses.argmin(1)


def _inner(pairs: list[tuple[int, ...]], scores: np.ndarray, fold: np.ndarray, folds: int) -> np.ndarray:
    """(folds, B, K) inner held-out scores from those of the pair models (pairs, B, K)."""
    inner = np.full((folds, *scores.shape[1:]), np.nan)
    for (f, g), score in zip(pairs, scores, strict=True):
        inner[f, fold == g] = score[fold == g]
        inner[g, fold == f] = score[fold == f]
    return inner


def everywhere(
    around: Abundance, models: list[Ridge], pairs: Ridge, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(M, R, folds, K) float32 evidence that the outer models give a cell at each node, and (M, pairs, K) what `pairs`
    give it."""
    every, K = [*models, pairs], pairs.constant.shape[1]
    # One column for each output of each model.
    scale = np.repeat(np.concatenate([m.scale for m in every]), K)
    coefficients = np.concatenate([np.moveaxis(m.coefficients, 2, 1).reshape(-1, len(kept)) for m in every])
    constant = np.concatenate([m.constant.ravel() for m in every])
    carried, shift = _carried_back(around, scale, coefficients, kept)
    carried += (constant - shift).astype(np.float32)
    M, R, last = len(carried), len(models), len(pairs.scale) * K
    folds = len(models[0].scale) if models else 0
    return carried[:, :-last].reshape(M, R, folds, K), carried[:, -last:].reshape(M, -1, K)


def unseen_evidence(pairs: np.ndarray, node: np.ndarray, plan: Plan, owner: np.ndarray) -> np.ndarray:
    """(folds, n, K) float32 of the first repeat, of n cells with these nodes and owners, from what pair models say at
    each node (M, pairs, K): [f] is the evidence by the model that saw neither fold f nor the cell's own (NaN for cells
    of f), so that what is learnt from [f] knows no label of f."""
    fold = plan.fold[0][owner]
    out = np.full((plan.folds, len(owner), pairs.shape[2]), np.nan, np.float32)
    for m, (f, g) in enumerate(plan.without(2)):
        for unseen, own in ((f, g), (g, f)):
            out[unseen, fold == own] = pairs[node[fold == own], m]
    return out


def evidence(everywhere: np.ndarray, node: np.ndarray, plan: Plan, owner: np.ndarray) -> np.ndarray:
    """(R, N, K) float32 evidence of each cell by the outer model of its patient's fold; their mean is the score."""
    out = on_disk((plan.repeats, len(node), everywhere.shape[3]))
    for rows in pieces(len(node)):
        for r, fold in enumerate(plan.fold):
            out[r, rows] = everywhere[node[rows], r, fold[owner[rows]]]
    return out


def _carried_back(
    around: Abundance, scale: np.ndarray, coefficients: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Evidence of each node (M, models) and the constant (models,) that goes with it.

    score_p = sum_j mass_j (Q_jp / mean_j - 1) beta_j with beta = R coefficients, and Q = A^s start, so a cell at node i
    has evidence sum_j (A^s)_ji gamma_j with gamma = mass beta / mean. Models of smaller scale join later in one sweep.
    """
    back = around.graph.step.T
    gamma, shift = _gamma(around, scale, coefficients, kept)
    out, last = on_disk(gamma.shape), np.array(SCALES)[scale]
    for step in range(SCALES[scale.max()], 0, -1):
        joining = np.flatnonzero(last == step)
        out[:, joining] = gamma[:, joining]
        active = np.flatnonzero(last >= step)
        for some in np.split(active, range(COLUMNS, len(active), COLUMNS)):
            out[:, some] = back @ np.ascontiguousarray(out[:, some])
    return out, shift


def _gamma(
    around: Abundance, scale: np.ndarray, coefficients: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(M, models) what is carried back, and (models,) the sum of mass times beta."""
    gamma, shift = on_disk((len(around.mass), len(scale))), np.zeros(len(scale))
    every = coefficients.T.astype(np.float32)
    for at in np.unique(scale):
        here = np.flatnonzero(scale == at)
        for rows in pieces(len(gamma)):
            mean, mass = around.mean[at, rows], around.mass[rows]
            # All models at once, whatever their scale: a product of another width rounds otherwise, and then the labels
            # of a held-out fold, which move other models' scales, would show in its last digits.
            beta = (_relative(around.spread[at, rows], mean, kept) @ every)[:, here]
            inverse = np.divide(mass, mean, out=np.zeros(len(mass)), where=mean > 0)
            gamma[rows, here] = beta * inverse[:, None]
            shift[here] += mass @ beta
    return gamma, shift
