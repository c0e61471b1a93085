"""How long a person waits for cells on the screen, ours beside Plotly's Scattergl: `python -m tests.bench.screen`.

Everything is timed by photographs of the map in a real Chromium with software drawing, from the click until the
picture has changed: first paint (of a new page on a warm server), another colour, a lasso until its cells stand out.
Medians; bytes are those of the WebSocket. A way of drawing that does not get there in time is said to fail.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from playwright.sync_api import Error, Page

from tests.browsing import browser, free_port, running

PLACES = {"canvas": ".stage", "Scattergl": ".stPlotlyChart"}
STEPS = ("first paint", "other colour", "lasso")
CORNERS = ((0.25, 0.2), (0.75, 0.2), (0.75, 0.8), (0.25, 0.8), (0.25, 0.25))


Run = dict[str, tuple[float, int, int]]  # seconds, bytes down and bytes up of every step


class TooLong(Exception):
    """The picture has not changed in the time there is."""


@contextmanager
def served() -> Iterator[str]:
    """The address of the page that is measured."""
    page, port = Path(__file__).with_name("page.py"), free_port()
    options = ["--server.port", str(port), "--server.headless", "true", "--server.maxMessageSize", "2000"]
    options += ["--server.address", "127.0.0.1", "--browser.gatherUsageStats", "false"]
    command = [sys.executable, "-m", "streamlit", "run", str(page), *options]
    with (
        tempfile.TemporaryDirectory() as folder,
        running(command, port, log=Path(folder) / "log", MILSCOPE_WORKSPACE=folder) as address,
    ):
        yield address


def photograph(page: Page, place: str) -> np.ndarray:
    """(h, w) how colourful each pixel of the map is."""
    raw = page.locator(place).first.screenshot(timeout=60_000)
    return np.ptp(np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(int), axis=2)


def seconds(
    page: Page, place: str, act: Callable[[], object], *, done: Callable[[np.ndarray], bool], most: float
) -> float:
    """From an act until a photograph shows what was wanted."""
    start = time.perf_counter()
    act()
    while time.perf_counter() - start < most:
        try:
            if page.locator(place).count() and done(photograph(page, place)):
                return time.perf_counter() - start
        except Error:  # the map was replaced under the camera
            continue
    raise TooLong


def lasso(page: Page, place: str) -> None:
    """Draws around the middle of the map."""
    at = page.locator(place).first.bounding_box()
    assert at is not None
    pixels = [(at["x"] + at["width"] * x, at["y"] + at["height"] * y) for x, y in CORNERS]
    page.mouse.move(*pixels[0])
    page.mouse.down()
    for pixel in pixels[1:]:
        page.mouse.move(*pixel)
    page.mouse.up()


def measured(chromium: str, address: str, cells: int, kind: str, most: float) -> Run:
    """Seconds, bytes down and bytes up of every step."""
    place, found, traffic = PLACES[kind], {}, [0, 0]
    with browser(chromium) as page:
        page.on("websocket", lambda socket: _count(socket, traffic))
        url = f"{address}/?cells={cells}&with={kind}"
        before = np.zeros(0)

        def changed(picture: np.ndarray) -> bool:
            return picture.shape == before.shape and (np.abs(picture - before) > 25).mean() > 0.004

        steps = {
            "first paint": (lambda: page.goto(url), lambda picture: (picture > 40).mean() > 0.01),
            "other colour": (lambda: page.get_by_text("Other colour").click(), changed),
            "lasso": (lambda: lasso(page, place), changed),
        }
        for name, (act, done) in steps.items():
            traffic[:] = [0, 0]
            found[name] = (seconds(page, place, act, done=done, most=most), 0, 0)
            page.wait_for_timeout(1_500)  # what still comes belongs to this step
            found[name] = (found[name][0], *traffic)
            before = photograph(page, place)
    return found


def _count(socket, traffic: list[int]) -> None:  # type: ignore[no-untyped-def]
    socket.on("framereceived", lambda frame: traffic.__setitem__(0, traffic[0] + len(frame)))
    socket.on("framesent", lambda frame: traffic.__setitem__(1, traffic[1] + len(frame)))


def row(runs: list[Run], step: str) -> str:
    """One cell of the table: median seconds, bytes down, bytes up."""
    if not runs:
        return "fails"
    took, down, up = (median(run[step][k] for run in runs) for k in range(3))
    return f"{took:.2f} s, {down / 1e6:.2f} MB down, {up / 1e3:.1f} kB up"


def main() -> None:
    """Measures and prints a table."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--cells", type=int, nargs="+", default=[200_000, 1_000_000, 2_000_000])
    asked.add_argument("--times", type=int, default=5)
    asked.add_argument("--most", type=float, default=120.0, help="seconds after which a step has failed")
    given = asked.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        asked.error("there is no Chromium on this machine (Debian: apt install chromium)")
    print("| cells | | canvas | Scattergl |\n|---|---|---|---|")
    with served() as address:
        for cells in given.cells:
            runs = {kind: several(chromium, address, cells, kind, given) for kind in PLACES}
            for step in STEPS:
                print(
                    f"| {cells:,} | {step} | {row(runs['canvas'], step)} | {row(runs['Scattergl'], step)} |",
                    flush=True,
                )


def several(chromium: str, address: str, cells: int, kind: str, given: argparse.Namespace) -> list[Run]:
    """As many measurements as asked for after one that warms the server; none where one fails."""
    try:
        return [measured(chromium, address, cells, kind, given.most) for _ in range(given.times + 1)][1:]
    except (TooLong, Error):
        return []


if __name__ == "__main__":
    main()
