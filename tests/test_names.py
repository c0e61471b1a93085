"""Names that attack: in ids, regions, features, labels, types and files, through every view, export and report."""

from __future__ import annotations

import csv
import io
import re
import sys
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import openpyxl
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import frame, paper, report, slides, state, webpage
from dashboard.jobs import Jobs
from dashboard.server import APP
from dashboard.workspace import Workspace, safe_name
from milcore import chain
from milcore.analysis import Analysis
from milcore.cohort import Cohort
from milcore.export import FORMS, packed, sheet
from milcore.training import Settings
from tests.browsing import browser, free_port, go, running, settle
from tests.test_views import SCRIPT

ANALYSIS = "20260101-120000-abcdef"
NAMES = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "</style></title></textarea>\"'><svg/onload=alert(1)>",
    "**b** [x](javascript:alert(1)) `c` # h :red[r] :material/home:",
    r"$\frac{1}{0}$ $$x$$ \(y\)",
    "a\x01b\x1b[31mc\x07\x7f\r\nd",
    "P\u202e\u2066gpj.exe\u2069",
    "L" * 10_000,
    '=HYPERLINK("http://x","y")',
    "+1+cmd|' /C calc'!A0",
    "@SUM(1)",
    "../../etc/passwd",
    "C:\\..\\x\\",
)


TOO_WIDE = """() => [...document.querySelectorAll('[data-testid=stMain], [data-testid=stMain] *')].filter(e => {
    if (e.dataset.testid === 'stMain') return e.scrollWidth > e.clientWidth || e.clientWidth > innerWidth;
    if (e.getBoundingClientRect().right <= innerWidth + 1) return false;
    for (let p = e.parentElement; p.dataset.testid !== 'stMain'; p = p.parentElement)
        if (getComputedStyle(p).overflowX !== 'visible') return false;  // scrolls, or is cut, inside
    return true;
}).map(e => `${e.tagName} ${e.innerText?.slice(0, 40)}`)"""


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def harmless(markup: str) -> None:
    """Nothing in it runs, loads or leads away."""
    parser = Tags()
    parser.feed(markup)
    for tag, given in parser.found:
        assert tag not in ("script", "iframe", "object", "embed", "form", "base"), tag
        assert not [name for name in given if name.startswith("on")], given
        for name in ("href", "src", "action", "xlink:href"):
            assert (given.get(name) or "#").startswith(("#", "data:image/png", "data:image/svg")), given


def cohort() -> Cohort:
    rng, owner = np.random.default_rng(0), np.repeat(np.arange(24), 30)
    ids = np.array([*NAMES, *(f"P{k}" for k in range(24 - len(NAMES)))], object)
    label = np.array([NAMES[0], NAMES[6]])[np.arange(24) % 2]
    features = rng.normal(size=(720, len(NAMES))).astype(np.float32)
    features[:, 0] += 2.0 * (owner % 2) * (rng.random(720) < 0.4)
    people = pd.DataFrame({"patient": ids, NAMES[2]: label, NAMES[4]: rng.permutation(label)})
    places = {axis: rng.uniform(0, 300, 720).astype(np.float32) for axis in "xy"}
    cells = pd.DataFrame(places).assign(
        region=pd.Categorical(np.array(NAMES, object)[owner % len(NAMES)]),
        cell_type=pd.Categorical(np.array(NAMES, object)[rng.integers(0, len(NAMES), 720)]),
    )
    source = {"files": [NAMES[0], NAMES[10]], "format": NAMES[1]}
    return Cohort.of(features, ids[owner], names=NAMES, patients=people, cells=cells, source=source)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    made = Workspace(tmp_path_factory.mktemp("names"))
    read = cohort()
    saved = read.save(made.cohort(read.fingerprint[:16]))
    settings = Settings(target=NAMES[2], pooling="neighbourhood", effort="quick", permutations=20)
    with pytest.MonkeyPatch.context() as patch:
        places = np.random.default_rng(1).normal(size=(saved.N, 2)).astype(np.float32)
        patch.setattr("milcore.projection.umap_map", lambda *args, **kwargs: places)
        chain.analyse(saved, settings).save(made.analysis(ANALYSIS))
        patch.setenv("MILSCOPE_WORKSPACE", str(made.root))
        jobs = Jobs(made, kinds={}, warm=None)
        patch.setattr(state, "_jobs", lambda _: jobs)
        yield made
        jobs.close()


