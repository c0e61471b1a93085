"""Every chart, as a Plotly figure made from a Cohort or an Analysis alone. Nothing here knows a screen.

Each function returns a figure in the light look; `theme.dress(figure, dark=True)` turns it dark. Show them
with Streamlit's `theme=None`, or its theme overrides ours. Points carry what a click needs in `customdata`:
the patient in charts of patients, the cell's index (cohort order) in maps of cells. `alt(figure)` is the
picture in words. Whatever comes from a table is shortened and escaped first, because Plotly reads markup in
labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import theme
from dashboard.checks import baselines, confounders, faithfulness, null, roc
from dashboard.colouring import choices
from dashboard.drivers import groups, profile
from dashboard.maps import tissue, tissue_preview, umap
from dashboard.theme import escape, finish, nothing, percent, quoted, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

__all__ = [
    "alt",
    "baselines",
    "cells_per_patient",
    "colours",
    "confounders",
    "early_ranking",
    "faithfulness",
    "label_balance",
    "markers",
    "null",
    "ranking",
    "roc",
    "strip",
    "tissue",
    "tissue_preview",
    "umap",
    "waterfall",
]

_NAMED = 40  # patients whose names fit under an axis


def colours(analysis: Analysis) -> list[str]:
    """The keys that `tissue` and `umap` take as `colour`; `colouring.spoken(key)` is the word for each."""
    return choices(analysis)


def alt(figure: go.Figure) -> str:
    """What the figure shows, in one or two sentences, for readers who do not see it."""
    return str((figure.layout.meta or {}).get("alt", ""))


# ---------------------------------------------------------------- patients


def ranking(analysis: Analysis) -> go.Figure:
    """Patients ordered by score: dot = out-of-fold probability, hue = true label, whisker = range over
    retrained models, dashed line = threshold. `customdata` is the patient."""
    frame = analysis.predictions.dropna(subset=["prediction"]).sort_values("score", kind="stable")
    return _ranking(
        frame, analysis.facts["classes"], analysis.facts["positive"], analysis.facts.get("threshold")
    )


def early_ranking(early: dict[str, Any], *, classes: Sequence[str], positive: str) -> go.Figure:
    """The ranking of an early result (`Progress.early`) while training still runs; it has no whiskers yet."""
    frame = pd.DataFrame(early["predictions"]).sort_values("prediction", kind="stable")
    frame["label"] = frame["label"].fillna("")
    return _ranking(frame, classes, positive, None)


def _ranking(
    frame: pd.DataFrame, classes: Sequence[str], positive: str, threshold: float | None
) -> go.Figure:
    frame = frame.assign(place=np.arange(1, len(frame) + 1), shown=_shown(frame))
    figure = go.Figure([_dots(part, label, classes) for label, part in _by_label(frame, classes)])
    if threshold is not None:
        figure.add_hline(y=threshold, line={"dash": "dash", "width": 1.2})
        note = f"threshold {percent(threshold)}"
        figure.add_annotation(x=0, xref="paper", xanchor="left", y=threshold, yanchor="bottom", text=note)
    named = len(frame) <= _NAMED
    ticks = [escape(short(name, 16)) for name in frame["shown"]] if named else None
    figure.update_xaxes(
        title="" if named else f"{len(frame)} patients, lowest to highest",
        tickvals=frame["place"] if named else None,
        ticktext=ticks,
        showticklabels=named,
        tickangle=-60 if len(frame) > 8 else 0,
        showgrid=False,
        range=[0.3, len(frame) + 0.7],
    )
    figure.update_yaxes(title=f"Predicted {quoted(positive)}", tickformat=".0%", range=[-0.03, 1.03])
    words = f"{len(frame)} patients ordered by their out-of-fold probability of {positive}"
    return finish(figure, f"{words}, coloured by true label.")


def _dots(part: pd.DataFrame, label: str, classes: Sequence[str]) -> go.Scatter:
    """The dots of one label; a label has its own shape as well as its hue."""
    hue = theme.class_hues(classes)[label]
    size = 11 if len(part) < 30 else 8 if len(part) < 120 else 6
    symbol = "circle-open" if label == "" else theme.SYMBOLS[list(classes).index(label) % len(theme.SYMBOLS)]
    whiskers: dict[str, Any] | None = None
    if "low" in part:
        over, under = part["high"] - part["prediction"], part["prediction"] - part["low"]
        style = {"symmetric": False, "thickness": 1.2, "width": 0, "color": hue}
        whiskers = {"type": "data", "array": over.clip(lower=0), "arrayminus": under.clip(lower=0), **style}
    return go.Scatter(
        x=part["place"],
        y=part["prediction"],
        error_y=whiskers,
        mode="markers",
        marker={"color": hue, "size": size, "symbol": symbol},
        name=escape(short(label)) or "no label",
        customdata=part["patient"].astype(str),
        hovertext=[_patient_words(row) for row in part.to_dict("records")],
        hoverinfo="text",
    )


def _patient_words(row: dict[str, Any]) -> str:
    label = escape(short(row["label"])) or "no label"
    lines = [
        f"<b>{escape(short(row['shown'], 60))}</b>",
        f"label: {label}",
        f"predicted {percent(row['prediction'])}",
    ]
    if "low" in row and np.isfinite(row["low"]):
        lines.append(f"retrained models: {percent(row['low'])} to {percent(row['high'])}")
    return "<br>".join(lines)


def strip(analysis: Analysis, patient: str) -> go.Figure:
    """Where one patient lies among all: every patient's probability, a row per label, this patient ringed."""
    facts = analysis.facts
    frame = analysis.predictions.dropna(subset=["prediction"])
    frame = frame.assign(shown=_shown(frame), place=0.0)
    parts = _by_label(frame, facts["classes"])
    for height, (_, part) in enumerate(parts):
        frame.loc[part.index, "place"] = height + _swarm(part["prediction"].to_numpy())
    traces = [
        _dots(frame.loc[part.index].drop(columns=["low", "high"]), label, facts["classes"])
        for label, part in parts
    ]
    for trace in traces:
        trace.update(x=trace.y, y=trace.x)
    figure = go.Figure(traces)
    me = frame[frame["patient"].astype(str) == patient]
    ring = {"symbol": "circle-open", "size": 20, "color": theme.MISSING, "line": {"width": 3}}
    figure.add_scatter(x=me["prediction"], y=me["place"], mode="markers", marker=ring, hoverinfo="skip")
    if "threshold" in facts:
        figure.add_vline(x=facts["threshold"], line={"dash": "dash", "width": 1.2})
    rows = [escape(short(label, 20)) or "no label" for label, _ in parts]
    figure.update_yaxes(tickvals=list(range(len(parts))), ticktext=rows, range=[-0.6, len(parts) - 0.4])
    figure.update_xaxes(title=f"Predicted {quoted(facts['positive'])}", tickformat=".0%", range=[-0.03, 1.03])
    figure.update_layout(showlegend=False, height=90 + 60 * len(parts))
    found = percent(float(me["prediction"].iloc[0])) if len(me) else "not predicted"
    return finish(figure, f"Patient {patient} ({found}) among all patients by label.")


