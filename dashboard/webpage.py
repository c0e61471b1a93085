"""A document as one HTML file that needs no network: a page that is read and printed without a script, or slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from dashboard import theme
from dashboard.document import (
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
from dashboard.svg import Picture, safe

__all__ = ["html", "slides"]

HERE = Path(__file__).parent
PARAGRAPH = {"plain": "", "banner": "ruo"}  # its class, where that is not the style's name


def html(document: Document) -> str:
    """The whole document as one page."""
    first, *others = document.pages
    pages = [_blocks(first.blocks), *(_section(page, "patient") for page in others)]
    return _page(document.title, "report.css", f"<main>{''.join(pages)}</main>")


def slides(document: Document) -> str:
    """The pages as slides, each as large as the screen; arrow keys turn them. Without a script one scrolls."""
    pages = "".join(_section(page, "slide") for page in document.pages)
    script = (HERE / "slides.js").read_text(encoding="utf-8")
    return _page(document.title, "slides.css", f"<main>{pages}</main><script>{script}</script>")


def _page(title: str, style: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en-GB"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{safe(title)}</title><style>{(HERE / style).read_text(encoding='utf-8')}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def _section(page: Page, kind: str) -> str:
    label = f'aria-label="{safe(page.name)}"'
    return f'<section class="{kind}" id="{safe(page.anchor)}" {label}>{_blocks(page.blocks)}</section>'


def _blocks(some: Sequence[Block]) -> str:
    """Blocks as HTML."""
    return "".join(_block(block) for block in some)


def _block(block: Block) -> str:
    match block:
        case Words():
            return _paragraph(block)
        case Heading():
            return f"<h{block.level}>{_text(block.text)}</h{block.level}>"
        case Listing():
            return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in block.items)}</ul>"
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)
        case Row():
            return f'<div class="row">{"".join(_figure(figure) for figure in block.figures)}</div>'
        case Ramp():
            return _ramp(block)
        case Group():
            inner = _blocks(block.blocks)
            return f'<div class="pale">{inner}</div>' if block.pale else inner
    assert_never(block)


def _text(words: str) -> str:
    """A number and its % stay on one line."""
    return safe(words).replace(" %", "&nbsp;%")


def _paragraph(block: Words) -> str:
    if block.style == "code":
        return f"<pre>{safe(block.text)}</pre>"
    lead = f"<b>{_text(block.lead)}</b> " if block.lead else ""
    kind = PARAGRAPH.get(block.style, block.style)
    return f"<p{f' class={kind}' if kind else ''}>{lead}{_text(block.text)}</p>"


def _table(table: Table) -> str:
    def row(cells: Sequence[Cell], tag: str, more: str = "") -> str:
        each = (
            f"<{tag}{more}{' class=n' if k in table.numbers else ''}>{_cell(cell)}</{tag}>"
            for k, cell in enumerate(cells)
        )
        return f"<tr>{''.join(each)}</tr>"

    over = "".join(f'<th scope="colgroup" colspan="{span}">{_text(words)}</th>' for words, span in table.over)
    head = (f"<tr>{over}</tr>" if over else "") + row(table.head, "th", ' scope="col"')
    body = "".join(row(cells, "td") for cells in table.rows)
    return f'<div class="wide" tabindex="0"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, Picture):
        return cell.markup
    return f'<a href="#{safe(cell.anchor)}">{_text(cell.text)}</a>' if isinstance(cell, Link) else _text(cell)


def _figure(figure: Figure) -> str:
    marks = (
        f'<span><svg width="14" height="14" aria-hidden="true">{mark}</svg> {_text(words)}</span>'
        for mark, words in figure.picture.key
    )
    key = f'<p class="key">{" ".join(marks)}</p>' if figure.picture.key else ""
    caption = f"<figcaption>{_text(figure.caption)}</figcaption>" if figure.caption else ""
    return f"<figure>{figure.picture.markup}{key}{caption}</figure>"


def _ramp(block: Ramp) -> str:
    stops = ",".join(colour for _, colour in theme.ramp("signed"))
    ends = f'<div class="ends quiet"><span>{_text(block.low)}</span><span>{_text(block.high)}</span></div>'
    return f'<div class="scale" style="background:linear-gradient(90deg,{stops})"></div>{ends}'
