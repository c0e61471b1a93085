"""How an analysis was made and how far it reaches: model card, method and limits, generated from settings and facts."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from dashboard import outcome, theme, trust
from dashboard.document import Block, Heading, Listing, Table, Words

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.training import Settings

__all__ = ["card", "command", "limits", "reach", "steps"]

NEW = "milscope predict ANALYSIS CELLS --patients PATIENTS --out NEW"  # for new patients
NAMED, SKEWED = 60, 12  # features that are listed by name


def card(analysis: Analysis) -> list[Block]:
    """The model card: what for, made from what, how good, and where it fails (after Mitchell et al., 2019)."""
    facts = analysis.facts
    size = facts["cohort"]
    counts = ", ".join(outcome.counted(facts))
    gaps = any(warning["kind"] == "missing_values" for warning in facts["warnings"])
    made, reaches = size, facts["verdict"]["words"]
    if facts.get("new"):
        made, reaches = facts["model"]["cohort"], f"{facts['model']['verdict']['words']} Here: {reaches}"
        counts = ", ".join(outcome.counted(facts | {"counts": facts["model"]["counts"]}))
    rows = (
        ("For", "exploring which cells of this cohort go with the label, and planning experiments"),
        ("Not for", "diagnosis, treatment decisions, or patients of another laboratory without validation"),
        (
            "Made from",
            f"{made['patients']:,} patients ({counts}), {made['cells']:,} cells of one cohort alone",
        ),
        ("Predicts", f"“{outcome.target(facts)}”, towards “{outcome.towards(facts)}”"),
        ("Model", f"weighted mean of cell evidence: {_members(facts)}"),
        (
            "Judged by",
            f"{facts['folds']}-fold cross-validation by patient, {facts['repeats']} repeats; "
            + ("the new patients with a label" if facts.get("new") else "nothing external"),
        ),
        ("Reaches", reaches),
        ("Fails on", _failures(analysis)),
        ("Missing values", "see what to know about this cohort" if gaps else "none among the features"),
        ("Contact", "whoever made this report; the software alone cannot answer for a finding"),
    )
    return [Heading("Model card"), Table(("Question", "Answer"), rows)]


def _members(facts: dict[str, Any]) -> str:
    named = [f"{name} (weight {one['weight']:.2f})" for name, one in facts["pooling"]["members"].items()]
    return f"{' and '.join(named)}, {facts['pooling']['rule']}"


def _failures(analysis: Analysis) -> str:
    table = outcome.patients(analysis)
    if not analysis.facts["classes"]:
        return "see the patients far from their label in the figures and the table of all patients"
    wrong, unsure = int(table["wrong"].sum()), int(table["open"].sum())
    unit = analysis.cohort.bag
    return f"{wrong} labelled {unit}s predicted otherwise, {unsure} not decided; named in the table of all patients"


def steps(analysis: Analysis) -> list[Block]:
    """What was done, in words, and the command that does it again."""
    facts, settings = analysis.facts, analysis.settings
    new = bool(facts.get("new"))
    scored = "from all of these models together" if new else "from models trained without that patient"
    again = NEW if new else command(settings)
    towards = outcome.towards(facts)
    kept = f" Only patients labelled {' or '.join(settings.classes)} were kept." if settings.classes else ""
    words = (
        f"A patient’s score is a weighted mean of the evidence of the patient’s cells, in {outcome.unit(facts)}, "
        f"towards “{towards}”; a cell’s contribution is its part of that sum, importance is that contribution "
        f"relative to an average cell. Members: {_members(facts)}. {facts['folds']}-fold cross-validation, patients "
        f"never split between folds, stratified by label, {facts['repeats']} repeats (effort {settings.effort}); every "
        f"number and colour of a patient comes {scored}. {facts['task_why']} Feature "
        f"transform: {settings.transform}{_compressed(facts)}.{_prepared(settings)}{kept} Seed {settings.seed}."
    )
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return [
        Heading("Method"),
        Words(words),
        *(Words(line) for line in trust.unseen(analysis) if not new),
        Words("To repeat it, with your own names for the two tables:"),
        Words(again, "code"),
        Words(_features(facts), "quiet"),
        Words(f"{versions}.", "quiet"),
    ]


def command(settings: Settings) -> str:
    """The command line that gives these settings: every one that is not the default, and always effort and seed."""
    parts = ["milscope run CELLS --patients PATIENTS --out ANALYSIS"]
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value != field.default or field.name in ("effort", "seed"):
            said = ",".join(value) if isinstance(value, tuple) else str(value)
            parts.append(f"--{field.name.replace('_', '-')} {shlex.quote(said)}")
    return " ".join(parts)


def _prepared(settings: Settings) -> str:
    """What else was done to the features."""
    words = " Each region’s median was taken from its features." if settings.centre == "region" else ""
    if settings.context:
        words += f" The mean features of the {settings.context} nearest cells in the tissue were added to each cell’s."
    return words


def _compressed(facts: dict[str, Any]) -> str:
    """Which features were found skewed, where that was asked."""
    found = facts.get("prepared")
    if not found or found["transform"] != "auto":
        return ""
    n = len(found["arcsinh"])
    if not n:
        return " (no feature is skewed, so all are as they are)"
    return f" (arcsinh of the {n} that are skewed: {_listed(found['arcsinh'], SKEWED)}; others as they are)"


def _features(facts: dict[str, Any]) -> str:
    return f"The {len(facts['features'])} features of a cell: {_listed(facts['features'], NAMED)}."


def _listed(features: Collection[str], most: int) -> str:
    names = [theme.short(name, 40) for name in features]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def reach(facts: dict[str, Any]) -> str:
    """How far what was found has been tried."""
    if facts.get("new"):
        return "New patients, scored by models of one training cohort; other laboratories may differ."
    return "Internal cross-validation only: no external cohort was used, and other laboratories may differ."


def limits(analysis: Analysis) -> list[Block]:
    """What may not be concluded."""
    items = [
        reach(analysis.facts),
        "Steps that use all cells (neighbour graph, UMAP) never see labels; they do share marker distributions.",
        "A high importance says what the model used, not what causes the outcome.",
        "“Without these cells” leaves model, features and neighbours unchanged; it is not the effect of a treatment.",
    ]
    if "probes" not in analysis.facts and not analysis.facts.get("new"):
        items.append("Batch, site and other covariates were not tested as an explanation of the predictions.")
    return [Heading("Limits"), Listing(tuple(items))]