# ---------------------------------------------------------------- cohort


def cells_per_patient(cohort: Cohort, label: str | None = None) -> go.Figure:
    """Number of cells of every patient, most first, coloured by the patient column `label` if given."""
    frame = cohort.patients.assign(cells=np.diff(cohort.offsets), label=_labels(cohort, label))
    frame = frame.sort_values("cells", ascending=False, kind="stable")
    frame = frame.assign(place=np.arange(len(frame)), shown=_shown(frame))
    classes = sorted(set(frame["label"]) - {""})
    figure = go.Figure()
    for name, part in _by_label(frame, classes):
        words = [
            f"<b>{escape(short(p, 60))}</b><br>{n:,} cells"
            for p, n in zip(part["shown"], part["cells"], strict=True)
        ]
        hue = theme.class_hues(classes)[name]
        shown = {"name": escape(short(name)) or "no label", "customdata": part["patient"].astype(str)}
        figure.add_bar(
            x=part["place"], y=part["cells"], marker_color=hue, hovertext=words, hoverinfo="text", **shown
        )
    named = len(frame) <= _NAMED
    figure.update_xaxes(
        title="" if named else f"{len(frame)} patients",
        tickvals=frame["place"] if named else None,
        ticktext=[escape(short(p, 16)) for p in frame["shown"]] if named else None,
        showticklabels=named,
        tickangle=-60 if len(frame) > 8 else 0,
    )
    wide = frame["cells"].max() > 50 * max(frame["cells"].min(), 1)
    figure.update_yaxes(title="Cells", type="log" if wide else "linear")
    figure.update_layout(showlegend=bool(classes), bargap=0.15 if named else 0.0)
    most, least = frame["cells"].max(), frame["cells"].min()
    return finish(figure, f"Cells of {len(frame)} patients, from {least:,} to {most:,}.")


