"""What a report says, apart from how it is set: pages of blocks, made once and shown as HTML, on paper or on slides.

All text is plain; whoever shows it escapes it. A new section is a function that returns blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dashboard.svg import Picture

__all__ = [
    "BANNER",
    "Block",
    "Cell",
    "Document",
    "Figure",
    "Group",
    "Heading",
    "Link",
    "Listing",
    "Page",
    "Ramp",
    "Row",
    "Table",
    "Words",
]

BANNER = "Research use only. Not for diagnosis or treatment decisions."


@dataclass(frozen=True)
class Words:
    """A paragraph. `lead` stands before it in bold; `finding` is large, `facts` and `quiet` small, `code` to be
    copied, `banner` framed."""

    text: str
    style: Literal["plain", "finding", "facts", "quiet", "code", "banner"] = "plain"
    lead: str = ""


@dataclass(frozen=True)
class Heading:
    """The title of a page (level 1), of a section (2) or of a part of one (3)."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Listing:
    """A list with a dot before each item."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Link:
    """Text that leads to the page with this anchor."""

    text: str
    anchor: str


Cell = str | Link | Picture


@dataclass(frozen=True)
class Table:
    """Rows under a head. The columns `numbers` stand to the right; `over`: titles above the head with how many columns
    each spans."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: tuple[int, ...] = ()
    over: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Figure:
    """A picture with its caption."""

    picture: Picture
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """Figures side by side, as many as there is room for."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Ramp:
    """The colour scale of importance, with words at both ends."""

    low: str
    high: str


@dataclass(frozen=True)
class Group:
    """Blocks that are shown `pale`, because nothing may be claimed from them."""

    blocks: tuple[Block, ...]
    pale: bool = False


Block = Words | Heading | Listing | Table | Figure | Row | Ramp | Group


@dataclass(frozen=True)
class Page:
    """What begins on a new sheet; `name` runs along on its sheets, `anchor` is what a Link leads to. With `one_sheet`
    its figures are made smaller, within reason, so that it takes no second one."""

    name: str
    anchor: str
    blocks: tuple[Block, ...]
    one_sheet: bool = False


@dataclass(frozen=True)
class Document:
    """All pages under one title."""

    title: str
    pages: tuple[Page, ...]

    @property
    def text(self) -> str:
        """Every word of it, a line for each piece: for search and for tests."""
        return "\n".join([self.title, *(words for page in self.pages for words in _words(page.blocks))])


def _words(blocks: tuple[Block, ...]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Words():
                yield f"{block.lead} {block.text}".strip()
            case Heading():
                yield block.text
            case Listing():
                yield from block.items
            case Table():
                yield from (words for words, _ in block.over)
                yield from block.head
                yield from (_said(cell) for row in block.rows for cell in row)
            case Figure():
                yield from (_said(block.picture), *(name for _, name in block.picture.key), block.caption)
            case Row():
                yield from _words(block.figures)
            case Ramp():
                yield from (block.low, block.high)
            case Group():
                yield from _words(block.blocks)


def _said(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell.text if isinstance(cell, Link) else cell.words
