"""The Predictions view: who is predicted what, how good that is, and whether to believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard import figures, outcome, state, theme, trust, widgets, worth
from dashboard.views import new

if TYPE_CHECKING:
    from milcore.analysis import Analysis


@widgets.caught
@widgets.with_analysis
def render(analysis: Analysis) -> None:
    """Draws the view of a finished analysis."""
    facts = analysis.facts
    widgets.finding(facts["verdict"]["words"])
    _scores(facts)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Patients by what is predicted", anchor=False)
        widgets.quiet(
            "Click a patient to see why. Whiskers: range over retrained models, not a confidence interval."
        )
        _ranking(analysis)
    if outcome.fitted(facts):
        with right:
            st.subheader(outcome.FITS[facts["task"]], anchor=False)
            widgets.quiet("Every patient scored by models that never saw it.")
            _fit(analysis)
    if facts.get("new"):
        new.beside(analysis)
        _missed(analysis)
    else:
        _evidence(analysis)
        new.form(analysis)


def _evidence(analysis: Analysis) -> None:
    """Folded: every reason to believe the predictions, or not to."""
    _needed(analysis)
    _chance(analysis)
    _calibration(analysis)
    _faithful(analysis)
    _confounders(analysis)
    _known(analysis)
    _members(analysis.facts)
    _missed(analysis)
    _unseen(analysis)
    _warnings(analysis.facts)


def _fit(analysis: Analysis) -> None:
    facts = analysis.facts
    curve = figures.fit(analysis).update_layout(height=430)
    if "roc" in facts:
        curve.layout.annotations = ()  # the verdict says the score
        curve.update_xaxes(title="1 − specificity")
    event = widgets.chart(curve, f"fit-{state.session().clicks}", on_select="rerun", selection_mode="points")
    points = event["selection"]["points"]
    if points and facts["task"] == "regression":
        _see(widgets.custom(points[0]))
    if facts["task"] == "multiclass":
        widgets.chart(figures.confusion(analysis), "confusion")
    if facts["task"] == "survival":
        widgets.quiet(worth.log_rank(facts))


def _scores(facts: dict[str, Any]) -> None:
    found = {name: score for name, score in facts.get("scores", {}).items() if name != facts["main"]}
    widgets.facts([(theme.interval(score), theme.score_name(name)) for name, score in found.items()])
    unlabelled = facts["counts"].get("unlabelled", 0)
    extra = f", {unlabelled} without a label" if unlabelled else ""
    positive = f" Positive class: {theme.short(facts['positive'], 40)}." if facts["positive"] else ""
    how = outcome.how(facts).capitalize()
    widgets.quiet(
        f"{how}, with 95 % intervals. Patients: {widgets.listed(outcome.counted(facts))}{extra}.{positive} "
        + facts["task_why"]
    )
    if more := [words for words in (worth.by_patient(facts), worth.spread(facts)) if words]:
        widgets.quiet(" ".join(more))


def _ranking(analysis: Analysis) -> None:
    now = state.session()
    event = widgets.chart(
        figures.ranking(analysis), f"ranking-{now.clicks}", on_select="rerun", selection_mode="points"
    )
    points = event["selection"]["points"]
    if points:
        _see(widgets.custom(points[0]))


def _see(patient: str) -> None:
    now = state.session()
    state.jump(patient=patient, region="", clicks=now.clicks + 1)
    state.go("patient")


# ---------------------------------------------------------------- folded: can I believe it?


def _needed(analysis: Analysis) -> None:
    with st.expander("Is a model of single cells needed?"):
        if words := worth.needed(analysis.facts):
            widgets.say(words)
        if words := worth.beside(analysis.facts):
            widgets.say(words)
        widgets.chart(figures.baselines(analysis), "baselines")


def _chance(analysis: Analysis) -> None:
    null, named = analysis.facts.get("null"), outcome.main(analysis.facts)
    with st.expander("Could this be chance?"):
        if words := worth.reach_of(analysis.facts):
            widgets.quiet(words)
        if null is None:
            widgets.say("Chance was not tested in this analysis.")
            return
        widgets.say(
            f"Asked of a simpler model ({null['chain']}): with labels shuffled among patients, {null['as_good']} "
            f"of {null['permutations']} runs reached its {named} of {null['observed']:.2f}: {theme.p_value(null)}."
        )
        widgets.chart(figures.null(analysis), "null")
        if words := worth.whole_null(analysis.facts):
            widgets.say(words)
        if words := worth.standing_out(analysis.facts):
            widgets.say(words)
            widgets.quiet(worth.STANDING)


def _calibration(analysis: Analysis) -> None:
    words = worth.calibrated(analysis.facts)
    if not words:
        return
    with st.expander("Are the predictions too extreme?"):
        widgets.say(words)
        if "curve" in analysis.facts["calibration"]:
            widgets.quiet(worth.GROUPED)
            widgets.chart(figures.calibration(analysis), "calibration")


def _faithful(analysis: Analysis) -> None:
    with st.expander("Is the explanation faithful?"):
        widgets.say(trust.faithful(analysis))
        if "faithfulness" not in analysis.facts:
            return
        widgets.quiet(trust.NOT_PROOF + " " + trust.HOW)
        widgets.chart(figures.faithfulness(analysis), "faithfulness")
        widgets.say(trust.steady(analysis.facts))


def _confounders(analysis: Analysis) -> None:
    facts = analysis.facts
    found = trust.doubts(facts, confounding=True)
    with st.expander(f"Confounders ({len(found)})" if found else "Confounders", expanded=bool(found)):
        widgets.say(trust.confounded(facts))
        for words in found:
            widgets.card("warn", words)
        if "probes" not in facts:
            widgets.quiet(trust.UNTESTED)
        if trust.probed(facts):
            widgets.chart(figures.confounders(analysis), "confounders")


def _known(analysis: Analysis) -> None:
    found = analysis.facts.get("known")
    if not found:
        return
    every = analysis.facts["cohort"]["cells"]
    with st.expander("Known cells"):
        widgets.say(trust.known(analysis))
        rows = [
            {
                "Kind": theme.short(value, 60),
                "Cells": f"{one['cells']:,} ({theme.percent(one['cells'] / every)})",
                "AUROC": f"{one['auroc']:.2f}",
                "Average precision": theme.two(one["average_precision"]),
            }
            for value, one in found.items()
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="content", alt="Known cells and importance")
        widgets.quiet(trust.KINDS)


def _members(facts: dict[str, Any]) -> None:
    members = facts["pooling"]["members"]
    with st.expander("Which models were combined"):
        widgets.say(f"Rule: {facts['pooling']['rule']}. Weights were chosen on held-out training patients.")
        rows = [
            {
                "Model": name,
                "Weight": theme.two(member["weight"]),
                f"{outcome.main(facts)} alone": theme.interval(member["scores"][facts["main"]]),
            }
            for name, member in members.items()
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="content", alt="Models and their weights")


def _unseen(analysis: Analysis) -> None:
    with st.expander("Leakage proof"):
        for words in trust.unseen(analysis):
            widgets.say(words)


def _missed(analysis: Analysis) -> None:
    """Labelled patients whose label differs from what they are called; of numbers, those farthest off."""
    facts, frame = analysis.facts, outcome.patients(analysis)
    if facts["task"] == "survival":
        return
    number = facts["task"] == "regression"
    wrong = frame[frame["error"].notna()] if number else frame[frame["wrong"]]
    wrong = wrong.sort_values("error", ascending=False).head(10 if number else len(frame))
    with st.expander("Who is farthest off" if number else f"Who is missed ({len(wrong)})"):
        if wrong.empty:
            widgets.say("Every labelled patient is predicted as labelled.")
            return
        widgets.say("The most wrong first. Choose one to see why.")
        shown = wrong[["patient", "label"]].assign(
            predicted=[outcome.listed(facts, row) for row in wrong.to_dict("records")], range=wrong["range"]
        )
        key = f"missed-{state.session().clicks}"
        chosen = widgets.table(shown, key, alt="Patients whose label differs from the prediction")
        if chosen:
            _see(str(wrong["patient"].iloc[chosen[0]]))


def _warnings(facts: dict[str, Any]) -> None:
    found = trust.doubts(facts, confounding=False)
    with st.expander(f"What to keep in mind ({len(found)})"):
        if not found:
            widgets.say("No other warning was raised.")
        for words in found:
            widgets.card("warn", words)
