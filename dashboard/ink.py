"""Draws the SVG of `dashboard.svg` on a PDF page: lines stay lines, text stays text, in an embedded font."""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from reportlab.lib.colors import HexColor
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from dashboard.svg import QUIET, SIZE, Picture
from milcore.errors import MilError

if TYPE_CHECKING:
    from collections.abc import Callable

    from reportlab.pdfgen.canvas import Canvas

__all__ = ["BOLD", "PLAIN", "draw", "fonts", "spelled", "width"]

PLAIN, BOLD = "MilscopeText", "MilscopeBold"
FILES = {
    PLAIN: "DejaVuSans.ttf",
    BOLD: "DejaVuSans-Bold.ttf",
}  # free, wide in scripts; matplotlib carries them
NARROW = 88  # per cent: DejaVu runs wider than the fonts of browsers, for which pictures leave room
MOVE = re.compile(r"([Mhvlz])([^Mhvlz]*)")
TURNED = re.compile(r"translate\(([-\d.]+) ([-\d.]+)\) rotate\(-90\)")


@cache
def fonts() -> None:
    """Makes the two fonts known to reportlab, once. MilError where they are missing."""
    found = find_spec("matplotlib")
    folder = Path(found.origin or "").parent / "mpl-data/fonts/ttf" if found else Path("matplotlib")
    for name, file in FILES.items():
        if not (folder / file).is_file():
            problem = f"The font '{file}' of the PDF report is missing."
            raise MilError(problem, str(folder), "Install matplotlib, or write an HTML report.")
        pdfmetrics.registerFont(TTFont(name, folder / file))
    pdfmetrics.registerFontFamily(PLAIN, normal=PLAIN, bold=BOLD, italic=PLAIN, boldItalic=BOLD)


def spelled(words: str) -> str:
    """The words in letters the fonts have; any other letter by its number, so that two names never look alike."""
    known = pdfmetrics.getFont(PLAIN).face.charToGlyph
    plain = "".join(letter if letter.isprintable() else " " for letter in words)
    return "".join(letter if ord(letter) in known else f"[U+{ord(letter):04X}]" for letter in plain)


def width(words: str, size: float, font: str = PLAIN) -> float:
    """How wide words are, in points."""
    return float(pdfmetrics.stringWidth(spelled(words), font, size))


def draw(canvas: Canvas, picture: Picture, scale: float, *, pale: bool = False) -> None:
    """The picture with its lower left corner at the origin, a pixel being `scale` points; in grey if `pale`."""
    canvas.saveState()
    canvas.scale(scale, scale)
    canvas.translate(0, picture.high)
    for element in ElementTree.fromstring(f"<svg>{''.join(picture.parts)}</svg>"):
        canvas.saveState()
        shade = float(element.get("opacity", 1))
        canvas.setFillAlpha(shade)
        canvas.setStrokeAlpha(shade)
        canvas.setLineWidth(float(element.get("stroke-width", 1)))
        if dash := element.get("stroke-dasharray"):
            canvas.setDash([float(part) for part in dash.split()])
        fill, stroke = (_hue(element.get(name), pale=pale) for name in ("fill", "stroke"))
        if fill:
            canvas.setFillColor(fill)
        if stroke:
            canvas.setStrokeColor(stroke)
        DRAWN[element.tag](canvas, element, int(bool(fill)), int(bool(stroke)))
        canvas.restoreState()
    canvas.restoreState()


def _hue(name: str | None, *, pale: bool) -> HexColor | None:
    if name in (None, "none"):
        return None
    colour = HexColor(name if len(name) == 7 else "#" + "".join(2 * digit for digit in name[1:]))
    grey = 0.299 * colour.red + 0.587 * colour.green + 0.114 * colour.blue
    return HexColor(f"#{3 * f'{round(255 * grey):02x}'}") if pale else colour


Element = ElementTree.Element


def _numbers(element: Element, *names: str) -> list[float]:
    return [float(element.get(name, 0)) for name in names]


def _line(canvas: Canvas, element: Element, fill: int, stroke: int) -> None:
    x1, y1, x2, y2 = _numbers(element, "x1", "y1", "x2", "y2")
    canvas.line(x1, -y1, x2, -y2)


def _rect(canvas: Canvas, element: Element, fill: int, stroke: int) -> None:
    x, y, wide, high = _numbers(element, "x", "y", "width", "height")
    canvas.rect(x, -y - high, wide, high, stroke=stroke, fill=fill)


def _circle(canvas: Canvas, element: Element, fill: int, stroke: int) -> None:
    x, y, r = _numbers(element, "cx", "cy", "r")
    canvas.circle(x, -y, r, stroke=stroke, fill=fill)


def _points(canvas: Canvas, element: Element, fill: int, stroke: int) -> None:
    path = canvas.beginPath()
    for k, pair in enumerate(element.get("points", "").split()):
        x, y = (float(part) for part in pair.split(","))
        (path.lineTo if k else path.moveTo)(x, -y)
    if element.tag == "polygon":
        path.close()
    canvas.drawPath(path, stroke=stroke, fill=fill)


def _path(canvas: Canvas, element: Element, fill: int, stroke: int) -> None:
    path, x, y = canvas.beginPath(), 0.0, 0.0
    for letter, rest in MOVE.findall(element.get("d", "")):
        given = [float(part) for part in re.findall(r"-?[\d.]+", rest)]
        if letter == "z":
            path.close()
            continue
        dx, dy = {"h": (*given, 0), "v": (0, *given)}.get(letter, given)
        x, y = (dx, dy) if letter == "M" else (x + dx, y + dy)
        (path.moveTo if letter == "M" else path.lineTo)(x, -y)
    canvas.drawPath(path, stroke=stroke, fill=fill)


def _text(canvas: Canvas, element: Element, fill: int, stroke: int) -> None:
    x, y = _numbers(element, "x", "y")
    if turned := TURNED.fullmatch(element.get("transform", "")):
        canvas.translate(float(turned[1]), -float(turned[2]))
        canvas.rotate(90)
        x = y = 0.0
    if not fill:
        canvas.setFillColor(HexColor(QUIET))
    words = spelled(element.text or "")
    wide = width(words, SIZE) * NARROW / 100
    left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[element.get("text-anchor", "start")]
    line = canvas.beginText(left, -y)
    line.setFont(PLAIN, SIZE)
    line.setHorizScale(NARROW)
    line.textOut(words)
    canvas.drawText(line)


def _image(canvas: Canvas, element: Element, fill: int, stroke: int) -> None:
    x, y, wide, high = _numbers(element, "x", "y", "width", "height")
    data = base64.b64decode(element.get("href", "").partition(",")[2])
    canvas.drawImage(ImageReader(io.BytesIO(data)), x, -y - high, wide, high)


DRAWN: dict[str, Callable[[Canvas, Element, int, int], None]] = {
    "line": _line,
    "rect": _rect,
    "circle": _circle,
    "polyline": _points,
    "polygon": _points,
    "path": _path,
    "text": _text,
    "image": _image,
}
