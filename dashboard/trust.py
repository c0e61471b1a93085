"""Whether an analysis can be believed, in sentences made from its numbers alone: for the screen and for the report.

Plain text throughout: names of a table are shortened here, and escaped by whoever shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dashboard import outcome, theme

if TYPE_CHECKING:
    from milcore.analysis import Analysis

NUMBER = "number of cells"  # the baseline that asks whether sampling alone tells the label
CONFOUNDING = (
    "batch_predicts_label",
    "cells_predict_label",
    "batch_in_score",
    "cells_in_score",
    "region_shift",
    "suspected_leak",
)  # kinds of warnings
WEAK = 0.05  # from 0.5: a smaller AUROC of a kind of cells sets nothing apart
STEADY, PARTLY = 0.7, 0.4  # rank correlations between retrained models
TENTH = 0.1  # share of the cells whose removal is put into words
NOT_PROOF = "Faithful to the model, not proof of biology."
HOW = (
    "Important cells are those that argue for the class predicted; the score is the support for that class, mean over "
    "patients. The order comes from one retrained model and the score from another."
)
UNTESTED = (
    "No patient column was tested as a batch: none has a name like one (batch, site, scanner) and few levels."
)

KINDS = (
    "AUROC: how often a cell of this kind is more important than another cell; 0.5 is chance, below it the kind argues "
    "the other way. Average precision: by chance the share of the cells. Cells without a value are not "
    "counted, unless there is one value only. No interval: cells of one patient are not independent. The column was "
    "never a feature."
)


def caution(facts: Mapping[str, Any]) -> str:
    """What must stand before any patient or cell of a cohort that does not carry a claim, or of new patients; empty
    where nothing must."""
    if facts.get("new"):
        words = "New patients, scored by all models together: not out of fold."
        claims = facts["model"]["verdict"]["kind"] == "signal"
        return words if claims else f"{words} The cohort these models come from carries no claim."
    return {
        "none": "No signal was found in this cohort: what follows describes a model that cannot tell the labels apart.",
        "unclear": "This cohort carries no claim: what follows describes the model, and may be chance.",
    }.get(facts["verdict"]["kind"], "")


def attends(facts: Mapping[str, Any]) -> bool:
    """Whether attention differs between cells: without a model that attends its order says nothing."""
    return "attention" in facts["pooling"]["members"]


def tenth(found: Mapping[str, Any]) -> int:
    """The place among the steps of facts["faithfulness"] where a tenth of the cells is gone."""
    return min(range(len(found["steps"])), key=lambda k: abs(found["steps"][k] - TENTH))


def faithful(analysis: Analysis) -> str:
    """One sentence: what taking away the most important tenth of the cells does, beside chance and attention."""
    found = analysis.facts.get("faithfulness")
    if not found:
        return "Not assessed: needs at least two repeats."
    at = tenth(found)
    mine, low, high = (
        found["importance"]["curve"][at],
        found["random"]["low"][at],
        found["random"]["high"][at],
    )
    if not _rounded(mine):
        return "Taking away the most important tenth of the cells does not change the score: it rests on none of them."
    more, less = (_rounded(mine) > _rounded(high), _rounded(mine) < _rounded(low))
    verdict = "more than" if more else "less than" if less else "no more than"
    words = (
        f"Taking away the most important tenth of the cells {_moves(mine)} the score by {_amount(abs(mine))} "
        f"({outcome.unit(analysis.facts)}), {verdict} a random tenth would ({_amount(low)} to {_amount(high)})"
    )
    return words + (f"; {_beside(mine, found['attention']['curve'][at])}" if attends(analysis.facts) else ".")


def unseen_here(facts: Mapping[str, Any], place: int) -> str:
    """One sentence: which models scored the patient in this row of the predictions."""
    if facts.get("new"):
        return f"A new patient, scored by all {facts['folds'] * facts['repeats']} models together."
    found = facts.get("dealt")
    if not found:
        return "Scored by models that never saw this patient."
    folds, learnt = found["fold"][place], sorted(set(found["learnt_from"][place]))
    others = f"{learnt[0]} to {learnt[-1]}" if len(learnt) > 1 else f"{learnt[0]}"
    named = ", ".join(str(f + 1) for f in folds)
    return (
        f"Scored by {len(folds)} models that never saw this patient: fold {named} in repeat 1 to {len(folds)}, each "
        f"learnt from {others} others."
    )


def faithful_here(found: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[str, str]:
    """(badge, sentence) of one patient: whether the most important tenth of its cells matters more to the score than a
    random tenth. `found` is as facts["faithfulness"], of this patient alone."""
    if not found:
        return (
            "Not assessed",
            "Whether this explanation is faithful was not assessed: needs two repeats and two cells.",
        )
    mine, (low, high) = found["importance"]["tenth"], found["random"]["tenth"]
    if not _rounded(mine):
        words = "Without the most important tenth of this patient's cells the score is the same."
        return "No better than chance", words
    badge = (
        "Faithful to the model"
        if _rounded(mine) > _rounded(high)
        else "Not faithful"
        if _rounded(mine) < _rounded(low)
        else "No better than chance"
    )
    words = (
        f"Without the most important tenth of this patient's cells the score moves by {_amount(mine)} "
        f"({outcome.unit(facts)}); without a random tenth by {_amount(low)} to {_amount(high)}."
    )
    return badge, words


def steady_here(facts: Mapping[str, Any], place: int) -> tuple[str, str]:
    """(badge, sentence) of the patient in this row of the predictions: whether retrained models agree on its cells."""
    found = facts.get("stability")
    value = None if not found else found["patients"][place]
    if value is None:
        why = "of new patients" if facts.get("new") else "under 4 repeats"
        return (
            "Stability not assessed",
            f"Whether retrained models agree on these cells: not assessed {why}.",
        )
    badge = "Steady" if value >= STEADY else "Partly steady" if value >= PARTLY else "Unsteady"
    rest = "" if value >= PARTLY else " Do not read single cells of this patient."
    return (
        badge,
        f"Retrained models rank this patient's cells alike: mean rank correlation {value:.2f}.{rest}",
    )


def steady(facts: Mapping[str, Any]) -> str:
    """One sentence: how far retrained models agree on the cells, over patients."""
    found = facts.get("stability")
    if not found:
        return "Stability was not assessed: needs 4 repeats."
    low = sum(value is not None and value < PARTLY for value in found["patients"])
    unsteady = f"; in {low} of {len(found['patients'])} patients below {PARTLY}" if low else ""
    return (
        f"Retrained models rank a patient's cells alike: median rank correlation {found['median']:.2f}{unsteady}. "
        "Cells whose sign turns in a retrained model are grey on maps of importance."
    )


def _moves(change: float) -> str:
    return "raises" if change < 0 else "lowers"


def _beside(mine: float, attention: float) -> str:
    """The rest of the sentence: how the tenth with the most attention compares."""
    words = f"the tenth with the most attention {_moves(attention)} it by {_amount(abs(attention))}"
    if _amount(mine) == _amount(attention):
        return f"{words} too."
    return f"{words}, which is {'less' if attention < mine else 'more'}."


def _amount(value: float) -> str:
    """Log-odds with two significant digits and at most two decimals."""
    return f"{_rounded(value):.{_digits(value)}f}"


def _rounded(value: float) -> float:
    """As it is shown: what reads alike is not called more or less."""
    return round(value, _digits(value)) + 0.0


def _digits(value: float) -> int:
    return 2 if abs(value) < 1 else 1 if abs(value) < 10 else 0


def probed(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What else could tell the label -> its leading score: batch-like columns, then the number of cells."""
    plain = facts.get("baselines", {})
    every = [*facts.get("probes", {}).items(), *((name, plain[name]) for name in (NUMBER,) if name in plain)]
    return {name: scores[facts["main"]] for name, scores in every if facts["main"] in scores}


