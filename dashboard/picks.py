"""What is picked among all cells: strokes on the maps and named groups, as one short text that fits into a URL.

A text is steps joined by ".": a sign (n: anew, a: add, s: take away), where, "~" and what. Where is "u" and the name of
a layout (the UMAP), "t" and the index of a region's first cell (its tissue), "p" (a class of a colour), "r" (a range of
one) or "g" (a group of a patient's drivers); what is a polygon in whole places (see planes), or two names. No screen.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np

from dashboard.colouring import Colouring, choices, colouring
from dashboard.planes import Plane, tissue_plane, umap_plane
from dashboard.why import cells_of

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = [
    "LONGEST",
    "aimed",
    "members",
    "named",
    "of_class",
    "of_group",
    "of_range",
    "span",
    "spanned",
    "stroke",
    "trusted",
]

LONGEST = 4_000  # letters of a text
_STEP = re.compile(r"[nas](?:u[0-9a-f]{0,8}~[\w-]+|t[0-9a-z]{1,8}~[\w-]+|[pgr]~[\w*-]+~[\w*-]*)")

_VIEW = re.compile(r"(?:(?:u[0-9a-f]{0,8}|t[0-9a-z]{1,8})~[0-9a-z]{1,6}(?:-[0-9a-z]{1,6}){2}\.?){0,4}")


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


def of_range(key: str, ends: str) -> str:
    """The text of all cells whose colour by `key`, a number, lies within the `ends` (see `spanned`)."""
    return f"nr~{named(key, ends)}"


def spanned(low: float, high: float) -> str:
    """Two ends as text, blank where there is none: '0.5:', ':', '-1:1'."""
    return ":".join(f"{end:.6g}" if math.isfinite(end) else "" for end in (low, high))


def span(ends: str) -> tuple[float, float]:
    """The ends that `spanned` made text of, infinite where there is none; any other text is all numbers."""
    found = re.fullmatch(r"([-+.e\d]*):([-+.e\d]*)", ends)
    try:
        low, high = (float(end) if end else None for end in found.groups()) if found else (None, None)
    except ValueError:
        low = high = None
    return -math.inf if low is None else low, math.inf if high is None else high


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
    if where in _NAMED:
        return _NAMED[where](analysis, *(unquote(name.replace("*", "%")) for name in what))
    name = where[1:]
    plane = umap_plane(analysis, name) if where[0] == "u" else _region(analysis, int(name, 36))
    return plane.rows[enclosed(plane.places.astype(float), _corners(what[0]))]


def _of_class(analysis: Analysis, key: str, name: str) -> np.ndarray:
    shown = _coloured(analysis, key)
    if shown is None or name not in shown.names:
        return np.empty(0, np.int64)
    return np.flatnonzero(shown.values == shown.names.index(name))


def _of_range(analysis: Analysis, key: str, ends: str) -> np.ndarray:
    shown = _coloured(analysis, key)
    if shown is None or not shown.ramp:
        return np.empty(0, np.int64)
    low, high = span(ends)
    return np.flatnonzero((shown.values >= low) & (shown.values <= high))


def _coloured(analysis: Analysis, key: str) -> Colouring | None:
    """All cells by a colour; None where there is no such colour."""
    return colouring(analysis, key, np.arange(analysis.cohort.N)) if key in choices(analysis) else None


_NAMED: dict[str, Callable[[Analysis, str, str], np.ndarray]] = {
    "p": _of_class,
    "r": _of_range,
    "g": cells_of,
}


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
