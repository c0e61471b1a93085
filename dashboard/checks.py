"""Charts of whether a model and its explanation can be believed. `figures` shows them under its own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import outcome, theme, trust, worth
from dashboard.theme import escape, finish, nothing, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = [
    "agreement",
    "baselines",
    "calibration",
    "confounders",
    "confusion",
    "deletion",
    "faithfulness",
    "fit",
    "null",
    "roc",
    "survival",
]

BAND = "rgba(139,146,156,0.35)"  # theme.MISSING, seen through
LINES = {
    "importance": {"color": theme.AGAINST, "width": 2.5},
    "evidence": {"color": theme.MISSING, "width": 2, "dash": "dash"},
    "leave_out": {"color": theme.MISSING, "width": 2, "dash": "dashdot"},
    "phenotype": {"color": theme.FOR, "width": 2},
    "attention": {"color": theme.ramp("attention")[2][1], "width": 2},
}


def fit(analysis: Analysis) -> go.Figure:
    """How well predictions fit, as the kind of label has it: ROC, predicted against measured, or Kaplan-Meier."""
    charts = {"regression": agreement, "survival": survival}
    return charts.get(analysis.facts["task"], roc)(analysis)


def roc(analysis: Analysis) -> go.Figure:
    """Sensitivity against false alarms, out of fold: the curve whose area is the AUROC, mean over folds and repeats; of
    several classes, each against the rest."""
    facts = analysis.facts
    several = facts["task"] == "multiclass"
    curves = facts["roc"] if several else {"": facts["roc"]}
    figure = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", showlegend=False))
    figure.update_traces(line={"dash": "dot", "color": theme.MISSING}, hoverinfo="skip")
    hue = theme.class_hues(facts["classes"])
    for name, curve in curves.items():
        figure.add_scatter(
            x=[0.0, *curve["fpr"]],
            y=[0.0, *curve["tpr"]],
            mode="lines",
            name=escape(short(name)),
            line={"color": hue[name] if several else theme.AGAINST, "width": 2.5, "shape": "hv"},
            hovertemplate="%{y:.0%} found at %{x:.0%} false alarms<extra></extra>",
        )
    words = outcome.score(facts)
    figure.add_annotation(x=0.98, y=0.06, xanchor="right", text=words, font={"size": 14})
    figure.update_xaxes(title="False alarms (1 − specificity)", tickformat=".0%", range=[-0.01, 1.01])
    figure.update_yaxes(title="Sensitivity", tickformat=".0%", range=[-0.01, 1.01], scaleanchor="x")
    figure.update_yaxes(constrain="domain", constraintoward="top")
    figure.update_xaxes(constrain="domain")
    figure.update_layout(showlegend=several)
    how = outcome.how(facts) + ("" if facts.get("new") else ", mean over folds and repeats")
    return finish(figure, f"ROC curve, {how}. {words}.")


def calibration(analysis: Analysis) -> go.Figure:
    """Share of patients with the outcome against the probability predicted, in five groups with 95 % intervals."""
    found = analysis.facts.get("calibration", {}).get("curve")
    if not found:
        return nothing(worth.calibrated(analysis.facts))
    x, y, low, high, n = (
        [group[k] for group in found] for k in ("predicted", "observed", "low", "high", "patients")
    )
    whiskers = {
        "type": "data",
        "symmetric": False,
        "array": np.subtract(high, y),
        "arrayminus": np.subtract(y, low),
        "width": 0,
    }
    figure = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", hoverinfo="skip", showlegend=False))
    figure.update_traces(line={"dash": "dot", "color": theme.MISSING})
    words = [f"predicted {a:.0%}, observed {b:.0%} of {k}" for a, b, k in zip(x, y, n, strict=True)]
    figure.add_scatter(x=x, y=y, error_y=whiskers, mode="markers", hovertext=words, hoverinfo="text")
    figure.update_traces(marker={"size": 10, "color": theme.AGAINST}, selector={"mode": "markers"})
    figure.update_xaxes(title="Predicted probability", tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(title="Observed share", tickformat=".0%", range=[-0.02, 1.02])
    figure.update_layout(showlegend=False, height=360)
    return finish(figure, f"Observed share against predicted probability. {worth.calibrated(analysis.facts)}")


def confusion(analysis: Analysis) -> go.Figure:
    """Patients of each class (rows) by the class predicted (columns)."""
    found = analysis.facts["confusion"]
    names = [escape(short(name, 20)) for name in found["classes"]]
    under = [escape(short(name, 11)) for name in found["classes"]]
    counts = np.array(found["counts"])
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    scale = [[0, "rgba(31,111,196,0.04)"], [1, "rgba(31,111,196,0.75)"]]
    figure = go.Figure(go.Heatmap(z=share, y=names, text=counts, texttemplate="%{text}"))
    figure.update_traces(colorscale=scale, showscale=False, zmin=0, zmax=1, xgap=2, ygap=2)
    figure.update_traces(
        hovertemplate="%{y} predicted %{customdata}: %{text}<extra></extra>", x=list(range(len(under)))
    )
    figure.update_traces(customdata=np.tile(names, (len(names), 1)))
    figure.update_xaxes(title="Predicted", showgrid=False, tickangle=-40, ticks="")
    figure.update_xaxes(tickvals=list(range(len(under))), ticktext=under)
    figure.update_yaxes(title="Label", type="category", autorange="reversed", showgrid=False, ticks="")
    figure.update_layout(height=160 + 46 * len(names))
    right = f"{int(np.trace(counts))} of {int(counts.sum())}"
    return finish(figure, f"Patients by label and predicted class; {right} on the diagonal.")


def agreement(analysis: Analysis) -> go.Figure:
    """Predicted against measured values, out of fold; the line is where both are equal. `customdata` is the patient."""
    facts = analysis.facts
    frame = outcome.patients(analysis)
    frame = frame[frame["label"] != ""]
    measured = pd.to_numeric(frame["label"]).to_numpy(float)
    ends = [float(min(measured.min(), frame["low"].min())), float(max(measured.max(), frame["high"].max()))]
    over, under = frame["high"] - frame["value"], frame["value"] - frame["low"]
    whiskers = {"type": "data", "symmetric": False, "array": over, "arrayminus": under, "width": 0}
    figure = go.Figure(go.Scatter(x=ends, y=ends, mode="lines", line={"dash": "dot", "color": theme.MISSING}))
    words = [
        f"<b>{escape(short(p, 60))}</b><br>measured {escape(label)}, predicted {value}"
        for p, label, value in frame[["patient", "label", "said"]].itertuples(index=False)
    ]
    figure.add_scatter(
        x=measured,
        y=frame["value"],
        error_y=whiskers | {"thickness": 1.2},
        mode="markers",
        marker={"color": theme.AGAINST, "size": 8 if len(frame) < 120 else 5},
        hovertext=words,
        hoverinfo="text",
        customdata=frame["patient"].astype(str),
    )
    name = escape(outcome.target(facts))
    figure.update_xaxes(title=f"Measured {name}")
    figure.update_yaxes(title=f"Predicted {name}")
    figure.update_layout(showlegend=False)
    score = outcome.score(facts)
    return finish(
        figure, f"Predicted against measured {facts['settings']['target']}, {outcome.how(facts)}. {score}."
    )


def survival(analysis: Analysis) -> go.Figure:
    """Kaplan-Meier curves with 95 % bands of patients at higher and lower predicted risk, out of fold."""
    groups = [group for group in analysis.facts["survival"]["groups"] if group["patients"]]
    figure = go.Figure()
    for group in groups:
        hue, band = (
            (theme.FOR, "rgba(217,106,0,0.16)")
            if "higher" in group["name"]
            else (theme.AGAINST, "rgba(31,111,196,0.16)")
        )
        edge = {
            "mode": "lines",
            "line": {"width": 0, "shape": "hv"},
            "showlegend": False,
            "hoverinfo": "skip",
        }
        figure.add_scatter(x=group["time"], y=group["low"], **edge)
        figure.add_scatter(x=group["time"], y=group["high"], fill="tonexty", fillcolor=band, **edge)
        figure.add_scatter(
            x=group["time"],
            y=group["survival"],
            mode="lines",
            line={"color": hue, "width": 2.5, "shape": "hv"},
            name=f"{group['name']}, event in {group['events']} of {group['patients']}",
            customdata=group["at_risk"],
            hovertemplate="%{y:.0%} without event at %{x}, %{customdata} still seen<extra></extra>",
        )
    figure.update_xaxes(
        title=escape(short(analysis.facts["settings"].get("time") or "Time", 30)), rangemode="tozero"
    )
    figure.update_yaxes(title="Without event", tickformat=".0%", range=[0, 1.02])
    figure.update_layout(legend={"orientation": "v", "y": 1.02, "yanchor": "bottom"}, margin={"t": 76})
    return finish(figure, f"Kaplan-Meier curves, out of fold. {worth.log_rank(analysis.facts)}")


def null(analysis: Analysis) -> go.Figure:
    """Scores of the same chain on shuffled labels, and the one observed: could this be chance?"""
    null = analysis.facts.get("null")
    if not null:
        return nothing("Chance was not tested in this analysis.")
    figure = go.Figure(
        go.Histogram(x=null["values"], nbinsx=40, marker={"color": theme.NEUTRAL}, name="shuffled")
    )
    figure.add_vline(x=null["observed"], line={"color": theme.AGAINST, "width": 2.5})
    p = escape(theme.p_value(null))
    figure.add_annotation(
        x=null["observed"], y=1, yref="paper", yanchor="bottom", text=f"observed {null['observed']:.2f}, {p}"
    )
    figure.update_xaxes(
        title=f"{outcome.main(analysis.facts)} with shuffled labels ({escape(null['chain'])})"
    )
    figure.update_yaxes(title="Permutations")
    figure.update_layout(showlegend=False, bargap=0.02)
    n = null["permutations"]
    return finish(
        figure, f"{n} permutations of the labels; observed {null['observed']:.2f}, {theme.p_value(null)}."
    )


def baselines(analysis: Analysis) -> go.Figure:
    """Is multiple-instance learning needed? The leading score with interval of Milscope and all it is compared with."""
    facts = analysis.facts
    scored = worth.compared(facts)
    figure = _intervals(scored, facts)
    words = "; ".join(f"{name} {theme.interval(score)}" for name, score in scored)
    return finish(figure, f"{outcome.main(facts)} of Milscope and plain baselines: {words}.")


def confounders(analysis: Analysis) -> go.Figure:
    """The leading score of each batch-like patient column alone and of the number of cells, below Milscope's."""
    found = trust.probed(analysis.facts)
    if not found:
        return nothing(trust.confounded(analysis.facts))
    facts = analysis.facts
    figure = _intervals([("Milscope", facts["scores"][facts["main"]]), *found.items()], facts)
    words = "; ".join(f"{name} {theme.interval(score)}" for name, score in found.items())
    return finish(figure, f"{outcome.main(facts)} of what is not biology, alone: {words}.")


