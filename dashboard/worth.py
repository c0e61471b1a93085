"""What the scores of an analysis are worth, in sentences made from its numbers alone: for screen and report.

Plain text throughout: names of a table are shortened here, and escaped by whoever shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dashboard import outcome, theme

SURE = 0.99  # no score can be told from luck that luck brings so near to perfect
Z95 = 1.96
GROUPED = (
    "Patients in five groups by their out-of-fold prediction; the line is where as many have the outcome as predicted. "
    "Of several classes, each against the rest, taken together."
)
STANDING = (
    "Found around each cell by itself, with the labels of all patients (covarying neighbourhood analysis): a fact of "
    "the cohort, in nobody's score. A rare group can be certain here while no score beats chance."
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
