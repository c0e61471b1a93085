"""What surrounds every view: the views with their ticks, and what is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard import state, theme, widgets
from dashboard.views import analyses, cells, cohort, patient, predictions, report, train
from milcore.errors import MilError

if TYPE_CHECKING:
    from streamlit.navigation.page import Page

VIEWS = {
    "cohort": ("Cohort", cohort.render),
    "train": ("Train", train.render),
    "predictions": ("Predictions", predictions.render),
    "patient": ("Patient", patient.render),
    "cells": ("Cells", cells.render),
    "report": ("Report", report.render),
    "analyses": ("Analyses", analyses.render),
}


def navigation() -> Page:
    """The views in the order of the work, each with a tick once it has something to show; the current one."""
    now, home = state.session(), state.workspace()
    has_cohort, has_analysis = home.has_cohort(now.cohort), home.has_analysis(now.analysis)
    ready = {name: has_cohort if name == "cohort" else has_analysis for name in VIEWS}
    pages = {
        name: st.Page(render, title=title, url_path=name, default=name == "cohort")
        for name, (title, render) in VIEWS.items()
    }
    state.set_pages(pages)
    with st.sidebar:
        st.html('<p class="mil-logo">Milscope</p>')
        for name, page in pages.items():  # icons of the pages themselves would be fetched from a network
            st.page_link(page, icon=f":material/{'check' if ready[name] else 'remove'}:", width="stretch")
        if state.providers():
            who = st.user.get("email") or st.user.get("name") or "someone without an address"
            widgets.quiet(f"Logged in as {theme.short(who, 40)}.")
            st.button("Log out", on_click=st.logout)
    return st.navigation(list(pages.values()), position="hidden")


def admitted() -> bool:
    """Whether this tab may go on; if not, a page that asks for a login, and nothing else, is drawn."""
    if state.admitted():
        return True
    widgets.look()
    if st.user.is_logged_in:
        widgets.finding("You are logged in, but not allowed to use this Milscope.")
        widgets.quiet("Whoever runs it can allow you.")
        st.button("Log out", on_click=st.logout)
        return False
    widgets.finding("Log in to use Milscope.")
    for name in state.providers():
        only = name == "default"
        label = "Log in" if only else f"Log in with {widgets.markdown(name)}"
        st.button(label, type="primary", on_click=st.login, args=() if only else (name,), key=f"login-{name}")
    return False


def top() -> None:
    """Name of the cohort, chooser of the analysis, and what this program is for."""
    widgets.look()
    now = state.session()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        name = (
            theme.escape(theme.short(state.cohort_name(now.cohort), 70)) if now.cohort else "No cohort open"
        )
        st.html(f'<div class="mil-top"><b>{name}</b></div>', width="content")
        known = _known() if now.cohort else []
        if known:
            _chooser(known)
        if dict(known).get(now.analysis, {}).get("new"):
            st.html('<span class="mil-ruo"><b>New patients</b></span>', width="content")
        st.html('<span class="mil-ruo">Research use only</span>', width="content")
    _damaged()


def _known() -> list[tuple[str, dict[str, Any]]]:
    """The analyses to choose from; none where the cohort cannot be opened, of which the view says why."""
    try:
        return state.analyses()
    except MilError:
        return []


def _damaged() -> None:
    """What was found damaged and set aside, until someone deletes it or puts the message away."""
    for key, facts in state.workspace().damaged():
        if key in state.session().dismissed:
            continue
        mend = "Read its tables again: its analyses come back with it." if facts["kind"] == "cohort" else ""
        kept = f"It was set aside as “{key}” and is not used. {mend or 'Train again to replace it.'}"
        widgets.card("stop", facts["why"], kept)
        with st.container(horizontal=True):
            st.button("Put away", on_click=state.dismiss, args=(key,), key=f"dismiss-{key}")
            st.button("Delete it", on_click=state.workspace().discard, args=(key,), key=f"discard-{key}")


def _chooser(known: list[tuple[str, dict[str, Any]]]) -> None:
    words = {key: _words(key, facts) for key, facts in known}
    st.selectbox(
        "Analysis",
        **state.bind("analysis", list(words)),
        format_func=words.__getitem__,
        label_visibility="collapsed",
        width=380,
    )


def _words(key: str, facts: dict[str, Any]) -> str:
    main = facts["main"]
    known = facts.get("scores", {})
    score = f", {theme.score_name(main)} {known[main]['value']:.2f}" if main in known else ""
    score += ", new patients" if facts.get("new") else ""
    return f"{analyses.title(key, facts)}{score} ({key[6:8]}/{key[4:6]} {key[9:11]}:{key[11:13]})"
