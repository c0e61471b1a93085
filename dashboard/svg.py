"""Pieces of pictures: a subset of SVG small enough to be shown by a browser and drawn into a PDF alike.

The subset: line, rect, circle, polyline, polygon, path (M h v l z), text and image (PNG, inline); fill, stroke,
stroke-width, stroke-dasharray, opacity, and a quarter turn of text. `dashboard.ink` draws exactly these.
Text of tables is escaped here, and only here (`safe`).
"""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboard import theme
from dashboard.colouring import Colouring
from dashboard.theme import short

__all__ = [
    "INK",
    "QUIET",
    "RULE",
    "SIZE",
    "Picture",
    "bar",
    "legend",
    "line",
    "mark",
    "painted",
    "png",
    "raster",
    "safe",
    "shape",
    "swatches",
    "text",
]

INK, QUIET, RULE = "#1c2128", "#5c6570", "#d7dbe0"
SIZE = 12  # of text, in pixels
FINE = 1.5  # pixels of a map for each of its width on the page
LEVELS = 41  # shades of a map: more than an eye tells apart, few enough for small files


@dataclass(frozen=True)
class Picture:
    """A drawing of `wide` by `high` pixels in the subset, what it shows in `words`, and its `key`: mark and name."""

    wide: float
    high: float
    parts: tuple[str, ...]
    words: str = ""
    key: tuple[tuple[str, str], ...] = ()

    @property
    def markup(self) -> str:
        """The `svg` element, for inside a page; without words it is decoration."""
        said = f'role="img" aria-label="{safe(self.words)}"' if self.words else 'aria-hidden="true"'
        size = f'viewBox="0 0 {self.wide:g} {self.high:g}" width="{self.wide:g}" height="{self.high:g}"'
        return f"<svg {size} {said}>{''.join(self.parts)}</svg>"


def safe(text: object) -> str:
    """Text of a table made safe in SVG and HTML, between tags and in attributes."""
    return html.escape("".join(letter if letter.isprintable() else " " for letter in str(text)))


def text(x: float, y: float, words: str, *, anchor: str = "start", upright: bool = False) -> str:
    """Words at a place; `upright` ones run from the bottom to the top."""
    place = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"' if upright else f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {place} text-anchor="{anchor}">{safe(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, hue: str, width: float, *, dash: bool = False) -> str:
    """A straight line."""
    dashed = ' stroke-dasharray="4 3"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{hue}" stroke-width="{width:g}"{dashed}/>'


def bar(x: float, y: float, wide: float, high: float, hue: str) -> str:
    """A filled rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" fill="{hue}"/>'


def shape(label: str, classes: Sequence[str]) -> str:
    """The shape of a label's marks, so that hue is not all that tells labels apart."""
    return "open" if label == "" else "circle" if list(classes).index(label) % 2 == 0 else "diamond"


def mark(x: float, y: float, size: float, shape: str, hue: str) -> str:
    """One patient's mark."""
    if shape == "diamond":
        corners = f"M{x:.1f} {y - 1.25 * size:.1f}l{1.25 * size:.1f} {1.25 * size:.1f}"
        sides = f"l{-1.25 * size:.1f} {1.25 * size:.1f}l{-1.25 * size:.1f} {-1.25 * size:.1f}z"
        return f'<path d="{corners}{sides}" fill="{hue}"/>'
    ink = f'fill="#fff" stroke="{hue}" stroke-width="1.6"' if shape == "open" else f'fill="{hue}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" {ink}/>'


def swatches(hues: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """A key of lines: words -> hue."""
    return tuple((line(0, 7, 14, 7, hue, 4), words) for words, hue in hues.items())


def legend(labels: pd.Series, classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """A key of the marks of those labels that occur."""
    hues, there = theme.class_hues(classes), [name for name in [*classes, ""] if (labels == name).any()]
    return tuple(
        (mark(7, 7, 4.4, shape(name, classes), hues[name]), short(name, 40) or "no label") for name in there
    )


# ---------------------------------------------------------------- rasters


def raster(places: np.ndarray, shown: Colouring, order: np.ndarray, radius: float, *, side: int) -> str:
    """A square image of discs at `places` (n, 2) in drawing order, of FINE times as many pixels as it is wide."""
    values = shown.values[order]
    share = (values - shown.low) / (shown.high - shown.low)
    code = np.where(np.isfinite(share), np.clip(share, 0, 1) * (LEVELS - 1), LEVELS).astype(np.uint8)
    pixels_wide = round(FINE * side)
    picture = painted(FINE * places, code, FINE * radius, wide=pixels_wide, high=pixels_wide)
    palette = np.vstack([_ramp_colours(LEVELS), [[226, 229, 233]] * (256 - LEVELS)])
    palette[255] = 255
    return f'<image href="{png(picture, palette)}" x="0" y="0" width="{side}" height="{side}"/>'


def painted(places: np.ndarray, codes: np.ndarray, radius: float, *, wide: int, high: int) -> np.ndarray:
    """(high, wide) codes of discs at `places` (n, 2) of pixels, later ones over earlier ones; 255 is the ground."""
    picture = np.full((high, wide), 255, np.uint8)
    reach = math.ceil(radius)
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    centre = np.round(places).astype(np.int32)
    disc = grid[(grid**2).sum(axis=1) <= radius**2].astype(np.int32)
    pixels = np.clip(centre[:, None, ::-1] + disc[None], 0, (high - 1, wide - 1)).reshape(
        -1, 2
    )  # (n · disc, 2)
    picture[pixels[:, 0], pixels[:, 1]] = np.repeat(codes, len(disc))
    return picture


def _ramp_colours(levels: int) -> np.ndarray:
    """(levels, 3) colours of the signed ramp, blue to orange."""
    stops = [colour for _, colour in theme.ramp("signed")]
    rgb = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in stops], float)
    at = np.linspace(0, len(stops) - 1, levels)
    return np.stack([np.interp(at, range(len(stops)), rgb[:, k]) for k in range(3)], axis=1)


def png(picture: np.ndarray, palette: np.ndarray, *, clear: bool = False) -> str:
    """A palette PNG (PNG specification, colour type 3) of `picture` (h, w) codes into `palette` (256, 3), as an
    image's address; with `clear` code 255 is transparent."""
    high, wide = picture.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = np.concatenate([np.zeros((high, 1), np.uint8), picture], axis=1)  # filter byte 0 before each line
    head = struct.pack(">IIBBBBB", wide, high, 8, 3, 0, 0, 0)
    colours = np.round(palette).astype(np.uint8).tobytes()
    body = chunk(b"IHDR", head) + chunk(b"PLTE", colours)
    body += chunk(b"tRNS", b"\xff" * 255 + b"\0") if clear else b""
    body += chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()
