"""Charts and maps: they show what the analysis holds, on honest scales, and run no markup from a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard import colouring, drivers, figures, theme
from milcore.analysis import Analysis
from milcore.errors import MilError
from tests.tiny import NASTY

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once

ANALYSIS: dict[str, Callable[[Any], go.Figure]] = {
    "ranking": figures.ranking,
    "roc": figures.roc,
    "null": figures.null,
    "baselines": figures.baselines,
    "confounders": figures.confounders,
    "faithfulness": figures.faithfulness,
    "cells_per_patient": lambda a: figures.cells_per_patient(a.cohort, "outcome"),
    "label_balance": lambda a: figures.label_balance(a.cohort, "outcome"),
    "tissue_preview": lambda a: figures.tissue_preview(a.cohort, patient=NASTY),
    "strip": lambda a: figures.strip(a, NASTY),
    "markers for": lambda a: figures.markers(a, NASTY, for_positive=True),
    "markers against": lambda a: figures.markers(a, NASTY, for_positive=False),
    "waterfall": lambda a: figures.waterfall(a, NASTY),
}


def shown_texts(part: Any) -> Iterator[str]:
    """Every string of a figure that Plotly would draw (customdata and alt text are not drawn)."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key not in ("customdata", "meta", "template"):
                yield from shown_texts(value)
    elif isinstance(part, list):
        for value in part:
            yield from shown_texts(value)
    elif isinstance(part, str):
        yield part


@pytest.mark.parametrize("name", ANALYSIS)
def test_every_figure_has_words_and_no_markup(name: str, analysis: Analysis) -> None:
    figure = ANALYSIS[name](analysis)
    assert len(figures.alt(figure)) > 20
    texts = list(shown_texts(json.loads(figure.to_json())))
    assert not [text for text in texts if "<img" in text or "<i>" in text]
    assert theme.dress(figure, dark=True).layout.template.layout.paper_bgcolor == "#12151a"


def test_the_ranking_is_ordered_and_carries_patients(analysis: Analysis) -> None:
    figure = figures.ranking(analysis)
    dots = [(x, y, who) for t in figure.data for x, y, who in zip(t.x, t.y, t.customdata, strict=True)]
    dots.sort()
    assert [who for _, _, who in dots] == list(
        analysis.predictions.sort_values("score")["patient"].astype(str)
    )
    assert NASTY in [who for _, _, who in dots]
    assert {t.name for t in figure.data} == {"no", "yes", "no label"}
    whisker = figure.data[0].error_y
    assert not whisker.symmetric
    assert min(whisker.array) >= 0
    assert figure.layout.shapes[0].y0 == analysis.facts["threshold"]


def test_faithfulness_shows_its_curves_over_the_band_of_chance(analysis: Analysis) -> None:
    found, figure = analysis.facts["faithfulness"], figures.faithfulness(analysis)
    low, high, *curves = figure.data
    assert (list(low.y), list(high.y)) == (found["random"]["low"], found["random"]["high"])
    shown = {trace.name: list(trace.y) for trace in curves}
    orders = ("importance", "evidence", "leave_out", "phenotype", "attention")
    expected = {f"by {name.replace('_', ' ')}": found[name]["curve"] for name in orders}
    assert shown == expected | {"least important first": found["importance"]["least"]}
    assert all(list(trace.x) == found["steps"] for trace in figure.data)
    assert figure.layout.xaxis.title.text == "Share of cells taken away"


def test_confounders_stand_below_milscope(analysis: Analysis) -> None:
    probes = {"<i>batch": {"auroc": {"value": 0.4, "low": 0.2, "high": 0.6}}}
    figure = figures.confounders(replace(analysis, facts=analysis.facts | {"probes": probes}))
    assert list(figure.layout.yaxis.ticktext) == ["number of cells", "&lt;i&gt;batch", "Milscope"]
    hues = [trace.marker.color for trace in figure.data]
    assert hues == [theme.MISSING, theme.MISSING, theme.AGAINST]
    assert figure.data[1].x[0] - figure.data[1].error_x.arrayminus[0] == pytest.approx(0.2)
    assert "<i>batch 0.40 (0.20 to 0.60)" in figures.alt(figure)


