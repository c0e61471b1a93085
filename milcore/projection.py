"""The map of cells: UMAP of landmarks, everything else placed by its nearest landmarks. Labels are never seen.

Up to LANDMARKS distinct cells the map is an ordinary UMAP (McInnes, Healy & Melville 2018); above, an approximate one,
unless every cell is to be fitted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from milcore.cohort import MAPPED, Cohort
from milcore.errors import MilError
from milcore.matrix import kept_array
from milcore.neighbours import NEIGHBOURS, Graph, nearest, pieces

__all__ = ["LANDMARKS", "USUAL", "Layout", "cohort_map", "of_file", "placed", "umap_map"]

LANDMARKS = 12_000
EPOCHS, LONG = 100, 170  # of landmarks; of all cells, whose kinds take longer to come apart
FEWEST = 50  # distinct cells below which a map is just their principal components
MOST_NEIGHBOURS = 200
PLACED_BY = 5  # landmarks
REACH = 3  # times as far as alike landmarks usually are on the map: what lies together


@dataclass(frozen=True)
class Layout:
    """How a map is laid out: `neighbours` and least `distance` as UMAP has them, by these `features` (none: by all);
    `full`: every cell is fitted, none placed among landmarks. MilError where UMAP would refuse."""

    neighbours: int = NEIGHBOURS
    distance: float = 0.1
    features: tuple[str, ...] = ()
    full: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.neighbours <= MOST_NEIGHBOURS:
            problem = f"A map needs 2 to {MOST_NEIGHBOURS} neighbours, not {self.neighbours}."
            raise MilError(problem, "neighbours", "Choose another number.")
        if not 0 <= self.distance < 1:
            problem = f"The least distance is from 0 to below 1, not {self.distance}."
            raise MilError(problem, "distance", "Choose another one.")


USUAL = Layout()


def of_file(cohort: Cohort) -> np.ndarray | None:
    """(N, 2) float32, the map that the tables brought; None where they brought none, or not for every cell."""
    if not set(MAPPED) <= set(cohort.cells):
        return None
    places = cohort.cells[list(MAPPED)].to_numpy(np.float32)
    return places if np.isfinite(places).all() else None


def cohort_map(
    cohort: Cohort, graph: Graph, key: str, *, seed: int, share: Callable[[float], None]
) -> np.ndarray:
    """(N, 2) float32, the usual map of the cells of a graph, of which `key` says how its features were prepared; found
    in the cohort's folder when it was made before, and left there if not."""
    file = cohort.derived("map", f"{key} {seed} {LANDMARKS} {EPOCHS}", "npy")
    make = partial(umap_map, graph, cohort.owner, seed=seed, share=share)
    return kept_array(file, (cohort.N, 2), np.float32, make)


def umap_map(
    graph: Graph, owner: np.ndarray, *, seed: int, share: Callable[[float], None], layout: Layout = USUAL
) -> np.ndarray:
    """(N, 2) float32 coordinates of every cell; `owner` (N,) balances landmarks over patients. Of the layout's features
    the graph knows nothing: its points are those meant, and its neighbours, as far as it has any, theirs."""
    if len(graph.size) < FEWEST:
        return _spread(_principal(graph.points, graph.size), graph)
    chosen = np.arange(len(graph.size)) if layout.full else _landmarks(graph, owner, seed)
    points, every = graph.points[chosen], len(chosen) == len(graph.size)
    k = min(layout.neighbours, len(points) - 1)
    share(0.1)
    known = every and k <= graph.neighbours.shape[1]
    near = (graph.neighbours, graph.distances) if known else nearest(points, points, k)
    coordinates = _umap(points, (near[0][:, :k], near[1][:, :k]), seed, layout)
    share(0.7)
    return _spread(coordinates if every else placed(points, coordinates, graph.points), graph)


