"""Whether an analysis can be believed, in sentences made from its numbers alone: for the screen and for the report.

Plain text throughout: names of a table are shortened here, and escaped by whoever shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

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
Z95 = 1.96
SURE = 0.99  # no score can be told from luck that luck brings so near to perfect
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

GROUPED = (
    "Patients in five groups by their out-of-fold prediction; the line is where as many have the outcome as predicted. "
    "Of several classes, each against the rest, taken together."
)
STANDING = (
    "Found around each cell by itself, with the labels of all patients (covarying neighbourhood analysis): a fact of "
    "the cohort, in nobody's score. A rare group can be certain here while no score beats chance."
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


def log_rank(facts: Mapping[str, Any]) -> str:
    """One sentence: the log-rank statistic of the risk groups, and the p of the chain that was permuted."""
    found = facts["survival"]["log_rank"]
    words = f"Log-rank statistic {found['statistic']:.1f}"
    if "p" not in found:
        return f"{words}; not tested against permuted labels."
    words += (
        f". Groups made by cross-validation allow no plain log-rank p; that of a simpler chain "
        f"({facts['null']['chain']}) on permuted labels is {theme.p_value(found)}."
    )
    whole = facts["null"].get("whole", {})
    if "log_rank_p" not in whole:
        return words
    tested = {"p": whole["log_rank_p"], "permutations": whole["permutations"]}
    return f"{words} That of the whole model (one repeat) is {theme.p_value(tested)}."


def reach(kind: str, counts: Sequence[int]) -> str:
    """What a cohort can show, in one sentence: `counts` patients of each class, with a value, or with an event."""
    from milcore.reach import reach as known
    from milcore.validation import FEW, FEW_VALUES, NAMES

    if not counts or min(counts) < 2:
        return ""
    found = known(kind, counts)
    what = {"regression": " patients", "survival": " events"}.get(kind, " patients")
    sizes = " and ".join(
        [", ".join(str(n) for n in counts[:-1]), str(counts[-1])] if len(counts) > 1 else [str(counts[0])]
    )
    name = NAMES[found.measure]
    if found.lucky >= SURE:
        return f"With {sizes}{what} no {name} can be told from luck."
    words = (
        f"With {sizes}{what}, a model that knows nothing reaches {_a(name)} of {found.lucky:.2f} by luck in one run of "
        f"40; {_a(name)} of {found.example:.2f} would carry an interval of about ±{found.half:.2f}, and some "
        f"{_round(found.times * sum(counts))}{what} would halve it."
    )
    few = min(counts) < (FEW_VALUES if kind == "regression" else FEW)
    return words + (" So few allow no claim: this is exploratory." if few else "")


def reach_of(facts: Mapping[str, Any]) -> str:
    """The same of the patients of an analysis."""
    labelled = {name: n for name, n in facts["counts"].items() if name != "unlabelled"}
    return reach(
        facts["task"], [labelled["events"]] if facts["task"] == "survival" else list(labelled.values())
    )


def standing_out(facts: Mapping[str, Any]) -> str:
    """One sentence: how many cells lie where abundance goes with the label, by the permuted labels; empty where that
    was not measured."""
    cells = facts.get("null", {}).get("cells")
    if not cells:
        return ""
    how = f"(false discovery rate {cells['level']:.0%}, {cells['permutations']:,} permutations)"
    if not cells["found"] or cells["p"] >= 0.05:
        return f"No group of cells stands out by its abundance alone {how}."
    sides = [f"{n:,} {_side(facts, side)}" for side, n in cells["sides"].items() if n]
    return (
        f"{cells['found']:,} cells ({theme.percent(cells['share'])}) stand out {how}: {' and '.join(sides)}. Colour "
        "the maps by “Cells that stand out” to see them."
    )


def _side(facts: Mapping[str, Any], side: str) -> str:
    words = {"for": "more abundant with", "against": "less abundant with"}
    return f"{words.get(side, 'marking')} {theme.short(facts['towards'] if side in words else side)}"


def whole_null(facts: Mapping[str, Any]) -> str:
    """One sentence: the whole model, trained anew on shuffled labels; empty where that was not done."""
    found = facts.get("null", {}).get("whole")
    if not found:
        return ""
    return (
        f"The whole model, trained anew on {found['permutations']} shuffles (one repeat each), reached its "
        f"{outcome.main(facts)} of {found['observed']:.2f} in {found['as_good']} of them: {theme.p_value(found)}."
    )


def spread(facts: Mapping[str, Any]) -> str:
    """One sentence: how far the leading score moves by training again alone; empty with one repeat."""
    found = facts.get("scores", {}).get(facts["main"], {})
    if facts.get("new") or facts["repeats"] < 2 or "spread" not in found:
        return ""
    low, high = (f"{value:.2f}" for value in found["spread"])
    return (
        f"Over the {facts['repeats']} repeats of the training, on the same patients, {outcome.main(facts)} went from "
        f"{low} to {high}: not an interval."
    )


def by_patient(facts: Mapping[str, Any]) -> str:
    """One sentence: the leading score of patients, where regions are predicted; empty else."""
    found = facts.get("scores_patient", {}).get(facts["main"])
    if not found:
        return ""
    return f"By patient, each the mean of its regions: {outcome.main(facts)} {theme.interval(found)}."


def members(facts: Mapping[str, Any]) -> str:
    """One sentence: the models that were combined, with the weight and the score of each; empty where there is one."""
    found = facts["pooling"]["members"]
    if len(found) < 2:
        return ""
    each = [
        f"{name} (weight {theme.two(one['weight'])}, alone {theme.interval(one['scores'][facts['main']])})"
        for name, one in found.items()
    ]
    return f"Combined from {' and '.join(each)}."


def needed(facts: Mapping[str, Any]) -> str:
    """One sentence: Milscope beside the best plain baseline, by the paired difference on the same patients."""
    plain, main = facts.get("baselines"), facts["main"]
    if not plain:
        return ""
    name = max(plain, key=lambda one: plain[one][main]["value"])
    apart, se = plain[name]["difference"]["value"], plain[name]["difference"]["se"]
    clear = (
        "clearly better" if apart > 2 * se else "clearly worse" if apart < -2 * se else "no clear difference"
    )
    mine = f"{outcome.main(facts)} {theme.interval(facts['scores'][main])}"
    return (
        f"Milscope reaches {mine}, the best plain baseline, {name}, {theme.interval(plain[name][main])} under the same "
        f"folds: a difference of {apart:+.2f} with a standard error of {se:.2f}, {clear}."
    )


def beside(facts: Mapping[str, Any]) -> str:
    """What the cells add to what is known of the patients anyway, and which columns were left out; empty where there
    are none."""
    found = facts.get("covariates")
    if not found:
        return ""
    words = ""
    if found["columns"]:
        apart, se = found["added"]["value"], found["added"]["se"]
        clear = "clearly more" if apart > 2 * se else "clearly less" if apart < -2 * se else "no clear gain"
        named = ", ".join(theme.short(name, 24) for name in found["columns"])
        words = (
            f"Added to {named}, the cells' score changes {outcome.main(facts)} by {apart:+.2f} (standard error "
            f"{se:.2f}) to {theme.interval(found['with_cells'][facts['main']])}: {clear}. "
        )
    left = [f"{theme.short(name, 24)} ({why})" for name, why in found["excluded"].items()]
    return words + (f"Not used as covariates: {', '.join(left)}." if left else "")


def compared(facts: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Rows of the question whether MIL is needed: name and leading score of Milscope, of its members, of the plain
    baselines, of each covariate, and of covariates with cells."""
    main, members, known = facts["main"], facts["pooling"]["members"], facts.get("covariates", {})
    rows = [("Milscope", facts["scores"])]
    rows += [(f"{name} alone", one["scores"]) for name, one in members.items() if len(members) > 1]
    rows += list(facts.get("baselines", {}).items())
    several = len(known.get("columns", ())) > 1
    rows += [(f"{name} alone", one) for name, one in known.get("alone", {}).items() if several]
    rows += [("covariates and cells", known["with_cells"])] if "with_cells" in known else []
    return [(name, scores[main]) for name, scores in rows]


