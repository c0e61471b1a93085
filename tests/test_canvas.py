"""The maps of cells in a real browser: mouse, keys, links, a lost context; and their pure functions."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from dashboard import picks
from dashboard.canvas import FOLDER, MODULES, bundle
from dashboard.planes import umap_plane
from milcore.analysis import Analysis
from tests.browsing import browser, choose, served, settle

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("tiny")]
FULL = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
LEFT = [(0.01, 0.01), (0.5, 0.01), (0.5, 0.99), (0.01, 0.99)]


@pytest.fixture(scope="module")
def address(chromium: str, tiny_home: Path) -> Iterator[str]:
    with served(tiny_home) as address:
        yield address


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    with browser(chromium) as page:
        yield page


def cells(page: Page, address: str, tiny_home: Path, more: str = "") -> None:
    """Opens the Cells view and waits until its maps are drawn."""
    page.goto(f"{address}/cells?cohort={next((tiny_home / 'cohorts').iterdir()).name}{more}")
    ready(page)


def ready(page: Page) -> None:
    page.locator(".board[data-drawn]").wait_for()
    settle(page)


def drag(page: Page, place: int, corners: list[tuple[float, float]], *, hold: str = "") -> None:
    """Draws a line with the mouse on the map at `place`, through shares of its width and height."""
    at = page.locator("canvas.over").nth(place).bounding_box()
    assert at is not None
    pixels = [(at["x"] + at["width"] * x, at["y"] + at["height"] * y) for x, y in corners]
    if hold:
        page.keyboard.down(hold)
    page.mouse.move(*pixels[0])
    page.mouse.down()
    for pixel in pixels[1:]:
        page.mouse.move(*pixel, steps=4)
    page.mouse.up()
    if hold:
        page.keyboard.up(hold)


def selected(page: Page) -> int:
    """How many cells the browser counts as selected."""
    return int(page.locator(".board").get_attribute("data-selected") or 0)


def counted(page: Page, count: int) -> None:
    """Waits until the page below the maps speaks of as many cells as Python counted."""
    page.locator(".mil-facts").get_by_text(f"{count:,} cells (").wait_for()


def text_of(page: Page) -> str:
    """The selection as the URL has it."""
    found = re.search(r"[?&]selection=([^&]*)", page.url)
    return found[1].replace("%7E", "~") if found else ""


def bright(page: Page, place: int) -> int:
    """Pixels of a map that are clearly coloured, as a photograph of the screen shows them."""
    page.mouse.move(0, 0)
    photo = Image.open(io.BytesIO(page.locator(".stage").nth(place).screenshot())).convert("RGB")
    return int((np.ptp(np.asarray(photo).astype(int), axis=2) > 40).sum())


def test_a_lasso_lights_the_tissue_and_both_sides_count_alike(
    page: Page, address: str, tiny_home: Path, analysis: Analysis
) -> None:
    cells(page, address, tiny_home, "&patient=P01")
    quiet = bright(page, 1)
    drag(page, 0, LEFT)
    now = selected(page)
    assert bright(page, 1) != quiet
    assert 0 < now < analysis.cohort.N
    page.locator(".status").get_by_text(f"{now:,} of 1,280 cells selected").wait_for()
    counted(page, now)
    ready(page)
    text = text_of(page)
    assert picks.members(analysis, picks.trusted(text)).sum() == now
    assert len(text) < 600
    drag(page, 0, FULL, hold="Shift")
    assert selected(page) == len(umap_plane(analysis).rows) == 1280
    drag(page, 1, FULL, hold="Alt")
    assert selected(page) == 1240
    counted(page, 1240)
    page.keyboard.press("Control+z")
    assert selected(page) == 1280
    page.keyboard.press("Control+z")
    assert selected(page) == now
    page.keyboard.press("Control+y")
    assert selected(page) == 1280
    page.keyboard.press("Escape")
    assert selected(page) == 0
    page.get_by_text("The selected cells").wait_for(state="hidden")


def test_a_link_shows_the_same_again(page: Page, address: str, tiny_home: Path) -> None:
    cells(page, address, tiny_home, "&patient=P01&colour=cell_type")
    page.get_by_role("button", name="Select a box").click()
    drag(page, 1, [(0.1, 0.1), (0.6, 0.7)])
    now = selected(page)
    counted(page, now)
    page.locator("canvas.over").first.press("+")
    page.wait_for_url("**view=*")
    ready(page)
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    ready(page)
    assert selected(page) == now > 0
    counted(page, now)
    assert page.url == link
    page.locator("canvas.over").first.press("Control+z")  # what could be undone before can be undone still
    page.get_by_text("The selected cells").wait_for(state="hidden")
    assert selected(page) == 0
    page.locator("canvas.over").first.press("Control+y")
    counted(page, now)
    assert selected(page) == now


def test_keys_alone(page: Page, address: str, tiny_home: Path) -> None:
    cells(page, address, tiny_home, "&patient=P01")
    maps = page.locator("canvas.over")
    page.get_by_role("button", name="Save the maps").focus()
    page.keyboard.press("Tab")
    words = page.evaluate("() => document.activeElement.shadowRoot.activeElement.getAttribute('aria-label')")
    assert words.startswith("Map of 1,280 cells by likeness, coloured by Importance.")
    page.keyboard.press("Enter")
    assert selected(page) == 1280
    for key in ("+", "+", "+", "ArrowLeft", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    assert 0 < selected(page) < 1280
    counted(page, selected(page))
    page.keyboard.press("f")
    maps.first.press("Shift+Enter")
    assert selected(page) == 1280
    page.keyboard.press("Escape")
    assert selected(page) == 0


def test_the_maps_are_saved_as_one_picture(page: Page, address: str, tiny_home: Path, tmp_path: Path) -> None:
    cells(page, address, tiny_home, "&patient=P01")
    before = page.locator("canvas.over").first.evaluate("one => [one.width, one.clientWidth]")
    with page.expect_download() as got:
        page.get_by_role("button", name="Save the maps").click()
    got.value.save_as(tmp_path / "maps.png")
    content = (tmp_path / "maps.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") > 6 * before[1], "two maps at three times the pixels"
    assert page.locator("canvas.over").first.evaluate("one => [one.width, one.clientWidth]") == before


def test_only_one_class(page: Page, address: str, tiny_home: Path, analysis: Analysis) -> None:
    cells(page, address, tiny_home, "&only_by=cell_type&only=driver")
    truth = int((analysis.cohort.cells["cell_type"] == "driver").sum())
    page.locator("canvas.over").first.press("Enter")
    assert selected(page) == truth
    counted(page, truth)
    choose(page, "Show", "All cells")
    ready(page)
    assert selected(page) == 1280


def test_the_pointer_names_a_cell(page: Page, address: str, tiny_home: Path) -> None:
    cells(page, address, tiny_home, "&patient=P01")
    at = page.locator("canvas.over").nth(1).bounding_box()
    assert at is not None
    for k in range(200):
        across, down = divmod(k, 14)
        page.mouse.move(
            at["x"] + at["width"] * (0.1 + across / 18), at["y"] + at["height"] * (0.1 + down / 18)
        )
        if page.locator(".tip:visible").count():
            break
    page.wait_for_timeout(300)
    ready(page)
    page.mouse.move(at["x"] + 1, at["y"] + 1)
    page.mouse.move(at["x"] + at["width"] * (0.1 + across / 18), at["y"] + at["height"] * (0.1 + down / 18))
    told = page.locator(".tip:visible").inner_text()
    assert re.match(r"P01, cell \d+\nImportance [+−]\d", told), told


def test_a_lost_context_comes_back(page: Page, address: str, tiny_home: Path) -> None:
    cells(page, address, tiny_home)
    before = bright(page, 0)
    assert before > 300
    page.locator("canvas.cells").first.evaluate(
        """canvas => new Promise(done => {
          const lose = canvas.getContext('webgl2').getExtension('WEBGL_lose_context');
          const drawn = () => requestAnimationFrame(() => requestAnimationFrame(done));
          canvas.addEventListener('webglcontextrestored', drawn);
          canvas.addEventListener('webglcontextlost', () => setTimeout(() => lose.restoreContext(), 50));
          lose.loseContext();
        })"""
    )
    assert bright(page, 0) == pytest.approx(before, rel=0.01)
    page.locator("canvas.over").first.press("Enter")
    assert selected(page) == 1280


def test_without_webgl_the_server_draws(
    page: Page, address: str, tiny_home: Path, analysis: Analysis
) -> None:
    page.add_init_script(
        """const get = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
          return kind === 'webgl2' ? null : get.call(this, kind, ...more);
        };"""
    )
    page.goto(f"{address}/cells?cohort={next((tiny_home / 'cohorts').iterdir()).name}")
    page.get_by_text("This browser has no WebGL2").wait_for()
    settle(page)
    page.locator(".stPlotlyChart image").nth(1).wait_for()
    at = page.locator(".stPlotlyChart .nsewdrag").first.bounding_box()
    assert at is not None
    page.mouse.move(at["x"] + 5, at["y"] + 5)
    page.mouse.down()
    for x, y in ((0.5, 0.01), (0.5, 0.98), (0.02, 0.98)):
        page.mouse.move(at["x"] + at["width"] * x, at["y"] + at["height"] * y, steps=6)
    page.mouse.up()
    page.get_by_text("The selected cells").wait_for()
    settle(page)
    chosen = picks.members(analysis, picks.trusted(text_of(page)))
    assert 0 < chosen.sum() < analysis.cohort.N
    counted(page, int(chosen.sum()))
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("The selected cells").wait_for(state="hidden")


def test_two_tabs_are_strangers(page: Page, address: str, tiny_home: Path) -> None:
    other = page.context.new_page()
    cells(page, address, tiny_home)
    cells(other, address, tiny_home)
    drag(page, 0, FULL)
    counted(page, 1280)
    other.reload()
    ready(other)
    assert (selected(page), selected(other)) == (1280, 0)


# ---------------------------------------------------------------- pure functions


@pytest.fixture(scope="module")
def geometry(chromium: str) -> Iterator[Any]:
    """Calls a function of geometry.js in a browser."""
    code = (FOLDER / "geometry.js").read_text(encoding="utf-8")
    with browser(chromium) as page:
        address = "URL.createObjectURL(new Blob([code], {type: 'text/javascript'}))"
        page.evaluate(f"async code => {{ window.g = await import({address}) }}", code)
        yield lambda name, *values: page.evaluate(
            "([name, values]) => window.g[name](...values)", [name, list(values)]
        )


def test_polygons_are_the_same_text_and_cells_on_both_sides(geometry: Any) -> None:
    rng = np.random.default_rng(0)
    places = rng.integers(0, 65_536, (3_000, 2))
    for corners in (3, 7, 40):
        polygon = rng.integers(0, 65_536, 2 * corners).tolist()
        text = geometry("written", polygon)
        assert geometry("read", text) == polygon
        assert picks._corners(text).ravel().tolist() == polygon
        found = geometry("enclosed", places.ravel().tolist(), polygon)
        truth = picks.enclosed(places.astype(float), np.reshape(polygon, (-1, 2)).astype(float))
        assert found == truth.astype(int).tolist()


def test_lines_keep_their_shape_with_fewer_corners(geometry: Any) -> None:
    angle = np.linspace(0, 2 * np.pi, 2_000)
    circle = np.column_stack([30_000 + 9_000 * np.cos(angle), 30_000 + 9_000 * np.sin(angle)])
    simple = np.reshape(geometry("simplified", circle.ravel().tolist(), 20), (-1, 2))
    assert 10 < len(simple) <= 96
    assert np.abs(np.hypot(*(simple - 30_000).T) - 9_000).max() < 3
    wild = np.random.default_rng(0).uniform(0, 65_535, 4_000).tolist()
    assert len(geometry("simplified", wild, 0)) <= 192
    assert geometry("simplified", [-50, -50, 70_000, -50, 70_000, 70_000], 1) == [
        0,
        0,
        65_535,
        0,
        65_535,
        65_535,
    ]


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(-1, 1, [-1, -0.5, 0, 0.5, 1]), (0, 7, [0, 2, 4, 6]), (0, 0, [0]), (-157.3, 157.3, [-100, 0, 100])],
)
def test_ticks_are_round(geometry: Any, low: float, high: float, found: list[float]) -> None:
    assert geometry("ticks", low, high, 5) == found


def test_a_scale_bar_is_round(geometry: Any) -> None:
    assert [geometry("round", most) for most in (1, 1.9, 2, 4.99, 730, 0.07)] == [1, 1, 2, 2, 500, 0.05]


def test_zooming_keeps_what_is_under_the_pointer(geometry: Any) -> None:
    whole = geometry("fitted", [16_384, 16_384, 49_151, 40_000], 400, 300)
    near = geometry("zoomed", whole, 3, 100, -40)
    before = [whole["x"] + 100 / whole["fit"], whole["y"] - 40 / whole["fit"]]
    after = [near["x"] + 100 / near["fit"] / 3, near["y"] - 40 / near["fit"] / 3]
    assert after == pytest.approx(before)
    assert geometry("shot", whole, whole) == ""
    assert geometry("aimed", geometry("shot", near, whole), whole) == pytest.approx(near, abs=1)
    assert geometry("aimed", "nonsense", whole) == whole


def test_drawing_order(geometry: Any) -> None:
    codes, states, rank = [5, 1, 5, 2, 9], [2, 3, 2, 2, 0], [0] * 256
    rank[5], rank[1], rank[2] = 7, 1, 3
    found = geometry("layered", codes, states, rank)
    assert found["order"] == [4, 3, 0, 2, 1]
    assert (found["focus"], found["chosen"]) == (1, 4)


def test_the_modules_make_one_script() -> None:
    for name in MODULES:
        used = re.findall(r'from "\./(\w+)\.js"', (FOLDER / f"{name}.js").read_text(encoding="utf-8"))
        assert all(MODULES.index(other) < MODULES.index(name) for other in used)
    whole = bundle()
    assert whole.count("export default") == 1
    assert not re.search(r"^import|^export (?!default)", whole, flags=re.MULTILINE)
    sources = "\n".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in MODULES)
    names = re.findall(r"^(?:export )?(?:function|class|const|let) (\w+)", sources, flags=re.MULTILINE)
    assert len(names) > 50
    assert len(set(names)) == len(names)
    assert sorted(path.stem for path in FOLDER.glob("*.js")) == sorted(MODULES)
    assert "http" not in whole
