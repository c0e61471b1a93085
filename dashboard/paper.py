"""A document as a PDF: vector pictures, real text, links and bookmarks; no browser is needed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, assert_never

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    KeepInFrame,
    KeepTogether,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    TableStyle,
)
from reportlab.platypus import Table as Grid

from dashboard import ink, theme
from dashboard.document import (
    BANNER,
    Block,
    Cell,
    Document,
    Figure,
    Group,
    Heading,
    Link,
    Listing,
    Page,
    Ramp,
    Row,
    Table,
    Words,
)
from dashboard.svg import INK, QUIET, Picture, safe
from milcore.errors import MilError

__all__ = ["SIZES", "pdf"]

SIZES = {"a4": A4, "letter": LETTER}
MARGIN, FOOT = 45.0, 30.0  # points
SCALE = 0.68  # points for a pixel of a picture, so that its text is read like the text around it
SMALLER = (SCALE, 0.61, 0.54, 0.47, 0.42)  # tried where a page is to fit on one sheet,
DENSEST = 0.88  # with all of it, text too, so much smaller at most
LEAST = 0.5  # of the scale, where figures are made smaller to fit in one line
SHORT = 14  # rows of a table that is kept on one sheet
GAP = 14.0  # between figures that stand side by side
BODY, SMALL = 9.0, 7.8  # sizes of text
STYLES = {
    "plain": {},
    "facts": {"fontSize": SMALL, "leading": 11, "textColor": HexColor(QUIET), "spaceAfter": 1},
    "quiet": {"fontSize": SMALL, "leading": 11, "textColor": HexColor(QUIET)},
    "finding": {"fontSize": 12.5, "leading": 17, "spaceBefore": 8, "spaceAfter": 10},
    "code": {
        "fontSize": SMALL,
        "leading": 11,
        "backColor": HexColor("#f3f4f6"),
        "borderPadding": 5,
        "spaceAfter": 9,
    },
    "banner": {"fontName": ink.BOLD, "backColor": HexColor("#fff4e5"), "borderPadding": 6, "spaceAfter": 12},
    "cell": {"fontSize": SMALL, "leading": 10.5, "spaceAfter": 0, "splitLongWords": 1},
    1: {"fontName": ink.BOLD, "fontSize": 17, "leading": 21, "spaceBefore": 4, "spaceAfter": 6},
    2: {"fontName": ink.BOLD, "fontSize": 12, "leading": 15, "spaceBefore": 14, "spaceAfter": 4},
    3: {"fontName": ink.BOLD, "fontSize": 10, "leading": 13, "spaceBefore": 9, "spaceAfter": 3},
}  # of paragraphs, headings by their level


def pdf(document: Document, *, size: str = "a4") -> bytes:
    """The document on paper of a `size` of SIZES: the same bytes for the same document. MilError for another size."""
    if size not in SIZES:
        problem = f"'{size}' is not a paper size."
        raise MilError(problem, "--paper", f"Choose one of: {', '.join(SIZES)}.")
    ink.fonts()
    out = io.BytesIO()
    margins = dict.fromkeys(("leftMargin", "rightMargin", "topMargin"), MARGIN)
    made = SimpleDocTemplate(
        out,
        pagesize=SIZES[size],
        bottomMargin=MARGIN + 8,
        title=document.title,
        author="Milscope",
        subject=BANNER,
        lang="en-GB",
        invariant=1,
        **margins,
    )
    setter = _Setter(made.width - 12, made.height - 12)  # less the padding of the frame
    made.build(setter.all(document), canvasmaker=_Numbered)
    return out.getvalue()


class _Numbered(Canvas):
    """A canvas that writes the foot of every sheet when it knows how many there are; `running` names the page."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.running = ""
        self.sheets: list[dict[str, Any]] = []

    def showPage(self) -> None:
        """Keeps the sheet until all are there."""
        self.sheets.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Writes every sheet with its foot."""
        for k, sheet in enumerate(self.sheets):
            self.__dict__.update(sheet)
            self.setFont(ink.PLAIN, 7)
            self.setFillColor(HexColor(QUIET))
            self.drawString(MARGIN + 6, FOOT, ink.spelled(f"{BANNER}   {theme.short(self.running, 50)}"))
            self.drawRightString(self._pagesize[0] - MARGIN - 6, FOOT, f"{k + 1} / {len(self.sheets)}")
            super().showPage()
        super().save()


def _markup(words: str) -> str:
    """Plain text for a reportlab paragraph; a number and its % stay on one line."""
    return safe(ink.spelled(words)).replace(" %", "\u00a0%")


def _paragraph(words: str, style: str | int, *, lead: str = "", right: bool = False) -> Paragraph:
    given: dict[str, Any] = {"fontName": ink.PLAIN, "fontSize": BODY, "leading": 12.5, "spaceAfter": 5}
    given |= {"textColor": HexColor(INK), "alignment": 2 if right else 0} | STYLES[style]
    bold = f"<b>{_markup(lead)}</b> " if lead else ""
    return Paragraph(bold + _markup(words), ParagraphStyle(str(style), **given))


class _Setter:
    """Turns blocks into reportlab's flowables, for sheets with room of `wide` by `high` points."""

    def __init__(self, wide: float, high: float) -> None:
        self.wide, self.high, self.scale = wide, high, SCALE

    def all(self, document: Document) -> list[Flowable]:
        out: list[Flowable] = []
        for page in document.pages:
            out += [PageBreak()] if out else []
            out += [_Start(page.anchor, page.name), *self.page(page)]
        return out

    def page(self, page: Page) -> list[Flowable]:
        """A page; one that is to fit on one sheet with the largest figures that do, else as any other."""
        for self.scale in SMALLER if page.one_sheet else ():
            made = _tightened(self.blocks(page.blocks))
            if _height(made, self.wide) * DENSEST <= self.high:
                self.scale = SCALE
                return [KeepInFrame(self.wide, self.high, made, mode="shrink")]
        self.scale = SCALE
        return self.blocks(page.blocks)

    def blocks(self, blocks: Sequence[Block], *, pale: bool = False) -> list[Flowable]:
        """A heading stays with what follows it, of a long table with its first rows."""
        out: list[Flowable] = []
        held: list[Flowable] = []
        for block in blocks:
            made = self.block(block, pale=pale)
            if isinstance(block, Heading) or (held and isinstance(block, Words) and len(held) < 3):
                held += made
            elif held and isinstance(block, Table) and len(block.rows) > SHORT:
                out += [CondPageBreak(SHORT * 16), *held, *made]
                held = []
            else:
                out += [KeepTogether([*held, *made[:1]]), *made[1:]]
                held = []
        return [*out, *held]

    def block(self, block: Block, *, pale: bool) -> list[Flowable]:
        match block:
            case Words():
                return [_paragraph(block.text, block.style, lead=block.lead)]
            case Heading():
                return [_paragraph(block.text, block.level)]
            case Listing():
                return [_paragraph(f"•  {item}", "plain") for item in block.items]
            case Table():
                return [self.table(block)]
            case Figure():
                return [self.figures((block,), pale=pale)]
            case Row():
                return self.rows(block.figures, pale=pale)
            case Ramp():
                return [_Scale(block)]
            case Group():
                return self.blocks(block.blocks, pale=block.pale)
        assert_never(block)

    def table(self, table: Table) -> Flowable:
        """Columns as wide as their words where there is room; else the wide ones of text are narrowed."""
        head, rows, over, wide = table.head, table.rows, len(table.over) > 0, _widths(table)
        if sum(wide) > self.wide:
            wide = _narrowed(wide, self.wide)
        cells = [[_cell(cell, right=k in table.numbers) for k, cell in enumerate(row)] for row in rows]
        top = [[_paragraph("", "cell", lead=words, right=k in table.numbers) for k, words in enumerate(head)]]
        look = [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 0), (-1, -1), 0.5, HexColor("#e1e4e8")),
        ]
        look += [("TOPPADDING", (0, 0), (-1, -1), 2.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5)]
        look += [("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 10)]
        if over:
            top.insert(0, [])
            for words, span in table.over:
                at = len(top[0])
                look.append(("SPAN", (at, 0), (at + span - 1, 0)))
                top[0] += [_paragraph("", "cell", lead=words), *[""] * (span - 1)]
        grid = Grid([*top, *cells], colWidths=wide, repeatRows=len(top), hAlign="LEFT", spaceAfter=8)
        grid.setStyle(TableStyle(look))
        return grid

    def rows(self, figures: Sequence[Figure], *, pale: bool) -> list[Flowable]:
        """Side by side, all smaller if that is enough for one line; else as many as there is room for on each."""
        room = self.wide - GAP * (len(figures) - 1)
        all_fit = room / sum(figure.picture.wide for figure in figures)
        if all_fit > LEAST:
            return [self.figures(figures, pale=pale, scale=all_fit)]
        out: list[Flowable] = []
        line: list[Figure] = []
        for figure in figures:
            if line and sum(f.picture.wide * self.scale + GAP for f in (*line, figure)) - GAP > self.wide:
                out.append(self.figures(line, pale=pale))
                line = []
            line.append(figure)
        return [*out, self.figures(line, pale=pale)]

    def figures(self, figures: Sequence[Figure], *, pale: bool, scale: float = 1.0) -> Flowable:
        scales = [min(scale, self.scale, self.wide / figure.picture.wide) for figure in figures]
        widths = [figure.picture.wide * scale for figure, scale in zip(figures, scales, strict=True)]
        if len(figures) == 1:
            widths = [self.wide]  # its caption may be as wide as the page
        cells = [
            [
                _Drawing(figure.picture, scale, pale=pale),
                *([_Key(figure.picture.key, wide)] if figure.picture.key else []),
                *([_paragraph(figure.caption, "quiet")] if figure.caption else []),
            ]
            for figure, scale, wide in zip(figures, scales, widths, strict=True)
        ]
        grid = Grid(
            [cells], colWidths=[wide + GAP for wide in widths], hAlign="LEFT", spaceBefore=4, spaceAfter=6
        )
        pads = [(side, (0, 0), (-1, -1), 0) for side in ("LEFTPADDING", "TOPPADDING", "BOTTOMPADDING")]
        grid.setStyle(
            TableStyle([*pads, ("RIGHTPADDING", (0, 0), (-1, -1), GAP), ("VALIGN", (0, 0), (-1, -1), "TOP")])
        )
        return grid


def _natural(cell: Cell, *, bold: bool) -> float:
    if isinstance(cell, Picture):
        return cell.wide * SCALE
    words = cell.text if isinstance(cell, Link) else cell
    return ink.width(words, STYLES["cell"]["fontSize"], ink.BOLD if bold else ink.PLAIN)


def _tightened(flowables: Sequence[Flowable]) -> list[Flowable]:
    """The same with half the space between them, and free to be parted."""
    flat = [
        one for each in flowables for one in (each._content if isinstance(each, KeepTogether) else [each])
    ]
    for each in flat:
        style = each.style if isinstance(each, Paragraph) else each
        style.spaceBefore, style.spaceAfter = each.getSpaceBefore() / 2, each.getSpaceAfter() / 2
        if isinstance(each, Grid) and each.repeatRows:
            each.setStyle(
                TableStyle([(side, (0, 0), (-1, -1), 1.4) for side in ("TOPPADDING", "BOTTOMPADDING")])
            )
    return flat


def _height(flowables: Sequence[Flowable], wide: float) -> float:
    """What they take one below the other."""
    high = before = 0.0
    for each in flowables:
        high += max(before, each.getSpaceBefore()) + each.wrap(wide, float("inf"))[1]
        before = each.getSpaceAfter()
    return high


def _widths(table: Table) -> list[float]:
    """Of each column, so that its words and the titles above it are not broken."""
    rows = (table.head, *table.rows)
    wide = [
        max(_natural(row[k], bold=row is table.head) for row in rows) + 12 for k in range(len(table.head))
    ]
    at = 0
    for words, span in table.over:
        short = _natural(words, bold=True) + 12 - sum(wide[at : at + span])
        wide[at : at + span] = [each + max(0.0, short) / span for each in wide[at : at + span]]
        at += span
    return wide


def _narrowed(wide: list[float], room: float) -> list[float]:
    """The widest columns are cut to one width, so that all fit."""
    for limit in sorted(wide, reverse=True):
        cut = [w for w in wide if w >= limit]
        share = (room - sum(w for w in wide if w < limit)) / len(cut)
        if share >= max((w for w in wide if w < limit), default=0.0):
            return [min(w, share) for w in wide]
    return [room / len(wide)] * len(wide)


def _cell(cell: Cell, *, right: bool) -> Flowable:
    if isinstance(cell, Picture):
        return _Drawing(cell, SCALE)
    if isinstance(cell, str):
        return _paragraph(cell, "cell", right=right)
    made = _paragraph("", "cell")
    return Paragraph(f'<a href="#{safe(cell.anchor)}" color="#1f5fa8">{_markup(cell.text)}</a>', made.style)


class _Start(Flowable):
    """Nothing to see: where a page begins, for links, bookmarks and the foot of its sheets."""

    def __init__(self, anchor: str, name: str) -> None:
        super().__init__()
        self.anchor, self.name = anchor, name

    def wrap(self, *room: float) -> tuple[float, float]:
        return 0, 0

    def draw(self) -> None:
        self.canv.running = self.name
        self.canv.bookmarkPage(self.anchor)
        self.canv.addOutlineEntry(ink.spelled(self.name), self.anchor)


class _Drawing(Flowable):
    """A picture."""

    def __init__(self, picture: Picture, scale: float, *, pale: bool = False) -> None:
        super().__init__()
        self.picture, self.scale, self.pale = picture, scale, pale

    def wrap(self, *room: float) -> tuple[float, float]:
        return self.picture.wide * self.scale, self.picture.high * self.scale

    def draw(self) -> None:
        ink.draw(self.canv, self.picture, self.scale, pale=self.pale)


class _Key(Flowable):
    """Marks with their names, on as many lines as it takes."""

    def __init__(self, key: Sequence[tuple[str, str]], wide: float) -> None:
        super().__init__()
        self.places: list[tuple[float, float, str, str]] = []
        x = y = 0.0
        for mark, words in key:
            needed = 14 + ink.width(words, SMALL)
            if x and x + needed > wide:
                x, y = 0.0, y + 11
            self.places.append((x, y, mark, words))
            x += needed + 14
        self.high = y + 13

    def wrap(self, *room: float) -> tuple[float, float]:
        return 0, self.high

    def draw(self) -> None:
        for x, y, mark, words in self.places:
            self.canv.saveState()
            self.canv.translate(x, self.high - y - 11)
            ink.draw(self.canv, Picture(14, 14, (mark,)), SCALE)
            self.canv.setFillColor(HexColor(QUIET))
            self.canv.setFont(ink.PLAIN, SMALL)
            self.canv.drawString(14, 2, ink.spelled(words))
            self.canv.restoreState()


class _Scale(Flowable):
    """The colour scale of importance with words at both ends."""

    WIDE = 200.0

    def __init__(self, ramp: Ramp) -> None:
        super().__init__()
        self.ramp = ramp

    def wrap(self, *room: float) -> tuple[float, float]:
        return self.WIDE, 24

    def draw(self) -> None:
        stops = theme.ramp("signed")
        colours, places = [HexColor(colour) for _, colour in stops], [share for share, _ in stops]
        self.canv.saveState()
        path = self.canv.beginPath()
        path.rect(0, 15, self.WIDE, 7)
        self.canv.clipPath(path, stroke=0)
        self.canv.linearGradient(0, 15, self.WIDE, 15, colours, places)
        self.canv.restoreState()
        self.canv.setFillColor(HexColor(QUIET))
        self.canv.setFont(ink.PLAIN, SMALL)
        self.canv.drawString(0, 5, ink.spelled(self.ramp.low))
        self.canv.drawRightString(
            max(self.WIDE, 60 + ink.width(self.ramp.high, SMALL)), 5, ink.spelled(self.ramp.high)
        )
