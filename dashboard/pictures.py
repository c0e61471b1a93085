"""The pictures of the report, drawn from the data with no browser and no script.

Every function returns a `Picture`; None where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import outcome, svg, theme, trust
from dashboard.colouring import colouring, drawn, region_rows, unit
from dashboard.svg import INK, QUIET, RULE, Picture
from dashboard.theme import percent, short

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = [
    "calibration",
    "dumbbells",
    "faithfulness",
    "fit",
    "intervals",
    "null",
    "ranking",
    "strip",
    "tissue",
    "umap",
]

SIDE = 300  # width of a map on the page


def ranking(analysis: Analysis) -> Picture:
    """Every patient as a dot ordered by prediction; whisker = range over retrained models, dashed = threshold."""
    facts, frame = analysis.facts, outcome.patients(analysis).dropna(subset=["value"])
    frame = frame.sort_values(["called_as", "value"], kind="stable")
    groups, wide, high = outcome.groups(facts), 720, 250
    x = 52 + (np.arange(len(frame)) + 0.5) * (wide - 62) / max(len(frame), 1)
    size = float(np.clip(240 / max(len(frame), 1), 1.6, 5))
    scale = _Scale.of(facts, frame)
    parts = [svg.line(46, scale.down(v, high), wide, scale.down(v, high), RULE, 1) for v, _ in scale.ticks]
    parts += [svg.text(40, scale.down(v, high) + 4, words, anchor="end") for v, words in scale.ticks]
    if "threshold" in facts:
        y = scale.down(facts["threshold"], high)
        parts += [
            svg.line(46, y, wide, y, QUIET, 1, dash=True),
            svg.text(50, y - 4, f"threshold {percent(facts['threshold'])}"),
        ]
    for place, row in zip(x, frame.itertuples(), strict=True):
        hue = theme.class_hues(groups)[row.group]
        parts.append(svg.line(place, scale.down(row.high, high), place, scale.down(row.low, high), hue, 1.1))
        parts.append(svg.mark(place, scale.down(row.value, high), size, svg.shape(row.group, groups), hue))
    for name, places in pd.Series(x, index=frame["called_as"]).groupby(level=0):
        if name:
            edge = float(places.min()) - (wide - 62) / len(frame) / 2
            parts.append(svg.line(edge, 8, edge, high, RULE, 1))
            parts.append(
                svg.text(float(places.mean()), high + 18, f"predicted {short(name, 18)}", anchor="middle")
            )
    if facts["task"] != "multiclass":
        parts += [svg.text(46, high + 18, "lowest"), svg.text(wide - 10, high + 18, "highest", anchor="end")]
    words = f"{len(frame)} patients ordered by their prediction {outcome.how(facts)}"
    return Picture(wide, high + 26, tuple(parts), words, svg.legend(frame["group"], groups))


def strip(analysis: Analysis, patient: str) -> Picture:
    """All patients on one line of predictions for each label, this patient ringed."""
    facts, groups = analysis.facts, outcome.groups(analysis.facts)
    frame = outcome.patients(analysis).dropna(subset=["value"])
    rows = [group for group in [*groups, ""] if (frame["group"] == group).any()]
    wide, high, scale = 480, 34 * len(rows) + 24, _Scale.of(facts, frame)

    def across(value: float) -> float:
        return 124 + 326 * scale.share(value)

    parts = [svg.text(across(v), high - 4, words, anchor="middle") for v, words in scale.ticks]
    if "threshold" in facts:
        cut = across(facts["threshold"])
        parts.append(svg.line(cut, 4, cut, high - 20, QUIET, 1, dash=True))
    for place, group in enumerate(rows):
        y = 18 + 34 * place
        parts.append(svg.text(112, y + 4, short(group, 18) or "no label", anchor="end"))
        part = frame[frame["group"] == group]
        ticks = "".join(f"M{across(p):.0f} {y - 7}v14" for p in part["value"])
        hue = theme.class_hues(groups)[group]
        parts.append(f'<path d="{ticks}" stroke="{hue}" stroke-width="2" opacity=".75"/>')
        for p in part.loc[part["patient"].astype(str) == patient, "value"]:
            circle = (
                f'<circle cx="{across(p):.1f}" cy="{y}" r="10" fill="none" stroke="{INK}" stroke-width="2"/>'
            )
            parts.append(circle)
    return Picture(wide, high, tuple(parts), f"Patient {patient} among all patients, by label")


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


def fit(analysis: Analysis) -> Picture:
    """How well predictions fit: ROC curves, predicted against measured, or Kaplan-Meier."""
    kind, side = analysis.facts["task"], 200
    draw = {"regression": _agreement, "survival": _survival}.get(kind, _roc)
    return draw(analysis, side)


def _frame(side: int, x: str, y: str) -> list[str]:
    return [
        f'<rect x="34" y="10" width="{side}" height="{side}" fill="none" stroke="{RULE}"/>',
        svg.text(34 + side / 2, side + 34, x, anchor="middle"),
        svg.text(22, 10 + side / 2, y, anchor="middle", upright=True),
    ]


def _roc(analysis: Analysis, side: int) -> Picture:
    facts = analysis.facts
    several = facts["task"] == "multiclass"
    curves = facts["roc"] if several else {"": facts["roc"]}
    hues = theme.class_hues(facts["classes"]) | ({} if several else {"": theme.AGAINST})
    parts = [
        *_frame(side, "False alarms", "Sensitivity"),
        svg.line(34, 10 + side, 34 + side, 10, QUIET, 1, dash=True),
    ]
    for name, curve in curves.items():
        points = [(0.0, 0.0)]
        for x, y in zip(curve["fpr"], curve["tpr"], strict=True):
            points += [(x, points[-1][1]), (x, y)]
        path = " ".join(f"{34 + side * x:.1f},{10 + side * (1 - y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{hues[name]}" stroke-width="2.2"/>')
    key = svg.swatches({short(name, 24): hues[name] for name in curves}) if several else ()
    return Picture(side + 46, side + 40, tuple(parts), f"ROC curve, {outcome.how(facts)}", key)


def _agreement(analysis: Analysis, side: int) -> Picture:
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
        svg.line(34, 10 + side, 34 + side, 10, QUIET, 1, dash=True),
    ]
    for x, y in zip(measured, frame["value"], strict=True):
        parts.append(svg.mark(34 + at(x), 10 + side - at(y), 3.0, "circle", theme.AGAINST))
    for value in (low, low + room):
        parts.append(svg.text(34 + at(value), side + 21, f"{value:.3g}", anchor="middle"))
    return Picture(
        side + 46, side + 40, tuple(parts), f"Predicted against measured, {outcome.how(analysis.facts)}"
    )


def calibration(analysis: Analysis) -> Picture | None:
    """Observed share against predicted probability, in groups with 95 % intervals; None where there are none."""
    found, side = analysis.facts.get("calibration", {}).get("curve"), 190
    if not found:
        return None
    parts = [
        *_frame(side, "Predicted probability", "Observed share"),
        svg.line(34, 10 + side, 34 + side, 10, QUIET, 1, dash=True),
    ]
    for group in found:
        x, high, low = (
            34 + side * group["predicted"],
            *(10 + side * (1 - group[end]) for end in ("high", "low")),
        )
        parts.append(svg.line(x, high, x, low, theme.AGAINST, 1.4))
        parts.append(svg.mark(x, 10 + side * (1 - group["observed"]), 4.0, "circle", theme.AGAINST))
    for share in (0, 1):
        parts.append(svg.text(34 + side * share, side + 21, f"{share:.0%}", anchor="middle"))
    return Picture(side + 46, side + 40, tuple(parts), "Observed share against predicted probability")


def _survival(analysis: Analysis, side: int) -> Picture:
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
        parts.append(svg.text(left + wide * share, side + 24, words, anchor=anchor))
        parts.append(svg.text(left - 6, 14 + side * (1 - share), f"{100 * share:.0f} %", anchor="end"))
    parts.append(svg.text(left + wide / 2, side + 40, f"{named}; share without event", anchor="middle"))
    key = {f"{g['name']}: {g['patients']} patients, {g['events']} events": hues[g["name"]] for g in groups}
    return Picture(wide + 60, side + 46, tuple(parts), "Kaplan-Meier curves, out of fold", svg.swatches(key))


def null(analysis: Analysis) -> Picture:
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
        parts.append(svg.bar(across(left), 10 + high - tall, 230 / 30 - 0.6, tall, theme.NEUTRAL))
    x = across(found["observed"])
    parts.append(svg.line(x, 10, x, 10 + high, theme.AGAINST, 2.2))
    parts += [svg.text(across(v), high + 24, f"{v:g}", anchor="middle") for v in (low, (1 + low) / 2, 1)]
    parts.append(
        svg.text(10 + 115, high + 38, f"{outcome.main(facts)} with shuffled labels", anchor="middle")
    )
    return Picture(wide, high + 44, tuple(parts), f"{found['permutations']} permutations of the labels")


def faithfulness(analysis: Analysis) -> Picture:
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
        parts += [svg.line(40, y, 40 + wide, y, RULE, 1), svg.text(34, y + 4, f"{level:.1f}", anchor="end")]
    for name, hue in hues.items():
        parts.append(
            f'<polyline points="{" ".join(path(curves[name]))}" fill="none" stroke="{hue}" stroke-width="2"/>'
        )
    parts += [svg.text(40 + wide * x, tall + 26, f"{100 * x:.0f} %", anchor="middle") for x in (0, 0.5, 1)]
    parts.append(svg.text(40 + wide / 2, tall + 42, "Share of cells taken away", anchor="middle"))
    swatches = {f"by {name}": hue for name, hue in hues.items()} | {"random order (95 %)": theme.NEUTRAL}
    return Picture(
        wide + 60, tall + 46, tuple(parts), "Score lost as cells are taken away", svg.swatches(swatches)
    )


def intervals(rows: Sequence[tuple[str, dict[str, Any]]], facts: dict[str, Any]) -> Picture:
    """Leading scores with their intervals as dots on one scale; the first row is Milscope's and stands out."""
    wide, left, chance = 560, 210, facts["chance"]
    floor = min([chance - 0.1, *(score.get("low", score["value"]) for _, score in rows)])
    parts = []

    def across(value: float) -> float:
        return left + (wide - left - 150) * (value - floor) / (1 - floor)

    high = 26 * len(rows) + 26
    parts.append(svg.line(across(chance), 4, across(chance), high - 22, QUIET, 1, dash=True))
    parts.append(svg.text(across(chance), high - 6, f"{chance:g} = chance", anchor="middle"))
    for place, (name, score) in enumerate(rows):
        y, hue = 16 + 26 * place, theme.AGAINST if place == 0 else QUIET
        value = score["value"]
        parts.append(svg.text(left - 12, y + 4, short(name, 32), anchor="end"))
        parts.append(
            svg.line(across(score.get("low", value)), y, across(score.get("high", value)), y, hue, 2)
        )
        parts.append(svg.mark(across(value), y, 4.6, "circle", hue))
        parts.append(svg.text(wide - 138, y + 4, theme.interval(score)))
    return Picture(wide, high, tuple(parts), f"{outcome.main(facts)} of Milscope and of plain baselines")


