"""The presentation of an analysis: the cohort's verdict and chosen patients, a slide for each thought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dashboard import casepage, drivers, method, outcome, pictures, report
from dashboard.document import BANNER, Block, Document, Figure, Heading, Listing, Page, Row, Table, Words
from dashboard.theme import percent, short
from milcore.progress import Progress

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["describe"]

ROWS = 5  # of a table on a slide
SHOWN = 4  # patients where none are chosen


def describe(
    analysis: Analysis, *, patients: Sequence[str] = (), progress: Progress | None = None
) -> Document:
    """The slides: verdict, every patient, which cells, two for each of `patients` (none: the first of
    `report.telling`), limits. MilError for a patient who is not in the analysis."""
    chosen = list(patients) or report.telling(analysis)[:SHOWN]
    report.check(analysis, chosen)
    told, pages = progress or Progress(), [_verdict(analysis), _everyone(analysis), _cells(analysis)]
    for k, name in enumerate(chosen):
        told.share((k + 1) / (len(chosen) + 1))
        pages += [_patient(analysis, name), _drivers(analysis, name)]
    pages.append(_limits(analysis))
    numbered = tuple(
        Page(page.name, f"s{k}", (*page.blocks, Words(BANNER, "quiet"))) for k, page in enumerate(pages)
    )
    return Document(f"Milscope: {analysis.settings.target}", numbered)


def _verdict(analysis: Analysis) -> Page:
    facts = analysis.facts
    size = facts["cohort"]
    counts = f"{size['patients']:,} patients ({', '.join(outcome.counted(facts))}) · {size['cells']:,} cells"
    return Page(
        "verdict",
        "",
        (
            Heading(report.title(analysis), 1),
            Words(facts["verdict"]["words"], "finding"),
            Words(counts, "facts"),
        ),
    )


def _everyone(analysis: Analysis) -> Page:
    words = "Each dot is one, by models that never saw this patient; colour and shape: true label."
    unit = analysis.cohort.bag
    return Page(unit, "", (Heading(f"Every {unit}"), Figure(pictures.ranking(analysis), words)))


def _cells(analysis: Analysis) -> Page:
    table, names = drivers.by_class(analysis).head(ROWS), drivers.compared(analysis)
    blocks: list[Block] = [Heading("Which cells drive the predictions?"), *casepage.cautioned(analysis)]
    if len(table):
        rows = tuple(
            (short(row["group"], 60), *(f"{row['contribution ' + name]:+.2f}" for name in names))
            for row in table.to_dict("records")
        )
        over = (("", 1), (f"Mean contribution ({outcome.unit(analysis.facts)})", len(names)))
        head = ("Phenotype", *(short(name) or "all patients" for name in names))
        blocks.append(Table(head, rows, tuple(range(1, len(head))), over))
    picture = pictures.umap(analysis)
    if picture:
        blocks += [Figure(picture), casepage.ramp(analysis)]
    return Page("cells", "", tuple(blocks))


def _patient(analysis: Analysis, patient: str) -> Page:
    rows = casepage.bags(analysis, patient)
    known = " / ".join(dict.fromkeys(outcome.truth(analysis.facts, row) or "no label" for row in rows))
    head = (Heading(short(patient, 60)), Words(f"Label: {known}", "facts"))
    if any(row["score"] != row["score"] for row in rows):
        return Page(patient, "", (*head, Words("No prediction.")))
    said = tuple(Words(casepage.headline(analysis, row), "finding") for row in rows[:3])
    said += tuple(casepage.cautioned(analysis))
    return Page(patient, "", (*head, *said, casepage.strip(analysis, patient)))


def _drivers(analysis: Analysis, patient: str) -> Page:
    """What drives the patient's score, beside the map."""
    table = drivers.groups(analysis, patient).head(ROWS)
    rows = tuple(
        (short(row["group"], 30), percent(row["share"]), f"{row['contribution']:+.2f}")
        for row in table.to_dict("records")
    )
    blocks: list[Block] = [
        Heading(f"{short(patient, 40)}: what drives it"),
        Table(("Cells", "Share", "Contribution"), rows, numbers=(1, 2)),
    ]
    drawn = [block for block in casepage.tissue(analysis, patient) if isinstance(block, Row)]
    if drawn:
        blocks += [Row(drawn[0].figures[:2]), casepage.ramp(analysis)]
    return Page(patient, "", tuple(blocks))


def _limits(analysis: Analysis) -> Page:
    items = (
        method.reach(analysis.facts),
        "Importance says what the model used, not what causes the outcome.",
        "A range over retrained models is not a confidence interval.",
    )
    return Page("limits", "", (Heading("What this does not show"), Listing(items)))
