"""Tissue context: what lies around each cell, as further features.

The mean of the nearest cells' features is the plainest description of a cell's surroundings; of one-hot cell types it
is the composition of the neighbourhood (cellular neighbourhoods: Goltsev et al., Cell 2018; Schürch et al., Cell 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.matrix import on_disk

__all__ = ["company", "nearby", "regions"]


def nearby(x: np.ndarray, cohort: Cohort, around: int) -> np.ndarray:
    """(N, F) float32: mean of features x (N, F) over the `around` nearest other cells of the same region; fewer where
    the region has fewer, NaN for cells without coordinates or company, missing values left out of the mean.

    MilError where no cell has coordinates.
    """
    xy = cohort.cells[["x", "y"]].to_numpy()
    placed = np.isfinite(xy).all(1)
    if not placed.any():
        problem = "The cells have no coordinates."
        fix = "Name the columns of the coordinates with --x and --y, or leave --context out."
        raise MilError(problem, f"--context {around}", fix)
    out = on_disk(x.shape)
    out[...] = np.nan
    for rows in _by_region(cohort, placed):
        out[rows] = _means(x[rows], xy[rows], around)
    return out


def company(kind: np.ndarray, cohort: Cohort, around: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) share of each cell's `around` nearest cells of the same region that are of its kind (N,), and the share
    of that kind among all others there, which chance alone would give; NaN for cells without coordinates or company."""
    xy = cohort.cells[["x", "y"]].to_numpy()
    alike, expected = np.full((2, len(kind)), np.nan, np.float32)
    for rows in _by_region(cohort, np.isfinite(xy).all(1)):
        here = kind[rows]
        alike[rows] = (here[_nearest(xy[rows], around)] == here[:, None]).mean(1)
        expected[rows] = (np.bincount(here)[here] - 1) / (len(rows) - 1)
    return alike, expected


def _by_region(cohort: Cohort, placed: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of every region's cells `placed` (N,), where there are at least two."""
    region = np.where(placed, regions(cohort), -1)
    order = np.argsort(region, kind="stable")
    starts = np.flatnonzero(np.diff(region[order], prepend=-2))
    for rows in np.split(order, starts[1:]):
        if region[rows[0]] >= 0 and len(rows) > 1:
            yield rows


def regions(cohort: Cohort) -> np.ndarray:
    """(N,) number of each cell's region; where none is named, the patient is the region."""
    codes = cohort.cells["region"].astype("category").cat.codes.to_numpy()
    number = cohort.groups[cohort.owner]
    number *= int(codes.max()) + 2
    number += codes
    return pd.factorize(number, sort=True)[0].astype(np.int32)


def _nearest(xy: np.ndarray, around: int) -> np.ndarray:
    """(n, k) the nearest other cells of each cell of one region."""
    n, k = len(xy), min(around, len(xy) - 1)
    places = xy.astype(np.float64)
    found = cKDTree(places).query(places, k + 1)[1]
    own = found == np.arange(n)[:, None]
    own[~own.any(1), -1] = True  # cells in one place may not list themselves: then the farthest goes
    return np.asarray(found[~own].reshape(n, k))


def _means(x: np.ndarray, xy: np.ndarray, around: int) -> np.ndarray:
    """(n, F) of one region."""
    near = _nearest(xy, around)
    n, k = near.shape
    links = sparse.csr_array((np.ones(n * k), near.ravel(), np.arange(n + 1) * k), shape=(n, n))
    known = ~np.isnan(x)
    count = links @ known.astype(np.float64)
    total = links @ np.where(known, x, 0).astype(np.float64)
    return np.divide(total, count, out=np.full(x.shape, np.nan), where=count > 0)
