"""The report: self-contained, well-formed, honest, and safe with any text of a table."""

from __future__ import annotations

import base64
import io
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dashboard import method, pictures, report, worth
from dashboard.cli import cli
from milcore.analysis import Analysis
from milcore.errors import MilError
from milcore.training import Settings
from tests.tiny import NASTY, PATIENTS

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once

VOID = {"meta"}


class Reader(HTMLParser):
    """Checks that tags are balanced, and collects attributes and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page(analysis: Analysis) -> str:
    return report.html(analysis, patients=PATIENTS)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def test_it_stands_alone(page: str, read: Reader) -> None:
    assert read.open == []
    assert all(link.startswith(("data:image/png;base64,", "#p")) for link in read.links)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert not re.search(r"https?://", page)


def test_no_markup_of_a_table_runs(page: str, read: Reader) -> None:
    assert read.handlers == []
    assert "<img" not in page
    assert "<i>" not in page
    assert any(NASTY in text for text in read.text), "the name is shown as it is"


def test_what_it_says(page: str, read: Reader, analysis: Analysis) -> None:
    text = " ".join(read.text)
    assert text.count("Research use only") == 1 + len(PATIENTS)
    assert analysis.facts["verdict"]["words"] in text
    assert "Exploratory" in text, "below 10 patients in a class nothing is claimed"
    assert analysis.cohort.fingerprint[:12] in text
    for words in (
        "Limits",
        "Method",
        "Stability",
        "not the effect of a treatment",
        "not a confidence interval",
        "not an interval",
    ):
        assert words in text
    auroc = analysis.facts["scores"]["auroc"]
    assert f"{auroc['value']:.2f} ({auroc['low']:.2f} to {auroc['high']:.2f})" in text
    assert not re.search(r"\d\.\d{3,}", re.sub(r"\d+\.\d+\.\d+\S*|p = [\d.]+", "", text)), (
        "never more than 2 decimals"
    )


def test_the_telling_patients(analysis: Analysis) -> None:
    chosen = report.telling(analysis)
    ordered = list(analysis.predictions.sort_values("score")["patient"].astype(str))
    assert chosen[:2] == [ordered[-1], ordered[0]]
    assert report.html(analysis).count('<section class="patient"') == len(chosen)


def test_every_wrong_patient_is_marked(analysis: Analysis) -> None:
    turned = analysis.predictions.assign(
        label=analysis.predictions["label"].map({"yes": "no", "no": "yes", "": ""})
    )
    page = report.html(replace(analysis, predictions=turned), patients=["P01"])
    assert page.count("label differs") + page.count(">not decided</td>") >= 10


def test_explanation_before_model_each_warning_once(analysis: Analysis) -> None:
    warnings = [
        {"kind": kind, "words": f"Warned of {kind} <i>"} for kind in ("suspected_leak", "missing_values")
    ]
    known = {"B <i>": {"cells": 9, "auroc": 0.9, "average_precision": 0.5}}
    cohort = replace(
        analysis.cohort, source=analysis.cohort.source | {"columns": [{"name": "k", "role": "known"}]}
    )
    facts = analysis.facts | {"warnings": warnings, "known": known}
    page = report.html(replace(analysis, facts=facts, cohort=cohort), patients=["P01"])
    order = [
        "Every patient",
        "Which cells drive",
        "Can the explanation be believed?",
        "Taking away the most important tenth",
        "Faithful to the model, not proof of biology.",
        "Score lost as cells are taken away",
        "sets “B &lt;i&gt;” apart most",
        "Can the model be believed?",
        "Something other than biology could explain the score: 1 warning.",
        "Warned of suspected_leak &lt;i&gt;",
        "What to know about this cohort",
        "Warned of missing_values",
        "Limits",
    ]
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    assert page.count("Warned of suspected_leak") == page.count("Warned of missing_values") == 1


def test_faithfulness_is_drawn_on_its_scale(analysis: Analysis) -> None:
    steps = [0.0, 0.5, 0.95]
    curve, flat = {"curve": [0, 1, 2]}, {"curve": [0, 0, 0]}
    chance = {"low": [0, -1, -1], "high": [0, 1, 1]}
    found = {"steps": steps, "importance": curve, "attention": flat, "random": chance}
    picture = pictures.faithfulness(replace(analysis, facts=analysis.facts | {"faithfulness": found}))
    svg = picture.markup
    lines = re.findall(r'<polyline points="([^"]+)"', svg)
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert heights[1] == [heights[0][0]] * 3, "attention stays at zero"
    assert heights[0][0] - heights[0][1] == pytest.approx(heights[0][1] - heights[0][2], abs=0.11)
    assert "by attention" in [words for _, words in picture.key]


def test_an_unknown_patient_is_refused(analysis: Analysis) -> None:
    with pytest.raises(MilError, match="nobody"):
        report.html(analysis, patients=["nobody"])


def test_forty_patients_stay_small(page: str) -> None:
    assert len(page.encode()) / len(PATIENTS) < 3_000_000 / 40


def test_maps_show_the_cells_in_their_colours(analysis: Analysis) -> None:
    picture = pictures.tissue(analysis, "P01", "R0")
    assert picture
    svg = picture.markup
    (data,) = re.findall(r"base64,([^\"]+)", svg)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), dtype=int)
    assert pixels.shape == (450, 450, 3)
    drawn = (pixels != 255).any(axis=2)
    assert 0.005 < drawn.mean() < 0.5
    warm = (pixels[..., 0] > pixels[..., 2] + 60) & drawn
    assert warm.any(), "the planted cells are orange"
    assert "µm" in svg


def test_without_coordinates_types_or_null(analysis: Analysis) -> None:
    cells = analysis.cohort.cells.drop(columns="cell_type").assign(x=np.float32("nan"), y=np.float32("nan"))
    facts = {name: fact for name, fact in analysis.facts.items() if name not in ("null", "faithfulness")}
    bare = replace(analysis, cohort=replace(analysis.cohort, cells=cells), facts=facts)
    text = report.describe(bare, patients=["P01"]).text
    assert "Tissue of" not in text
    assert "Not assessed: needs at least two repeats." in text


def test_the_method_names_every_setting_that_was_made(analysis: Analysis) -> None:
    settings = Settings(target="a b", classes=("x", "y z"), effort="quick", context=5, positive="x")
    line = method.command(settings)
    assert "--target 'a b'" in line
    assert "--classes 'x,y z'" in line
    given = shlex.split(line)
    asked = cli.commands["run"].make_context("run", ["cells", *given[3:]])
    assert asked.params | {"target": "a b", "context": 5, "positive": "x", "effort": "quick"} == asked.params
    assert set(given[given.index("--classes") + 1].split(",")) == set(asked.params["classes"])
    text = report.describe(analysis, patients=[]).text
    assert method.command(analysis.settings) in text
    assert "Feature transform: auto (no feature is skewed, so all are as they are)." in text
    skewed = {"prepared": {"transform": "auto", "arcsinh": {f"m{k}": 1.5 for k in range(14)}}}
    assert method._compressed(skewed).endswith("m11 and 2 more; others as they are)")


def test_sensitivity_and_specificity_are_counted() -> None:
    table = pd.DataFrame(
        {"label": ["a"] * 10 + ["b"] * 10 + [""], "prediction": 0.5, "wrong": [False] * 8 + [True] * 13}
    )
    found = worth.sides(table, "a")
    assert found["Sensitivity"] == "0.80 (0.49 to 0.94), 8 of 10"  # Wilson, as in any table of it
    assert found["Specificity"].startswith("0.00 (0.00 to 0.28)")


CLAIM = re.compile(r"better than chance|signal was found|tells \w+ from", re.IGNORECASE)


def test_a_cohort_without_signal_makes_no_claim(analysis: Analysis) -> None:
    verdict = {
        "kind": "none",
        "words": "No signal found: the cells do not tell no from yes better than chance: …",
    }
    facts = analysis.facts | {"verdict": verdict, "warnings": []}
    text = report.describe(replace(analysis, facts=facts), patients=["P01"]).text
    claims = [line for line in text.splitlines() if CLAIM.search(line) and "No signal" not in line]
    assert claims == []
    assert text.index("No signal found") < text.index("Every patient"), "it is said before anything is shown"
    assert text.count("No signal was found in this cohort") == 2, (
        "before the cells, and on the patient's page"
    )
