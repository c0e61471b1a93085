"""The report: one HTML page that needs no network, no script and no browser of ours; it prints as it reads.

Plain words come first and numbers never without their interval. Patients are explained by models that never
saw them. What an analysis does not hold is left out, not invented.
"""

from __future__ import annotations

import datetime
import html as markup
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import drivers, pictures, theme
from dashboard.colouring import rows_of
from dashboard.theme import interval, percent, short
from milcore.errors import MilError

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["html", "telling"]

FEW = 10  # patients in a class below which nothing is claimed
MAPS = 4  # tissue maps on a patient's page
BANNER = "Research use only. Not for diagnosis or treatment decisions."


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
        *(_patient_page(analysis, name, k) for k, name in enumerate(chosen)),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_e(title)}</title><style>{style}</style></head>\n<body>{''.join(pages)}</body></html>\n"
    )


def telling(analysis: Analysis, *, wrong: int = 6) -> list[str]:
    """The patients to show unasked: the highest score, the lowest, and the `wrong` most mistaken ones."""
    table = _judged(analysis).dropna(subset=["score"]).sort_values("score", kind="stable")
    mistaken = table[table["wrong"]]
    far = (
        (mistaken["prediction"] - analysis.facts["threshold"])
        .abs()
        .sort_values(ascending=False, kind="stable")
    )
    names = [table["patient"].iloc[-1], table["patient"].iloc[0], *mistaken.loc[far.index[:wrong], "patient"]]
    return list(dict.fromkeys(str(name) for name in names))


def _judged(analysis: Analysis) -> pd.DataFrame:
    """The predictions with `wrong` (labelled, on the other side of the threshold) and `open` (range crosses
    it)."""
    facts, table = analysis.facts, analysis.predictions
    above = table["prediction"] > facts["threshold"]
    known = (table["label"] != "") & table["prediction"].notna()
    crosses = (table["low"] <= facts["threshold"]) & (table["high"] > facts["threshold"])
    return table.assign(wrong=known & (above != (table["label"] == facts["positive"])), open=crosses)


# ---------------------------------------------------------------- the cohort


def _cohort_page(analysis: Analysis, chosen: Sequence[str]) -> str:
    facts = analysis.facts
    parts = [
        f'<p class="ruo">{BANNER}</p>',
        f"<h1>Can “{_e(analysis.settings.target)}” be read from the cells?</h1>",
        _identity(analysis),
        f'<p class="finding">{_e(facts["verdict"]["words"])}</p>',
        _ranking(analysis),
        _trust(analysis),
        _cells(analysis),
        _warnings(facts),
        _method(analysis),
        _limits(analysis),
        _all_patients(analysis, chosen),
    ]
    return "".join(parts)


def _identity(analysis: Analysis) -> str:
    facts, source = analysis.facts, analysis.cohort.source
    size, files = facts["cohort"], source.get("files", [])
    counts = [f"{_e(name)} {n}" for name, n in facts["counts"].items() if n or name != "unlabelled"]
    first = [
        f"{size['patients']:,} patients ({', '.join(counts)})",
        f"{size['regions']:,} regions" if size.get("regions") else "",
        f"{size['cells']:,} cells",
        f"{size['features']} features",
    ]
    second = [
        f"from {_e(', '.join(short(name, 60) for name in files))}" if files else "",
        f"{datetime.date.today().isoformat()}",
        f"Milscope {_e(facts['versions'].get('milscope', ''))}",
        f"data {_e(size['fingerprint'][:12])}",
        f"seed {facts['settings'].get('seed', 0)}",
    ]
    lines = (" · ".join(part for part in line if part) for line in (first, second))
    return f'<p class="facts">{"<br>".join(lines)}</p>'


def _ranking(analysis: Analysis) -> str:
    table, facts = _judged(analysis), analysis.facts
    known = table["label"] != ""
    right = int((known & ~table["wrong"]).sum())
    words = f"{right} of {int(known.sum())} labelled patients lie on their label's side of the threshold."
    if facts["repeats"] > 1 and table["open"].any():
        words += (
            f" {int(table['open'].sum())} patients are not decided: their models disagree about the side."
        )
    caption = (
        f"Each dot is one patient: the probability of “{_e(facts['positive'])}”, predicted by models that never saw "
        "this patient. Colour and shape: true label. Whisker: range over the retrained models (not a confidence "
        "interval)."
    )
    figure = pictures.ranking(analysis)
    return f"<h2>Every patient</h2><p>{words}</p><figure>{figure}<figcaption>{caption}</figcaption></figure>"


