"""The report: one HTML page that needs no network, no script and no browser of ours; it prints as it reads.

Plain words come first and numbers never without their interval. Patients are explained by models that never
saw them. What an analysis does not hold is left out, not invented.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboard import drivers, outcome, pictures, theme, trust
from dashboard.casepage import BANNER, patient_page, safe, scale, span
from dashboard.theme import interval, percent, short
from milcore.errors import MilError

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["html", "telling"]

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


def html(analysis: Analysis, *, patients: Sequence[str] | None = None) -> str:
    """The whole report as one HTML text: the cohort's page, then one page for each of `patients` (default:
    `telling`).

    MilError for a patient who is not in the analysis.
    """
    there = set(analysis.predictions["patient"].astype(str))
    chosen = telling(analysis) if patients is None else [str(name) for name in patients]
    for name in chosen:
        if name not in there:
            problem = f"There is no patient '{name}' in this analysis."
            raise MilError(problem, "--patient", f"Patients are named like '{min(there)}'.")
    title = f"Milscope: {analysis.settings.target}"
    pages = [
        _cohort_page(analysis, chosen),
        *(patient_page(analysis, name, k) for k, name in enumerate(chosen)),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{safe(title)}</title><style>{style}</style></head>\n<body>{''.join(pages)}</body></html>\n"
    )


def telling(analysis: Analysis, *, wrong: int = 6) -> list[str]:
    """The patients to show unasked: the highest score, the lowest, and the `wrong` most mistaken ones."""
    table = outcome.patients(analysis).dropna(subset=["score"]).sort_values("score", kind="stable")
    mistaken = table if analysis.facts["task"] == "regression" else table[table["wrong"]]
    far = mistaken["error"].sort_values(ascending=False, kind="stable")
    names = [table["patient"].iloc[-1], table["patient"].iloc[0], *mistaken.loc[far.index[:wrong], "patient"]]
    return list(dict.fromkeys(str(name) for name in names))


# ---------------------------------------------------------------- the cohort


def _cohort_page(analysis: Analysis, chosen: Sequence[str]) -> str:
    facts = analysis.facts
    parts = [
        f'<p class="ruo">{BANNER}</p>',
        f"<h1>Can “{safe(analysis.settings.target)}” be read from the cells?</h1>",
        _identity(analysis),
        f'<p class="finding">{safe(facts["verdict"]["words"])}</p>',
        _ranking(analysis),
        _cells(analysis),
        _explanation(analysis),
        _trust(analysis),
        _warnings(facts),
        _method(analysis),
        _limits(analysis),
        _all_patients(analysis, chosen),
    ]
    return "".join(parts)


def _identity(analysis: Analysis) -> str:
    facts, source = analysis.facts, analysis.cohort.source
    size, files = facts["cohort"], source.get("files", [])
    of = "regions: " if analysis.cohort.bag == "region" else ""
    counts = [safe(words) for words in outcome.counted(facts)]
    if facts["counts"]["unlabelled"]:
        counts.append(f"{facts['counts']['unlabelled']} unlabelled")
    first = [
        f"{size['patients']:,} patients ({of}{', '.join(counts)})",
        f"{size['regions']:,} regions" if size.get("regions") else "",
        f"{size['cells']:,} cells",
        f"{size['features']} features",
    ]
    second = [
        f"from {safe(', '.join(short(name, 60) for name in files))}" if files else "",
        f"{datetime.date.today().isoformat()}",
        f"Milscope {safe(facts['versions'].get('milscope', ''))}",
        f"data {safe(size['fingerprint'][:12])}",
        f"seed {facts['settings'].get('seed', 0)}",
    ]
    lines = (" · ".join(part for part in line if part) for line in (first, second))
    return f'<p class="facts">{"<br>".join(lines)}</p>'


def _ranking(analysis: Analysis) -> str:
    table, facts = outcome.patients(analysis), analysis.facts
    known = table["label"] != ""
    right = int((known & ~table["wrong"]).sum())
    unit, words = analysis.cohort.bag, ""
    if facts["classes"]:
        where = (
            "lie on their label's side of the threshold"
            if facts["task"] == "binary"
            else "are predicted as labelled"
        )
        words = f"{right} of {int(known.sum())} labelled {unit}s {where}."
    if facts["repeats"] > 1 and table["open"].any():
        words += f" {int(table['open'].sum())} {unit}s are not decided: their models disagree about the side."
    shown = {
        "binary": f"the probability of “{safe(facts['towards'])}”",
        "multiclass": "the probability of the class predicted for it",
        "regression": f"predicted {safe(outcome.target(facts))}",
        "survival": "its risk against the average training patient",
    }[facts["task"]]
    caption = (
        f"Each dot is one {unit}: {shown}, by models that never saw this patient. Colour and shape: true label. "
        "Whisker: range over the retrained models (not a confidence interval)."
    )
    figure = pictures.ranking(analysis)
    said = f"<p>{words}</p>" if words else ""
    return f"<h2>Every {unit}</h2>{said}<figure>{figure}<figcaption>{caption}</figcaption></figure>"


def _trust(analysis: Analysis) -> str:
    facts = analysis.facts
    few = any(warning["kind"] == "small_cohort" for warning in facts["warnings"])
    lead = "<p><b>Exploratory: with so few patients no performance is claimed.</b></p>" if few else ""
    rows = "".join(
        f'<tr><td>{_capital(theme.score_name(name))}</td><td class="n">{interval(score)}</td></tr>'
        for name, score in facts["scores"].items()
    )
    table = (
        f'<table><tr><th>Score, out of fold</th><th class="n">value (95 % interval)</th></tr>{rows}</table>'
    )
    grey = ' class="grey"' if few else ""
    words = f"<p class=quiet>{MEANING[facts['task']]}</p>"
    caption = {
        "regression": "Predicted against measured; dashed: equal.",
        "survival": f"Kaplan-Meier with 95 % bands. {safe(trust.log_rank(facts)) if 'survival' in facts else ''}",
    }.get(facts["task"], "ROC curve, mean over folds and repeats.")
    curve = f"<figure>{pictures.fit(analysis)}<figcaption>{caption}</figcaption></figure>"
    parts = f'{table}<div class="row">{curve}{_chance(analysis)}</div>'
    beside = _needed(analysis) + _confounders(facts)
    return f"<h2>Can the model be believed?</h2>{lead}<div{grey}>{parts}</div>{words}{beside}"


def _chance(analysis: Analysis) -> str:
    null = analysis.facts.get("null")
    if not null:
        return ""
    caption = (
        f"Shuffled labels ({null['permutations']:,} times), {safe(null['chain'])}: {theme.p_value(null)}. "
        f"The line is this cohort, {null['observed']:.2f}."
    )
    return f"<figure>{pictures.null(analysis)}<figcaption>{caption}</figcaption></figure>"


def _needed(analysis: Analysis) -> str:
    """Milscope beside what is simpler: its members alone and the plain baselines."""
    facts = analysis.facts
    members = facts["pooling"]["members"]
    rows = [("Milscope", facts["scores"])]
    rows += [(f"{name} alone", one["scores"]) for name, one in members.items() if len(members) > 1]
    rows += list(facts.get("baselines", {}).items())
    scored = [(name, scores[facts["main"]]) for name, scores in rows]
    if len(scored) < 2:
        return ""
    words = f"<p>{safe(trust.needed(facts))}</p>"
    picture = pictures.intervals(scored, facts)
    return f"<h3>Is looking at single cells needed?</h3>{words}<figure>{picture}</figure>"


def _confounders(facts: dict[str, Any]) -> str:
    words = f"<p>{safe(trust.confounded(facts))}</p>{_listed(facts, confounding=True)}"
    return f"<h3>Could it be something else?</h3>{words}"


def _cells(analysis: Analysis) -> str:
    facts = analysis.facts
    table = drivers.by_class(analysis).head(8)
    classes = outcome.groups(facts)
    listed = ""
    if len(table):
        heads = "".join(f'<th class="n">{safe(short(name))}</th>' for name in classes)
        rows = "".join(
            f"<tr><td>{safe(row['group'])}</td>"
            + "".join(f'<td class="n">{row["contribution " + name]:+.2f}</td>' for name in classes)
            + "".join(f'<td class="n">{safe(percent(row["share " + name]))}</td>' for name in classes)
            + "</tr>"
            for row in table.to_dict("records")
        )
        wide, both = f'<th colspan="{len(classes)}">', heads + heads
        listed = (
            f'<div class="wide"><table><tr><th></th>{wide}Mean contribution to the score in</th>{wide}Share of cells in'
            f"</th></tr><tr><th>Cell type</th>{both}</tr>{rows}</table></div>"
            '<p class="quiet">Positive argues for '
            f"“{safe(facts['towards'])}”. Descriptive: judged with the outcome in view.</p>"
        )
    picture = pictures.umap(analysis)
    caption = "All cells, alike cells close together (approximate UMAP), coloured by importance."
    figure = (
        f"<figure>{picture}{scale(analysis)}<figcaption>{caption}</figcaption></figure>" if picture else ""
    )
    return f"<h2>Which cells drive the predictions?</h2>{listed}{figure}"


def _explanation(analysis: Analysis) -> str:
    """Whether the explanation is true to the model, and finds the cells that are known."""
    words = f"<p>{safe(trust.faithful(analysis))}</p>"
    if "faithfulness" in analysis.facts:
        caption = f"Score lost ({safe(outcome.unit(analysis.facts))}) as cells are taken away. {trust.HOW}"
        words += (
            f"<p><b>{trust.NOT_PROOF}</b></p><figure>{pictures.faithfulness(analysis)}"
            f"<figcaption>{caption}</figcaption></figure>"
        )
    known = trust.known(analysis)
    return f"<h2>Can the explanation be believed?</h2>{words}{f'<p>{safe(known)}</p>' if known else ''}"


def _warnings(facts: dict[str, Any]) -> str:
    items = _listed(facts, confounding=False)
    return f"<h2>What to know about this cohort</h2>{items}" if items else ""


def _listed(facts: dict[str, Any], *, confounding: bool) -> str:
    items = "".join(f"<li>{safe(words)}</li>" for words in trust.doubts(facts, confounding=confounding))
    return f"<ul>{items}</ul>" if items else ""


def _method(analysis: Analysis) -> str:
    facts, settings = analysis.facts, analysis.settings
    members = facts["pooling"]["members"]
    named = " and ".join(f"{safe(name)} (weight {one['weight']:.2f})" for name, one in members.items())
    kept = (
        f" Only patients labelled {safe(' or '.join(settings.classes))} were kept."
        if settings.classes
        else ""
    )
    versions = ", ".join(f"{safe(name)} {safe(number)}" for name, number in facts["versions"].items())
    return (
        "<h2>Method</h2><p>A patient’s score is a weighted mean of the evidence of the patient’s cells, in "
        f"{safe(outcome.unit(facts))}, towards “{safe(facts['towards'])}”; "
        "a cell’s contribution is its part of that sum, importance is that contribution "
        f"relative to an average cell. Members: {named}, {safe(facts['pooling']['rule'])}. "
        f"{facts['folds']}-fold cross-validation, patients never split between folds, stratified by label, "
        f"{facts['repeats']} repeats (effort {safe(settings.effort)}); every number and colour of a patient comes from "
        f"models trained without that patient. {safe(facts['task_why'])} Feature transform: "
        f"{safe(settings.transform)}.{_prepared(analysis)}{kept} Seed {settings.seed}.</p>"
        f'<p class="quiet">{versions}.</p>'
    )


def _prepared(analysis: Analysis) -> str:
    """What else was done to the features."""
    settings = analysis.settings
    words = " Each region’s median was taken from its features." if settings.centre == "region" else ""
    if settings.context:
        words += f" The mean features of the {settings.context} nearest cells in the tissue were added to each cell’s."
    return words


def _limits(analysis: Analysis) -> str:
    items = [
        "Internal cross-validation only: no external cohort was used, and other laboratories may differ.",
        "Steps that use all cells (neighbour graph, UMAP) never see labels; they do share marker distributions.",
        "A high importance says what the model used, not what causes the outcome.",
        "“Without these cells” leaves model, features and neighbours unchanged; it is not the effect of a treatment.",
    ]
    if "probes" not in analysis.facts:
        items.append("Batch, site and other covariates were not tested as an explanation of the predictions.")
    return f"<h2>Limits</h2><ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _all_patients(analysis: Analysis, chosen: Sequence[str]) -> str:
    table = outcome.patients(analysis).sort_values(["called_as", "value"], ascending=False, kind="stable")
    where = {name: place for place, name in enumerate(chosen)}
    rows = []
    for row in table.to_dict("records"):
        name = str(row["patient"])
        shown = safe(short(name, 60))
        linked = f'<a href="#p{where[name]}">{shown}</a>' if name in where else shown
        region = f" · {safe(row['region'])}" if "region" in row else ""
        value = safe(outcome.listed(analysis.facts, row))
        rows.append(
            f'<tr><td>{linked}{region}</td><td>{safe(row["label"]) or "no label"}</td><td class="n">{value}</td>'
            f'<td class="n">{safe(span(row))}</td><td>{_state(row)}</td></tr>'
        )
    head = (
        '<tr><th>Patient</th><th>Label</th><th class="n">Predicted</th><th class="n">Range</th><th></th></tr>'
    )
    return f'<h2>All patients</h2><div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _state(row: dict[str, Any]) -> str:
    return "not decided" if row["open"] else "label differs" if row["wrong"] else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
