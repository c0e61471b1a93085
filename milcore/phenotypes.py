"""Phenotypes: groups of alike cells with names made of their markers. Labels are never seen.

Given cell types stay as they are, but a type is parted where Leiden (Traag et al., Sci Rep 2019) on the neighbour graph
finds a state in it that a marker sets apart; without types the groups are Leiden's alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from milcore.cohort import Cohort
from milcore.matrix import kept_array
from milcore.neighbours import NEIGHBOURS, Graph, nearest, pieces

__all__ = ["Phenotypes", "phenotypes"]

FEWEST, MOST = 8, 30  # groups a reader can hold
FINEST = 2.0  # resolution that is tried first
TRIES = 4
WHOLE, LANDMARKS = 100_000, 50_000  # nodes up to which Leiden sees all, and how many it sees of more
# Cells, and share of all, below which a group joins the one it is linked to most.
TINY, TINY_SHARE = 20, 0.0005
APART = 1.5  # standard deviations by which a marker sets a state of a type apart
TELLING = 0.8  # standard deviations from the other cells that put a marker into a name
WORDS, MOST_WORDS, STATE_WORDS = 4, 6, 3  # markers in a name, when names are alike, and beside a given type
UNTYPED = "no cell type"
MARKER = re.compile(r"[^\s_]*[A-Z0-9][^\s_]*")  # CD8, PanCK; but not area_um2 or 'CD8 nearby'


@dataclass(frozen=True, eq=False)
class Phenotypes:
    """`names` (P,), all different; `kind` (N,) the phenotype of each cell; `markers` (P, F) their mean features, in
    standard deviations from the mean of all cells; `how` they were formed, one sentence."""

    names: tuple[str, ...]
    kind: np.ndarray
    markers: np.ndarray
    how: str


def phenotypes(cohort: Cohort, cells: Graph, features: Sequence[str], key: str, *, seed: int) -> Phenotypes:
    """The phenotypes of a cohort, the most frequent first; `features` name the columns of the graph's points, and `key`
    says how they were prepared. Leiden's groups are kept in the cohort's folder."""
    file = cohort.derived("groups", f"{key} {seed} {NEIGHBOURS}", "npy")
    group = kept_array(file, (len(cells.size),), np.int32, lambda: _leiden(cells, seed).astype(np.int32))
    alike = group[cells.node]
    if "cell_type" in cohort.cells:
        types = cohort.cells["cell_type"].cat
        kind, names = _states(
            types.codes.to_numpy(), [str(c) for c in types.categories], alike, cells, features
        )
        how = "The given cell types, parted where a marker sets a state of a type apart (Leiden, without labels)."
    else:
        kind = alike
        names = _named(_means(kind, cells), features)
        how = "Leiden on the neighbour graph of all cells, without labels; named by what sets them apart."
    kind, frequent = _by_frequency(kind, names)
    return Phenotypes(frequent, kind, _means(kind, cells), how)


def _by_frequency(kind: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Kinds that have cells, renumbered."""
    count = np.bincount(kind, minlength=len(names))
    order = np.argsort(-count, kind="stable")[: (count > 0).sum()]
    place = np.zeros(len(names), np.int16)
    place[order] = np.arange(len(order))
    return place[kind], tuple(names[i] for i in order)


def _means(kind: np.ndarray, cells: Graph) -> np.ndarray:
    """(P, F) mean standardised features of the cells of each kind (N,)."""
    return _moments(kind, cells)[0]