def placed(points: np.ndarray, coordinates: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(Q, 2) float32 places of queries (Q, F) on the map that has points (P, F) at coordinates (P, 2): among those of
    the nearest points that lie together there. Nearest points can lie far apart; their mean is where nothing is alike.
    """
    alike = nearest(points, points, 2)[0][:, -1]
    reach = REACH * np.median(np.linalg.norm(coordinates[alike] - coordinates, axis=1))
    found, distance = nearest(points, queries, PLACED_BY)
    out = np.empty((len(queries), 2), np.float32)
    for rows in pieces(len(queries)):
        near = coordinates[found[rows]]  # (q, k, 2)
        weight = 1 / np.maximum(distance[rows], 1e-6) ** 2  # (q, k)
        together = np.linalg.norm(near[:, :, None] - near[:, None], axis=3) <= reach
        most = np.einsum("qk,qjk->qj", weight, together).argmax(1)
        weight *= together[np.arange(len(most)), most]
        out[rows] = np.einsum("qk,qkd->qd", weight, near) / weight.sum(1, keepdims=True)
    return out


def _landmarks(graph: Graph, owner: np.ndarray, seed: int) -> np.ndarray:
    """Nodes drawn so that every patient gives about as many; all of them where they are few."""
    if len(graph.size) <= LANDMARKS:
        return np.arange(len(graph.size))
    draw = np.random.default_rng([seed, 4])
    order = np.lexsort((draw.random(len(owner)), owner))
    counts = np.bincount(owner)
    place = np.arange(len(owner)) - np.repeat(
        np.cumsum(counts) - counts, counts
    )  # of each cell in its shuffled patient
    turn = np.argsort(place, kind="stable")[: 2 * LANDMARKS]
    _, first = np.unique(graph.node[order[turn]], return_index=True)
    return graph.node[order[turn]][np.sort(first)[:LANDMARKS]]


def _umap(points: np.ndarray, near: tuple[np.ndarray, np.ndarray], seed: int, layout: Layout) -> np.ndarray:
    """(n, 2) float32 of points (n, F); `near`: indices and distances (n, k) of their nearest, itself first."""
    import umap

    warnings.filterwarnings(
        "ignore", "precomputed_knn", UserWarning, "umap"
    )  # new points are placed by us, not by umap
    start = _principal(points, np.ones(len(points)))
    flat = np.ptp(start, axis=0) == 0  # of one feature: UMAP divides by the extent
    start[:, flat] = np.random.default_rng([seed, 5]).normal(size=(len(start), 1))
    start *= 10 / np.abs(start).max()
    places, distances = near[0].astype(np.int32), near[1].copy()
    places[:, 0], distances[:, 0] = np.arange(len(points)), 0
    model = umap.UMAP(
        n_neighbors=places.shape[1],
        min_dist=layout.distance,
        n_epochs=LONG if layout.full else EPOCHS,
        init=start,
        precomputed_knn=(places, distances, None),
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(model.fit_transform(points), np.float32)


def _principal(points: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(M, 2) float32 first two principal components; a lone feature gets a second axis of zeros."""
    share = weight / weight.sum()
    centred = (points - share @ points).astype(np.float64)
    _, vectors = np.linalg.eigh((centred * share[:, None]).T @ centred)
    out = np.zeros((len(points), 2), np.float32)
    top = centred @ vectors[:, ::-1][:, :2]
    out[:, : top.shape[1]] = top
    return out


def _spread(coordinates: np.ndarray, graph: Graph) -> np.ndarray:
    """Cells of one node lie on a small disc around it (a sunflower, area by number) instead of hiding each other."""
    out = coordinates[graph.node]
    shared = graph.size[graph.node] > 1
    if not shared.any():
        return out
    order = np.argsort(graph.node, kind="stable")
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(graph.size) - graph.size, graph.size)
    extent = np.ptp(coordinates, axis=0).max() or 1.0
    radius = 0.15 * extent * np.sqrt(place / len(order))
    angle = place * np.pi * (3 - np.sqrt(5))
    out[shared] += (radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))[shared]
    return out
