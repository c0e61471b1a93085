"""Every chart, as a Plotly figure made from a Cohort or an Analysis alone. Nothing here knows a screen.

Each function returns a figure in the light look; `theme.dress(figure, dark=True)` turns it dark. Show them
with Streamlit's `theme=None`, or its theme overrides ours. Points carry what a click needs in `customdata`:
the patient in charts of patients, the cell's index (cohort order) in maps. `alt(figure)` is the
picture in words. Whatever comes from a table is shortened and escaped first, because Plotly reads markup in
labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import outcome, theme
from dashboard.checks import (
    agreement,
    baselines,
    calibration,
    confounders,
    confusion,
    deletion,
    faithfulness,
    fit,
    null,
    roc,
    survival,
)
from dashboard.drivers import groups, profile
from dashboard.maps import tissue_preview
from dashboard.theme import escape, finish, nothing, percent, quoted, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

__all__ = [
    "agreement",
    "alt",
    "baselines",
    "calibration",
    "cells_per_patient",
    "confounders",
    "confusion",
    "deletion",
    "early_ranking",
    "faithfulness",
    "fit",
    "label_balance",
    "markers",
    "null",
    "ranking",
    "roc",
    "strip",
    "survival",
    "tissue_preview",
    "waterfall",
]

_NAMED = 40  # patients whose names fit under an axis


def alt(figure: go.Figure) -> str:
    """What the figure shows, in one or two sentences, for readers who do not see it."""
    return str((figure.layout.meta or {}).get("alt", ""))


# ---------------------------------------------------------------- patients


def ranking(analysis: Analysis) -> go.Figure:
    """Patients ordered by prediction: dot = out of fold, hue = true label, whisker = range over retrained models,
    dashed line = threshold. `customdata` is the patient."""
    frame = outcome.patients(analysis).dropna(subset=["value"])
    return _ranking(frame, analysis.facts)


def early_ranking(early: dict[str, Any], *, settings: dict[str, Any]) -> go.Figure:
    """The ranking of an early result (`Progress.early`) while training still runs; it has no whiskers yet."""
    facts, frame = outcome.early(early, settings)
    return _ranking(frame, facts)


def _ranking(frame: pd.DataFrame, facts: dict[str, Any]) -> go.Figure:
    order = ["called_as", "value"]  # of several classes, those predicted alike stand together
    frame = frame.sort_values(order, kind="stable")
    frame = frame.assign(place=np.arange(1, len(frame) + 1), shown=_shown(frame))
    hues = outcome.groups(facts)
    figure = go.Figure([_dots(part, group, hues) for group, part in _by_group(frame, hues)])
    if facts.get("threshold") is not None:
        threshold = facts["threshold"]
        figure.add_hline(y=threshold, line={"dash": "dash", "width": 1.2})
        note = f"threshold {percent(threshold)}"
        figure.add_annotation(x=0, xref="paper", xanchor="left", y=threshold, yanchor="bottom", text=note)
    _part_classes(figure, frame)
    named = len(frame) <= _NAMED
    ticks = [escape(short(name, 16)) for name in frame["shown"]] if named else None
    figure.update_xaxes(
        title="" if named else f"{len(frame)} patients, {outcome.order(facts)}",
        tickvals=frame["place"] if named else None,
        ticktext=ticks,
        showticklabels=named,
        tickangle=-60 if len(frame) > 8 else 0,
        showgrid=False,
        range=[0.3, len(frame) + 0.7],
    )
    figure.update_yaxes(**outcome.axis(facts))
    if facts["task"] == "survival":
        figure.add_hline(y=1, line={"dash": "dot", "width": 1.2})
    words = f"{len(frame)} patients ordered by their prediction {outcome.how(facts)} ({facts['towards']})"
    return finish(figure, f"{words}, coloured by true label.")


def _part_classes(figure: go.Figure, frame: pd.DataFrame) -> None:
    """A line and a name where another predicted class begins."""
    starts = frame.groupby("called_as", sort=True)["place"].agg(["min", "mean"])
    for name, place in starts.iterrows():
        if name:
            figure.add_vline(x=place["min"] - 0.5, line={"width": 1, "dash": "dot"})
            text = f"predicted<br>{escape(short(name, 18))}"
            figure.add_annotation(x=place["mean"], y=0.04, text=text, yanchor="bottom", font={"size": 12})


def _dots(part: pd.DataFrame, label: str, classes: Sequence[str]) -> go.Scatter:
    """The dots of one label; a label has its own shape as well as its hue."""
    hue = theme.class_hues(classes)[label]
    size = 11 if len(part) < 30 else 8 if len(part) < 120 else 6
    symbol = "circle-open" if label == "" else theme.SYMBOLS[list(classes).index(label) % len(theme.SYMBOLS)]
    whiskers: dict[str, Any] | None = None
    if "low" in part:
        over, under = part["high"] - part["value"], part["value"] - part["low"]
        style = {"symmetric": False, "thickness": 1.2, "width": 0, "color": hue}
        whiskers = {"type": "data", "array": over.clip(lower=0), "arrayminus": under.clip(lower=0), **style}
    return go.Scatter(
        x=part["place"],
        y=part["value"],
        error_y=whiskers,
        mode="markers",
        marker={"color": hue, "size": size, "symbol": symbol},
        name=escape(short(label)) or "no label",
        customdata=part["patient"].astype(str),
        hovertext=[_patient_words(row) for row in part.to_dict("records")],
        hoverinfo="text",
        cliponaxis=False,  # the first and the last are whole
    )


def _patient_words(row: dict[str, Any]) -> str:
    label = escape(short(row["label"])) or "no label"
    called = f"{escape(short(row['called_as']))}, " if row["called_as"] else ""
    lines = [
        f"<b>{escape(short(row['shown'], 60))}</b>",
        f"label: {label}",
        f"predicted {called}{row['said']}",
    ]
    if "range" in row:
        lines.append(f"retrained models: {row['range']}")
    return "<br>".join(lines)


def strip(analysis: Analysis, patient: str) -> go.Figure:
    """Where one patient lies among all: every patient's prediction, a row per label, this patient ringed."""
    facts = analysis.facts
    frame = outcome.patients(analysis).dropna(subset=["value"])
    frame = frame.assign(shown=_shown(frame), place=0.0)
    hues = outcome.groups(facts)
    parts = _by_group(frame, hues)
    for height, (_, part) in enumerate(parts):
        frame.loc[part.index, "place"] = height + _swarm(part["value"].to_numpy())
    traces = [
        _dots(frame.loc[part.index].drop(columns=["low", "high"]), group, hues) for group, part in parts
    ]
    for trace in traces:
        trace.update(x=trace.y, y=trace.x)
    figure = go.Figure(traces)
    me = frame[frame["patient"].astype(str) == patient]
    ring = {"symbol": "circle-open", "size": 20, "color": theme.MISSING, "line": {"width": 3}}
    figure.add_scatter(x=me["value"], y=me["place"], mode="markers", marker=ring, hoverinfo="skip")
    figure.update_traces(cliponaxis=False)
    if "threshold" in facts:
        figure.add_vline(x=facts["threshold"], line={"dash": "dash", "width": 1.2})
    rows = [escape(short(group, 20)) or "no label" for group, _ in parts]
    figure.update_yaxes(tickvals=list(range(len(parts))), ticktext=rows, range=[-0.6, len(parts) - 0.4])
    figure.update_xaxes(**outcome.axis(facts))
    figure.update_layout(showlegend=False, height=90 + 60 * len(parts))
    found = me["said"].iloc[0] if len(me) else "not predicted"
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
    """From nothing to the patient's score, one step per group of `groups`."""
    table = groups(analysis, patient)
    found = outcome.patients(analysis)
    found = found.loc[found["patient"].astype(str) == patient, "said"]
    total = float(table["contribution"].sum())
    names = [escape(short(group, 25)) for group in table["group"]]
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
    label = f"<b>score: {escape(found.iloc[0])}</b>" if len(found) == 1 else "<b>sum of the regions</b>"
    figure.update_yaxes(
        tickvals=list(range(len(steps))), ticktext=[*names, label], autorange="reversed", showgrid=False
    )
    ends = np.concatenate([[0.0], np.cumsum(table["contribution"])])
    room = 0.2 * max(float(np.ptp(ends)), 1e-9)  # for the figures beside the bars
    figure.update_xaxes(
        title=f"{escape(outcome.unit(analysis.facts).capitalize())} (blue against, orange for)",
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
    positive = quoted(analysis.facts["towards"])
    if table.empty:
        return nothing(f"No cell of this patient argues {side} {positive}.")
    places = list(range(len(table)))
    figure, line = go.Figure(), {"color": theme.MISSING, "width": 1.5}
    ends = zip(places, table["others"], table["top"], strict=True)
    spans = [{"x0": others, "x1": top, "y0": place, "y1": place} for place, others, top in ends]
    figure.update_layout(shapes=[{"type": "line", "line": line, "layer": "below"} | span for span in spans])
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


def _by_group(frame: pd.DataFrame, hues: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    parts = [(name, frame[frame["group"] == name]) for name in [*hues, ""]]
    return [(name, part) for name, part in parts if len(part)]


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
