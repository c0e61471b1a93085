"""Static pictures for the report: inline SVG and small PNGs, drawn from the data with no browser and no
script.

Every function returns a piece of HTML. Text of tables is escaped here, and only here in this file (`_t`).
"""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import outcome, theme, trust
from dashboard.colouring import Colouring, colouring, drawn, region_rows, unit
from dashboard.theme import percent, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["dumbbells", "faithfulness", "fit", "intervals", "null", "ranking", "strip", "tissue", "umap"]

INK, QUIET, RULE = "#1c2128", "#5c6570", "#d7dbe0"
SIDE = 300  # width of a map on the page
FINE = 1.5  # pixels of a map for each of its width on the page
LEVELS = 41  # shades of a map: more than an eye tells apart, few enough for small files


def ranking(analysis: Analysis) -> str:
    """Every patient as a dot ordered by prediction; whisker = range over retrained models, dashed = threshold."""
    facts, frame = analysis.facts, outcome.patients(analysis).dropna(subset=["value"])
    frame = frame.sort_values(["called_as", "value"], kind="stable")
    groups, wide, high = outcome.groups(facts), 720, 250
    x = 52 + (np.arange(len(frame)) + 0.5) * (wide - 62) / max(len(frame), 1)
    size = float(np.clip(240 / max(len(frame), 1), 1.6, 5))
    scale = _Scale.of(facts, frame)
    parts = [_line(46, scale.down(v, high), wide, scale.down(v, high), RULE, 1) for v, _ in scale.ticks]
    parts += [_text(40, scale.down(v, high) + 4, words, anchor="end") for v, words in scale.ticks]
    if "threshold" in facts:
        y = scale.down(facts["threshold"], high)
        parts += [
            _line(46, y, wide, y, QUIET, 1, dash=True),
            _text(50, y - 4, f"threshold {percent(facts['threshold'])}"),
        ]
    for place, row in zip(x, frame.itertuples(), strict=True):
        hue = theme.class_hues(groups)[row.group]
        parts.append(_line(place, scale.down(row.high, high), place, scale.down(row.low, high), hue, 1.1))
        parts.append(_mark(place, scale.down(row.value, high), size, _shape(row.group, groups), hue))
    for name, places in pd.Series(x, index=frame["called_as"]).groupby(level=0):
        if name:
            edge = float(places.min()) - (wide - 62) / len(frame) / 2
            parts.append(_line(edge, 8, edge, high, RULE, 1))
            parts.append(
                _text(float(places.mean()), high + 18, f"predicted {short(name, 18)}", anchor="middle")
            )
    if facts["task"] != "multiclass":
        parts += [_text(46, high + 18, "lowest"), _text(wide - 10, high + 18, "highest", anchor="end")]
    words = f"{len(frame)} patients ordered by their prediction out of fold"
    return _svg(wide, high + 26, parts, words) + _legend(frame["group"], groups)


def strip(analysis: Analysis, patient: str) -> str:
    """All patients on one line of predictions for each label, this patient ringed."""
    facts, groups = analysis.facts, outcome.groups(analysis.facts)
    frame = outcome.patients(analysis).dropna(subset=["value"])
    rows = [group for group in [*groups, ""] if (frame["group"] == group).any()]
    wide, high, scale = 480, 34 * len(rows) + 24, _Scale.of(facts, frame)

    def across(value: float) -> float:
        return 124 + 326 * scale.share(value)

    parts = [_text(across(v), high - 4, words, anchor="middle") for v, words in scale.ticks]
    if "threshold" in facts:
        cut = across(facts["threshold"])
        parts.append(_line(cut, 4, cut, high - 20, QUIET, 1, dash=True))
    for place, group in enumerate(rows):
        y = 18 + 34 * place
        parts.append(_text(112, y + 4, short(group, 18) or "no label", anchor="end"))
        part = frame[frame["group"] == group]
        ticks = "".join(f"M{across(p):.0f} {y - 7}v14" for p in part["value"])
        hue = theme.class_hues(groups)[group]
        parts.append(f'<path d="{ticks}" stroke="{hue}" stroke-width="2" opacity=".75"/>')
        for p in part.loc[part["patient"].astype(str) == patient, "value"]:
            circle = (
                f'<circle cx="{across(p):.1f}" cy="{y}" r="10" fill="none" stroke="{INK}" stroke-width="2"/>'
            )
            parts.append(circle)
    return _svg(wide, high, parts, f"Patient {patient} among all patients, by label")


