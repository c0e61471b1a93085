"""A first map of cells in tissue as a Plotly figure, and what such maps share: colour bar, legend, scale bar.

Where an analysis is there, cells are drawn by the canvas. `customdata` is each cell's index in cohort order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from dashboard import theme
from dashboard.colouring import Colouring, drawn, of_cohort, region_rows, unit
from dashboard.theme import escape, finish, nothing, short

if TYPE_CHECKING:
    from milcore.cohort import Cohort

__all__ = ["colour_key", "scale_bar", "tissue_preview"]

LIMIT = 20_000  # points drawn
_GL = 3000  # points from which WebGL draws faster than SVG


def tissue_preview(cohort: Cohort, *, patient: str | None = None) -> go.Figure:
    """A first look at one region (of `patient`, or of the first with coordinates): cells by type, or by
    first feature. y runs downwards as in images."""
    places = cohort.cells[["x", "y"]].notna().all(axis=1).to_numpy()
    names = cohort.patients["patient"].astype(str).to_numpy()
    wanted = places if patient is None else places & (names == patient)[cohort.owner]
    if not wanted.any():
        return nothing("No coordinates: tissue maps need x and y columns.")
    owner = names[cohort.owner[int(np.argmax(wanted))]]
    rows, region = region_rows(cohort, owner, None)
    key = "cell_type" if "cell_type" in cohort.cells else cohort.names[0]
    shown = of_cohort(cohort, key, rows)
    order = drawn(shown.strength, LIMIT, seed=0)
    xy = cohort.cells[["x", "y"]].to_numpy()[rows]
    title = " · ".join(escape(short(part, 30)) for part in (owner, region) if part)
    figure = _cloud(cohort, rows, shown, order, xy)
    hidden = {"showgrid": False, "showticklabels": False, "constrain": "domain"}
    figure.update_xaxes(**hidden)
    figure.update_yaxes(**hidden, scaleanchor="x", constraintoward="bottom")
    _caption(figure, title, len(order), len(rows))
    scale_bar(figure, xy[order], unit(cohort))
    return finish(
        figure, f"Tissue map of {len(rows):,} cells, {title}, coloured by {shown.title}.", ramp=shown.ramp
    )


def _cloud(
    cohort: Cohort, rows: np.ndarray, shown: Colouring, order: np.ndarray, xy: np.ndarray
) -> go.Figure:
    """Dots in drawing order: first those without a value in grey, then the coloured ones."""
    values, ids = shown.values[order], cohort.cells["cell_id"].iloc[rows[order]]
    texts = ["cell " + escape(short(name, 40)) for name in ids]
    size = float(np.clip(260 / np.sqrt(max(len(order), 1)), 2.5, 9))
    kind = go.Scattergl if len(order) > _GL else go.Scatter
    figure = go.Figure()
    for known in (False, True):
        part = np.flatnonzero(np.isfinite(values) == known)
        if not len(part):
            continue
        said = _said(shown, values[part])
        words = [texts[i] + each for i, each in zip(part, said, strict=True)]
        marker: dict[str, Any] = {"color": theme.MISSING, "size": 0.8 * size, "opacity": 0.22}
        if known:
            marker = {"color": values[part], "coloraxis": "coloraxis", "size": size, "opacity": 0.9}
        at = {"x": xy[order[part], 0], "y": xy[order[part], 1], "customdata": rows[order[part]]}
        told = {"text": words, "hovertemplate": "%{text}<extra></extra>", "showlegend": False}
        figure.add_trace(kind(**at, mode="markers", marker=marker, **told))
    colour_key(figure, shown)
    return figure


def _said(shown: Colouring, values: np.ndarray) -> list[str]:
    """Cells' colours in words, each a line of its own; nothing where there is no value."""
    if shown.ramp:
        title = escape(short(shown.title, 40))
        return [f"<br>{title} {value:.3g}" if np.isfinite(value) else "" for value in values]
    names = ["<br>" + escape(short(name, 40)) for name in shown.names]
    return [names[int(value)] if np.isfinite(value) else "" for value in values]


def colour_key(figure: go.Figure, shown: Colouring) -> None:
    """The colour bar of numbers, or a legend of up to 16 classes."""
    title = {"text": escape(short(shown.title, 90)), "side": "top", "font": {"size": 12}}
    bar = {
        "orientation": "h",
        "y": 1.0,
        "yanchor": "bottom",
        "x": 0,
        "xanchor": "left",
        "len": 0.7,
        "thickness": 9,
    }
    bar |= {"title": title, "outlinewidth": 0, "nticks": 5, "tickfont": {"size": 11}}
    axis: dict[str, Any] = {
        "cmin": shown.low,
        "cmax": shown.high,
        "showscale": bool(shown.ramp),
        "colorbar": bar,
    }
    if not shown.ramp:
        k = max(len(shown.hues), 1)
        hues = shown.hues or (theme.MISSING,)
        axis["colorscale"] = [[(i + end) / k, hue] for i, hue in enumerate(hues) for end in (0, 1)]
        for name, hue in zip(shown.names[:16], shown.hues, strict=False):
            marker = {"color": hue, "size": 9}
            entry = {"name": escape(short(name)), "hoverinfo": "skip", "showlegend": len(shown.names) <= 16}
            figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, **entry)
    margin = {"l": 16, "r": 16, "t": 84, "b": 36}
    figure.update_layout(coloraxis=axis, margin=margin, legend={"itemclick": False, "itemdoubleclick": False})


def scale_bar(figure: go.Figure, xy: np.ndarray, unit: str, *, step: float = 1.0) -> None:
    """A line of a round length, about a fifth of the region, under the tissue; y runs downwards. xy (n, 2), in
    steps of a unit."""
    (left, top), (right, bottom) = xy.min(axis=0).tolist(), xy.max(axis=0).tolist()
    wide = max(right - left, bottom - top) or 1.0
    figure.update_xaxes(range=[left - 0.03 * wide, right + 0.03 * wide])
    figure.update_yaxes(range=[bottom + 0.1 * wide, top - 0.03 * wide])
    power = 10 ** math.floor(math.log10(wide * step / 5))
    length = power * max(digit for digit in (1, 2, 5) if digit * power <= wide * step / 5)
    y, end = bottom + 0.06 * wide, left + length / step
    figure.add_shape(type="line", x0=left, x1=end, y0=y, y1=y, line={"width": 3})
    figure.add_annotation(x=end, y=y, xanchor="left", xshift=6, text=f"{length:g} {unit}")


def _caption(figure: go.Figure, title: str, shown: int, all_cells: int) -> None:
    """What the map is of, and how many cells it draws where it does not draw every one; under the map."""
    count = f"{shown:,} of {all_cells:,} cells drawn, strongest on top" if shown < all_cells else ""
    text = " · ".join(part for part in (title, count) if part)
    under = {
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": 0,
        "xanchor": "left",
        "yanchor": "top",
        "yshift": -8,
    }
    figure.add_annotation(text=text, **under)
