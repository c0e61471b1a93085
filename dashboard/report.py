"""The report of an analysis: what its pages say, in which order. How they are set is another file's work.

Plain words come first and numbers never without their interval. Patients are explained by models that never
saw them. What an analysis does not hold is left out, not invented.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dashboard import casepage, drivers, method, outcome, pictures, theme, trust, webpage, worth
from dashboard import pseudonyms as masking
from dashboard.document import (
    BANNER,
    Block,
    Document,
    Figure,
    Group,
    Heading,
    Link,
    Listing,
    Page,
    Row,
    Table,
    Words,
)
from dashboard.theme import interval, percent, short
from milcore.errors import MilError
from milcore.progress import Progress

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["check", "describe", "drafted", "html", "telling", "title"]

_ORDER = (
    "(pairs of one fold, mean over repeats); 0.5 is chance, 1 is perfect; its interval is where this procedure lies on "
    "cohorts of this size."
)
_GIVEN = " The other intervals take the predictions as given."
MEANING = {
    "binary": "AUROC: how often a patient of one class is ranked above one of the other by a model that saw neither "
    + _ORDER
    + _GIVEN
    + " Brier score: mean squared error of the probabilities; lower is better.",
    "multiclass": "Mean AUROC: how often a patient of a class is ranked above one of the rest by a model that saw "
    "neither, mean over the classes "
    + _ORDER
    + _GIVEN
    + " Brier score: squared error of the probabilities, summed over the classes; lower is better.",
    "regression": "Rank correlation (Spearman): agreement of the order of predictions with that of the values "
    "measured, within folds, mean over repeats; 0 is chance, 1 is perfect; its interval is where this procedure lies "
    "on cohorts of this size. R²: share of the variance that is predicted; 0 is no better than the mean."
    + _GIVEN,
    "survival": "C-index: how often, of two patients, the one with the earlier event had the higher risk by a model "
    "that saw neither " + _ORDER,
}  # of the scores, by kind of label


def html(
    analysis: Analysis, *, patients: Sequence[str] | None = None, progress: Progress | None = None
) -> str:
    """`describe` as one HTML text."""
    return webpage.html(describe(analysis, patients=patients, progress=progress))


def drafted(
    analysis: Analysis,
    *,
    patients: Sequence[str] = (),
    pseudonyms: bool = False,
    progress: Progress | None = None,
) -> tuple[Document, bytes | None]:
    """The report and, with `pseudonyms`, the key to them as CSV. `patients` are named as in the tables; none:
    `telling`."""
    chosen, key = list(patients), None
    if pseudonyms:
        check(analysis, chosen)
        masked = masking.masked(analysis)
        analysis, chosen = masked.analysis, [masked.names[name] for name in chosen]
        key = masked.key.to_csv(index=False).encode()
    return describe(analysis, patients=chosen or None, progress=progress), key


def describe(
    analysis: Analysis, *, patients: Sequence[str] | None = None, progress: Progress | None = None
) -> Document:
    """The whole report: the cohort's page, then one page for each of `patients` (default: `telling`).

    MilError for a patient who is not in the analysis.
    """
    chosen = telling(analysis) if patients is None else [str(name) for name in patients]
    check(analysis, chosen)
    told, pages = progress or Progress(), [_cohort_page(analysis, chosen)]
    for k, name in enumerate(chosen):
        told.share((k + 1) / (len(chosen) + 1))
        pages.append(casepage.patient_page(analysis, name, _anchor(k)))
    return Document(f"Milscope: {analysis.settings.target}", tuple(pages))


def check(analysis: Analysis, patients: Sequence[str]) -> None:
    """MilError for a patient who is not in the analysis."""
    there = set(analysis.predictions["patient"].astype(str))
    for name in patients:
        if name not in there:
            problem = f"There is no patient '{name}' in this analysis."
            raise MilError(problem, "--patient", f"Patients are named like '{min(there)}'.")


def _anchor(place: int) -> str:
    return f"p{place}"


def telling(analysis: Analysis, *, wrong: int = 6) -> list[str]:
    """The patients to show unasked: the highest score, the lowest, and the `wrong` most mistaken ones."""
    table = outcome.patients(analysis).dropna(subset=["score"]).sort_values("score", kind="stable")
    mistaken = table if analysis.facts["task"] == "regression" else table[table["wrong"]]
    far = mistaken["error"].sort_values(ascending=False, kind="stable")
    names = [table["patient"].iloc[-1], table["patient"].iloc[0], *mistaken.loc[far.index[:wrong], "patient"]]
    return list(dict.fromkeys(str(name) for name in names))


# ---------------------------------------------------------------- the cohort


def _cohort_page(analysis: Analysis, chosen: Sequence[str]) -> Page:
    facts = analysis.facts
    believed = _beside(analysis) if facts.get("new") else [*_explanation(analysis), *_trust(analysis)]
    blocks: list[Block] = [
        Words(BANNER, "banner"),
        Heading(title(analysis), 1),
        *_identity(analysis),
        Words(facts["verdict"]["words"], "finding"),
        *_ranking(analysis),
        *_cells(analysis),
        *believed,
        *_warnings(facts),
        *method.card(analysis),
        *method.steps(analysis),
        *method.limits(analysis),
        *_all_patients(analysis, chosen),
    ]
    return Page(f"{short(analysis.settings.target, 40)}, the cohort", "cohort", tuple(blocks))


def title(analysis: Analysis) -> str:
    """The question that a report answers."""
    if analysis.facts.get("new"):
        return f"“{analysis.settings.target}” of new patients, by models of others"
    return f"Can “{analysis.settings.target}” be read from the cells?"


def _beside(analysis: Analysis) -> list[Block]:
    """New patients beside the training cohort, in place of what cross-validation shows."""
    facts = analysis.facts
    blocks: list[Block] = [Heading("Do the models reach these patients?"), Words(worth.distance(facts))]
    if rows := worth.transferred(facts):
        few = "exploratory" in facts
        if few:
            blocks.append(Words("", lead="Exploratory: with so few patients no performance is claimed."))
        named = tuple((_capital(name), here, there) for name, here, there in rows)
        head = ("Score (95 % interval)", "these new patients", "training, out of fold")
        inner: list[Block] = [Table(head, named, numbers=(1, 2))]
        if outcome.fitted(facts):
            inner.append(Figure(pictures.fit(analysis), "Of the new patients with a label."))
        blocks.append(Group(tuple(inner), pale=few))
    return blocks


def _identity(analysis: Analysis) -> list[Block]:
    facts, source = analysis.facts, analysis.cohort.source
    size, files = facts["cohort"], source.get("files", [])
    of = "regions: " if analysis.cohort.bag == "region" else ""
    counts = outcome.counted(facts)
    if facts["counts"]["unlabelled"]:
        counts.append(f"{facts['counts']['unlabelled']} unlabelled")
    first = [
        f"{size['patients']:,} patients ({of}{', '.join(counts)})",
        f"{size['regions']:,} regions" if size.get("regions") else "",
        f"{size['cells']:,} cells",
        f"{size['features']} features",
    ]
    second = [
        f"from {', '.join(short(name, 60) for name in files)}" if files else "",
        f"{datetime.date.today().isoformat()}",
        f"Milscope {facts['versions'].get('milscope', '')}",
        f"data {size['fingerprint'][:12]}",
        f"seed {facts['settings'].get('seed', 0)}",
    ]
    return [Words(" · ".join(part for part in line if part), "facts") for line in (first, second)]


def _ranking(analysis: Analysis) -> list[Block]:
    table, facts = outcome.patients(analysis), analysis.facts
    known = table["label"] != ""
    right = int((known & ~table["wrong"]).sum())
    unit, said = analysis.cohort.bag, []
    if facts["classes"] and known.any():
        where = (
            "lie on their label's side of the threshold"
            if facts["task"] == "binary"
            else "are predicted as labelled"
        )
        said.append(f"{right} of {int(known.sum())} labelled {unit}s {where}.")
    if facts["repeats"] > 1 and table["open"].any():
        n = int(table["open"].sum())
        said.append(
            f"{n} {unit}{' is' if n == 1 else 's are'} not decided: the models disagree about the side."
        )
    shown = {
        "binary": f"the probability of “{outcome.towards(facts)}”",
        "multiclass": "the probability of the class predicted for it",
        "regression": f"predicted {outcome.target(facts)}",
        "survival": "its risk against the average training patient",
    }[facts["task"]]
    caption = (
        f"Each dot is one {unit}: {shown}, by models that never saw this patient. Colour and shape: true label. "
        "Whisker: range over the retrained models (not a confidence interval)."
    )
    words = [Words(" ".join(said))] if said else []
    return [Heading(f"Every {unit}"), *words, Figure(pictures.ranking(analysis), caption)]


def _trust(analysis: Analysis) -> list[Block]:
    facts = analysis.facts
    few = any(warning["kind"] == "small_cohort" for warning in facts["warnings"])
    blocks: list[Block] = [Heading("Can the model be believed?")]
    if few:
        blocks.append(Words("", lead="Exploratory: with so few patients no performance is claimed."))
    rows = [(_capital(theme.score_name(name)), interval(score)) for name, score in facts["scores"].items()]
    caption = {
        "regression": "Predicted against measured; dashed: equal.",
        "survival": f"Kaplan-Meier with 95 % bands. {worth.log_rank(facts) if 'survival' in facts else ''}",
    }.get(facts["task"], "ROC curve, mean over folds and repeats.")
    inner: tuple[Block, ...] = (
        Table(("Score, out of fold", "value (95 % interval)"), (*rows, *_sides(analysis)), numbers=(1,)),
        Row((Figure(pictures.fit(analysis), caption), *_chance(analysis))),
    )
    asked = (worth.by_patient, worth.spread, worth.whole_null, worth.standing_out, worth.reach_of)
    blocks += [Group(inner, pale=few), Words(MEANING[facts["task"]], "quiet")]
    blocks += [Words(words) for one in asked if (words := one(facts))]
    return [*blocks, *_calibration(analysis), *_needed(analysis), *_confounders(facts)]


def _calibration(analysis: Analysis) -> list[Block]:
    words, picture = worth.calibrated(analysis.facts), pictures.calibration(analysis)
    if not words:
        return []
    blocks: list[Block] = [Heading("Are the predictions too extreme?", 3), Words(words)]
    return [*blocks, Figure(picture, worth.GROUPED)] if picture else blocks


def _sides(analysis: Analysis) -> list[tuple[str, str]]:
    """Sensitivity and specificity at the threshold, of two classes."""
    if analysis.facts["task"] != "binary" or analysis.cohort.bag == "region":
        return []  # regions of one patient are not independent, so no interval counts them
    found = worth.sides(outcome.patients(analysis), analysis.facts["positive"])
    return [(f"{name} at the threshold", words) for name, words in found.items()]


def _chance(analysis: Analysis) -> list[Figure]:
    null = analysis.facts.get("null")
    if not null:
        return []
    caption = (
        f"Shuffled labels ({null['permutations']:,} times), {null['chain']}: {theme.p_value(null)}. "
        f"The line is this cohort, {null['observed']:.2f}."
    )
    return [Figure(pictures.null(analysis), caption)]


def _needed(analysis: Analysis) -> list[Block]:
    """Milscope beside what is simpler: its members alone, plain baselines and covariates."""
    facts = analysis.facts
    scored = worth.compared(facts)
    if len(scored) < 2:
        return []
    picture = Figure(pictures.intervals(scored, facts))
    words = [Words(one) for one in (worth.needed(facts), worth.beside(facts)) if one]
    return [Heading("Is looking at single cells needed?", 3), *words, picture]


def _confounders(facts: dict[str, Any]) -> list[Block]:
    found = _listed(facts, confounding=True)
    return [Heading("Could it be something else?", 3), Words(trust.confounded(facts)), *found]


def _cells(analysis: Analysis) -> list[Block]:
    facts = analysis.facts
    blocks: list[Block] = [Heading("Which cells drive the predictions?"), *casepage.cautioned(analysis)]
    table, classes = drivers.by_class(analysis).head(8), drivers.compared(analysis)
    listed: list[Block] = []
    if len(table):
        rows = tuple(
            (
                short(row["group"], 60),
                *(f"{row['contribution ' + name]:+.2f}" for name in classes),
                *(percent(row["share " + name]) for name in classes),
            )
            for row in table.to_dict("records")
        )
        names, n = tuple(short(name) or "all patients" for name in classes), len(classes)
        over = (("", 1), ("Mean contribution to the score in", n), ("Share of cells in", n))
        words = f"Positive argues for “{facts['towards']}”. Descriptive: judged with the outcome in view."
        numbers = tuple(range(1, 2 * n + 1))
        listed = [Table(("Phenotype", *names, *names), rows, numbers, over), Words(words, "quiet")]
    if rule := drivers.rule(facts):
        listed += [
            Heading("A rule that can be counted", 3),
            Listing(tuple(rule[:-1])),
            Words(rule[-1], "quiet"),
        ]
    picture = pictures.umap(analysis)
    how = "UMAP from file" if facts.get("umap") == "from file" else "approximate UMAP"
    caption = f"All cells, alike cells close together ({how}), coloured by importance."
    if picture:
        listed += [Figure(picture, caption), casepage.ramp(analysis)]
    return [*blocks, *listed]


def _explanation(analysis: Analysis) -> list[Block]:
    """Whether the explanation is true to the model, and finds the cells that are known."""
    blocks: list[Block] = [Heading("Can the explanation be believed?"), Words(trust.faithful(analysis))]
    if "faithfulness" in analysis.facts:
        caption = f"Score lost ({outcome.unit(analysis.facts)}) as cells are taken away. {trust.HOW}"
        blocks += [Words("", lead=trust.NOT_PROOF), Figure(pictures.faithfulness(analysis), caption)]
    known = trust.known(analysis)
    return [*blocks, Words(known)] if known else blocks


def _warnings(facts: dict[str, Any]) -> list[Block]:
    items = _listed(facts, confounding=False)
    return [Heading("What to know about this cohort"), *items] if items else []


def _listed(facts: dict[str, Any], *, confounding: bool) -> list[Block]:
    items = trust.doubts(facts, confounding=confounding)
    return [Listing(tuple(items))] if items else []


def _all_patients(analysis: Analysis, chosen: Sequence[str]) -> list[Block]:
    table = outcome.patients(analysis).sort_values(["called_as", "value"], ascending=False, kind="stable")
    where = {name: place for place, name in enumerate(chosen)}
    rows = []
    for row in table.to_dict("records"):
        name = str(row["patient"])
        shown = short(name, 60) + (f" · {row['region']}" if "region" in row else "")
        linked = Link(shown, _anchor(where[name])) if name in where else shown
        value = outcome.listed(analysis.facts, row)
        label = outcome.truth(analysis.facts, row) or "no label"
        rows.append((linked, label, value, casepage.span(row), _state(row)))
    head = ("Patient", "Label", "Predicted", "Range", "Remark")
    return [Heading("All patients"), Table(head, tuple(rows), numbers=(2, 3))]


def _state(row: dict[Any, Any]) -> str:
    return "not decided" if row["open"] else "label differs" if row["wrong"] else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