def _intervals(scored: Sequence[tuple[str, Mapping[str, Any]]], facts: Mapping[str, Any]) -> go.Figure:
    """Scores as dots with their intervals, one row each in the given order; the first, Milscope's, stands out."""
    figure = go.Figure()
    top = len(scored) - 1
    for place, (name, score) in enumerate(reversed(scored)):
        value = score["value"]
        low, high = score.get("low", value), score.get("high", value)
        hue = theme.AGAINST if place == top else theme.MISSING
        whisker = {
            "type": "data",
            "symmetric": False,
            "array": [high - value],
            "arrayminus": [value - low],
            "width": 0,
        }
        words = f"{escape(name)}: {outcome.main(facts)} {theme.interval(score)}"
        marker = {"size": 11, "color": hue}
        figure.add_scatter(
            x=[value],
            y=[place],
            error_x=whisker,
            mode="markers",
            marker=marker,
            hovertext=words,
            hoverinfo="text",
        )
    figure.add_vline(x=facts["chance"], line={"dash": "dot", "width": 1.2})
    names = [escape(short(name, 34)) for name, _ in reversed(scored)]
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, showgrid=False, range=[-0.6, top + 0.6]
    )
    figure.update_xaxes(title=f"{outcome.main(facts)}, out of fold ({facts['chance']:g} = chance)")
    figure.update_layout(showlegend=False, height=80 + 34 * len(names), margin={"t": 18})
    return figure


