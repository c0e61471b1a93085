"""The cell canvas by itself, without a server: few cells and many, fingers, sharp screens, several on one page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import CDPSession, Page

from dashboard.canvas import FOLDER, Parcel, bundle
from dashboard.planes import LOW, SPAN, Map, Plane
from tests.browsing import browser

pytestmark = pytest.mark.browser

OPEN = """async code => {
  const address = URL.createObjectURL(new Blob([code], {type: 'text/javascript'}));
  window.component = (await import(address)).default;
  window.hosts = [];
  window.drawings = 0;
  const draw = WebGL2RenderingContext.prototype.drawElements;
  WebGL2RenderingContext.prototype.drawElements = function (...more) {
    window.drawings += 1;
    draw.apply(this, more);
  };
}"""
SHOW = """([place, data]) => {
  const host = window.hosts[place] ??= document.body.appendChild(document.createElement('div'));
  host.said ??= {};
  const say = (name, value) => { host.said[name] = value; };
  host.leave = window.component({
    parentElement: host, data: Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)),
    setStateValue: say, setTriggerValue: say,
  });
}"""
CLOSE = "() => { for (const host of window.hosts) { host.leave?.(); host.remove(); } window.hosts = []; }"
Show = Callable[..., int]


@pytest.fixture(scope="module")
def window(chromium: str) -> Iterator[Page]:
    """A page with the component's script and style, and nothing else."""
    with browser(chromium) as page:
        page.set_content(f"<style>{(FOLDER / 'canvas.css').read_text(encoding='utf-8')}</style>")
        page.evaluate(OPEN, bundle())
        yield page


@pytest.fixture
def show(window: Page) -> Iterator[Show]:
    """Shows n cells at random places on the board at a place of the page; how many bytes that took."""
    sent: dict[int, set[str]] = {}

    def shown(n: int, *, place: int = 0, **more: Any) -> int:
        parcel = Parcel(f"some-{place}-{n}", sent.setdefault(place, set()))
        data = parcel.packed(head(parcel, n, **more))
        window.evaluate(SHOW, [place, base64.b64encode(data).decode()])
        drawn(window, place)
        return len(data)

    yield shown
    window.evaluate(CLOSE)


def head(
    parcel: Parcel, n: int, *, colour: int = 0, names: int = 0, wide: int = 400, unit: str = "µm"
) -> dict[str, Any]:
    """What the server says of one map of n cells."""
    draw = np.random.default_rng(n + colour)
    xy = (LOW + SPAN * draw.random((n, 2))).astype(np.uint16)
    plane = Plane("u", xy, np.arange(n, dtype=np.uint32), 0.1, some=False)
    legend = {"names": [[f"kind {k}", "#06a7ad"] for k in range(names)], "more": ""} if names else {}
    return {
        "about": parcel.about,
        "cells": n,
        "panels": [parcel.panel(Map("only", plane, "A map", "words", 300, unit=unit))],
        "selection": {"text": "", "turn": 0},
        "view": "",
        "columns": f"{wide}px",
        "idle": "",
        "longest": 4_000,
        "details": None,
        "colours": parcel.put(f"colours/{colour}", lambda: draw.integers(1, 256, n).astype(np.uint8)),
        "palette": ["#00000000"] + ["#d96a00ff"] * 255,
        "rank": [0] * 256,
        "legend": {"title": "Colour", "low": 0, "high": 1, "colours": ["#fff", "#d96a00"], **legend},
        "only": None,
        "shine": None,
    }


def drawn(page: Page, place: int = 0) -> SimpleNamespace:
    """What the board at a place says of itself, once nothing is left to draw."""
    page.wait_for_function(
        """place => new Promise((done) => {
          const board = window.hosts[place].querySelector('.board');
          requestAnimationFrame(() => requestAnimationFrame(() => done(Boolean(board.dataset.drawn))));
        })""",
        arg=place,
    )
    said = page.evaluate("place => ({...window.hosts[place].said})", place)
    data = page.evaluate("place => ({...window.hosts[place].querySelector('.board').dataset})", place)
    return SimpleNamespace(said=said, selected=int(data["selected"]), drawings=page.evaluate("drawings"))


def camera(page: Page, act: Callable[[], object]) -> list[int]:
    """Where the map looks after an act: its middle, and a hundred times its zoom."""
    page.evaluate("() => { delete window.hosts[0].said.view; }")
    act()
    page.wait_for_function("() => window.hosts[0].said.view !== undefined")
    view = str(page.evaluate("() => window.hosts[0].said.view"))
    return [int(part, 36) for part in view.partition("~")[2].split("-")]


def box(page: Page, place: int = 0) -> tuple[float, float]:
    """The pixel in the middle of the map."""
    at = page.locator("canvas.over").nth(place).bounding_box()
    assert at is not None
    return at["x"] + at["width"] / 2, at["y"] + at["height"] / 2


def around(page: Page, place: int = 0) -> None:
    """Draws a square of 160 pixels around the middle with the mouse."""
    x, y = box(page, place)
    page.mouse.move(x - 80, y - 80)
    page.mouse.down()
    for dx, dy in ((80, -80), (80, 80), (-80, 80)):
        page.mouse.move(x + dx, y + dy, steps=3)
    page.mouse.up()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_no_cell_one_cell_two_cells(window: Page, show: Show, n: int) -> None:
    show(n)
    window.locator("canvas.over").press("Enter")
    assert drawn(window).selected == n
    for key in ("+", "+", "ArrowLeft", "f", "Escape"):
        window.locator("canvas.over").press(key)
    x, y = box(window)
    window.mouse.move(x, y)
    assert drawn(window).selected == 0