def label_balance(cohort: Cohort, label: str) -> go.Figure:
    """How many patients carry each value of the patient column `label`; a histogram where it is a
    measurement."""
    column = cohort.patients[label]
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > 10:
        figure = go.Figure(go.Histogram(x=column.dropna(), marker={"color": theme.MISSING}))
        figure.update_xaxes(title=escape(short(label, 40)))
        figure.update_yaxes(title="Patients")
        return finish(figure, f"Histogram of {label} over {column.notna().sum()} patients.")
    counts = _labels(cohort, label).value_counts()
    classes = sorted(set(counts.index) - {""})
    names = [*classes, ""] if "" in counts else classes
    hue = theme.class_hues(classes)
    values = [int(counts[name]) for name in names]
    figure = go.Figure(go.Bar(x=values, y=list(range(len(names))), orientation="h", text=values))
    figure.update_traces(
        textposition="outside", marker_color=[hue[name] for name in names], hoverinfo="skip", cliponaxis=False
    )
    words = [escape(short(name, 28)) or "no label" for name in names]
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=words, autorange="reversed", showgrid=False
    )
    figure.update_xaxes(title="Patients", rangemode="tozero")
    figure.update_layout(height=100 + 34 * max(len(names), 2))
    parts = ", ".join(f"{name or 'no label'} {n}" for name, n in zip(names, values, strict=True))
    return finish(figure, f"Patients by {label}: {parts}.")


# ---------------------------------------------------------------- why


def waterfall(analysis: Analysis, patient: str) -> go.Figure:
    """From nothing to the patient's score (log-odds of the positive class), one step per group of
    `groups`."""
    table = groups(analysis, patient)
    found = analysis.predictions.loc[analysis.predictions["patient"].astype(str) == patient, "prediction"]
    total = float(table["contribution"].sum())
    names = [
        f"{escape(short(g, 26))} ({n:,}, {percent(share)})"
        for g, n, share in zip(table["group"], table["cells"], table["share"], strict=True)
    ]
    steps = [*table["contribution"], total]
    figure = go.Figure(
        go.Waterfall(
            orientation="h",
            x=steps,
            y=list(range(len(steps))),
            measure=["relative"] * len(table) + ["total"],
            text=[f"{value:+.2f}" for value in steps],
            textposition="outside",
            cliponaxis=False,
            increasing={"marker": {"color": theme.FOR}},
            decreasing={"marker": {"color": theme.AGAINST}},
            totals={"marker": {"color": theme.MISSING}},
            connector={"line": {"width": 1, "color": theme.MISSING, "dash": "dot"}},
            hoverinfo="skip",
        )
    )
    label = (
        f"<b>score: {escape(percent(found.iloc[0]))}</b>" if len(found) == 1 else "<b>sum of the regions</b>"
    )
    figure.update_yaxes(
        tickvals=list(range(len(steps))), ticktext=[*names, label], autorange="reversed", showgrid=False
    )
    ends = np.concatenate([[0.0], np.cumsum(table["contribution"])])
    room = 0.2 * max(float(np.ptp(ends)), 1e-9)  # for the figures beside the bars
    figure.update_xaxes(
        title=f"Log-odds of {quoted(analysis.facts['positive'])} (blue against, orange for)",
        range=[float(ends.min()) - room, float(ends.max()) + room],
    )
    figure.update_layout(showlegend=False, height=120 + 32 * len(steps))
    biggest = "; ".join(f"{r.group} {r.contribution:+.2f}" for r in table.head(3).itertuples())
    return finish(figure, f"Contributions to the score {total:+.2f} of patient {patient}: {biggest}.")