def test_what_was_not_assessed_is_said_and_not_drawn() -> None:
    members = {"neighbourhood": {"scores": {}}}
    bare = SimpleNamespace(facts={"pooling": {"members": members}, "main": "auroc", "task": "binary"})
    assert figures.alt(figures.faithfulness(bare)) == "Not assessed: needs at least two repeats."  # type: ignore[arg-type]
    assert figures.alt(figures.confounders(bare)).startswith("Not assessed")  # type: ignore[arg-type]


@pytest.mark.parametrize("B", [3, 500])
def test_few_and_many_patients_with_long_names(analysis: Analysis, B: int) -> None:
    rng = np.random.default_rng(0)
    p = rng.random(B)
    frame = pd.DataFrame(
        {"patient": [f"{'long name ' * 20}{k}" for k in range(B)], "score": p, "prediction": p}
    )
    frame = frame.assign(low=p - 0.05, high=p + 0.05, label=np.where(rng.random(B) < p, "yes", "no"))
    known = {
        "task": "binary",
        "classes": ["no", "yes"],
        "positive": "yes",
        "towards": "yes",
        "threshold": 0.5,
    }
    figure = figures.ranking(replace(analysis, predictions=frame, facts=analysis.facts | known))
    assert figure.layout.xaxis.showticklabels is (B == 3)
    assert max(len(text) for text in figure.layout.xaxis.ticktext or [""]) <= 16
    assert sum(len(trace.x) for trace in figure.data) == B


def test_early_ranking_needs_no_whiskers() -> None:
    rows = [
        {"patient": "a", "label": "yes", "prediction": 0.7, "called": ""},
        {"patient": "b", "label": "", "prediction": 0.2, "called": ""},
    ]
    early = {"task": "binary", "towards": "yes", "predictions": rows}
    figure = figures.early_ranking(early, settings={"target": "outcome"})
    assert sum(len(trace.x) for trace in figure.data) == 2


def test_the_preview_of_tissue_has_equal_axes_downwards_and_a_scale_bar(analysis: Analysis) -> None:
    figure = figures.tissue_preview(analysis.cohort, patient="P01")
    assert figure.layout.yaxis.scaleanchor == "x"
    low, high = figure.layout.yaxis.range
    assert low > high, "y runs downwards"
    assert any("µm" in note.text for note in figure.layout.annotations)
    rows, _ = colouring.region_rows(analysis.cohort, "P01", None)
    assert sorted(figure.data[0].customdata) == sorted(rows)


def test_at_most_limit_points_with_the_strongest_kept(analysis: Analysis) -> None:
    strength = analysis.cells["importance"].abs().to_numpy()
    order = colouring.drawn(strength, 100, seed=0)
    assert len(order) == 100
    assert (np.diff(strength[order]) >= 0).all()
    assert set(np.argsort(-strength)[:20]) <= set(order)
    assert order.tolist() == colouring.drawn(strength, 100, seed=0).tolist()
    weak = strength < np.quantile(strength, 0.02)
    assert weak[colouring.drawn(strength, 100, seed=0, keep=weak)[-weak.sum() :]].all()


def test_every_colour_has_a_name_and_one_scale(analysis: Analysis) -> None:
    keys = colouring.choices(analysis)
    assert keys[:4] == ["importance", "evidence", "attention", "leave_one_out"]
    assert {"label", "patient", "region", "cell_type", "m0", "importance_attention"} <= set(keys)
    one, other = np.arange(40), np.arange(500, 900)
    for key in keys:
        first, second = colouring.colouring(analysis, key, one), colouring.colouring(analysis, key, other)
        assert (first.low, first.high, first.names) == (second.low, second.high, second.names)
        assert colouring.spoken(key)
    with pytest.raises(MilError, match="purple"):
        colouring.colouring(analysis, "purple", one)


def test_the_waterfall_sums_to_the_score(analysis: Analysis) -> None:
    for patient, score in zip(analysis.predictions["patient"], analysis.predictions["score"], strict=True):
        bars = figures.waterfall(analysis, str(patient)).data[0]
        assert sum(bars.x[:-1]) == pytest.approx(bars.x[-1])
        assert bars.x[-1] == pytest.approx(score, abs=1e-5)
        assert drivers.groups(analysis, str(patient))["cells"].sum() == 80