@pytest.fixture(scope="module")
def analysis(home: Workspace) -> Analysis:
    return Analysis.open(home.analysis(ANALYSIS))


@pytest.mark.parametrize("view", frame.VIEWS)
def test_views_show_them_as_text(home: Workspace, view: str) -> None:
    key = next((home.root / "cohorts").iterdir()).name
    at = AppTest.from_string(SCRIPT.format(view=view), default_timeout=120)
    given = {"cohort": key, "analysis": ANALYSIS, "patient": NAMES[0], "region": NAMES[5], "colour": NAMES[3]}
    for name, value in given.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    for piece in at.get("html"):
        harmless(piece.body)
    for markdown in (*at.markdown, *at.caption):
        assert not re.search(r"(?<!\\)\[x\]|(?<!\\)\$\\frac", markdown.value)
    for button in at.button:
        assert not re.search(r"(?<!\\)\[x\]\(|(?<!\\)\*\*b", button.label)


def test_urls_are_not_believed(home: Workspace) -> None:
    for name in NAMES:
        at = AppTest.from_string(SCRIPT.format(view="cells"), default_timeout=120)
        for field in state.IN_URL:
            at.query_params[field] = name
        at.run()
        assert not at.exception
        assert at.query_params.get("cohort") is None


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_nothing_runs_and_nothing_is_too_wide_in_a_browser(
    chromium: str, home: Workspace, tmp_path: Path
) -> None:
    key, port = next((home.root / "cohorts").iterdir()).name, free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    environment = {
        "MILSCOPE_WORKSPACE": str(home.root),
        "MILSCOPE_WORKERS": "0",
    }  # nothing is asked of a worker
    attack = {field: NAMES[k % 6] for k, field in enumerate(state.IN_URL)} | {"cohort": key}
    with (
        running(command, port, log=tmp_path / "log", **environment) as address,
        browser(chromium, width=1024) as page,
    ):
        page.goto(f"{address}/patient?{urlencode(attack)}")
        settle(page)
        for title, _ in frame.VIEWS.values():
            go(page, title)
            page.locator(".mil-finding").first.wait_for()
            assert page.evaluate(TOO_WIDE) == [], title
            assert page.locator("[data-testid=stException]").count() == 0, title


def test_report_and_slides_hold_them_as_text(analysis: Analysis) -> None:
    document = report.describe(analysis, patients=list(NAMES))
    harmless(webpage.html(document))
    assert "javascript:alert(1)" in document.text
    assert paper.pdf(document).startswith(b"%PDF")
    shown = slides.describe(analysis, patients=list(NAMES[:3]))
    page = webpage.slides(shown)
    assert page.count("<script") == webpage.slides(slides.describe(analysis, patients=["P1"])).count(
        "<script"
    )
    assert "<img src=x" not in page


def formulas(content: bytes) -> list[str]:
    """The cells of a CSV that a spreadsheet might run."""
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    return [cell for row in rows for cell in row if re.match(r"[=+@]|-[^0-9.]", cell) and not number(cell)]


def test_tables_of_the_pages_hold_them_as_text(analysis: Analysis) -> None:
    assert formulas(analysis.predictions.to_csv().encode())
    assert not formulas(sheet(analysis.predictions))
    assert not formulas(sheet(analysis.cells))


@pytest.mark.parametrize("form", FORMS)
def test_exports_hold_them_as_text(analysis: Analysis, form: str) -> None:
    content = packed(analysis, form)
    if form == "csv":
        assert not formulas(content)
    if form == "xlsx":
        for sheet in openpyxl.load_workbook(io.BytesIO(content)).worksheets:
            assert not [cell.value for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
    if form == "qupath":
        inside = zipfile.ZipFile(io.BytesIO(content)).namelist()
        assert not [name for name in inside if name.startswith("/") or ".." in name]


def number(text: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9.]+(e[-+]?\d+)?", text) is not None


@pytest.mark.parametrize("name", NAMES)
def test_file_names_are_plain(name: str) -> None:
    assert re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,120}", safe_name(name))
    assert Path(safe_name(name)).name == safe_name(name)
