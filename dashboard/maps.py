"""Maps of cells, in tissue and on the UMAP, as Plotly figures of at most `limit` drawn points.

`customdata` is each cell's index in cohort order; the strongest cells are always drawn, and on top.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from dashboard import theme
from dashboard.colouring import Colouring, colouring, drawn, of_cohort, region_rows, unit
from dashboard.theme import escape, finish, nothing, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

__all__ = ["tissue", "tissue_preview", "umap"]

_GL = 3000  # points from which WebGL draws faster than SVG


def tissue(
    analysis: Analysis,
    patient: str,
    *,
    region: str | None = None,
    colour: str = "importance",
    highlight: np.ndarray | None = None,
    limit: int = 20_000,
) -> go.Figure:
    """The cells of one region where they lie in the tissue (first region of the patient if none is named).

    y runs downwards as in images. `highlight` (cell indices or a mask over the cohort) stays bright and on
    top while the others fade. `customdata` is the cell's index in cohort order.
    """
    rows, found = region_rows(analysis.cohort, patient, region)
    if not len(rows):
        return nothing("This patient has no coordinates: tissue maps need x and y columns.")
    title = " · ".join(escape(short(part, 30)) for part in (patient, found) if part)
    shown = colouring(analysis, colour, rows)
    bright = _mask(highlight, analysis.cohort.N)
    seed = int(analysis.facts["settings"].get("seed", 0))
    bright = None if bright is None else bright[rows]
    return _tissue(analysis.cohort, rows, shown, title=title, limit=limit, seed=seed, bright=bright)


def umap(
    analysis: Analysis,
    *,
    colour: str = "importance",
    patient: str | None = None,
    opacity_by_attention: bool = False,
    limit: int = 20_000,
) -> go.Figure:
    """All cells on the approximate UMAP; with `patient` the others turn grey. `customdata` is the cell's
    index."""
    xy = analysis.cells[["umap_1", "umap_2"]].to_numpy()
    rows = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not len(rows):
        return nothing("This analysis has no UMAP.")
    names = analysis.cohort.patients["patient"].astype(str).to_numpy()
    mine = None if patient is None else (names == patient)[analysis.cohort.owner[rows]]
    shown = colouring(analysis, colour, rows)
    seed = int(analysis.facts["settings"].get("seed", 0))
    order = drawn(shown.strength, limit, seed=seed, keep=mine)
    sizes = np.diff(analysis.cohort.offsets)[analysis.cohort.owner[rows[order]]]
    opacity: Any = 0.85
    if opacity_by_attention:
        opacity = np.clip(analysis.cells["attention"].to_numpy()[rows[order]] * sizes / 2, 0.06, 1).round(2)
    who = [escape(short(name, 40)) for name in names]
    owners = [who[b] for b in analysis.cohort.owner[rows[order]]]
    bright = None if mine is None else mine[order]
    figure = _cloud(xy[rows[order]], rows[order], shown, order, texts=owners, opacity=opacity, bright=bright)
    axis = {"showticklabels": False, "showgrid": False, "constrain": "domain"}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis, scaleanchor="x", constraintoward="bottom")
    _caption(figure, "UMAP (approximate)", len(order), len(rows))
    who_words = f", patient {patient} in colour" if patient else ""
    return finish(
        figure, f"UMAP of {len(rows):,} cells coloured by {shown.title}{who_words}.", ramp=shown.ramp
    )


def _tissue(
    cohort: Cohort,
    rows: np.ndarray,
    shown: Colouring,
    *,
    title: str,
    limit: int,
    seed: int,
    bright: np.ndarray | None = None,
) -> go.Figure:
    order = drawn(shown.strength, limit, seed=seed, keep=bright)
    xy = cohort.cells[["x", "y"]].to_numpy()[rows[order]]
    ids = cohort.cells["cell_id"].iloc[rows[order]]
    texts = ["cell " + escape(short(name, 40)) for name in ids]
    figure = _cloud(
        xy,
        rows[order],
        shown,
        order,
        texts=texts,
        opacity=0.9,
        bright=None if bright is None else bright[order],
    )
    hidden = {"showgrid": False, "showticklabels": False, "constrain": "domain"}
    figure.update_xaxes(**hidden)
    figure.update_yaxes(**hidden, scaleanchor="x", constraintoward="bottom")
    _caption(figure, title, len(order), len(rows))
    _scale_bar(figure, xy, unit(cohort))
    return finish(
        figure, f"Tissue map of {len(rows):,} cells, {title}, coloured by {shown.title}.", ramp=shown.ramp
    )


def _cloud(
    xy: np.ndarray,
    cells: np.ndarray,
    shown: Colouring,
    order: np.ndarray,
    *,
    texts: list[str],
    opacity: Any,
    bright: np.ndarray | None,
) -> go.Figure:
    """Dots at `xy` in drawing order: first those without a value or out of focus in grey, then the coloured
    ones."""
    values = shown.values[order]
    focus = np.isfinite(values) if bright is None else np.isfinite(values) & bright
    size = float(np.clip(260 / np.sqrt(max(len(xy), 1)), 2.5, 9))
    kind = go.Scattergl if len(xy) > _GL else go.Scatter
    figure = go.Figure()
    if not focus.all():
        grey = {"color": theme.MISSING, "size": size * 0.8, "opacity": 0.22}
        rest = np.flatnonzero(~focus)
        cell = {"customdata": cells[rest], "text": [texts[i] for i in rest]}
        figure.add_trace(
            kind(
                x=xy[rest, 0],
                y=xy[rest, 1],
                mode="markers",
                marker=grey,
                showlegend=False,
                hovertemplate="%{text}<extra></extra>",
                **cell,
            )
        )
    marker = {"color": values[focus], "coloraxis": "coloraxis", "size": size, "line": {"width": 0}}
    marker["opacity"] = opacity[focus] if isinstance(opacity, np.ndarray) else opacity
    words = [texts[i] for i in np.flatnonzero(focus)]
    hover = (
        f"%{{text}}<br>{escape(short(shown.title.split(':')[0], 40))} %{{marker.color:.3g}}<extra></extra>"
    )
    if not shown.ramp:
        names = [escape(short(name, 40)) for name in shown.names]
        words = [f"{w}<br>{names[int(v)]}" for w, v in zip(words, values[focus], strict=True)]
        hover = "%{text}<extra></extra>"
    dots = {"mode": "markers", "marker": marker, "text": words, "hovertemplate": hover, "showlegend": False}
    figure.add_trace(kind(x=xy[focus, 0], y=xy[focus, 1], customdata=cells[focus], **dots))
    _key(figure, shown)
    return figure


def _key(figure: go.Figure, shown: Colouring) -> None:
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


def _scale_bar(figure: go.Figure, xy: np.ndarray, unit: str) -> None:
    """A line of a round length, about a fifth of the region, under the tissue; y runs downwards."""
    (left, top), (right, bottom) = xy.min(axis=0).tolist(), xy.max(axis=0).tolist()
    wide = max(right - left, bottom - top) or 1.0
    figure.update_xaxes(range=[left - 0.03 * wide, right + 0.03 * wide])
    figure.update_yaxes(range=[bottom + 0.1 * wide, top - 0.03 * wide])
    power = 10 ** math.floor(math.log10(wide / 5))
    length = power * max(step for step in (1, 2, 5) if step * power <= wide / 5)
    y = bottom + 0.06 * wide
    figure.add_shape(type="line", x0=left, x1=left + length, y0=y, y1=y, line={"width": 3})
    figure.add_annotation(x=left + length, y=y, xanchor="left", xshift=6, text=f"{length:g} {unit}")


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


def tissue_preview(cohort: Cohort, *, patient: str | None = None) -> go.Figure:
    """A first look at one region (of `patient`, or of the first with coordinates): cells by type, or by
    first feature."""
    places = cohort.cells[["x", "y"]].notna().all(axis=1).to_numpy()
    names = cohort.patients["patient"].astype(str).to_numpy()
    wanted = places if patient is None else places & (names == patient)[cohort.owner]
    if not wanted.any():
        return nothing("No coordinates: tissue maps need x and y columns.")
    owner = names[cohort.owner[int(np.argmax(wanted))]]
    rows, region = region_rows(cohort, owner, None)
    key = "cell_type" if "cell_type" in cohort.cells else cohort.names[0]
    colour = of_cohort(cohort, key, rows)
    title = " · ".join(escape(short(part, 30)) for part in (owner, region) if part)
    return _tissue(cohort, rows, colour, title=title, limit=20_000, seed=0)


def _mask(cells: np.ndarray | None, n: int) -> np.ndarray | None:
    if cells is None or len(cells) == 0:
        return None
    cells = np.asarray(cells)
    if cells.dtype == bool:
        return cells
    mask = np.zeros(n, bool)
    mask[cells] = True
    return mask
