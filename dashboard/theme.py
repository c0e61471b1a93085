"""Colours, the Plotly look and the wording of numbers: the same on every screen and in every report.

Colour means something once: blue argues against the positive class and orange for it, grey is nothing;
attention is one violet ramp, features one green, steadiness one grey; classes have eight hues that are none of these.
The hues were searched for distance under normal, protan, deutan and tritan vision, and for a contrast of
about 3 on white and on near-black, so that light and dark share them; only the greys and the ramps differ.
"""

from __future__ import annotations

import colorsys
import html
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import plotly.graph_objects as go

from milcore.names import short

__all__ = [
    "AGAINST",
    "FOR",
    "HUES",
    "MISSING",
    "NEUTRAL",
    "SYMBOLS",
    "class_hues",
    "dress",
    "escape",
    "finish",
    "hues",
    "interval",
    "nothing",
    "p_value",
    "percent",
    "quoted",
    "ramp",
    "score_name",
    "short",
    "template",
    "two",
]

AGAINST, NEUTRAL, FOR = "#1f6fc4", "#c6cad0", "#d96a00"
HUES = ("#06a7ad", "#ae2f6f", "#b49119", "#9f7ae2", "#4f6a37", "#9342a2", "#726702", "#729f7c")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down", "pentagon", "star")
MISSING = "#8b929c"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_RAMPS = {
    "light": {
        "signed": ("#0c4c94", AGAINST, "#7fadde", NEUTRAL, "#eda863", FOR, "#994a00"),
        "attention": ("#e4e1ee", "#b5a8dd", "#7d63c1", "#4a2c91", "#2a1263"),
        "feature": ("#e2e8e3", "#a5cdb4", "#56a57f", "#1b7458", "#0a4537"),
        "steady": ("#e1e4e8", "#acb3bc", "#727b86", "#404852", "#171c22"),
    },
    "dark": {
        "signed": ("#8cc1ff", "#4c97ea", "#3b659a", "#4b5159", "#a0642b", "#e98a2f", "#ffc078"),
        "attention": ("#2c2a38", "#4a3d7a", "#7358bd", "#a78df0", "#dfd3ff"),
        "feature": ("#28302d", "#2c5446", "#3a8a6c", "#6cc39f", "#c8f2dc"),
        "steady": ("#2b3037", "#4f5761", "#7f8894", "#b5bcc6", "#eef1f5"),
    },
}
_GROUND = {
    "light": {"paper": "#ffffff", "text": "#1c2128", "quiet": "#5c6570", "grid": "#e7e9ed"},
    "dark": {"paper": "#12151a", "text": "#e7eaee", "quiet": "#9aa3ae", "grid": "#2a2f37"},
}
_SCORES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "balanced_accuracy": "balanced accuracy",
    "auroc_macro": "mean AUROC",
    "r2": "R²",
    "spearman": "rank correlation",
    "c_index": "C-index",
}


def ramp(name: str, *, dark: bool = False) -> list[list[Any]]:
    """The Plotly colour scale `signed`, `attention`, `feature` or `steady`: evenly spaced stops from 0 to 1."""
    colours = _RAMPS["dark" if dark else "light"][name]
    return [[k / (len(colours) - 1), colour] for k, colour in enumerate(colours)]


def hues(n: int) -> list[str]:
    """`n` colours for classes: the eight hues first; beyond eight, evenly spread ones that a hover must tell
    apart."""
    if n <= len(HUES):
        return list(HUES[:n])
    golden = 137.508  # degrees; neighbours in the list end up far apart on the circle
    rgb = [
        colorsys.hls_to_rgb((k * golden / 360) % 1, (0.42, 0.55, 0.48)[k % 3], (0.45, 0.60)[k % 2])
        for k in range(n)
    ]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in rgb]