def calibrated(facts: Mapping[str, Any]) -> str:
    """One sentence: whether predictions are as extreme, and on the whole as high, as they should be."""
    found = facts.get("calibration")
    if not found:
        return ""
    slope = found["slope"]
    how = (
        "too extreme"
        if slope["high"] < 1
        else "too timid"
        if slope["low"] > 1
        else "not clearly too extreme or timid"
    )
    words = f"Predictions are {how}: calibration slope {theme.interval(slope)}, 1 is right."
    if "intercept" in found:
        off = found["intercept"]
        level = _level(off) or "neither too high nor too low"
        return f"{words} On the whole they are {level}: intercept {theme.interval(off)}, 0 is right."
    if "intercepts" not in found:
        return words
    levels = {c: (_level(off), theme.interval(off)) for c, off in found["intercepts"].items()}
    odd = [f"{theme.short(c, 30)} {level}, {off}" for c, (level, off) in levels.items() if level]
    if not odd:
        return f"{words} On the whole no class is clearly predicted too high or too low."
    return f"{words} On the whole some classes are off (intercept, 0 is right): {'; '.join(odd)}."


def _level(intercept: Mapping[str, float]) -> str:
    """Which way predictions are off on the whole; empty where not clearly."""
    return "too high" if intercept["high"] < 0 else "too low" if intercept["low"] > 0 else ""


def distance(facts: Mapping[str, Any]) -> str:
    """One sentence: how many of the new cells lie far from the training cells."""
    found = facts["distance"]
    return (
        f"{theme.percent(found['far'])} of these cells lie farther from the training cells than 99 % of those do from "
        f"the cells of other patients; of a training patient’s cells it was {theme.percent(found['far_in_training'])} "
        "at most."
    )


def transferred(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(score, of the new patients, of the training cohort out of fold) where new patients have labels."""
    own = facts["model"]["scores"]
    return [
        (theme.score_name(name), theme.interval(score), theme.interval(own[name]) if name in own else "n/a")
        for name, score in facts.get("scores", {}).items()
    ]


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


def sides(patients: pd.DataFrame, positive: str) -> dict[str, str]:
    """Sensitivity and specificity of the calls of `outcome.patients`, each with its 95 % interval (Wilson 1927) and the
    patients it was counted on."""
    known = patients[(patients["label"] != "") & patients["prediction"].notna()]
    right, out = ~known["wrong"], {}
    for name, here in (
        ("Sensitivity", known["label"] == positive),
        ("Specificity", known["label"] != positive),
    ):
        k, n = int((right & here).sum()), int(here.sum())
        middle, width = (k + Z95**2 / 2) / (n + Z95**2), Z95 / (n + Z95**2)
        half = width * (k * (n - k) / n + Z95**2 / 4) ** 0.5
        low, high = max(0.0, middle - half), min(1.0, middle + half)
        out[name] = f"{theme.interval({'value': k / n, 'low': low, 'high': high})}, {k} of {n}"
    return out


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouA' else 'a'} {name}"


def _round(count: float) -> int:
    """Two significant digits."""
    size = 10 ** max(len(str(int(count))) - 2, 0)
    return int(round(count / size) * size)
