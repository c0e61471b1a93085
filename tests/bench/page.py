"""The page that tests.bench.screen measures: N made-up cells on our canvas (?with=canvas) or as Plotly's Scattergl."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import canvas, planes, state, theme
from dashboard.colouring import colouring
from milcore.analysis import Analysis
from milcore.cohort import Cohort

PATIENTS, ISLANDS = 50, 12
HEIGHT = 520


class Drawn(SimpleNamespace):
    """What drawing needs of an analysis."""

    __hash__ = object.__hash__  # as an analysis has


@st.cache_resource
def made(n: int) -> Analysis:
    """Islands of cells on a map; nothing is trained."""
    rng = np.random.default_rng(0)
    island = rng.integers(0, ISLANDS, n)
    middle = rng.uniform(-10, 10, (ISLANDS, 2))
    places = (middle[island] + rng.normal(size=(n, 2))).astype(np.float32)
    value = rng.normal(size=n) * (island % 3)
    cohort = Cohort.of(
        rng.normal(size=(n, 2)).astype(np.float32), np.arange(n) * PATIENTS // n, names=("A", "B")
    )
    cells = {"importance": value, "evidence": value, "attention": PATIENTS / n, "leave_one_out": -value}
    cells |= {"umap_1": places[:, 0], "umap_2": places[:, 1]}
    facts = {"task": "binary", "towards": "yes"}
    found = Drawn(cohort=cohort, facts=facts, cells=pd.DataFrame(cells), layout="", layouts={})
    return cast(Analysis, found)


def main() -> None:
    """Draws the page."""
    st.set_page_config(layout="wide")
    analysis = made(int(st.query_params["cells"]))
    other = st.checkbox("Other colour")
    colour = "A" if other else "importance"
    if st.query_params["with"] == "canvas":
        state.session().analysis = f"bench-{analysis.cohort.N}"
        shown = [planes.likeness(analysis, colour=colour, height=HEIGHT)]
        canvas.cell_maps(analysis, shown, key="bench", colour=colour, columns="1fr")
        return
    painted = colouring(analysis, colour, np.arange(analysis.cohort.N))
    marker = {"color": painted.values, "colorscale": theme.ramp(painted.ramp), "size": 3}
    marker |= {"cmin": painted.low, "cmax": painted.high}
    at = {"x": analysis.cells["umap_1"], "y": analysis.cells["umap_2"]}
    figure = go.Figure(go.Scattergl(**at, mode="markers", marker=marker))
    figure.update_layout(dragmode="lasso", height=HEIGHT)
    st.plotly_chart(figure, key="bench", on_select="rerun", theme=None)


if __name__ == "__main__":
    main()