@cache
def template(*, dark: bool = False) -> go.layout.Template:
    """The look of every chart on a light or a dark ground."""
    ground = _GROUND["dark" if dark else "light"]
    axis = {
        "gridcolor": ground["grid"],
        "linecolor": ground["quiet"],
        "tickfont": {"color": ground["quiet"]},
        "title": {"font": {"color": ground["text"], "size": 13}, "standoff": 8},
        "zeroline": False,
        "automargin": True,
    }
    layout = {
        "font": {"family": FONT, "size": 13, "color": ground["text"]},
        "paper_bgcolor": ground["paper"],
        "plot_bgcolor": ground["paper"],
        "xaxis": axis,
        "yaxis": axis,
        "colorway": list(HUES),
        "margin": {"l": 48, "r": 16, "t": 48, "b": 44},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": {"text": ""}},
        "hoverlabel": {"font": {"family": FONT}, "align": "left", "namelength": 40},
        "shapedefaults": {"line": {"color": ground["quiet"]}},
        "annotationdefaults": {"font": {"color": ground["quiet"], "size": 12}, "showarrow": False},
    }
    return go.layout.Template(layout=layout)


def dress(figure: go.Figure, *, dark: bool = False) -> go.Figure:
    """Puts the look on a figure of `dashboard.figures`, light or dark; may be called again to change the
    ground."""
    figure.update_layout(template=template(dark=dark))
    scale = (figure.layout.meta or {}).get("ramp")
    if scale:
        figure.update_layout(coloraxis={"colorscale": ramp(scale, dark=dark)})
    return figure


def escape(text: object) -> str:
    """Text of a table made safe for Plotly's labels and between HTML tags: markup in it does nothing.

    Quotes stay as they are (Plotly would show their entities), so this is not for HTML attributes.
    """
    plain = str(text)
    if not plain.isprintable():
        plain = "".join(c if c.isprintable() else " " for c in plain)
    return html.escape(plain, quote=False)


def two(value: float | None) -> str:
    """A number with two decimals from 0.1 on, else two significant digits: 0.81, 12, 0.013; n/a where there
    is none."""
    if value is None or not math.isfinite(value):
        return "n/a"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.0f}"
    if size >= 0.1 or size == 0:
        return f"{value:.2f}"
    return f"{value:.2g}" if size >= 0.001 else ("<0.001" if value > 0 else ">-0.001")


def interval(score: Mapping[str, float], *, digits: int = 2) -> str:
    """A score with its 95 % interval: '0.81 (0.64 to 0.93)'; without an interval the value alone."""
    value = f"{score['value']:.{digits}f}"
    if score.get("low") is None or score.get("high") is None:
        return value
    return f"{value} ({score['low']:.{digits}f} to {score['high']:.{digits}f})"


def percent(share: float | None) -> str:
    """A share from 0 to 1 in words: '72 %'; never a false 0 or 100."""
    if share is None or not math.isfinite(share):
        return "n/a"
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def p_value(null: Mapping[str, Any]) -> str:
    """The p of a permutation null in words: 'p = 0.03', 'p = 0.42'."""
    p = float(null["p"])
    return f"p = {p:.1g}" if p < 0.1 else f"p = {p:.2f}"


def score_name(key: str) -> str:
    """The name of a score as readers know it: 'auroc' is 'AUROC'."""
    return _SCORES.get(key, key.replace("_", " "))


def class_hues(classes: Sequence[str]) -> dict[str, str]:
    """The hue of each class, the same in every chart; patients without a label ('') are grey."""
    return {**dict(zip(classes, hues(len(classes)), strict=True)), "": MISSING}


def finish(figure: go.Figure, words: str, *, ramp: str = "") -> go.Figure:
    """The figure with its alt text and, if its points are coloured by numbers, the name of their ramp."""
    figure.update_layout(meta={"alt": words, "ramp": ramp})
    return dress(figure)


def nothing(words: str) -> go.Figure:
    """An empty figure that says why it is empty."""
    figure = go.Figure()
    figure.add_annotation(x=0.5, y=0.5, xref="paper", yref="paper", text=words, font={"size": 14})
    figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False}, height=180)
    return finish(figure, words)


def quoted(name: str) -> str:
    """A label in quotation marks, short and safe, for titles."""
    return f"“{escape(short(name, 30))}”"