@dataclass(frozen=True)
class _Scale:
    """Where predictions lie between `low` and `high`, by their logarithm where `log`; `ticks` with their words."""

    low: float
    high: float
    ticks: list[tuple[float, str]]
    log: bool = False

    @classmethod
    def of(cls, facts: dict[str, Any], frame: pd.DataFrame) -> _Scale:
        low, high = float(frame["low"].min()), float(frame["high"].max())
        if facts["task"] == "regression":
            ticks = _round_ticks(low, high)
            return cls(min(low, ticks[0]), max(high, ticks[-1]), [(v, f"{v:g}") for v in ticks])
        if facts["task"] == "survival":
            low, high = max(min(low, 0.5), 1e-3), min(max(high, 2.0), 1e3)
            ticks = [v for v in (0.01, 0.1, 0.25, 0.5, 1, 2, 4, 10, 100) if low <= v <= high]
            return cls(low, high, [(v, f"{v:g}×") for v in ticks], log=True)
        return cls(0.0, 1.0, [(v, f"{100 * v:.0f} %") for v in (0, 0.5, 1)])

    def share(self, value: float) -> float:
        if self.log:
            return math.log(min(max(value, self.low), self.high) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def down(self, value: float, high: float) -> float:
        return 10 + (high - 20) * (1 - self.share(value))


def _round_ticks(low: float, high: float) -> list[float]:
    step = _round_length((high - low) or 1.0)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * k, 10) for k in range(first, last + 1)][:: max(1, (last - first) // 5)]


def fit(analysis: Analysis) -> str:
    """How well predictions fit: ROC curves, predicted against measured, or Kaplan-Meier."""
    kind, side = analysis.facts["task"], 200
    draw = {"regression": _agreement, "survival": _survival}.get(kind, _roc)
    return draw(analysis, side)


def _frame(side: int, x: str, y: str) -> list[str]:
    return [
        f'<rect x="34" y="10" width="{side}" height="{side}" fill="none" stroke="{RULE}"/>',
        _text(34 + side / 2, side + 34, x, anchor="middle"),
        f'<text transform="translate(22 {10 + side / 2}) rotate(-90)" text-anchor="middle">{_t(y)}</text>',
    ]


def _roc(analysis: Analysis, side: int) -> str:
    facts = analysis.facts
    several = facts["task"] == "multiclass"
    curves = facts["roc"] if several else {"": facts["roc"]}
    hues = theme.class_hues(facts["classes"]) | ({} if several else {"": theme.AGAINST})
    parts = [
        *_frame(side, "False alarms", "Sensitivity"),
        _line(34, 10 + side, 34 + side, 10, QUIET, 1, dash=True),
    ]
    for name, curve in curves.items():
        points = [(0.0, 0.0)]
        for x, y in zip(curve["fpr"], curve["tpr"], strict=True):
            points += [(x, points[-1][1]), (x, y)]
        path = " ".join(f"{34 + side * x:.1f},{10 + side * (1 - y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{hues[name]}" stroke-width="2.2"/>')
    drawn = _svg(side + 46, side + 40, parts, "ROC curve, out of fold")
    return drawn + (_swatches({short(name, 24): hues[name] for name in curves}) if several else "")


def _agreement(analysis: Analysis, side: int) -> str:
    frame = outcome.patients(analysis)
    frame = frame[frame["label"] != ""]
    measured = pd.to_numeric(frame["label"]).to_numpy(float)
    values = np.concatenate([measured, frame["value"]])
    low, room = float(values.min()), float(np.ptp(values)) or 1.0

    def at(value: float) -> float:
        return 4 + (side - 8) * (value - low) / room

    name = short(analysis.settings.target, 24)
    parts = [
        *_frame(side, f"Measured {name}", f"Predicted {name}"),
        _line(34, 10 + side, 34 + side, 10, QUIET, 1, dash=True),
    ]
    for x, y in zip(measured, frame["value"], strict=True):
        parts.append(_mark(34 + at(x), 10 + side - at(y), 3.0, "circle", theme.AGAINST))
    for value in (low, low + room):
        parts.append(_text(34 + at(value), side + 21, f"{value:.3g}", anchor="middle"))
    return _svg(side + 46, side + 40, parts, "Predicted against measured, out of fold")


def _survival(analysis: Analysis, side: int) -> str:
    groups = [group for group in analysis.facts["survival"]["groups"] if group["patients"]]
    left, wide, last = 46, 1.5 * side, max(max(group["time"]) for group in groups) or 1.0
    hues = {group["name"]: theme.FOR if "higher" in group["name"] else theme.AGAINST for group in groups}

    def steps(group: dict[str, Any], part: str) -> list[str]:
        points, before = [], 1.0
        for time, value in zip(group["time"], group[part], strict=True):
            points += [(time, before), (time, value)]
            before = value
        return [f"{left + wide * t / last:.1f},{10 + side * (1 - v):.1f}" for t, v in points]

    named = short(analysis.settings.time or "time", 24)
    parts = [f'<rect x="{left}" y="10" width="{wide:g}" height="{side}" fill="none" stroke="{RULE}"/>']
    for group in groups:
        hue, band = hues[group["name"]], [*steps(group, "low"), *reversed(steps(group, "high"))]
        parts.append(f'<polygon points="{" ".join(band)}" fill="{hue}" opacity=".14"/>')
        line = " ".join(steps(group, "survival"))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{hue}" stroke-width="2.2"/>')
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        time = last * share
        words = f"{time:,.0f}" if last >= 100 else f"{time:.3g}"
        parts.append(_text(left + wide * share, side + 24, words, anchor=anchor))
        parts.append(_text(left - 6, 14 + side * (1 - share), f"{100 * share:.0f} %", anchor="end"))
    parts.append(_text(left + wide / 2, side + 40, f"{named}; share without event", anchor="middle"))
    key = {f"{g['name']}: {g['patients']} patients, {g['events']} events": hues[g["name"]] for g in groups}
    return _svg(wide + 60, side + 46, parts, "Kaplan-Meier curves, out of fold") + _swatches(key)


def null(analysis: Analysis) -> str:
    """Histogram of the leading score with shuffled labels, and the observed one."""
    found, facts = analysis.facts["null"], analysis.facts
    low = min(0.0, 2 * facts["chance"] - 1)
    counts, edges = np.histogram(found["values"], bins=30, range=(low, 1))
    wide, high = 250, 200
    parts = []

    def across(value: float) -> float:
        return 10 + 230 * (value - low) / (1 - low)

    for count, left in zip(counts, edges, strict=False):
        tall = high * count / max(counts.max(), 1)
        parts.append(_bar(across(left), 10 + high - tall, 230 / 30 - 0.6, tall, theme.NEUTRAL))
    x = across(found["observed"])
    parts.append(_line(x, 10, x, 10 + high, theme.AGAINST, 2.2))
    parts += [_text(across(v), high + 24, f"{v:g}", anchor="middle") for v in (low, (1 + low) / 2, 1)]
    parts.append(_text(10 + 115, high + 38, f"{outcome.main(facts)} with shuffled labels", anchor="middle"))
    return _svg(wide, high + 44, parts, f"{found['permutations']} permutations of the labels")


def faithfulness(analysis: Analysis) -> str:
    """Score lost as cells are taken away by importance and by attention, over the band of random orders (95 %)."""
    found = analysis.facts["faithfulness"]
    hues = {"importance": theme.AGAINST, "attention": theme.ramp("attention")[2][1]}
    if not trust.attends(analysis.facts):
        del hues["attention"]
    low, high = found["random"]["low"], found["random"]["high"]
    curves = {name: found[name]["curve"] for name in hues}
    bottom, top = min(map(min, [low, *curves.values()])), max(map(max, [high, *curves.values()]))
    span, wide, tall = (top - bottom) or 1.0, 300, 170

    def path(values: Sequence[float]) -> list[str]:
        steps = zip(found["steps"], values, strict=True)
        return [f"{40 + wide * x:.1f},{8 + tall * (top - y) / span:.1f}" for x, y in steps]

    parts = [f'<polygon points="{" ".join([*path(low), *reversed(path(high))])}" fill="{theme.NEUTRAL}"/>']
    for level in (0.0, top):
        y = 8 + tall * (top - level) / span
        parts += [_line(40, y, 40 + wide, y, RULE, 1), _text(34, y + 4, f"{level:.1f}", anchor="end")]
    for name, hue in hues.items():
        parts.append(
            f'<polyline points="{" ".join(path(curves[name]))}" fill="none" stroke="{hue}" stroke-width="2"/>'
        )
    parts += [_text(40 + wide * x, tall + 26, f"{100 * x:.0f} %", anchor="middle") for x in (0, 0.5, 1)]
    parts.append(_text(40 + wide / 2, tall + 42, "Share of cells taken away", anchor="middle"))
    swatches = {f"by {name}": hue for name, hue in hues.items()} | {"random order (95 %)": theme.NEUTRAL}
    return _svg(wide + 60, tall + 46, parts, "Score lost as cells are taken away") + _swatches(swatches)


def intervals(rows: Sequence[tuple[str, dict[str, Any]]], facts: dict[str, Any]) -> str:
    """Leading scores with their intervals as dots on one scale; the first row is Milscope's and stands out."""
    wide, left, chance = 560, 210, facts["chance"]
    floor = min([chance - 0.1, *(score.get("low", score["value"]) for _, score in rows)])
    parts = []

    def across(value: float) -> float:
        return left + (wide - left - 150) * (value - floor) / (1 - floor)

    high = 26 * len(rows) + 26
    parts.append(_line(across(chance), 4, across(chance), high - 22, QUIET, 1, dash=True))
    parts.append(_text(across(chance), high - 6, f"{chance:g} = chance", anchor="middle"))
    for place, (name, score) in enumerate(rows):
        y, hue = 16 + 26 * place, theme.AGAINST if place == 0 else QUIET
        value = score["value"]
        parts.append(_text(left - 12, y + 4, short(name, 32), anchor="end"))
        parts.append(_line(across(score.get("low", value)), y, across(score.get("high", value)), y, hue, 2))
        parts.append(_mark(across(value), y, 4.6, "circle", hue))
        parts.append(_text(wide - 138, y + 4, theme.interval(score)))
    return _svg(wide, high, parts, f"{outcome.main(facts)} of Milscope and of plain baselines")


def dumbbells(table: pd.DataFrame, *, for_positive: bool, limit: int = 8) -> str:
    """Marker profile: grey = the patient's other cells, coloured = the top cells, in sd from the cohort's
    mean."""
    table = table.head(limit)
    if table.empty:
        return ""
    values = np.concatenate([table["top"], table["others"], [0.0]])
    low, high_value = float(values.min()), float(values.max())
    room = (high_value - low) or 1.0
    wide, left, high = 330, 110, 20 * len(table) + 26
    hue = theme.FOR if for_positive else theme.AGAINST

    def across(value: float) -> float:
        return left + (wide - left - 14) * (value - low) / room

    parts = [_line(across(0), 2, across(0), high - 20, RULE, 1)]
    parts.append(_text(across(0), high - 5, "cohort's mean", anchor="middle"))
    for place, row in enumerate(table.itertuples()):
        y = 12 + 20 * place
        parts.append(_text(left - 10, y + 4, short(row.feature, 16), anchor="end"))
        parts.append(_line(across(row.others), y, across(row.top), y, RULE, 2))
        parts.append(_mark(across(row.others), y, 3.6, "circle", theme.MISSING))
        parts.append(_mark(across(row.top), y, 4.4, "circle", hue))
    return _svg(wide, high, parts, "Markers of the top cells against the patient's other cells")


def tissue(analysis: Analysis, patient: str, region: str | None, *, limit: int = 20_000) -> str:
    """One region coloured by importance on the cohort's one scale, with a scale bar; '' without
    coordinates."""
    rows, name = region_rows(analysis.cohort, patient, region)
    if not len(rows):
        return ""
    shown = colouring(analysis, "importance", rows)
    xy = analysis.cohort.cells[["x", "y"]].to_numpy()[rows]
    span = max(float(np.ptp(xy, axis=0).max()), 1e-9)
    order = drawn(shown.strength, limit, seed=0)
    places = 8 + (xy[order] - xy.min(axis=0)) / span * (SIDE - 16)
    radius = float(np.clip(1.1 * SIDE / math.sqrt(len(order)) / 2.4, 1.2, 5))
    image = _raster(places, shown, order, radius, side=SIDE)
    length = _round_length(span)
    bar = length / span * (SIDE - 16)
    parts = [
        f'<image href="{image}" width="{SIDE}" height="{SIDE}"/>',
        _line(8, SIDE + 10, 8 + bar, SIDE + 10, QUIET, 3),
        _text(14 + bar, SIDE + 14, f"{length:g} {unit(analysis.cohort)}"),
        _text(SIDE - 4, SIDE + 14, short(name, 24), anchor="end"),
    ]
    words = f"Tissue of {patient} {name}: {len(rows):,} cells coloured by importance"
    return _svg(SIDE, SIDE + 20, parts, words)


def umap(analysis: Analysis, *, patient: str | None = None, side: int = SIDE, limit: int = 10_000) -> str:
    """The approximate UMAP coloured by importance; with `patient` the other cells are pale."""
    xy = analysis.cells[["umap_1", "umap_2"]].to_numpy(dtype=float)
    rows = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not len(rows):
        return ""
    xy = xy[rows]
    shown = colouring(analysis, "importance", rows)
    mine = None
    if patient is not None:
        names = analysis.cohort.patients["patient"].astype(str).to_numpy()
        mine = (names == patient)[analysis.cohort.owner[rows]]
        shown.values[~mine] = np.nan
    order = drawn(shown.strength, limit, seed=0, keep=mine)
    span = float(np.ptp(xy, axis=0).max()) or 1.0
    places = 6 + (xy[order] - xy.min(axis=0)) / span * (side - 12)
    places[:, 1] = side - places[:, 1]
    image = _raster(places, shown, order, 1.3, side=side)
    words = f"UMAP of {len(rows):,} cells coloured by importance"
    parts = [f'<image href="{image}" width="{side}" height="{side}"/>']
    return _svg(side, side, parts, words)


# ---------------------------------------------------------------- rasters


def _raster(places: np.ndarray, shown: Colouring, order: np.ndarray, radius: float, *, side: int) -> str:
    """Discs at `places` (n, 2) in drawing order as a PNG data URI; twice the pixels of its place on the
    page."""
    values = shown.values[order]
    share = (values - shown.low) / (shown.high - shown.low)
    code = np.where(np.isfinite(share), np.clip(share, 0, 1) * (LEVELS - 1), LEVELS).astype(np.uint8)
    pixels_wide = round(FINE * side)
    picture = np.full((pixels_wide, pixels_wide), 255, np.uint8)
    reach = math.ceil(FINE * radius)
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    disc = grid[(grid**2).sum(axis=1) <= (FINE * radius) ** 2]
    centre = np.round(FINE * places).astype(int)
    pixels = np.clip(centre[:, None, ::-1] + disc[None], 0, pixels_wide - 1).reshape(-1, 2)  # (n · disc, 2)
    picture[pixels[:, 0], pixels[:, 1]] = np.repeat(code, len(disc))  # later cells overwrite earlier ones
    palette = np.vstack([_ramp_colours(LEVELS), [[226, 229, 233]] * (256 - LEVELS)])
    palette[255] = 255
    return "data:image/png;base64," + base64.b64encode(_png(picture, palette)).decode()


def _ramp_colours(levels: int) -> np.ndarray:
    """(levels, 3) colours of the signed ramp, blue to orange."""
    stops = [colour for _, colour in theme.ramp("signed")]
    rgb = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in stops], float)
    at = np.linspace(0, len(stops) - 1, levels)
    return np.stack([np.interp(at, range(len(stops)), rgb[:, k]) for k in range(3)], axis=1)


def _png(picture: np.ndarray, palette: np.ndarray) -> bytes:
    """A palette PNG (PNG specification, colour type 3) of `picture` (h, w) codes into `palette` (256, 3)."""
    high, wide = picture.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = np.concatenate([np.zeros((high, 1), np.uint8), picture], axis=1)  # filter byte 0 before each line
    head = struct.pack(">IIBBBBB", wide, high, 8, 3, 0, 0, 0)
    colours = np.round(palette).astype(np.uint8).tobytes()
    body = chunk(b"IHDR", head) + chunk(b"PLTE", colours) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def _round_length(span: float) -> float:
    power = 10 ** math.floor(math.log10(span / 5))
    return power * max(step for step in (1, 2, 5) if step * power <= span / 5)


# ---------------------------------------------------------------- pieces of SVG


def _t(text: object) -> str:
    return html.escape(str(text))


def _svg(wide: float, high: float, parts: Sequence[str], words: str) -> str:
    return (
        f'<svg viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" role="img" aria-label="{_t(words)}">'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_t(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, hue: str, width: float, *, dash: bool = False) -> str:
    dashed = ' stroke-dasharray="4 3"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{hue}" stroke-width="{width:g}"{dashed}/>'


def _bar(x: float, y: float, wide: float, high: float, hue: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" fill="{hue}"/>'


def _shape(label: str, classes: Sequence[str]) -> str:
    return "open" if label == "" else "circle" if list(classes).index(label) % 2 == 0 else "diamond"


def _mark(x: float, y: float, size: float, shape: str, hue: str) -> str:
    if shape == "diamond":
        corners = f"M{x:.1f} {y - 1.25 * size:.1f}l{1.25 * size:.1f} {1.25 * size:.1f}"
        sides = f"l{-1.25 * size:.1f} {1.25 * size:.1f}l{-1.25 * size:.1f} {-1.25 * size:.1f}z"
        return f'<path d="{corners}{sides}" fill="{hue}"/>'
    ink = f'fill="#fff" stroke="{hue}" stroke-width="1.6"' if shape == "open" else f'fill="{hue}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" {ink}/>'


def _down(share: float, high: float) -> float:
    return 8 + (high - 16) * (1 - share)


def _swatches(hues: dict[str, str]) -> str:
    """A legend of lines: words -> hue."""
    parts = []
    for words, hue in hues.items():
        line = _line(0, 7, 14, 7, hue, 4)
        parts.append(f'<span><svg width="14" height="14" aria-hidden="true">{line}</svg> {_t(words)}</span>')
    return f'<p class="key">{" ".join(parts)}</p>'


def _legend(labels: pd.Series, classes: Sequence[str]) -> str:
    there = [label for label in [*classes, ""] if (labels == label).any()]
    parts = []
    for label in there:
        mark = _mark(7, 7, 4.4, _shape(label, classes), theme.class_hues(classes)[label])
        name = _t(short(label, 40)) or "no label"
        parts.append(f'<span><svg width="14" height="14" aria-hidden="true">{mark}</svg> {name}</span>')
    return f'<p class="key">{" ".join(parts)}</p>'
