"""The neighbour graph of all cells in feature space. Labels are never seen.

Cells with equal features are one node (a table of cell types has as many nodes as types), so ties need no special
care: a node of m cells fills its neighbour list first with its own cells, then with those of the nearest nodes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from scipy import sparse

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.folder import whole
from milcore.matrix import laid_down, on_disk
from milcore.preprocess import moments

__all__ = ["NEIGHBOURS", "Graph", "graph", "interpolated", "nearest", "pieces", "standardised"]

NEIGHBOURS = 15  # as in covarying neighbourhood analysis and UMAP
EXACT = 20_000**2  # pairs of points up to which neighbours are searched exhaustively
PLACED_BY = 5  # points that a value elsewhere is taken from
AT_ONCE = 1 << 22  # numbers gathered at a time: bounds memory
ROWS = 1 << 15  # cells or nodes at a time, where something large is made of each
TURNED = 8 * ROWS  # nodes at a time, the links to which are gathered
LISTS, PROBED = 2, 18  # times sqrt(points): lists of the coarse index; how many of them are visited


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes are distinct cells. `node` (N,) the node of each cell; `size` (M,) cells in each node; `points` (M, F)
    standardised features, missing values at 0; `neighbours`, `distances` (M, k) nearest nodes, itself first;
    `step` (M, M) row-stochastic sparse matrix: one step of diffusion from a cell of a node."""

    node: np.ndarray
    size: np.ndarray
    points: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray
    step: sparse.csr_array


def graph(
    cohort: Cohort, x: np.ndarray, key: str, share: Callable[[float], None] = lambda done: None
) -> Graph:
    """The graph of a cohort's cells by their prepared features x (N, any), of which `key` says how they were prepared;
    found in the cohort's folder when it was made before, and left there if not."""
    file = cohort.derived("graph", f"{key} {NEIGHBOURS}", "npz")
    if file is not None and file.exists():
        with contextlib.suppress(
            OSError, EOFError, ValueError, KeyError, BadZipFile
        ):  # a damaged file is made anew
            return _read(file, cohort, x)
    made = _build(cohort, x, share)
    if file is not None:
        _write(file, made)
    return made


def pieces(rows: int) -> Iterator[slice]:
    """So many rows, some at a time."""
    return (slice(begin, min(begin + ROWS, rows)) for begin in range(0, rows, ROWS))


def standardised(cohort: Cohort, x: np.ndarray) -> np.ndarray:
    """(N, any) float32 features with mean 0 and sd 1 over all cells, missing values at 0."""
    mean, sd = moments(x, cohort.offsets).scale(np.ones((1, cohort.B), bool))
    out = on_disk(x.shape)
    for rows in pieces(len(x)):
        out[rows] = np.nan_to_num((x[rows] - mean) / sd, nan=0.0)
    return out


