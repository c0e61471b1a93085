"""The page of one patient in the report: what is predicted, which cells drive it, and whether to believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import drivers, outcome, pictures, svg, theme, trust, why
from dashboard.colouring import colouring, rows_of
from dashboard.document import BANNER, Block, Cell, Figure, Heading, Page, Ramp, Row, Table, Words
from dashboard.svg import Picture
from dashboard.theme import percent, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["bags", "cautioned", "headline", "patient_page", "ramp", "span", "strip", "tissue"]

MAPS = 4  # tissue maps of one patient


def patient_page(analysis: Analysis, patient: str, anchor: str) -> Page:
    """The page of one patient."""
    found = bags(analysis, patient)
    known = [outcome.truth(analysis.facts, row) or "no label" for row in found]
    cells = f"{len(rows_of(analysis.cohort, patient)):,} cells"
    head: list[Block] = [
        Words(BANNER, "banner"),
        Heading(short(patient, 80), 1),
        Words(f"Label: {' / '.join(dict.fromkeys(known))} · {cells}", "facts"),
    ]
    if any(np.isnan(row["score"]) for row in found):
        return Page(short(patient, 60), anchor, (*head, Words("No prediction.")))
    said = [Words(headline(analysis, row), "finding") for row in found]
    parts = [
        *cautioned(analysis),
        strip(analysis, patient),
        *_drivers(analysis, patient),
        *tissue(analysis, patient),
        *_profiles(analysis, patient),
        *_believed(analysis, patient),
    ]
    return Page(short(patient, 60), anchor, (*head, *said, *parts), one_sheet=True)


def cautioned(analysis: Analysis) -> list[Words]:
    """The caution that a cohort without a claim asks for."""
    words = trust.caution(analysis.facts)
    return [Words("", lead=words)] if words else []


def bags(analysis: Analysis, patient: str) -> list[dict[Any, Any]]:
    """The patient's rows of `outcome.patients`: one, or one for each region that is predicted."""
    table = outcome.patients(analysis)
    return table[table["patient"].astype(str) == patient].to_dict("records")


def headline(analysis: Analysis, row: dict[Any, Any]) -> str:
    """One bag's prediction in plain words."""
    facts = analysis.facts
    region = f"Region {row['region']}: this patient " if "region" in row else "This patient "
    words = f"{region}{outcome.headline(facts, row)}"
    if facts["repeats"] > 1:
        words += f" ({span(row)} over retrained models)"
    if facts["task"] != "multiclass":
        words += f", {_place(row['score'], analysis.predictions['score'].dropna())}"
    words += "."
    if row["open"]:
        words += " Not decided: the models disagree about the side."
    elif row["wrong"]:
        words += f" The label says otherwise: “{row['label']}”."
    return words


def _place(score: float, scores: pd.Series) -> str:
    below, others = int((scores < score).sum()), len(scores) - 1
    if below in (0, others):
        return f"the {'highest' if below else 'lowest'} score of all {len(scores)}"
    return f"a higher score than {below} of the {others} others"


def strip(analysis: Analysis, patient: str) -> Figure:
    """Where the patient lies among all."""
    caption = "This patient (ringed) among all, by true label."
    if "threshold" in analysis.facts:
        caption = caption[:-1] + "; dashed: threshold."
    return Figure(pictures.strip(analysis, patient), caption)


def _drivers(analysis: Analysis, patient: str) -> list[Block]:
    """Groups of cells, what they contribute, and the prediction without them."""
    single = analysis.cohort.bag == "patient"
    table = drivers.what_if(analysis, patient) if single else drivers.groups(analysis, patient)
    largest = float(table["contribution"].abs().max()) or 1.0
    row = why.row_of(analysis, patient)
    rows: list[tuple[Cell, ...]] = []
    for group in table.to_dict("records"):
        cells: list[Cell] = [
            short(group["group"], 40),
            f"{group['cells']:,}",
            percent(group["share"]),
            f"{group['contribution']:+.2f}",
            _signed_bar(group["contribution"] / largest),
        ]
        if single:
            cells.append(_without(analysis.facts, row["value"], group["prediction_without"]))
        rows.append(tuple(cells))
    head = ["Cells", "Number", "Share", "Contribution", "against | for"]
    of = "" if single else "s of the regions together"
    total = f"{table['contribution'].sum():+.2f}"
    words = f"Contributions are {outcome.unit(analysis.facts)} and sum to the score{of}, {total}."
    blocks: list[Block] = [Heading("What drives it")]
    if single:
        head.append("Without these cells")
        blocks.append(Words(why.strongest(analysis, row, table)))
        words += (
            " “Without” is the prediction when these cells are not counted; model, features and neighbours unchanged; "
            "not the effect of a treatment."
        )
    numbers = (1, 2, 3, 5) if single else (1, 2, 3)
    return [*blocks, Table(tuple(head), tuple(rows), numbers), Words(words, "quiet")]


