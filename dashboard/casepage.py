"""The page of one patient in the report, and the wording and marks that all pages share."""

from __future__ import annotations

import html as markup
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import drivers, outcome, pictures, theme
from dashboard.colouring import rows_of
from dashboard.theme import percent, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["BANNER", "patient_page", "safe", "scale", "span"]

MAPS = 4  # tissue maps of one patient
BANNER = "Research use only. Not for diagnosis or treatment decisions."


def patient_page(analysis: Analysis, patient: str, place: int) -> str:
    """The section of one patient, with the anchor `p<place>`."""
    table = outcome.patients(analysis)
    found = table[table["patient"].astype(str) == patient]
    rows = rows_of(analysis.cohort, patient)
    known = [outcome.truth(analysis.facts, row) for row in found.to_dict("records")]
    labels = " / ".join(dict.fromkeys(safe(name) or "no label" for name in known))
    head = f"<h1>{safe(short(patient, 80))}</h1><p class=facts>Label: {labels} · {len(rows):,} cells</p>"
    if found["score"].isna().any():
        return f'<section class="patient" id="p{place}">{head}<p>No prediction.</p></section>'
    said = "".join(f'<p class="finding">{_said(analysis, row)}</p>' for row in found.to_dict("records"))
    caption = "This patient (ringed) among all, by true label."
    if "threshold" in analysis.facts:
        caption = caption[:-1] + "; dashed: threshold."
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
    region = f"Region {safe(row['region'])}: this patient " if "region" in row else "This patient "
    words = f"{region}{safe(outcome.headline(facts, row))}"
    if facts["repeats"] > 1:
        words += f" ({safe(span(row))} over retrained models)"
    if facts["task"] != "multiclass":
        words += f", {_place(row['score'], analysis.predictions['score'].dropna())}"
    words += "."
    if row["open"]:
        words += " Not decided: the models disagree about the side."
    elif row["wrong"]:
        words += f" The label says otherwise: “{safe(row['label'])}”."
    return words


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
    every = outcome.patients(analysis)
    before = every.loc[every["patient"].astype(str) == patient, "value"].iloc[0]
    rows = []
    for row in table.to_dict("records"):
        then = (
            f'<td class="n">{safe(_without(analysis.facts, before, row["prediction_without"]))}</td>'
            if single
            else ""
        )
        rows.append(
            f'<tr><td>{safe(short(row["group"], 40))}</td><td class="n">{row["cells"]:,}</td>'
            f'<td class="n">{safe(percent(row["share"]))}</td><td class="n">{row["contribution"]:+.2f}</td>'
            f"<td>{_signed_bar(row['contribution'] / largest)}</td>{then}</tr>"
        )
    last = '<th class="n">Without these cells</th>' if single else ""
    total = f"{table['contribution'].sum():+.2f}"
    head = (
        '<tr><th>Cells</th><th class="n">Number</th><th class="n">Share</th><th class="n">Contribution</th>'
        f"<th>against | for</th>{last}</tr>"
    )
    of = "" if single else "s of the regions together"
    words = f"Contributions are {safe(outcome.unit(analysis.facts))} and sum to the score{of}, {total}."
    if single:
        words += (
            " “Without” is the prediction when these cells are not counted; model, features and neighbours unchanged; "
            "not the effect of a treatment."
        )
    listed = f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'
    return f'<h2>What drives it</h2>{listed}<p class="quiet">{words}</p>'


def _without(facts: dict[str, Any], before: float, after: float) -> str:
    if not np.isfinite(after):
        return "n/a (no cell left)"
    return f"{outcome.said(facts, before)} to {outcome.said(facts, after)}"


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
    return f'<h2>{where}</h2><p>{words}</p>{scale(analysis)}<div class="row">{figures}</div>'


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


def scale(analysis: Analysis) -> str:
    """The one colour scale of importance, in words at both ends."""
    stops = ",".join(colour for _, colour in theme.ramp("signed"))
    positive = safe(outcome.towards(analysis.facts))
    ends = f'<div class="ends quiet"><span>against</span><span>for “{positive}”</span></div>'
    return f'<div class="scale" style="background:linear-gradient(90deg,{stops})"></div>{ends}'


def span(row: dict[str, Any]) -> str:
    """The range of a prediction over retrained models, in words; plain text."""
    low, _, high = str(row["range"]).partition(" to ")
    return f"always {low}" if low == high else f"{low} to {high}"


def safe(text: object) -> str:
    """Text of a table made safe in HTML, between tags and in attributes."""
    return markup.escape("".join(letter if letter.isprintable() else " " for letter in str(text)))
