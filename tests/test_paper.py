"""The PDF: real text in an embedded font, vector pictures, links, both paper sizes, and safe with any text."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dashboard import ink, paper, report, svg
from dashboard.document import Document, Figure, Link, Listing, Page, Row, Table, Words
from dashboard.svg import Picture
from milcore.analysis import Analysis
from milcore.errors import MilError
from tests.tiny import NASTY

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once


def words_of(content: bytes, folder: Path) -> str:
    """What poppler reads in a PDF, without line breaks."""
    (folder / "made.pdf").write_bytes(content)
    command = ["pdftotext", "-raw", str(folder / "made.pdf"), "-"]
    return " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


needs_poppler = pytest.mark.skipif(
    subprocess.run(["which", "pdftotext"], capture_output=True, check=False).returncode != 0,
    reason="pdftotext (poppler-utils) is not installed",
)


def one(*blocks: object) -> Document:
    return Document("T", (Page("name", "cohort", tuple(blocks)),))  # type: ignore[arg-type]


@needs_poppler
def test_it_says_what_the_page_says(analysis: Analysis, tmp_path: Path) -> None:
    patients = ["P01", NASTY]
    text = words_of(paper.pdf(report.describe(analysis, patients=patients)), tmp_path).replace("\u00a0", " ")
    document = report.describe(analysis, patients=patients)
    squeezed, unseen = re.sub(r"\s", "", text), {document.title, *(p.words for p in pictures_of(document))}
    lost = [line for line in document.text.splitlines() if line not in unseen]
    lost = [line for line in lost if re.sub(r"\s", "", line) not in squeezed]
    assert lost == []
    assert NASTY in text
    assert "Research use only" in text


def test_both_sizes_same_bytes_and_nothing_from_outside(analysis: Analysis) -> None:
    document = report.describe(analysis, patients=["P01"])
    a4, letter = (paper.pdf(document, size=size) for size in ("a4", "letter"))
    assert b"/MediaBox [ 0 0 595.2756 841.8898 ]" in a4
    assert b"/MediaBox [ 0 0 612 792 ]" in letter
    assert a4 == paper.pdf(document)
    for sign in (b"/JavaScript", b"/URI", b"/Launch", b"/EmbeddedFile"):
        assert sign not in a4
    assert b"/FontFile2" in a4, "the font travels with the file"
    assert b"/Outlines" in a4
    with pytest.raises(MilError, match="a3"):
        paper.pdf(document, size="a3")


@needs_poppler
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<b>&amp;</para>", "<b>&amp;</para>"),
        ("Ångström Żółć Ωμέγα Ёж", "Ångström Żółć Ωμέγα Ёж"),
        ("患者7", "[U+60A3][U+8005]7"),
        ("a\x00\x1b[31mb", "a [31mb"),
        ("x" * 300, "x" * 60),
        ("", "end"),
    ],
)
def test_any_text_is_set(name: str, shown: str, tmp_path: Path) -> None:
    picture = Picture(300, 40, (svg.text(10, 20, name), svg.mark(9, 9, 4, "diamond", "#fff")), name)
    document = one(
        *(Words(name, style, lead=name) for style in ("plain", "finding", "code", "banner")),
        Listing((name,)),
        Table((name, "b"), ((name, Link(name, "cohort")), (picture, name)), numbers=(1,), over=((name, 2),)),
        Row((Figure(picture, name),) * 4),
        Words("end"),
    )
    assert shown in words_of(paper.pdf(document), tmp_path).replace("x x", "xx")


@pytest.mark.parametrize("size", paper.SIZES)
def test_a_patient_takes_one_sheet(analysis: Analysis, size: str) -> None:
    document = report.describe(analysis, patients=["P01", "P02", NASTY])
    patients = Document("T", document.pages[1:])
    assert len(patients.pages) == len(sheets(paper.pdf(patients, size=size))) == 3
    long = Page("long", "p0", (Words("word " * 3000), *document.pages[1].blocks), one_sheet=True)
    assert len(sheets(paper.pdf(Document("T", (long,)), size=size))) > 2, "more than fits is set as ever"


def sheets(content: bytes) -> list[bytes]:
    return re.findall(rb"/Type /Page\b(?!s)", content)


def test_letters_the_font_lacks_stay_apart() -> None:
    ink.fonts()
    assert ink.spelled("王") != ink.spelled("李")


def test_a_long_table_runs_over_sheets_under_its_head(tmp_path: Path) -> None:
    rows = tuple((f"patient {k}", "a " * 120) for k in range(90))
    content = paper.pdf(one(Table(("who", "what"), rows)))
    assert len(sheets(content)) > 3


def test_every_element_of_our_pictures_can_be_drawn(analysis: Analysis) -> None:
    made = "".join(part for picture in pictures_of(report.describe(analysis)) for part in picture.parts)
    assert {"line", "rect", "circle", "polyline", "polygon", "path", "text", "image"} == set(ink.DRAWN)
    assert {"line", "rect", "text", "image"} <= set(re.findall(r"<(\w+)", made)) <= set(ink.DRAWN)


def pictures_of(document: Document) -> list[Picture]:
    def inside(blocks: tuple[object, ...]) -> list[Picture]:
        found: list[Picture] = []
        for block in blocks:
            if isinstance(block, Table):
                found += [cell for row in block.rows for cell in row if isinstance(cell, Picture)]
            elif isinstance(block, Figure):
                found.append(block.picture)
            else:
                found += inside(getattr(block, "figures", getattr(block, "blocks", ())))
        return found

    return [picture for page in document.pages for picture in inside(page.blocks)]