def _trust(analysis: Analysis) -> str:
    facts = analysis.facts
    few = min(facts["counts"][name] for name in facts["classes"]) < FEW
    lead = (
        "<p><b>Exploratory: with fewer than 10 patients in a class no performance is claimed.</b></p>"
        if few
        else ""
    )
    rows = "".join(
        f'<tr><td>{_capital(theme.score_name(name))}</td><td class="n">{interval(score)}</td></tr>'
        for name, score in facts["scores"].items()
    )
    table = (
        f'<table><tr><th>Score, out of fold</th><th class="n">value (95 % interval)</th></tr>{rows}</table>'
    )
    grey = ' class="grey"' if few else ""
    words = (
        "<p class=quiet>Interval: where the expected score of this procedure lies, with this many patients. "
        "AUROC: how often a patient of one class is ranked above one of the other; 0.5 is chance, 1 is perfect. "
        "Brier score: mean squared error of the probabilities; lower is better.</p>"
    )
    curve = f"<figure>{pictures.roc(analysis)}<figcaption>ROC curve, mean over folds and repeats.</figcaption></figure>"
    parts = f'{table}<div class="row">{curve}{_chance(analysis)}</div>'
    return f"<h2>Can the model be believed?</h2>{lead}<div{grey}>{parts}</div>{words}{_needed(analysis)}"


