"""A selection of cells: what it is in patients and scores. No screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import outcome, theme
from dashboard.colouring import bags_of

if TYPE_CHECKING:
    from milcore.analysis import Analysis


def shares(analysis: Analysis, chosen: np.ndarray) -> pd.DataFrame:
    """Share of every patient's cells that is chosen (N,): columns patient, group, share; rows as in predictions."""
    bags = bags_of(analysis)
    sizes = np.diff(analysis.cohort.offsets)[bags]
    counts = np.bincount(analysis.cohort.owner[chosen], minlength=analysis.cohort.B)[bags]
    frame = outcome.patients(analysis)[["patient", "group"]]
    return frame.assign(cells=counts, share=counts / sizes)


def share_figure(analysis: Analysis, table: pd.DataFrame) -> go.Figure:
    """Share of the selection in every patient, a box with its patients for each label."""
    classes = outcome.groups(analysis.facts)
    hues, figure = theme.class_hues(classes), go.Figure()
    for name in [*classes, ""]:
        part = table[table["group"] == name]
        if len(part):
            words = [
                f"{theme.escape(theme.short(p, 60))}<br>{theme.percent(s)}"
                for p, s in part[["patient", "share"]].to_numpy()
            ]
            shown = theme.escape(theme.short(name)) or "no label"
            dots = {
                "boxpoints": "all",
                "jitter": 0.5,
                "pointpos": 0,
                "marker": {"color": hues[name], "size": 7},
            }
            figure.add_box(
                x=part["share"],
                name=shown,
                hovertext=words,
                hoverinfo="text",
                fillcolor="rgba(0,0,0,0)",
                line={"width": 1.2},
                **dots,
            )
    figure.update_yaxes(ticks="outside", ticklen=8, tickcolor="rgba(0,0,0,0)")
    figure.update_xaxes(title="Share of cells", tickformat=".1~%", rangemode="tozero", minallowed=0)
    figure.update_layout(
        showlegend=False,
        height=110 + 60 * len(figure.data),
        meta={"alt": "Share of the selected cells in every patient, by label."},
    )
    return theme.dress(figure)


def differences_figure(
    table: pd.DataFrame, *, limit: int = 8, than: str = "the patient's other cells"
) -> go.Figure:
    """The largest differences of `selections.differences`, with their intervals."""
    shown = table.head(limit)
    wide = {
        "array": shown["high"] - shown["difference"],
        "color": theme.MISSING,
        "thickness": 1.5,
        "width": 0,
    }
    figure = go.Figure(
        go.Scatter(
            x=shown["difference"],
            y=list(range(len(shown))),
            mode="markers",
            error_x=wide,
            marker={"color": theme.HUES[0], "size": 9},
            hovertemplate="%{x:.2f} SDs<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"width": 1, "color": theme.MISSING})
    names = [theme.escape(theme.short(name, 22)) for name in shown["feature"]]
    figure.update_yaxes(
        tickvals=list(range(len(shown))), ticktext=names, autorange="reversed", showgrid=False
    )
    figure.update_xaxes(title="Difference in SDs")
    figure.update_layout(showlegend=False, height=100 + 27 * len(shown), margin={"t": 8})
    words = ", ".join(f"{row.feature} {row.difference:+.1f}" for row in shown.head(4).itertuples())
    return theme.finish(figure, f"Largest differences from {than}, in standard deviations: {words}.")


def composition(analysis: Analysis, chosen: np.ndarray, *, limit: int = 6) -> pd.DataFrame:
    """What chosen cells (N,) are made of: columns phenotype, cells, of_these, of_its_kind; the most frequent first."""
    kinds = analysis.cells["phenotype"]
    inside, whole = kinds[chosen].value_counts(), kinds.value_counts()
    inside = inside[inside > 0].head(limit)
    table = pd.DataFrame({"phenotype": inside.index.astype(str), "cells": inside.to_numpy()})
    table["of_these"] = table["cells"] / max(int(chosen.sum()), 1)
    return table.assign(of_its_kind=table["cells"] / whole[inside.index].to_numpy())


def phenotype_rows(analysis: Analysis) -> pd.DataFrame:
    """The phenotypes in words, those that the leading score would miss most first."""
    facts, table = analysis.facts, analysis.phenotypes.table
    order = table.assign(size=table["importance"].abs()).sort_values(
        ["leave_out", "size"], ascending=False, kind="stable", na_position="last"
    )
    rows = []
    for row in order.to_dict("records"):
        named = {"phenotype": row["phenotype"], "cells": int(row["cells"])}
        if len(facts["classes"]) == 2:
            named |= {theme.short(name, 16): _fine(row[f"share_{name}"]) for name in facts["classes"]}
        else:
            named["share"] = _fine(row["share"])
        low, high = (_weighed(row[f"importance_{end}"]) for end in ("low", "high"))
        steady, nearby = row["stability"], row["nearby"]
        named |= {
            "FDR": _small(row["fdr"]),
            "importance": f"{_weighed(row['importance'])} ({low} to {high})",
            "score lost": f"{row['leave_out']:+.3f}" if np.isfinite(row["leave_out"]) else "n/a",
            "sign holds": theme.percent(steady) if np.isfinite(steady) else "n/a",
            "nearby": f"{nearby:.1f}×" if np.isfinite(nearby) else "n/a",
        }
        rows.append(named)
    return pd.DataFrame(rows)


def _weighed(value: float) -> str:
    """An importance with two significant digits, whole from 10 on; what is next to nothing is 0."""
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:#.2g}" if abs(value) >= 0.001 else "0"


def _fine(share: float) -> str:
    """A small share keeps a digit after the point."""
    return f"{100 * share:.1f} %" if np.isfinite(share) else "n/a"


def _small(p: float) -> str:
    if not np.isfinite(p):
        return "not tested"
    return "<0.001" if p < 0.001 else f"{p:.2g}"
