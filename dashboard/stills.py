"""Maps of cells as pictures made by the server, for browsers without WebGL2 and for cohorts too large to draw there.

A picture lies in a Plotly figure whose axes count whole places (see planes), so a lasso on it means the same cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard import theme
from dashboard.maps import colour_key, scale_bar
from dashboard.planes import Map, Plane
from dashboard.shades import Shades
from dashboard.svg import painted, png

__all__ = ["outline", "still"]

WIDE = 1000  # pixels of the longer side
MANY = 400_000  # cells from which each is one pixel
FAINT = 0.22  # opacity of cells out of focus, or not selected


def still(
    shown: Map, shades: Shades, *, only: np.ndarray | None, lit: np.ndarray | None, dark: bool
) -> go.Figure:
    """A map as a picture: the strongest and rarest cells on top, and over all others those `lit` (N,)."""
    plane, figure = shown.plane, go.Figure()
    codes = shades.codes[plane.rows]
    bright = np.ones(len(codes), bool) if only is None else only[plane.rows]
    if lit is not None:
        bright = bright & lit[plane.rows]
    palette = np.array([[int(hue[k : k + 2], 16) for k in (1, 3, 5)] for hue in shades.palette(dark=dark)])
    order = np.argsort(shades.rank[codes], kind="stable")
    for part, opacity in ((order[~bright[order]], FAINT), (order[bright[order]], 1.0)):
        if len(part):
            _lay(figure, shown, part, np.minimum(codes[part], 254), palette, opacity=opacity)
    return _framed(figure, shown, shades)


def _lay(
    figure: go.Figure, shown: Map, part: np.ndarray, codes: np.ndarray, palette: np.ndarray, *, opacity: float
) -> None:
    """One layer of cells, `part` of the map's, over the figure."""
    low, high = _bounds(shown.plane)
    scale = (WIDE - 1) / float((high - low).max())
    wide, tall = (np.ceil((high - low) * scale).astype(int) + 1).tolist()
    pixels = (shown.plane.places[part] - low) * scale
    if not shown.down:
        pixels[:, 1] = tall - 1 - pixels[:, 1]
    n = len(shown.plane.rows)
    radius = float(np.clip(450 / np.sqrt(n), 0.6, 9)) if n < MANY else 0.0
    picture = painted(pixels, codes, radius, wide=wide, high=tall)
    size = {"sizex": wide / scale, "sizey": tall / scale, "sizing": "stretch", "opacity": opacity}
    corner = {"x": low[0], "y": low[1] if shown.down else high[1], "xref": "x", "yref": "y", "layer": "below"}
    figure.add_layout_image(source=png(picture, palette, clear=True), **corner, **size)


def _framed(figure: go.Figure, shown: Map, shades: Shades) -> go.Figure:
    """The figure with its axes, colour bar or legend, and scale bar."""
    low, high = _bounds(shown.plane)
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    dot = {"mode": "markers", "showlegend": False, "hoverinfo": "skip"}
    corners = {"x": [left, right], "y": [top, bottom]}
    figure.add_scatter(**corners, **dot, marker={"opacity": 0})  # without points nothing can be drawn around
    figure.add_scatter(
        x=[None], y=[None], **dot, marker={"color": [0], "coloraxis": "coloraxis"}
    )  # has the bar
    hidden = {"showgrid": False, "showticklabels": False, "constrain": "domain"}
    room = 0.03 * (max(right - left, bottom - top) or 1.0)
    figure.update_xaxes(**hidden, range=[left - room, right + room])
    figure.update_yaxes(
        **hidden, range=[top - room, bottom + room], scaleanchor="x", constraintoward="bottom"
    )
    colour_key(figure, shades.colouring)
    if shown.unit:
        scale_bar(figure, np.array([low, high]), shown.unit, step=shown.plane.step)
    if shades.colouring.ramp:  # the whole title does not fit over half a page
        title = theme.escape(theme.short(shades.colouring.title.partition(":")[0], 36))
        figure.update_layout(coloraxis={"colorbar": {"title": {"text": title}}})
    figure.update_layout(dragmode="lasso", height=shown.height, margin={"t": 64})
    return theme.finish(figure, shown.words, ramp=shades.colouring.ramp)


def _bounds(plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the cells' places, with room for half a cell."""
    low, high = plane.places.min(axis=0).astype(float), plane.places.max(axis=0).astype(float)
    room = 0.01 * float((high - low).max() or 1.0)
    return low - room, high + room


def outline(drawn: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[float]:
    """The corners, as a flat list, of the lasso or box of a Plotly selection; empty where there is none."""
    for lasso in drawn.get("lasso", ()):
        return list(chain.from_iterable(zip(lasso["x"], lasso["y"], strict=True)))
    for box in drawn.get("box", ()):
        (left, right), (low, high) = box["x"], box["y"]
        return [left, low, right, low, right, high, left, high]
    return []
