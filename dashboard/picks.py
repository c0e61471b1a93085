"""What is picked among all cells: strokes on the maps and named groups, as one short text that fits into a URL.

A text is steps joined by ".": a sign (n: anew, a: add, s: take away), where, "~" and what. Where is "u" (the UMAP), "t"
and the index of a region's first cell (its tissue), "p" (a class of a colour) or "g" (a group of a patient's drivers);
what is a polygon in whole places (see planes), or two names. No screen.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np

from dashboard.colouring import choices, colouring
from dashboard.planes import Plane, tissue_plane, umap_plane
from dashboard.why import cells_of

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["LONGEST", "aimed", "members", "named", "of_class", "of_group", "stroke", "trusted"]

LONGEST = 4_000  # letters of a text
_STEP = re.compile(r"[nas](?:u~[\w-]+|t[0-9a-z]{1,8}~[\w-]+|[pg]~[\w*-]+~[\w*-]*)")

_VIEW = re.compile(r"(?:(?:u|t[0-9a-z]{1,8})~[0-9a-z]{1,6}(?:-[0-9a-z]{1,6}){2}\.?){0,4}")


def trusted(text: object) -> str:
    """The text if it is one, else ""."""
    good = isinstance(text, str) and len(text) <= LONGEST and all(map(_STEP.fullmatch, text.split(".")))
    return str(text) if good else ""


def aimed(text: object) -> str:
    """Where the maps look (see canvas/geometry.js), if the text says so, else ""."""
    return str(text) if isinstance(text, str) and _VIEW.fullmatch(text) else ""


def stroke(plane: Plane, polygon: Iterable[float]) -> str:
    """The text of a polygon (flat list of places) drawn anew on a plane."""
    corners = np.clip(np.rint(np.fromiter(polygon, float)), 0, 65_535).astype("<u2")
    return f"n{plane.id}~{base64.urlsafe_b64encode(corners.tobytes()).decode().rstrip('=')}"


def of_class(key: str, name: str) -> str:
    """The text of all cells of a class: a cell type, a phenotype, a label, a patient, a region."""
    return f"np~{named(key, name)}"


def of_group(patient: str, group: str) -> str:
    """The text of a group of a patient's cells, as its table of drivers names it."""
    return f"ng~{named(patient, group)}"


def named(first: str, second: str) -> str:
    """Two names as one word of letters, digits and * (for %, which a URL would write in full)."""
    plain = (quote(name, safe="").replace(".", "%2E").replace("~", "%7E") for name in (first, second))
    return "~".join(plain).replace("%", "*")


def members(analysis: Analysis, text: str) -> np.ndarray:
    """(N,) which cells a trusted text picks; steps that speak of nothing here pick none."""
    chosen = np.zeros(analysis.cohort.N, bool)
    for step in filter(None, text.split(".")):
        cells = _cells(analysis, *step[1:].split("~"))
        if step[0] == "n":
            chosen[:] = False
        chosen[cells] = step[0] != "s"
    return chosen


def _cells(analysis: Analysis, where: str, *what: str) -> np.ndarray:
    """Indices of the cells of one step."""
    if where in ("p", "g"):
        first, second = (unquote(name.replace("*", "%")) for name in what)
        return _of_class(analysis, first, second) if where == "p" else cells_of(analysis, first, second)
    plane = umap_plane(analysis) if where == "u" else _region(analysis, int(where[1:], 36))
    return plane.rows[enclosed(plane.places.astype(float), _corners(what[0]))]


def _of_class(analysis: Analysis, key: str, name: str) -> np.ndarray:
    if key not in choices(analysis):
        return np.empty(0, np.int64)
    shown = colouring(analysis, key, np.arange(analysis.cohort.N))
    return (
        np.flatnonzero(shown.values == shown.names.index(name))
        if name in shown.names
        else np.empty(0, np.int64)
    )


def _region(analysis: Analysis, first: int) -> Plane:
    """The plane of the region that the cell `first` lies in."""
    cohort = analysis.cohort
    first = min(first, cohort.N - 1)
    region = cohort.cells["region"].iloc[first]
    patient = str(cohort.patients["patient"].iloc[cohort.owner[first]])
    return tissue_plane(analysis, patient, None if region is None or region != region else str(region))


def _corners(text: str) -> np.ndarray:
    """(k, 2) corners of a polygon; a damaged text is none."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raw = b""
    return np.frombuffer(raw[: len(raw) // 4 * 4], "<u2").reshape(-1, 2).astype(float)


def enclosed(places: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(n,) which places (n, 2) lie in a polygon (k, 2): a ray to the right crosses an odd number of its edges.

    The same arithmetic as `inside` of canvas/geometry.js, so that both count the same cells.
    """
    inside = np.zeros(len(places), bool)
    if not len(corners):
        return inside
    near = np.flatnonzero(((places >= corners.min(axis=0)) & (places <= corners.max(axis=0))).all(axis=1))
    x, y = places[near].T
    odd = np.zeros(len(near), bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            odd ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    inside[near] = odd
    return inside