def dumbbells(table: pd.DataFrame, *, for_positive: bool, limit: int = 8) -> Picture | None:
    """Marker profile: grey = the patient's other cells, coloured = the top cells, in sd from the cohort's
    mean."""
    table = table.head(limit)
    if table.empty:
        return None
    values = np.concatenate([table["top"], table["others"], [0.0]])
    low, high_value = float(values.min()), float(values.max())
    room = (high_value - low) or 1.0
    wide, left, high = 330, 110, 20 * len(table) + 26
    hue = theme.FOR if for_positive else theme.AGAINST

    def across(value: float) -> float:
        return left + (wide - left - 14) * (value - low) / room

    parts = [svg.line(across(0), 2, across(0), high - 20, RULE, 1)]
    parts.append(svg.text(across(0), high - 5, "cohort's mean", anchor="middle"))
    for place, row in enumerate(table.itertuples()):
        y = 12 + 20 * place
        parts.append(svg.text(left - 10, y + 4, short(row.feature, 16), anchor="end"))
        parts.append(svg.line(across(row.others), y, across(row.top), y, RULE, 2))
        parts.append(svg.mark(across(row.others), y, 3.6, "circle", theme.MISSING))
        parts.append(svg.mark(across(row.top), y, 4.4, "circle", hue))
    return Picture(wide, high, tuple(parts), "Markers of the top cells against the patient's other cells")