def _moments(kind: np.ndarray, cells: Graph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P, F) means and variances of the standardised features of each kind (N,), and the number of its cells (P,)."""
    shape = (int(kind.max()) + 1, len(cells.size))
    member = sparse.csc_array((np.ones(len(kind), np.float32), (kind, cells.node)), shape=shape)
    count = np.bincount(kind, minlength=shape[0])
    some = np.maximum(count, 1)[:, None]
    total, square = np.zeros((2, shape[0], cells.points.shape[1]))
    for rows in pieces(len(cells.size)):
        points, here = cells.points[rows].astype(float), member[:, rows]
        total += here @ points
        square += here @ points**2
    mean = total / some
    return mean, np.maximum(square / some - mean**2, 0), count


# ---------------------------------------------------------------- groups


def _leiden(cells: Graph, seed: int) -> np.ndarray:
    """(M,) group of each node, numbered from 0."""
    M = len(cells.size)
    if M <= 2:
        return np.arange(M)
    if M <= WHOLE:
        return _groups(_links(cells.neighbours[:, 1:]), cells.size, seed)
    chosen = np.sort(np.random.default_rng([seed, 8]).choice(M, LANDMARKS, replace=False))
    points = cells.points[chosen]
    links = _links(nearest(points, points, NEIGHBOURS + 1)[0][:, 1:])
    return _spread(_groups(links, cells.size[chosen], seed), chosen, cells)


def _groups(links: sparse.csr_array, size: np.ndarray, seed: int) -> np.ndarray:
    """(M,) groups of linked nodes by modularity, between FEWEST and MOST of them where the graph allows it."""
    import igraph

    upper = sparse.triu(links, 1).tocoo()
    network = igraph.Graph(n=links.shape[0], edges=np.column_stack(upper.coords))
    network.es["weight"] = upper.data.tolist()
    resolution, tried = FINEST, []
    for _ in range(TRIES):
        igraph.set_random_number_generator(random.Random(seed))
        found = network.community_leiden("modularity", weights="weight", resolution=resolution)
        tried.append(_without_tiny(np.array(found.membership), links, size))
        found = int(tried[-1].max()) + 1
        if FEWEST <= found <= MOST:
            break
        resolution *= 2 if found < FEWEST else 0.5
    return min(tried, key=lambda group: max(FEWEST - 1 - group.max(), group.max() + 1 - MOST, 0))


def _spread(group: np.ndarray, chosen: np.ndarray, cells: Graph) -> np.ndarray:
    """(M,) groups of all nodes from those of the `chosen` ones: each goes with most of its neighbours that have one."""
    M, P = len(cells.size), int(group.max()) + 1
    out = np.full(M, -1, np.int32)
    out[chosen] = group
    while (out < 0).any():
        known = np.flatnonzero(out >= 0)
        has = sparse.csr_array((np.ones(len(known)), (known, out[known])), shape=(M, P))
        for rows in pieces(M):
            votes = cells.step[rows] @ has
            able = np.flatnonzero((out[rows] < 0) & (np.diff(votes.indptr) > 0))
            out[rows.start + able] = votes[able].toarray().argmax(1)
        if (out >= 0).sum() == len(known):
            rest = np.flatnonzero(out < 0)
            out[rest] = group[nearest(cells.points[chosen], cells.points[rest], 1)[0][:, 0]]
    return out


def _links(near: np.ndarray) -> sparse.csr_array:
    """(M, M) symmetric: 1 where one of two nodes is among the other's nearest, 2 where both are."""
    M, k = near.shape
    one_way = sparse.csr_array((np.ones(M * k), near.ravel(), np.arange(M + 1) * k), shape=(M, M))
    one_way.sum_duplicates()
    return sparse.csr_array(one_way + one_way.T)


def _without_tiny(group: np.ndarray, links: sparse.csr_array, size: np.ndarray) -> np.ndarray:
    """Groups of too few cells join the group that they have most links with, the smallest first."""
    least = max(TINY, TINY_SHARE * size.sum())
    member = sparse.csr_array((np.ones(len(group)), (group, np.arange(len(group)))))
    between = (member @ links @ member.T).toarray()
    count, to = np.bincount(group, size), np.arange(len(between))
    for g in np.argsort(count, kind="stable"):
        others = np.flatnonzero((to == np.arange(len(to))) & (np.arange(len(to)) != g))
        if count[g] >= least or not len(others):
            break
        goal = others[between[g, others].argmax()]
        to[to == g] = goal
        count[goal] += count[g]
        between[goal] += between[g]
        between[:, goal] += between[:, g]
    return np.unique(to[group], return_inverse=True)[1]


