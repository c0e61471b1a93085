"""The numbers behind a chart, as a table: for whoever wants to draw it anew or check it."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

__all__ = ["csv", "table"]

TAG = re.compile(r"<[^>]+>")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run text that begins so
KEPT = 100_000  # points; beyond, a chart is a map of cells, whose table is cells.parquet


def csv(figure: go.Figure) -> str:
    """`table` as CSV; text that a spreadsheet would run as a formula begins with an apostrophe."""
    frame = table(figure)
    text = frame.select_dtypes(exclude="number")
    safe = text.apply(lambda column: ["'" + v if str(v).startswith(FORMULA) else v for v in column])
    return frame.assign(**{str(name): safe[name] for name in text}).to_csv(index=False)


def table(figure: go.Figure) -> pd.DataFrame:
    """A row for every drawn point: `series`, the value on each axis under the axis' title, the tick's words where
    it has any, and whisker ends. Empty for a chart of more than KEPT points."""
    parts = [part for trace in figure.data if len(part := _trace(figure, trace))]
    if not parts or sum(len(part) for part in parts) > KEPT:
        return pd.DataFrame({"series": []})
    return pd.concat(parts, ignore_index=True)


def _trace(figure: go.Figure, trace: Any) -> pd.DataFrame:
    if trace.type == "heatmap":
        return _grid(figure, trace)
    ends = {axis: values for axis in "xy" if (values := getattr(trace, axis, None)) is not None}
    n = max((len(values) for values in ends.values()), default=0)
    if not n or all(value is None for values in ends.values() for value in values):
        return pd.DataFrame()  # an entry of the legend
    out: dict[str, Any] = {"series": [_plain(trace.name or "")] * n}
    for axis, values in ends.items():
        name, words = _axis(figure, axis)
        out[name] = list(values)
        if words:
            out[f"{name} (name)"] = [words.get(_number(value), "") for value in values]
        error = getattr(trace, f"error_{axis}", None)  # bars and dots have whiskers, boxes have not
        if error is not None and error.array is not None:
            under = error.array if error.arrayminus is None else error.arrayminus
            out[f"{name} low"] = np.asarray(values, float) - np.asarray(under, float)
            out[f"{name} high"] = np.asarray(values, float) + np.asarray(error.array, float)
    if trace.customdata is not None and len(trace.customdata) == n:
        out["of"] = [str(value) for value in trace.customdata]
    return pd.DataFrame(out)


def _grid(figure: go.Figure, trace: Any) -> pd.DataFrame:
    values = np.asarray(trace.z)
    rows, columns = np.indices(values.shape)
    out = {"series": _plain(trace.name or ""), "value": values.ravel()}
    for axis, place in (("y", rows), ("x", columns)):
        own = trace[axis] if trace[axis] is not None else range(values.shape[axis == "x"])
        out[_axis(figure, axis)[0]] = [_plain(list(own)[k]) for k in place.ravel()]
    return pd.DataFrame(out)


def _axis(figure: go.Figure, axis: str) -> tuple[str, dict[float, str]]:
    """Title of an axis, and the words of its ticks by their place."""
    layout = figure.layout[f"{axis}axis"]
    words = {}
    if layout.ticktext is not None and layout.tickvals is not None:
        words = {_number(v): _plain(w) for v, w in zip(layout.tickvals, layout.ticktext, strict=False)}
    return _plain(layout.title.text or "") or axis, words


def _number(value: Any) -> float:
    return round(float(value), 9) if isinstance(value, (int, float, np.number)) else float("nan")


def _plain(words: object) -> str:
    """Text as it was before Plotly's markup."""
    return html.unescape(TAG.sub(" ", str(words))).strip()