def doubts(facts: Mapping[str, Any], *, confounding: bool) -> list[str]:
    """The warnings that name another explanation of the score, or all others, in words."""
    found = facts.get("warnings", [])
    return [warning["words"] for warning in found if (warning["kind"] in CONFOUNDING) == confounding]


def confounded(facts: Mapping[str, Any]) -> str:
    """One sentence: whether something other than the biology of the cells could explain the score."""
    n, found = len(doubts(facts, confounding=True)), probed(facts)
    if n:
        return f"Something other than biology could explain the score: {n} warning{'' if n == 1 else 's'}."
    if not found:
        return "Not assessed: no batch-like column and no baseline was tested."
    name, best = max(found.items(), key=lambda item: item[1]["value"])
    of = "" if len(found) == 1 else f", the highest of {len(found)}"
    return (
        f"Nothing tested clearly explains the label by itself: {theme.short(name, 40)} alone reaches "
        f"{outcome.main(facts)} {theme.interval(best)}{of}."
    )


def known(analysis: Analysis) -> str:
    """One sentence: which kind of the --known column importance sets apart most; empty where there is none."""
    found = analysis.facts.get("known")
    if not found:
        return ""
    name, best = max(found.items(), key=lambda item: abs(item[1]["auroc"] - 0.5))
    column = next((c["name"] for c in analysis.cohort.source.get("columns", []) if c["role"] == "known"), "")
    away = best["auroc"] - 0.5
    positive = outcome.towards(analysis.facts)
    argues = f"these cells argue {'for' if away > 0 else 'against'} {positive}"
    kinds = f"Of {len(found)} kinds" if len(found) > 1 else "For the one kind"
    return (
        f"{kinds} of cells in “{theme.short(column, 40)}”, importance sets “{theme.short(name, 40)}” apart most: "
        f"AUROC {best['auroc']:.2f}, {argues if abs(away) > WEAK else 'close to chance'}."
    )


def unseen(analysis: Analysis) -> list[str]:
    """How patients were scored: that no model saw whom it scores, what chose the rest, and what all cells shared."""
    facts = analysis.facts
    folds, repeats, members = facts["folds"], facts["repeats"], list(facts["pooling"]["members"])
    unit, patients = analysis.cohort.bag, facts["cohort"]["patients"]
    together = "; regions of one patient always share a fold" if unit == "region" else ""
    dealt = f"{repeats} times" if repeats > 1 else "once"
    pairs = folds * (folds - 1) // 2
    named = "What calibrates the model" if len(members) == 1 else f"What weighs {' and '.join(members)}"
    networks = [name for name in members if name != "neighbourhood"]
    inside = " The networks’ scaling is learnt on training patients only." if networks else ""
    return [
        f"No {unit} was scored by a model that saw it: {patients:,} patients were dealt {dealt} into {folds} folds, "
        f"and the model that scores one fold learns from the other {folds - 1}{together}.{_counted(facts)}",
        f"{named} was chosen without the fold it scores: by {pairs} pair models a repeat, each of which leaves out two "
        "folds, learns from the rest and scores one for the other. The threshold comes from the training patients.",
        "Steps over all cells (transform, scaling for the neighbour graph, the graph, UMAP) never saw labels; they do "
        f"share marker distributions between patients.{inside}",
    ]


def _counted(facts: Mapping[str, Any]) -> str:
    """How often a model scored whom it had learnt from, as it was counted."""
    if not (found := facts.get("dealt")):
        return ""
    scored = sum(map(len, found["fold"]))
    return f" Counted: {found['seen']} of {scored:,} scorings were by a model that had learnt from the same patient."