def test_another_colour_costs_a_byte_a_cell_and_one_drawing(window: Page, show: Show) -> None:
    first = show(20_000)
    before = drawn(window).drawings
    second = show(20_000, colour=1)
    assert 100_000 < first < 110_000, "four bytes of place, one of colour"
    assert 20_000 < second < 26_000
    assert drawn(window).drawings == before + 1
    assert show(20_000, colour=1) < 6_000
    assert drawn(window).drawings == before + 1, "nothing has changed"


def test_a_line_is_drawn_without_drawing_the_cells_anew(window: Page, show: Show) -> None:
    show(5_000)
    before = drawn(window).drawings
    around(window)
    found = drawn(window)
    assert found.drawings == before + 1, "once, with those selected on top"
    assert 500 < found.selected < 2_500
    assert found.said["selection"]["text"].startswith("nu~")
    assert len(found.said["selection"]["text"]) < 4_000


def test_the_line_goes_when_it_is_done(window: Page, show: Show) -> None:
    show(500, wide=1_200, unit="")
    x, y = box(window)
    window.mouse.move(x - 500, y - 100)
    window.mouse.down()
    for dx, dy in ((500, -100), (500, 100), (-500, 100), (-590, 140)):
        window.mouse.move(x + dx, y + dy, steps=2)
    window.mouse.up()
    assert drawn(window).selected > 0
    left = """over => over.getContext('2d').getImageData(0, 0, over.width, over.height).data.some(Boolean)"""
    assert not window.locator("canvas.over").evaluate(left)


def test_many_cells_are_a_density_until_one_looks_closer(window: Page, show: Show) -> None:
    show(300_000)
    fog = window.locator("canvas.fog")
    assert fog.is_visible(), "more than two cells a pixel"
    for _ in range(4):
        window.locator("canvas.over").press("+")
    drawn(window)
    assert fog.is_hidden()
    window.get_by_role("button", name="Density").click()
    drawn(window)
    assert fog.is_visible()
    assert window.get_by_role("button", name="Density").get_attribute("aria-pressed") == "true"


def test_fingers(window: Page, show: Show) -> None:
    show(1_000)
    touch = window.context.new_cdp_session(window)
    x, y = box(window)
    near = camera(window, lambda: fingers(touch, [(x - 30, y), (x + 30, y)], [(x - 90, y), (x + 90, y)]))
    assert near[2] == pytest.approx(300, abs=15), "spread to three times the distance"
    window.get_by_role("button", name="Move the map").click()
    moved = camera(window, lambda: fingers(touch, [(x, y)], [(x + 60, y)]))
    assert moved[0] < near[0] - 500
    assert moved[1:] == pytest.approx(near[1:], abs=2)
    assert drawn(window).selected == 0
    window.get_by_role("button", name="Select a box").click()
    fingers(touch, [(x - 50, y - 50)], [(x + 50, y + 50)])
    assert 0 < drawn(window).selected < 1_000


def fingers(touch: CDPSession, start: list[tuple[float, float]], end: list[tuple[float, float]]) -> None:
    """Puts fingers down, moves them in six steps, and lifts them."""

    def at(share: float) -> list[dict[str, float]]:
        return [
            {"x": a + share * (c - a), "y": b + share * (d - b), "id": k}
            for k, ((a, b), (c, d)) in enumerate(zip(start, end, strict=True))
        ]

    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at(0)})
    for step in range(1, 7):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at(step / 6)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_sharp_screen_gets_sharp_cells(window: Page, show: Show) -> None:
    wide = "() => [...document.querySelectorAll('canvas.cells, canvas.over')].map((canvas) => canvas.width)"
    screen = window.context.new_cdp_session(window)
    metrics = {"width": 1280, "height": 900, "deviceScaleFactor": 2, "mobile": False}
    screen.send("Emulation.setDeviceMetricsOverride", metrics)
    show(1_000)
    around(window)
    fine, selected = window.evaluate(wide), drawn(window).selected
    window.screenshot()  # puts the ratio back to 1, as when the window comes to another screen
    window.wait_for_function(f"fine => ({wide})().every((width) => 2 * width === fine)", arg=fine[0])
    window.locator("canvas.over").press("Escape")
    around(window)
    assert drawn(window).selected == pytest.approx(selected, abs=3), "a line means the same cells"


def test_several_boards_on_one_page(window: Page, show: Show) -> None:
    for place in range(3):
        show(1_000, place=place)
    around(window, 1)
    assert [drawn(window, place).selected > 0 for place in range(3)] == [False, True, False]
    window.evaluate("() => { window.hosts[1].leave(); }")
    around(window, 1)  # the third, which has moved up
    assert drawn(window, 2).selected > 0


def test_many_names_stand_below_the_maps(window: Page, show: Show) -> None:
    show(100, names=3)
    above = "() => document.querySelector('.head').contains(document.querySelector('.legend'))"
    assert window.evaluate(above)
    show(100, names=20)
    assert not window.evaluate(above)
    assert window.locator(".names li").count() == 20
