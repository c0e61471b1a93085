"""A selection of cells: what it is in patients and scores. No screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import outcome, theme
from dashboard.why import bags_of

if TYPE_CHECKING:
    from milcore.analysis import Analysis


@dataclass(frozen=True)
class Effect:
    """The leading score, pooled over folds, with and without some cells, over the `patients` that have a label and keep
    cells. NaN where there is no way to say (several classes)."""

    score: float
    score_without: float
    patients: int
    emptied: int


def shares(analysis: Analysis, chosen: np.ndarray) -> pd.DataFrame:
    """Share of every patient's cells that is chosen (N,): columns patient, group, share; rows as in predictions."""
    bags = bags_of(analysis)
    sizes = np.diff(analysis.cohort.offsets)[bags]
    counts = np.bincount(analysis.cohort.owner[chosen], minlength=analysis.cohort.B)[bags]
    frame = outcome.patients(analysis)[["patient", "group"]]
    return frame.assign(cells=counts, share=counts / sizes)


def effect(analysis: Analysis, chosen: np.ndarray) -> Effect:
    """What the cohort's leading score would be if the chosen cells (N,) were not counted; nothing is trained again."""
    changed = analysis.without(chosen)
    before = analysis.predictions["score"].to_numpy(float)
    after = before.copy()
    bags = bags_of(analysis)
    touched = np.intersect1d(bags, analysis.cohort.owner[chosen])
    after[np.searchsorted(bags, touched)] = changed["score_without"].to_numpy(float)
    label = analysis.predictions["label"].to_numpy()
    able = (label != "") & np.isfinite(before) & np.isfinite(after)
    emptied = int((~np.isfinite(after) & np.isfinite(before)).sum())
    return Effect(_score(analysis, able, before), _score(analysis, able, after), int(able.sum()), emptied)


def _score(analysis: Analysis, able: np.ndarray, score: np.ndarray) -> float:
    """The leading score of scores (n,) over the patients `able` (n,), as one fold."""
    from milcore.measures import auroc, concordance, rank_correlation

    frame, kind = analysis.predictions[able], analysis.facts["task"]
    if kind == "multiclass" or not able.any():
        return float("nan")
    s, one = score[able], np.zeros(int(able.sum()))
    if kind == "survival":
        return float(concordance(s, frame[["time", "event"]].to_numpy(float), one))
    if kind == "regression":
        return float(rank_correlation(s, pd.to_numeric(frame["label"]).to_numpy(float), one))
    truth = (frame["label"] == analysis.facts["positive"]).to_numpy(float)
    return float(auroc(s, truth, one)) if 0 < truth.sum() < len(truth) else float("nan")


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
    figure.update_xaxes(
        title="Share of the patient's cells", tickformat=".1~%", rangemode="tozero", minallowed=0
    )
    figure.update_layout(
        showlegend=False,
        height=110 + 60 * len(figure.data),
        meta={"alt": "Share of the selected cells in every patient, by label."},
    )
    return theme.dress(figure)