def tissue(analysis: Analysis, patient: str, region: str | None, *, limit: int = 20_000) -> Picture | None:
    """One region coloured by importance on the cohort's one scale, with a scale bar; None
    without coordinates."""
    rows, name = region_rows(analysis.cohort, patient, region)
    if not len(rows):
        return None
    shown = colouring(analysis, "importance", rows)
    xy = analysis.cohort.cells[["x", "y"]].to_numpy()[rows]
    span = max(float(np.ptp(xy, axis=0).max()), 1e-9)
    order = drawn(shown.strength, limit, seed=0)
    places = 8 + (xy[order] - xy.min(axis=0)) / span * (SIDE - 16)
    radius = float(np.clip(1.1 * SIDE / math.sqrt(len(order)) / 2.4, 1.2, 5))
    image = svg.raster(places, shown, order, radius, side=SIDE)
    length = _round_length(span)
    bar = length / span * (SIDE - 16)
    parts = [
        image,
        svg.line(8, SIDE + 10, 8 + bar, SIDE + 10, QUIET, 3),
        svg.text(14 + bar, SIDE + 14, f"{length:g} {unit(analysis.cohort)}"),
        svg.text(SIDE - 4, SIDE + 14, short(name, 24), anchor="end"),
    ]
    words = f"Tissue of {patient} {name}: {len(rows):,} cells coloured by importance"
    return Picture(SIDE, SIDE + 20, tuple(parts), words)


def umap(
    analysis: Analysis, *, patient: str | None = None, side: int = SIDE, limit: int = 10_000
) -> Picture | None:
    """The UMAP coloured by importance; with `patient` the other cells are pale."""
    xy = analysis.cells[["umap_1", "umap_2"]].to_numpy(dtype=float)
    rows = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not len(rows):
        return None
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
    image = svg.raster(places, shown, order, 1.3, side=side)
    words = f"UMAP of {len(rows):,} cells coloured by importance"
    return Picture(side, side, (image,), words)


def _round_length(span: float) -> float:
    power = 10 ** math.floor(math.log10(span / 5))
    return power * max(step for step in (1, 2, 5) if step * power <= span / 5)
