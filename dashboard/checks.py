"""Charts of whether a model and its explanation can be believed. `figures` shows them under its own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from dashboard import theme, trust
from dashboard.theme import escape, finish, nothing, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["baselines", "confounders", "faithfulness", "null", "roc"]

BAND = "rgba(139,146,156,0.35)"  # theme.MISSING, seen through
LINES = {
    "importance": {"color": theme.AGAINST, "width": 2.5},
    "evidence": {"color": theme.MISSING, "width": 2, "dash": "dash"},
    "attention": {"color": theme.ramp("attention")[2][1], "width": 2},
}


def roc(analysis: Analysis) -> go.Figure:
    """Sensitivity against false alarms, out of fold: the curve whose area is the AUROC, mean over folds and repeats."""
    curve = analysis.facts["roc"]
    figure = go.Figure(
        [
            go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": theme.MISSING}),
            go.Scatter(
                x=[0.0, *curve["fpr"]],
                y=[0.0, *curve["tpr"]],
                mode="lines",
                line={"color": theme.AGAINST, "width": 2.5, "shape": "hv"},
                hovertemplate="%{y:.0%} found at %{x:.0%} false alarms<extra></extra>",
            ),
        ]
    )
    words = f"AUROC {theme.interval(analysis.facts['scores']['auroc'])}"
    figure.add_annotation(x=0.98, y=0.06, xanchor="right", text=words, font={"size": 14})
    figure.update_xaxes(title="False alarms (1 − specificity)", tickformat=".0%", range=[-0.01, 1.01])
    figure.update_yaxes(title="Sensitivity", tickformat=".0%", range=[-0.01, 1.01], scaleanchor="x")
    figure.update_yaxes(constrain="domain", constraintoward="bottom")
    figure.update_layout(showlegend=False)
    return finish(figure, f"ROC curve, out of fold, mean over folds and repeats. {words}.")


def null(analysis: Analysis) -> go.Figure:
    """AUROCs of the same chain on shuffled labels, and the one observed: could this be chance?"""
    null = analysis.facts.get("null")
    if not null:
        return nothing("Chance was not tested in this analysis.")
    figure = go.Figure(
        go.Histogram(x=null["auroc"], nbinsx=40, marker={"color": theme.NEUTRAL}, name="shuffled")
    )
    figure.add_vline(x=null["observed"], line={"color": theme.AGAINST, "width": 2.5})
    p = escape(theme.p_value(null))
    figure.add_annotation(
        x=null["observed"], y=1, yref="paper", yanchor="bottom", text=f"observed {null['observed']:.2f}, {p}"
    )
    figure.update_xaxes(title=f"AUROC with shuffled labels ({escape(null['chain'])})")
    figure.update_yaxes(title="Permutations")
    figure.update_layout(showlegend=False, bargap=0.02)
    n = null["permutations"]
    return finish(
        figure, f"{n} permutations of the labels; observed {null['observed']:.2f}, {theme.p_value(null)}."
    )


def baselines(analysis: Analysis) -> go.Figure:
    """Is multiple-instance learning needed? AUROC with interval of Milscope, its members and the plain
    baselines."""
    facts = analysis.facts
    members = {f"{name} alone": m["scores"] for name, m in facts["pooling"]["members"].items()}
    rows = {
        "Milscope": facts["scores"],
        **(members if len(members) > 1 else {}),
        **facts.get("baselines", {}),
    }
    scored = [(name, scores["auroc"]) for name, scores in rows.items() if "auroc" in scores]
    figure = _intervals(scored)
    words = "; ".join(f"{name} {theme.interval(score)}" for name, score in scored)
    return finish(figure, f"AUROC of Milscope and plain baselines: {words}.")


def confounders(analysis: Analysis) -> go.Figure:
    """AUROC with interval of each batch-like patient column alone and of the number of cells, below Milscope's."""
    found = trust.probed(analysis.facts)
    if not found:
        return nothing(trust.confounded(analysis.facts))
    figure = _intervals([("Milscope", analysis.facts["scores"]["auroc"]), *found.items()])
    words = "; ".join(f"{name} {theme.interval(score)}" for name, score in found.items())
    return finish(figure, f"AUROC of what is not biology, alone: {words}.")


def _intervals(scored: Sequence[tuple[str, Mapping[str, Any]]]) -> go.Figure:
    """AUROCs as dots with their intervals, one row each in the given order; the first, Milscope's, stands out."""
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
        words = f"{escape(name)}: AUROC {theme.interval(score)}"
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
    figure.add_vline(x=0.5, line={"dash": "dot", "width": 1.2})
    names = [escape(short(name, 34)) for name, _ in reversed(scored)]
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, showgrid=False, range=[-0.6, top + 0.6]
    )
    figure.update_xaxes(title="AUROC, out of fold (0.5 = chance)")
    figure.update_layout(showlegend=False, height=80 + 34 * len(names), margin={"t": 18})
    return figure


def faithfulness(analysis: Analysis) -> go.Figure:
    """Score lost as cells are taken away in the order of importance, evidence and attention, over the band of random
    orders (95 %); mean over patients."""
    found = analysis.facts.get("faithfulness")
    if not found:
        return nothing(trust.faithful(analysis))
    x, chance = found["steps"], found["random"]
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure = go.Figure(go.Scatter(x=x, y=chance["low"], showlegend=False, **band))
    figure.add_scatter(
        x=x, y=chance["high"], fill="tonexty", fillcolor=BAND, name="random order (95 %)", **band
    )
    orders = (
        ("attention", "evidence", "importance")
        if trust.attends(analysis.facts)
        else ("evidence", "importance")
    )
    for name in orders:
        figure.add_scatter(
            x=x,
            y=found[name]["curve"],
            mode="lines",
            line=LINES[name],
            name=f"by {name}",
            hovertemplate=f"%{{x:.0%}} taken away by {name}: %{{y:.2f}} lost<extra></extra>",
        )
    figure.add_vline(x=trust.TENTH, line={"dash": "dot", "width": 1.2})
    figure.update_xaxes(title="Share of cells taken away", tickformat=".0%", range=[0, max(x) + 0.01])
    figure.update_yaxes(title="Score lost (log-odds)")
    figure.update_layout(height=380, legend={"traceorder": "reversed"})
    return finish(
        figure, f"Score lost as cells are taken away, mean over patients. {trust.faithful(analysis)}"
    )
