"""The Analyses view: everything that was kept; open, name, repeat, compare, delete and bring back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard import outcome, state, theme, widgets

if TYPE_CHECKING:
    from dashboard.comparing import Agreement

Kept = Sequence[tuple[str, dict[str, Any]]]
NEEDED = {"settings", "cohort", "verdict", "main"}  # facts of a list; a damaged folder lacks some
VERDICTS = {"signal": "signal", "none": "no signal", "unclear": "unclear", "new": "new patients"}


@widgets.caught
def render() -> None:
    """Draws the list, and what can be done with the rows chosen in it."""
    kept = [(key, facts) for key, facts in state.workspace().every_analysis() if facts.keys() >= NEEDED]
    if kept:
        widgets.finding(f"{len(kept)} analys{'is is' if len(kept) == 1 else 'es are'} kept in the workspace.")
        widgets.quiet("Choose one to open, name, repeat or delete it; choose two to compare them.")
        chosen = _table(kept)
        if len(chosen) == 1:
            _one(*kept[chosen[0]])
        elif len(chosen) == 2:
            _two(*(kept[row] for row in chosen))
        elif chosen:
            widgets.quiet("Choose one or two.")
    elif state.cohort() is None:
        widgets.nothing("No analysis has been kept yet.", "Bring in a cohort", "cohort")
    else:
        widgets.nothing("No analysis has been kept yet.", "Choose a target and train", "train")
    _deleted()


def title(key: str, facts: dict[str, Any]) -> str:
    """What the user calls an analysis, else its target."""
    name = str(state.workspace().about(key).get("name", ""))
    return theme.short(name or facts["settings"]["target"], 40)


def _table(kept: Kept) -> list[int]:
    """The list; returns the rows that are chosen."""
    home = state.workspace()
    rows = [
        {
            "Name": title(key, facts),
            "Cohort": theme.short(state.cohort_name(facts["cohort"]["fingerprint"][:16]), 40),
            "Target": theme.short(facts["settings"]["target"], 30),
            "Verdict": VERDICTS.get(facts["verdict"]["kind"], ""),
            "Score": outcome.score(facts) or "no labels",
            "Made": _when(key),
            "Size": f"{home.size(key) / 1e6:,.1f} MB",
        }
        for key, facts in kept
    ]
    event = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"kept-{state.session().clicks}",
        alt="Analyses of the workspace",
    )
    return [row for row in event["selection"]["rows"] if row < len(kept)]


def _when(key: str) -> str:
    return f"{key[:4]}-{key[4:6]}-{key[6:8]} {key[9:11]}:{key[11:13]}"


# ---------------------------------------------------------------- one


def _one(key: str, facts: dict[str, Any]) -> None:
    widgets.say(f"{title(key, facts)}: {facts['verdict']['words']}")
    there = state.workspace().has_cohort(_cohort_of(facts))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if st.button("Open", type="primary", disabled=not there):
            _open(key)
            state.go("predictions")
        new = bool(facts.get("new"))
        if not new and st.button("Score new patients", disabled=not there):
            _open(key)
            state.go("predictions")
        if not new and st.button("Repeat with other settings", disabled=not there):
            _open(key)
            _fill(facts["settings"], facts)
            state.go("train")
        name = st.text_input("Name", value=title(key, facts), max_chars=60, key=f"name-{key}", width=260)
        if st.button("Rename"):
            state.workspace().note(key, name=name.strip())
            st.rerun()
        st.button("Delete", on_click=_delete, args=(key,))
    if not there:
        widgets.quiet("Its cohort is no longer in this workspace.")


def _cohort_of(facts: dict[str, Any]) -> str:
    return str(facts["cohort"]["fingerprint"][:16])


def _open(key: str) -> None:
    state.visit(key)
    state.jump(clicks=state.session().clicks + 1)


def _fill(settings: dict[str, Any], facts: dict[str, Any]) -> None:
    """The form of the Train view as it was for these settings."""
    same = ("target", "effort", "pooling", "transform", "seed", "centre", "context")
    filled = {name: settings[name] for name in same}
    filled |= {"kind": facts["task"], "time": settings["time"] or "", "positive": facts["positive"] or ""}
    state.jump(**filled, classes=list(settings["classes"]))


def _delete(key: str) -> None:
    state.workspace().delete(key)
    now = state.session()
    state.jump(clicks=now.clicks + 1, analysis="" if now.analysis == key else now.analysis)


def _deleted() -> None:
    """What was deleted can be brought back until it is removed for good."""
    gone = state.workspace().deleted()
    if not gone:
        return
    st.subheader("Deleted", anchor=False)
    for key, facts in gone[:12]:
        words = f"{facts['settings']['target']}, {_when(key)}"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Undo", on_click=state.workspace().restore, args=(key,), key=f"undo-{key}")
            st.button("Remove for good", on_click=state.workspace().purge, args=(key,), key=f"purge-{key}")
            widgets.say(theme.short(words, 70))


# ---------------------------------------------------------------- two


def _two(first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]) -> None:
    from dashboard import comparing

    keys = [key for key, _ in (first, second)]
    one, other = (state.opened(key) for key in keys)
    names = [title(*first), title(*second)]
    if names[0] == names[1]:
        names = [f"{name}, {_when(key)}, {key[-6:]}" for name, key in zip(names, keys, strict=True)]
    st.subheader("Side by side", anchor=False)
    widgets.say(_paired(comparing.difference(one, other), names, outcome.main(first[1])))
    widgets.say(_alike(comparing.agreement(one, other)))
    table = comparing.side_by_side(one, other)
    table.columns = pd.Index(["Compared", *names])
    st.dataframe(table, hide_index=True, alt="Two analyses side by side")


def _paired(apart: dict[str, float] | None, names: list[str], score: str) -> str:
    if apart is None:
        return (
            "They ask different questions or speak of different patients, so their scores are not compared."
        )
    value, se = apart["value"], apart["se"]
    clear = (
        "clearly better" if value > 2 * se else "clearly worse" if value < -2 * se else "no clear difference"
    )
    return (
        f"{names[0]} less {names[1]}, on the same patients: a difference in {score} of {value:+.2f} with a standard "
        f"error of {se:.2f}, {clear}."
    )


def _alike(found: Agreement | None) -> str:
    if found is None:
        return "They are of different cohorts, or of new patients, so their cells are not compared."
    return (
        f"Evidence of cells: rank correlation within patients {found.median:.2f} in the median (middle half "
        f"{found.low:.2f} to {found.high:.2f}, {found.patients} patients). Scores of patients: {found.predictions:.2f}."
    )
