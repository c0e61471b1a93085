"""Places of cells as whole numbers of 16 bits, on the UMAP and in tissue, and the maps made of them. No screen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from dashboard import theme
from dashboard.colouring import region_rows, spoken, unit

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["LOW", "SPAN", "Map", "Plane", "likeness", "tissue", "tissue_plane", "umap_plane"]

LOW, SPAN = 16_384, 32_767  # cells keep to the middle half of 16 bits: a lasso may run outside
KEYS = "Arrow keys move it, plus and minus zoom, F shows all, Enter selects what is in view, Escape selects nothing."


@dataclass(frozen=True, eq=False)
class Plane:
    """Cells on a plane: `places` (n, 2) whole numbers of 16 bits, `rows` (n,) their index in the cohort, `step` the
    length of one whole number in the unit of the coordinates."""

    id: str
    places: np.ndarray
    rows: np.ndarray
    step: float
    some: bool = True  # False: `rows` are all cells of the cohort, in their order


@lru_cache(maxsize=4)
def umap_plane(analysis: Analysis, layout: str | None = None) -> Plane:
    """All cells that have a place on a map by likeness, the one shown or another of the analysis' `layouts`; id "u" and
    its name. A layout that is not there has no cells."""
    name = analysis.layout if layout is None else layout
    if name == analysis.layout:
        xy = analysis.cells[["umap_1", "umap_2"]].to_numpy()
    else:
        xy = analysis.layouts.get(name, np.full((analysis.cohort.N, 2), np.nan))
    plane = _plane(f"u{name}", xy, np.arange(analysis.cohort.N))
    return replace(plane, some=len(plane.rows) < analysis.cohort.N)


def tissue_plane(analysis: Analysis, patient: str, region: str | None) -> Plane:
    """The cells of one region of a patient; id "t" and the index of its first cell, "" where there are none."""
    rows, _ = region_rows(analysis.cohort, patient, region)
    xy = analysis.cohort.cells[["x", "y"]].to_numpy()[rows]
    return _plane(f"t{np.base_repr(rows[0], 36).lower()}" if len(rows) else "", xy, rows)


def _plane(name: str, xy: np.ndarray, rows: np.ndarray) -> Plane:
    """One step for both directions, so that shapes stay true; cells without a place are left out."""
    there = np.isfinite(xy).all(axis=1)
    rows, xy = rows[there].astype(np.uint32), xy[there].astype(float)
    if not len(rows):
        return Plane(name, np.empty((0, 2), np.uint16), rows, 1.0)
    low, high = xy.min(axis=0), xy.max(axis=0)
    step = float((high - low).max()) / SPAN or 1.0
    return Plane(name, np.rint(LOW + (xy - low) / step).astype(np.uint16), rows, step)


# ---------------------------------------------------------------- maps


@dataclass(frozen=True, eq=False)
class Map:
    """One map: `slot` tells it from others beside it; `down`: y runs downwards, as in images; `unit` of the scale
    bar, "" for none; `words`: for those who do not see it; `height` in pixels."""

    slot: str
    plane: Plane
    title: str
    words: str
    height: int
    down: bool = False
    unit: str = ""


def likeness(
    analysis: Analysis,
    *,
    colour: str,
    height: int,
    title: str = "All cells, by likeness",
    how: str = "approximate UMAP",
) -> Map:
    """The map of all cells on the UMAP."""
    plane = umap_plane(analysis)
    words = f"Map of {len(plane.rows):,} cells by likeness, coloured by {spoken(colour)}. {KEYS}"
    return Map("likeness", plane, f"{title} ({how})", words, height)


def tissue(analysis: Analysis, patient: str, region: str | None, *, colour: str, height: int) -> Map:
    """The map of one region of a patient's tissue; it says so where there are no coordinates."""
    plane = tissue_plane(analysis, patient, region)
    title = " · ".join(theme.short(part, 40) for part in (f"Tissue of {patient}", region) if part)
    if not len(plane.rows):
        title = "No tissue map: this patient has no coordinates"
    words = f"{title}, {len(plane.rows):,} cells coloured by {spoken(colour)}. {KEYS}"
    return Map("tissue", plane, title, words, height, down=True, unit=unit(analysis.cohort))