def nearest(
    points: np.ndarray, queries: np.ndarray, k: int, share: Callable[[float], None] = lambda done: None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (Q, k) and distances (Q, k) of the k nearest points; exhaustive for small sets, else over an inverted
    file of k-means cells (faiss)."""
    import faiss

    points, queries = np.ascontiguousarray(points, np.float32), np.ascontiguousarray(queries, np.float32)
    k = min(k, len(points))
    few = len(points) * len(queries) <= EXACT
    index = faiss.IndexFlatL2(points.shape[1]) if few else _coarse(points)
    index.add(points)
    distance, found = on_disk((len(queries), k)), on_disk((len(queries), k), np.int32)
    for rows in pieces(len(queries)):
        share(rows.start / len(queries))
        square, found[rows] = index.search(queries[rows], k)
        distance[rows] = np.sqrt(np.maximum(square, 0))
    return _no_gaps(found), distance


def interpolated(points: np.ndarray, values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(Q, ...) float32 of the points' values (P, ...): mean over the nearest points, nearer ones counting more."""
    found, distance = nearest(points, queries, PLACED_BY)
    out = np.empty((len(queries), *values.shape[1:]), np.float32)
    step = max(1, AT_ONCE // (found.shape[1] * max(1, values[0].size)))
    for start in range(0, len(out), step):
        rows = slice(start, start + step)
        weight = 1 / np.maximum(distance[rows], 1e-6) ** 2
        weight /= weight.sum(1, keepdims=True)
        out[rows] = np.einsum("qk,qk...->q...", weight, values[found[rows]])
    return out


def _coarse(points: np.ndarray) -> Any:
    """A trained inverted file over k-means cells."""
    import faiss

    F = points.shape[1]
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(F), F, int(LISTS * np.sqrt(len(points))))
    index.cp.niter, index.cp.max_points_per_centroid, index.cp.seed = 8, 64, 1
    index.train(points)
    index.nprobe = PROBED
    return index


def _no_gaps(found: np.ndarray) -> np.ndarray:
    """A coarse index can return fewer than k: the last one found is repeated."""
    while (found < 0).any():
        column = np.argmax((found < 0).any(0))
        found[:, column] = np.where(found[:, column] < 0, found[:, column - 1], found[:, column])
    return found


def _build(cohort: Cohort, x: np.ndarray, share: Callable[[float], None]) -> Graph:
    x = standardised(cohort, x)
    node, first, size = _distinct(x)
    points = _rows(x, first)
    if len(points) ** 2 > EXACT:
        order = _together(points)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        node, size, points = place[node], size[order], _rows(points, order)
    neighbours, distances = _itself_first(*nearest(points, points, NEIGHBOURS + 1, share))
    return Graph(laid_down(node), laid_down(size), points, neighbours, distances, _step(neighbours, size))


def _distinct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Node of each row, first row of each node, rows in each node: rows are equal where a random projection is.

    The projection adds column by column so that equal rows give the same float to the last bit.
    """
    direction = np.random.default_rng(0).normal(size=(x.shape[1],))
    key = np.zeros(len(x))
    for column, factor in enumerate(direction):
        key += x[:, column].astype(np.float64) * factor
    _, first, node, size = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    return node, first, size


def _rows(x: np.ndarray, which: np.ndarray) -> np.ndarray:
    out = on_disk((len(which), x.shape[1]))
    for rows in pieces(len(which)):
        out[rows] = x[which[rows]]
    return out


def _together(points: np.ndarray) -> np.ndarray:
    """(M,) the nodes in an order in which those near each other mostly lie together: whatever goes from node to
    neighbours then finds these in the processor's cache."""
    import faiss

    lists = _coarse(points)
    centres = lists.quantizer.reconstruct_n(0, lists.nlist)
    about: Any = faiss.Kmeans(centres.shape[1], int(np.sqrt(len(centres))), niter=8, seed=1)
    about.cp.min_points_per_centroid = 1  # it warns below 39
    about.train(centres)
    group = about.index.search(centres, 1)[1][:, 0]
    apart = about.centroids - about.centroids.mean(0)
    along = apart @ np.linalg.svd(apart)[2][0]
    place = np.argsort(np.lexsort((group, along[group])))  # of each list
    own = np.empty(len(points), np.int32)
    for rows in pieces(len(points)):
        own[rows] = place[lists.quantizer.search(points[rows], 1)[1][:, 0]]
    return np.argsort(own, kind="stable")


def _itself_first(neighbours: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Puts each node at the head of its own list (near ties may have it later, or not at all)."""
    for rows in pieces(len(neighbours)):
        near, far, own = neighbours[rows], distances[rows], np.arange(rows.start, rows.stop)
        itself, here = near == own[:, None], np.arange(len(own))
        at = np.where(itself.any(1), itself.argmax(1), near.shape[1] - 1)
        near[here, at], far[here, at] = near[:, 0], far[:, 0]
        near[:, 0], far[:, 0] = own, 0
    return neighbours, distances


def _step(neighbours: np.ndarray, size: np.ndarray) -> sparse.csr_array:
    """Row-stochastic diffusion between nodes: each cell links to itself and its k nearest, links count both ways."""
    one_way = _links(neighbours, size)
    most, end = 2 * one_way.nnz, 0
    data, indices, indptr = on_disk((most,)), on_disk((most,), np.int32), np.zeros(len(size) + 1, np.int32)
    for rows, other in _turned(one_way):
        both = one_way[rows] + other
        here = slice(end, end := end + both.nnz)
        data[here], indices[here] = both.data / np.repeat(both.sum(1), np.diff(both.indptr)), both.indices
        indptr[rows.start + 1 : rows.stop + 1] = here.start + both.indptr[1:]
    return sparse.csr_array((data[:end], indices[:end], indptr), shape=one_way.shape)


def _turned(links: sparse.csr_array) -> Iterator[tuple[slice, sparse.csr_array]]:
    """Some nodes at a time, and the links to them (n, M) of links (M, M)."""
    for rows in pieces(links.shape[0]):
        at = rows.start % TURNED
        if at == 0:
            some = sparse.csr_array(links[:, rows.start : rows.start + TURNED].T)
        yield rows, some[at : at + rows.stop - rows.start]


def _links(neighbours: np.ndarray, size: np.ndarray) -> sparse.csr_array:
    """(M, M) links of the cells of each node to other nodes."""
    M, places = neighbours.shape
    links, to = on_disk(neighbours.shape), on_disk(neighbours.shape, np.int32)
    for rows in pieces(M):
        filled = np.minimum(
            np.cumsum(size[neighbours[rows]], 1), NEIGHBOURS + 1
        )  # places, after each neighbour
        links[rows] = np.diff(filled, axis=1, prepend=0) * size[rows, None]
        to[rows] = neighbours[rows]  # a copy: what follows moves numbers
    begin = np.arange(0, links.size + 1, places, dtype=np.int32)
    one_way = sparse.csr_array((links.ravel(), to.ravel(), begin), shape=(M, M))
    one_way.eliminate_zeros()
    return one_way


def _write(file: Path, made: Graph) -> None:
    with contextlib.suppress(OSError, MilError), whole(file) as part, part.open("wb") as out:
        np.savez(out, node=made.node, size=made.size, neighbours=made.neighbours, distances=made.distances)


def _read(file: Path, cohort: Cohort, x: np.ndarray) -> Graph:
    with np.load(file, allow_pickle=False) as saved:
        node, size, neighbours, distances = (
            laid_down(saved[part]) for part in ("node", "size", "neighbours", "distances")
        )
    if len(node) != cohort.N:
        raise ValueError(file)
    points, every = on_disk((len(size), x.shape[1])), standardised(cohort, x)
    for rows in pieces(len(node)):
        points[node[rows]] = every[rows]
    return Graph(node, size, points, neighbours, distances, _step(neighbours, size))