def markers(analysis: Analysis, patient: str, *, for_positive: bool, top: int = 50) -> go.Figure:
    """The marker profile of the patient's top cells for or against the positive class, beside the other
    cells'."""
    table = profile(analysis, patient, for_positive=for_positive, top=top)
    side, hue = ("for", theme.FOR) if for_positive else ("against", theme.AGAINST)
    positive = quoted(analysis.facts["positive"])
    if table.empty:
        return nothing(f"No cell of this patient argues {side} {positive}.")
    places = list(range(len(table)))
    figure = go.Figure()
    for place, row in zip(places, table.itertuples(), strict=True):
        line = {"color": theme.MISSING, "width": 1.5}
        figure.add_shape(type="line", x0=row.others, x1=row.top, y0=place, y1=place, line=line, layer="below")
    n = table.attrs["cells"]
    for name, column, colour in (
        ("other cells", "others", theme.MISSING),
        (f"top {n} cells {side} {positive}", "top", hue),
    ):
        hover = "%{x:.2f} sd from the cohort's mean<extra></extra>"
        marker = {"color": colour, "size": 11}
        figure.add_scatter(
            x=table[column], y=places, mode="markers", name=name, marker=marker, hovertemplate=hover
        )
    names = [escape(short(f, 24)) for f in table["feature"]]
    figure.update_yaxes(tickvals=places, ticktext=names, autorange="reversed", showgrid=False)
    figure.update_xaxes(title="Standard deviations from the cohort's mean", zeroline=True)
    figure.update_layout(height=130 + 26 * len(table))
    biggest = ", ".join(f"{r.feature} {r.top - r.others:+.1f} sd" for r in table.head(4).itertuples())
    return finish(
        figure, f"Top {n} cells {side} the positive class against the patient's other cells: {biggest}."
    )


def _shown(frame: pd.DataFrame) -> pd.Series:
    """The name of each row: the patient, and the region where regions are what is predicted."""
    names = frame["patient"].astype(str)
    return names + " · " + frame["region"].astype(str) if "region" in frame else names


def _by_label(frame: pd.DataFrame, classes: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    parts = [(name, frame[frame["label"] == name]) for name in [*classes, ""]]
    return [(name, part) for name, part in parts if len(part)]


def _labels(cohort: Cohort, label: str | None) -> pd.Series:
    if label is None:
        return pd.Series("", index=cohort.patients.index)
    column = cohort.patients[label]
    return column.astype(object).where(column.notna(), "").astype(str)


def _swarm(values: np.ndarray) -> np.ndarray:
    """Heights within ±0.3 that keep equal values apart: patients of one bin are fanned out around the
    middle."""
    bins = np.round(values * 40).astype(int)
    counts = pd.Series(bins).groupby(bins).cumcount().to_numpy()
    fan = (counts + 1) // 2 * np.where(counts % 2, 1, -1)
    return fan * min(0.1, 0.3 / max(np.abs(fan).max(initial=0), 1))