def _chance(analysis: Analysis) -> str:
    null = analysis.facts.get("null")
    if not null:
        return ""
    caption = (
        f"Shuffled labels ({null['permutations']:,} times), {_e(null['chain'])}: {theme.p_value(null)}. "
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
    scored = [(name, scores["auroc"]) for name, scores in rows if "auroc" in scores]
    if len(scored) < 2:
        return ""
    plain = [(name, score) for name, score in scored if name in facts.get("baselines", {})]
    words = ""
    if plain:
        name, best = max(plain, key=lambda row: row[1]["value"])
        words = f"<p>Best plain baseline under the same folds: {_e(name)}, AUROC {interval(best)}.</p>"
    return f"<h3>Is looking at single cells needed?</h3>{words}<figure>{pictures.intervals(scored)}</figure>"


def _cells(analysis: Analysis) -> str:
    facts = analysis.facts
    table = drivers.by_class(analysis).head(8)
    classes = [name for name in facts["classes"] if name != facts["positive"]] + [facts["positive"]]
    listed = ""
    if len(table):
        heads = "".join(f'<th class="n">{_e(short(name))}</th>' for name in classes)
        rows = "".join(
            f"<tr><td>{_e(row['group'])}</td>"
            + "".join(f'<td class="n">{row["contribution " + name]:+.2f}</td>' for name in classes)
            + "".join(f'<td class="n">{_e(percent(row["share " + name]))}</td>' for name in classes)
            + "</tr>"
            for row in table.to_dict("records")
        )
        listed = (
            '<div class="wide"><table><tr><th></th><th colspan="2">Mean contribution to the score in</th>'
            f'<th colspan="2">Share of cells in</th></tr><tr><th>Cell type</th>{heads}{heads}</tr>{rows}</table></div>'
            '<p class="quiet">Positive argues for '
            f"“{_e(facts['positive'])}”. Descriptive: judged with the outcome in view.</p>"
        )
    picture = pictures.umap(analysis)
    caption = "All cells, alike cells close together (approximate UMAP), coloured by importance."
    figure = (
        f"<figure>{picture}{_scale(analysis)}<figcaption>{caption}</figcaption></figure>" if picture else ""
    )
    return f"<h2>Which cells drive the predictions?</h2>{listed}{figure}"


def _scale(analysis: Analysis) -> str:
    """The one colour scale of importance, in words at both ends."""
    stops = ",".join(colour for _, colour in theme.ramp("signed"))
    positive = _e(short(analysis.facts["positive"]))
    ends = f'<div class="ends quiet"><span>against</span><span>for “{positive}”</span></div>'
    return f'<div class="scale" style="background:linear-gradient(90deg,{stops})"></div>{ends}'


def _warnings(facts: dict[str, Any]) -> str:
    items = "".join(f"<li>{_e(warning['words'])}</li>" for warning in facts.get("warnings", []))
    return f"<h2>What to know about this cohort</h2><ul>{items}</ul>" if items else ""


def _method(analysis: Analysis) -> str:
    facts, settings = analysis.facts, analysis.settings
    members = facts["pooling"]["members"]
    named = " and ".join(f"{_e(name)} (weight {one['weight']:.2f})" for name, one in members.items())
    kept = (
        f" Only patients labelled {_e(' or '.join(settings.classes))} were kept." if settings.classes else ""
    )
    versions = ", ".join(f"{_e(name)} {_e(number)}" for name, number in facts["versions"].items())
    return (
        "<h2>Method</h2><p>A patient’s score is a weighted mean of the evidence of the patient’s cells, as log-odds of "
        f"“{_e(facts['positive'])}”; a cell’s contribution is its part of that sum, importance is that contribution "
        f"relative to an average cell. Members: {named}, {_e(facts['pooling']['rule'])}. "
        f"{facts['folds']}-fold cross-validation, patients never split between folds, stratified by label, "
        f"{facts['repeats']} repeats (effort {_e(settings.effort)}); every number and colour of a patient comes from "
        f"models trained without that patient. Feature transform: {_e(settings.transform)}. Positive class: "
        f"“{_e(facts['positive'])}”.{kept} Seed {settings.seed}.</p>"
        f'<p class="quiet">{versions}.</p>'
    )


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
    table = _judged(analysis).sort_values("score", ascending=False, kind="stable")
    where = {name: place for place, name in enumerate(chosen)}
    rows = []
    for row in table.to_dict("records"):
        name = str(row["patient"])
        shown = _e(short(name, 60))
        linked = f'<a href="#p{where[name]}">{shown}</a>' if name in where else shown
        region = f" · {_e(row['region'])}" if "region" in row else ""
        rows.append(
            f'<tr><td>{linked}{region}</td><td>{_e(row["label"]) or "no label"}</td><td class="n">'
            f'{_e(percent(row["prediction"]))}</td><td class="n">{_e(_range(row))}</td><td>{_state(row)}</td></tr>'
        )
    head = (
        '<tr><th>Patient</th><th>Label</th><th class="n">Predicted</th><th class="n">Range</th><th></th></tr>'
    )
    return f'<h2>All patients</h2><div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _state(row: dict[str, Any]) -> str:
    return "not decided" if row["open"] else "on the other side" if row["wrong"] else ""


# ---------------------------------------------------------------- one patient


def _patient_page(analysis: Analysis, patient: str, place: int) -> str:
    table = _judged(analysis)
    found = table[table["patient"].astype(str) == patient]
    rows = rows_of(analysis.cohort, patient)
    labels = " / ".join(dict.fromkeys(_e(name) or "no label" for name in found["label"]))
    head = f"<h1>{_e(short(patient, 80))}</h1><p class=facts>Label: {labels} · {len(rows):,} cells</p>"
    if found["score"].isna().any():
        return f'<section class="patient" id="p{place}">{head}<p>No prediction.</p></section>'
    said = "".join(f'<p class="finding">{_said(analysis, row)}</p>' for row in found.to_dict("records"))
    caption = "This patient (ringed) among all, by true label; dashed: threshold."
    strip = f"<figure>{pictures.strip(analysis, patient)}<figcaption>{caption}</figcaption></figure>"
    parts = [
        _drivers(analysis, patient),
        _tissue(analysis, patient),
        _profiles(analysis, patient),
        _stable(analysis, patient),
    ]
    banner = f'<p class="ruo">{BANNER}</p>'
    return f'<section class="patient" id="p{place}">{banner}{head}{said}{strip}{"".join(parts)}</section>'


def _said(analysis: Analysis, row: dict[str, Any]) -> str:
    """One bag's prediction in plain words."""
    facts = analysis.facts
    region = f"Region {_e(row['region'])}: p" if "region" in row else "P"
    words = f"{region}redicted {_e(percent(row['prediction']))} “{_e(facts['positive'])}”"
    if facts["repeats"] > 1:
        words += f" ({_e(_range(row))} over retrained models)"
    words += f", {_place(row['score'], analysis.predictions['score'].dropna())}."
    if row["open"]:
        words += " Not decided: the models disagree about the side of the threshold."
    elif row["wrong"]:
        words += f" The label says otherwise: “{_e(row['label'])}”."
    return words


def _range(row: dict[str, Any]) -> str:
    low, high = percent(row["low"]), percent(row["high"])
    return f"always {low}" if low == high else f"{low} to {high}"


def _place(score: float, scores: pd.Series) -> str:
    below, others = int((scores < score).sum()), len(scores) - 1
    if below in (0, others):
        return f"the {'highest' if below else 'lowest'} score of all {len(scores)}"
    return f"a higher score than {below} of the {others} others"


def _drivers(analysis: Analysis, patient: str) -> str:
    """Groups of cells, what they contribute, and the prediction without them."""
    single = analysis.cohort.bag == "patient"
    table = drivers.what_if(analysis, patient) if single else drivers.groups(analysis, patient)
    largest = float(table["contribution"].abs().max()) or 1.0
    before = analysis.predictions.loc[
        analysis.predictions["patient"].astype(str) == patient, "prediction"
    ].iloc[0]
    rows = []
    for row in table.to_dict("records"):
        then = f'<td class="n">{_e(_without(before, row["prediction_without"]))}</td>' if single else ""
        rows.append(
            f'<tr><td>{_e(short(row["group"], 40))}</td><td class="n">{row["cells"]:,}</td>'
            f'<td class="n">{_e(percent(row["share"]))}</td><td class="n">{row["contribution"]:+.2f}</td>'
            f"<td>{_signed_bar(row['contribution'] / largest)}</td>{then}</tr>"
        )
    last = '<th class="n">Without these cells</th>' if single else ""
    total = f"{table['contribution'].sum():+.2f}"
    head = (
        '<tr><th>Cells</th><th class="n">Number</th><th class="n">Share</th><th class="n">Contribution</th>'
        f"<th>against | for</th>{last}</tr>"
    )
    words = (
        f"Contributions are log-odds and sum to the score, {total}. “Without” is the prediction when these cells "
        "are not counted; model, features and neighbours unchanged; not the effect of a treatment."
    )
    listed = f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'
    return f'<h2>What drives it</h2>{listed}<p class="quiet">{words}</p>'


def _without(before: float, after: float) -> str:
    return f"{percent(before)} to {percent(after)}" if np.isfinite(after) else "n/a (no cell left)"


def _signed_bar(share: float) -> str:
    """A bar from the middle: left and blue against, right and orange for."""
    hue, wide = (theme.FOR, 50 * share) if share > 0 else (theme.AGAINST, -50 * share)
    left = 50 if share > 0 else 50 - wide
    bar = f'<rect x="{left:.1f}" y="2" width="{wide:.1f}" height="10" fill="{hue}"/>'
    axis = '<line x1="50" y1="0" x2="50" y2="14" stroke="#8b929c"/>'
    return f'<svg width="100" height="14" viewBox="0 0 100 14" aria-hidden="true">{bar}{axis}</svg>'


def _tissue(analysis: Analysis, patient: str) -> str:
    rows = rows_of(analysis.cohort, patient)
    regions: list[str | None] = list(analysis.cohort.cells["region"].iloc[rows].dropna().astype(str).unique())
    maps = [pictures.tissue(analysis, patient, region) for region in (regions or [None])[:MAPS]]
    drawn = [picture for picture in maps if picture]
    small = pictures.umap(analysis, patient=patient, side=200, limit=4_000)
    if not drawn and not small:
        return ""
    more = f" {len(regions) - MAPS} more regions are not drawn." if len(regions) > MAPS else ""
    words = f"Importance of every cell, on one scale for the whole cohort.{more}"
    if small:
        words += " Last: where this patient’s cells lie on the UMAP."
    figures = "".join(f"<figure>{picture}</figure>" for picture in [*drawn, small] if picture)
    where = "Where these cells are" if drawn else "Where these cells lie among all"
    return f'<h2>{where}</h2><p>{words}</p>{_scale(analysis)}<div class="row">{figures}</div>'


def _profiles(analysis: Analysis, patient: str) -> str:
    figures = []
    for for_positive, side in ((True, "for"), (False, "against")):
        table = drivers.profile(analysis, patient, for_positive=for_positive)
        picture = pictures.dumbbells(table, for_positive=for_positive)
        if picture:
            words = f"The {table.attrs['cells']} strongest cells {side} (coloured) and the patient’s other cells (grey)"
            figures.append(f"<figure>{picture}<figcaption>{words}</figcaption></figure>")
    if not figures:
        return ""
    words = (
        "Largest differences, in standard deviations from the cohort’s mean. Chosen with the outcome in view."
    )
    return f'<h2>What these cells look like</h2><div class="row">{"".join(figures)}</div><p class="quiet">{words}</p>'


def _stable(analysis: Analysis, patient: str) -> str:
    """Whether retrained models agree on the strongest cells."""
    if analysis.facts["repeats"] < 4:
        return "<p><b>Stability of the cells: not assessed</b> (fewer than 4 repeats).</p>"
    held, of = drivers.steady(analysis, patient)
    words = f"{held} of the {of} strongest cells argue for the same side in all {analysis.facts['repeats']} repeats."
    return f"<p><b>Stability:</b> {words}</p>"


# ---------------------------------------------------------------- words


def _e(text: object) -> str:
    """Text of a table made safe in HTML, between tags and in attributes."""
    return markup.escape("".join(letter if letter.isprintable() else " " for letter in str(text)))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
