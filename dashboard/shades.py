"""Colours of cells as the maps draw them: a palette of 256 and a byte for each cell. No screen.

The canvas of the browser and the stills of the server both draw from these, so that both show the same.
"""

from __future__ import annotations

import colorsys
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard import theme
from dashboard.colouring import Colouring, colouring

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["Shades", "shades"]

NAMED = 48  # classes that a legend lists
SOLID, FAINT = "d9", "38"  # opacity of cells with and without a value


@dataclass(frozen=True, eq=False)
class Shades:
    """`codes` (N,) bytes: 0 for a cell without a value, else a place in the palette; `rank` (256,): which colours lie
    above which, the strongest value or the rarest class on top."""

    colouring: Colouring
    codes: np.ndarray
    rank: np.ndarray

    def palette(self, *, dark: bool) -> list[str]:
        """256 colours as #rrggbbaa."""
        shown = self.colouring
        if shown.ramp:
            colours = _between([colour for _, colour in theme.ramp(shown.ramp, dark=dark)], 255)
        else:
            hues = [_hex(hue) for hue in shown.hues] or [theme.MISSING]
            colours = [hues[k % len(hues)] for k in range(255)]
        return [theme.MISSING + FAINT] + [colour + SOLID for colour in colours]

    def legend(self, *, dark: bool) -> dict[str, Any]:
        """What the colours mean, as plain values."""
        shown = self.colouring
        told: dict[str, Any] = {"key": shown.key, "title": shown.title}
        if shown.ramp:
            stops = [colour for _, colour in theme.ramp(shown.ramp, dark=dark)]
            return told | {"low": shown.low, "high": shown.high, "colours": stops}
        names = [theme.short(name, 40) for name in shown.names]
        hues = [_hex(hue) for hue in shown.hues]
        if len(names) > NAMED:
            more = f"{len(names):,} of them: point at a cell for its name"
            return told | {"names": [], "more": more}
        return told | {"names": list(zip(names, hues, strict=True)), "more": ""}


def shades(analysis: Analysis, key: str) -> Shades:
    """All cells of the cohort in the colours of `key`, a choice of `colouring`."""
    shown = colouring(analysis, key, np.arange(analysis.cohort.N))
    missing = ~np.isfinite(shown.values)
    values = np.where(missing, 0.0, shown.values)
    if shown.ramp:
        place = np.clip((values - shown.low) / (shown.high - shown.low), 0, 1)
        codes = (1 + np.rint(254 * place)).astype(np.uint8)
    else:
        codes = (1 + values.astype(np.int64) % 255).astype(np.uint8)
    codes[missing] = 0
    return Shades(shown, codes, _rank(codes, shown.ramp))


def _rank(codes: np.ndarray, ramp: str) -> np.ndarray:
    if ramp == "signed":
        rank = np.abs(np.arange(256) - 128)
    elif ramp:
        rank = np.arange(256)
    else:
        often = np.bincount(codes, minlength=256)
        rank = np.argsort(np.argsort(-often, kind="stable"))
    rank[0] = 0
    return rank.astype(np.uint8)


def _between(stops: list[str], count: int) -> list[str]:
    """`count` colours evenly along a line of stops, #rrggbb."""
    parts = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in stops], float)
    places = np.linspace(0, len(stops) - 1, count)
    mixed = [np.interp(places, np.arange(len(stops)), parts[:, k]) for k in range(3)]
    return ["#" + "".join(f"{round(part):02x}" for part in colour) for colour in zip(*mixed, strict=True)]


def _hex(hue: str) -> str:
    """A colour of `theme.hues` as #rrggbb."""
    if hue.startswith("#"):
        return hue
    h, s, light = (float(part) for part in re.findall(r"[\d.]+", hue))
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(h / 360, light / 100, s / 100))
