"""How the map of all cells is laid out: which one is shown, and another one made in the background."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from dashboard import layouts, state, theme, widgets
from milcore.preprocess import named
from milcore.projection import LANDMARKS, USUAL, Layout

if TYPE_CHECKING:
    from dashboard.jobs import Job
    from milcore.analysis import Analysis

STAGES = ("neighbours", "umap", "saving")


def panel(analysis: Analysis) -> None:
    """Below the maps, folded: the maps there are, and what another one would look at."""
    job = state.newest_job("lay out", analysis=state.session().analysis)
    how = theme.short(layouts.spoken(state.layout(), of_file=state.map_of_file()), 90)
    with st.expander(f"The map by likeness: {widgets.markdown(how)}"):
        _shown(analysis)
        if job is not None and not job.over:
            _follow(job.id)
            return
        if job is not None and job.state == "failed":
            widgets.failed(job, kept="The map you see is the one from before.")
        _another(analysis)


def _shown(analysis: Analysis) -> None:
    """A choice among the maps that were made."""
    every = {"": USUAL, **layouts.saved(state.workspace(), state.session().analysis)}
    if len(every) > 1:
        brought = analysis.facts.get("umap") == "from file"
        words = {
            name: theme.short(layouts.spoken(layout, of_file=brought and not name), 110)
            for name, layout in every.items()
        }
        st.selectbox("Shown", **state.bind("layout", list(every)), format_func=words.__getitem__)


def _another(analysis: Analysis) -> None:
    """What a new map is to look at. Nothing changes before it is there."""
    left, middle, right = st.columns([1, 1, 2], gap="large")
    neighbours = left.slider(
        "Neighbours", 5, 100, **state.bind("map_neighbours"), help="More: the large picture; fewer: detail"
    )
    distance = middle.slider(
        "Least distance", 0.0, 0.99, **state.bind("map_distance"), help="Less: tighter groups"
    )
    names = list(named(analysis.cohort, context=analysis.settings.context))
    chosen = right.multiselect("Features", **state.bind("map_features", names), placeholder="All")
    full = st.checkbox(
        f"Full fit: every cell, not {LANDMARKS:,} with the others placed among them (minutes from 50,000 cells on)",
        **state.bind("map_full"),
    )
    features = tuple(name for name in names if name in chosen)  # the order of choosing makes no other map
    layout = Layout(int(neighbours), round(float(distance), 2), features, bool(full))
    brought = analysis.facts.get("umap") == "from file"
    asked = {"analysis": state.session().analysis, "layout": asdict(layout)}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Make this map",
            on_click=state.submit,
            args=("lay out", asked),
            disabled=layout == USUAL and not brought,
        )
        widgets.quiet(
            "In the background; this map stays until the new one is there, and can be had back. The same settings "
            "make the same map. Labels take no part."
        )


@st.fragment(run_every=1.0)
def _follow(key: str) -> None:
    job: Job | None = state.jobs().get(key)
    if job is None or job.over:
        st.rerun()
        return
    widgets.progress(job, STAGES)
    st.button("Cancel", on_click=state.jobs().cancel, args=(key,), disabled=job.cancelling, key="stop-map")