def faithfulness(analysis: Analysis) -> go.Figure:
    """Score lost as cells are taken away in the order of each explanation, over the band of random orders (95 %); mean
    over patients."""
    found, words = analysis.facts.get("faithfulness"), trust.faithful(analysis)
    if not found:
        return nothing(words)
    figure = deletion(found, analysis.facts)
    return finish(figure, f"Score lost as cells are taken away, mean over patients. {words}")


def deletion(found: Mapping[str, Any], facts: Mapping[str, Any]) -> go.Figure:
    """Curves of `milcore.faithfulness`, of all patients or of one."""
    x, chance = found["steps"], found["random"]
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure = go.Figure(go.Scatter(x=x, y=chance["low"], showlegend=False, **band))
    figure.add_scatter(
        x=x, y=chance["high"], fill="tonexty", fillcolor=BAND, name="random order (95 %)", **band
    )
    orders = [name for name in LINES if name in found and (name != "attention" or trust.attends(facts))]
    for name in reversed(orders):
        spoken = "by " + name.replace("_", " ")
        _curve(figure, x, found[name]["curve"], LINES[name], spoken)
    least = LINES["importance"] | {"dash": "dot", "width": 1.6}
    _curve(figure, x, found["importance"]["least"], least, "least important first")
    figure.add_vline(x=trust.TENTH, line={"dash": "dot", "width": 1.2})
    figure.update_xaxes(title="Share of cells taken away", tickformat=".0%", range=[0, max(x) + 0.01])
    figure.update_yaxes(title=f"Score lost ({escape(outcome.unit(facts))})")
    return figure.update_layout(height=380, legend={"traceorder": "reversed"})


def _curve(figure: go.Figure, x: list[float], y: list[float], line: dict[str, Any], name: str) -> None:
    words = f"%{{x:.0%}} taken away, {name}: %{{y:.2f}} lost<extra></extra>"
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, hovertemplate=words)