def test_groups_beyond_the_limit_are_summed(analysis: Analysis) -> None:
    few, all_groups = drivers.groups(analysis, "P01", limit=1), drivers.groups(analysis, "P01")
    assert list(few["group"]) == [drivers.REST]
    assert few["contribution"].sum() == pytest.approx(all_groups["contribution"].sum())


def test_what_if_is_the_exact_leave_group_out(analysis: Analysis) -> None:
    table = drivers.what_if(analysis, "P01").set_index("group")
    mine = colouring.rows_of(analysis.cohort, "P01")
    drivers_of = (analysis.cohort.cells["cell_type"].astype(str) == "driver").to_numpy()[mine]
    after = analysis.without(mine[drivers_of])["prediction_without"].iloc[0]
    assert table.loc["driver", "prediction_without"] == pytest.approx(after)


def test_a_model_that_knows_nothing_is_grey(analysis: Analysis) -> None:
    faint = replace(analysis, cells=analysis.cells.assign(importance=analysis.cells["importance"] * 1e-6))
    shown = colouring.colouring(faint, "importance", np.arange(100))
    assert shown.high == -shown.low == colouring.LEAST
    assert np.nanmax(np.abs(shown.values)) < 0.01 * shown.high


def test_profiles_find_the_planted_marker(analysis: Analysis) -> None:
    table = drivers.profile(analysis, "P01", for_positive=True, top=15)
    assert table["feature"].iloc[0] == "m0"
    assert table["top"].iloc[0] > table["others"].iloc[0] + 0.5
    assert table.attrs["cells"] == 15


# ---------------------------------------------------------------- theme

# Machado, Oliveira and Fernandes 2009: full protan, deutan and tritan vision, on linear RGB
VISION = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}


def linear(colour: str) -> np.ndarray:
    """sRGB hex to linear RGB."""
    share = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB to CIELAB (D65)."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(to_xyz @ rgb / [0.9505, 1, 1.089], 0, None)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_hues_are_apart_for_every_vision(vision: str) -> None:
    seen = [lab(np.clip(VISION[vision] @ linear(hue), 0, 1)) for hue in theme.HUES]
    apart = [np.linalg.norm(a - b) for k, a in enumerate(seen) for b in seen[:k]]
    assert min(apart) > 15
    ends = [lab(np.clip(VISION[vision] @ linear(hue), 0, 1)) for hue in (theme.AGAINST, theme.FOR)]
    assert np.linalg.norm(ends[0] - ends[1]) > 40


def test_hues_show_on_white_and_on_black() -> None:
    for hue in (*theme.HUES, theme.AGAINST, theme.FOR):
        light = float(linear(hue) @ [0.2126, 0.7152, 0.0722])
        assert 1.05 / (light + 0.05) > 2.7
        assert (light + 0.05) / 0.055 > 2.7


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (theme.interval({"value": 0.81, "low": 0.64, "high": 0.93}), "0.81 (0.64 to 0.93)"),
        (theme.interval({"value": 0.81}), "0.81"),
        (theme.percent(0.72), "72 %"),
        (theme.percent(0.9999), ">99 %"),
        (theme.percent(0.0001), "<1 %"),
        (theme.percent(1.0), "100 %"),
        (theme.percent(float("nan")), "n/a"),
        (theme.p_value({"p": 0.001}), "p = 0.001"),
        (theme.p_value({"p": 0.4321}), "p = 0.43"),
        (theme.two(0.0131), "0.013"),
        (theme.two(1234.5), "1,234"),
        (theme.two(None), "n/a"),
        (theme.score_name("auroc"), "AUROC"),
        (theme.short("a" * 30, 9), "aaaa…aaaa"),
        (theme.escape('<b>"&\n'), '&lt;b&gt;"&amp; '),
    ],
)
def test_words_of_numbers(said: str, wanted: str) -> None:
    assert said == wanted


def test_a_class_is_named_where_it_is_pointed_at() -> None:
    found = {"classes": ["one", "two", NASTY], "counts": [[3, 1, 0], [0, 2, 0], [1, 0, 4]]}
    one: Any = SimpleNamespace(facts={"confusion": found})
    (shown,) = figures.confusion(one).data
    assert shown.customdata[2].tolist() == ["one", "two", theme.escape(theme.short(NASTY, 20))]
    assert "%{customdata}" in shown.hovertemplate