# ---------------------------------------------------------------- states of given types


def _states(
    types: np.ndarray, named: list[str], alike: np.ndarray, cells: Graph, features: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """(N,) kind of every cell and the kinds' names: the types, and those states of a type that a marker sets apart.

    A state is what a group of alike cells has of its own main type; -1 among the types (N,) is no type.
    """
    T = len(named)
    kind, names = np.where(types < 0, T, types).astype(int), [*named, UNTYPED]
    table = np.bincount(kind * (alike.max() + 1) + alike, minlength=(T + 1) * (alike.max() + 1))
    table = table.reshape(T + 1, -1)
    main = table[:T].argmax(0)
    least, room = max(TINY, TINY_SHARE * len(kind)), MOST - int((table.sum(1) > 0).sum())
    found = []
    for t in range(T):
        groups = np.flatnonzero((main == t) & (table[t] >= least))
        if len(groups) > 1:
            found += [(size, t, g, d) for g, size, d in _apart(kind == t, alike, groups, cells)]
    for _, t, g, difference in sorted(found, key=lambda one: -one[3].max())[: max(room, 0)]:
        kind[(types == t) & (alike == g)] = len(names)
        names.append(f"{named[t]}, {_words(difference, features, STATE_WORDS)}")
        names[t] = f"{named[t]}, other"
    return kind, _distinct(names)


def _apart(
    inside: np.ndarray, alike: np.ndarray, groups: np.ndarray, cells: Graph
) -> list[tuple[int, int, np.ndarray]]:
    """(group, cells, difference (F,)) of the groups that a marker sets apart from the other cells of the type, in
    standard deviations of these; the largest group is what the others are told from."""
    rows = np.flatnonzero(inside)
    place = np.full(alike.max() + 2, len(groups))
    place[groups] = np.arange(len(groups))
    some = Graph(cells.node[rows], cells.size, cells.points, cells.neighbours, cells.distances, cells.step)
    mean, variance, count = _moments(place[alike[rows]], some)
    total, square = count @ mean, count @ (variance + mean**2)
    out = []
    for i in np.argsort(-count[: len(groups)], kind="stable")[1:]:
        n = len(rows) - count[i]
        rest = (total - count[i] * mean[i]) / n
        spread = np.sqrt(np.maximum((square - count[i] * (variance[i] + mean[i] ** 2)) / n - rest**2, 1e-12))
        difference = (mean[i] - rest) / np.maximum(spread, 0.1)
        if np.abs(difference).max() >= APART:
            out.append((int(groups[i]), int(count[i]), difference))
    return out


# ---------------------------------------------------------------- names


def _named(means: np.ndarray, features: Sequence[str]) -> list[str]:
    """A name for each of the groups (P, F) of means in standard deviations: what sets it apart from the others."""
    names = [_words(mean, features, WORDS) for mean in means]
    for words in range(WORDS + 1, MOST_WORDS + 1):
        names = [
            _words(mean, features, words) if names.count(name) > 1 else name
            for name, mean in zip(names, means, strict=True)
        ]
    return _distinct(names)


def _words(difference: np.ndarray, features: Sequence[str], most: int) -> str:
    """The markers of the largest differences (F,): "CD8+ PD-1+"; those that are low only where none is high."""
    order = np.argsort(-difference, kind="stable")
    high = [f for f in order if difference[f] >= TELLING][:most]
    low = [] if high else [f for f in order[::-1] if difference[f] <= -TELLING][:most]
    words = [features[f] + ("+" if MARKER.fullmatch(features[f]) else " high") for f in high]
    words += [features[f] + ("−" if MARKER.fullmatch(features[f]) else " low") for f in low]
    return " ".join(words) or "unremarkable"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where they are alike."""
    seen = pd.Series(names)
    number = seen.groupby(seen).cumcount() + 1
    return [f"{name} ({n})" if n > 1 else name for name, n in zip(names, number, strict=True)]