def _without(facts: dict[str, Any], before: float, after: float) -> str:
    if not np.isfinite(after):
        return "n/a (no cell left)"
    return f"{outcome.said(facts, before)} to {outcome.said(facts, after)}"


def _signed_bar(share: float) -> Picture:
    """A bar from the middle: left and blue against, right and orange for."""
    hue, wide = (theme.FOR, 50 * share) if share > 0 else (theme.AGAINST, -50 * share)
    left = 50 if share > 0 else 50 - wide
    return Picture(100, 14, (svg.bar(left, 2, wide, 10, hue), svg.line(50, 0, 50, 14, theme.MISSING, 1)))


def tissue(analysis: Analysis, patient: str) -> list[Block]:
    """Maps of the patient's cells in the tissue and on the UMAP, under their scale."""
    rows = rows_of(analysis.cohort, patient)
    regions: list[str | None] = list(analysis.cohort.cells["region"].iloc[rows].dropna().astype(str).unique())
    maps = [pictures.tissue(analysis, patient, region) for region in (regions or [None])[:MAPS]]
    drawn = [picture for picture in maps if picture]
    small = pictures.umap(analysis, patient=patient, side=200, limit=4_000)
    if not drawn and not small:
        return []
    more = f" {len(regions) - MAPS} more regions are not drawn." if len(regions) > MAPS else ""
    words = f"Importance of every cell, on one scale for the whole cohort.{more}"
    if small:
        words += " Last: where this patient’s cells lie on the UMAP."
    figures = tuple(Figure(picture) for picture in [*drawn, small] if picture)
    where = "Where these cells are" if drawn else "Where these cells lie among all"
    return [Heading(where), Words(words), ramp(analysis), Row(figures)]


def _profiles(analysis: Analysis, patient: str) -> list[Block]:
    figures = []
    for for_positive, side in ((True, "for"), (False, "against")):
        table = drivers.profile(analysis, patient, for_positive=for_positive)
        picture = pictures.dumbbells(table, for_positive=for_positive)
        if picture:
            words = f"The {table.attrs['cells']} strongest cells {side} (coloured) and the patient’s other cells (grey)"
            figures.append(Figure(picture, words))
    if not figures:
        return []
    words = (
        "Largest differences, in standard deviations from the cohort’s mean. Chosen with the outcome in view."
    )
    return [Heading("What these cells look like"), Row(tuple(figures)), Words(words, "quiet")]


def _believed(analysis: Analysis, patient: str) -> list[Words]:
    """Whether the explanation is faithful (of each region that is predicted), and whether retrained models agree."""
    table = outcome.patients(analysis)
    rows = [row for _, row in table[table["patient"].astype(str) == patient].iterrows()]
    found = [trust.faithful_here(why.faithful_of(analysis, row), analysis.facts) for row in rows]
    return [*(Words(words, lead=f"{badge}:") for badge, words in found), _stable(analysis, patient)]


def _stable(analysis: Analysis, patient: str) -> Words:
    """Whether retrained models agree on the strongest cells."""
    trainings = len(analysis.mixture.base)
    if trainings < 4:
        return Words("(fewer than 4 repeats).", lead="Stability of the cells: not assessed")
    held, of = drivers.steady(analysis, patient)
    named = "models" if analysis.facts.get("new") else "repeats"
    words = f"{held} of the {of} strongest cells argue for the same side in all {trainings} {named}."
    return Words(words, lead="Stability:")


def ramp(analysis: Analysis) -> Ramp:
    """The one colour scale of importance, with the values at its ends."""
    most = theme.two(colouring(analysis, "importance", np.arange(0)).high)
    return Ramp(f"against (-{most})", f"for “{outcome.towards(analysis.facts)}” (+{most})")


def span(row: dict[Any, Any]) -> str:
    """The range of a prediction over retrained models, in words."""
    low, _, high = str(row["range"]).partition(" to ")
    return f"always {low}" if low == high else f"{low} to {high}"
