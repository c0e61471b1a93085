"""How long a person waits for cells on the screen, ours beside Plotly's Scattergl: `python -m tests.bench.screen`.

Everything is timed by photographs of the map in a real Chromium with software drawing, from the click until the
picture has changed: first paint (of a new page on a warm server), another colour, a lasso until its cells stand out.
Both take turns, so that what else the machine does bears on both. Medians; bytes are those of the WebSocket. A way of
drawing that does not get there in time is said to fail. Beside them: what-if at 200,000 cells. The tables are written
to screen.md, within ten minutes on a quiet machine.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from PIL import Image
from playwright.sync_api import Error, Page

from milcore.analysis import Analysis
from milcore.cohort import Cohort
from milcore.selections import cohort_without, patient_without
from milcore.stacking import Mixture
from milcore.training import Member, Settings
from tests.browsing import browser, free_port, running

PLACES = {"canvas": ".stage", "Scattergl": ".stPlotlyChart"}
STEPS = ("first paint", "other colour", "lasso")
ABOUT = """# Seconds on the screen

`make bench-screen` wrote this: seconds from the click until photographs of the map show the answer (Chromium, drawing
in software, {cores} cores), medians, the number of turns in brackets; bytes of the WebSocket down and up; and how many
times longer Plotly's Scattergl takes. With a thousand cells it is what a page of Streamlit, the browser and the camera
take by themselves, whoever draws. Of what comes down, 45 kB are the component's script and the head of the message:
Streamlit sends the script along each time. Beyond {peer:,} cells Scattergl is not asked.
Load {load:.1f} before."""
HEAD = """| cells | | canvas | down, up | Scattergl | down, up | times |
|---|---|---|---|---|---|---|"""
WHAT_IF = "| what if these cells did not count, at 200,000 cells | |\n|---|---|"
MANY = 200_000
CORNERS = ((0.2, 0.2), (0.5, 0.2), (0.5, 0.8), (0.2, 0.8), (0.2, 0.25))  # the left half, within its axes


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
    """Draws around the left half of the cells."""
    at = page.locator(place).first.bounding_box()
    assert at is not None
    pixels = [(at["x"] + at["width"] * x, at["y"] + at["height"] * y) for x, y in CORNERS]
    page.mouse.move(*pixels[0])
    page.mouse.down()
    for pixel in pixels[1:]:
        page.mouse.move(*pixel)
    page.mouse.up()


def measured(chromium: str, address: str, cells: int, kind: str, most: float) -> Run:
    """Seconds, bytes down and bytes up of every step, up to one that takes too long."""
    place, found, traffic = PLACES[kind], {}, [0, 0]
    errors = (
        suppress(AssertionError) if kind == "Scattergl" else nullcontext()
    )  # Plotly's own scripts raise some
    with errors, browser(chromium) as page:
        page.on("websocket", lambda socket: _count(socket, traffic))
        url = f"{address}/?cells={cells}&with={kind}"
        before = np.zeros(0)

        def changed(picture: np.ndarray) -> bool:  # of the cells, not a line drawn around them
            cells = before > 40
            return picture.shape == before.shape and (np.abs(picture - before)[cells] > 25).mean() > 0.05

        steps = {
            "first paint": (lambda: page.goto(url), lambda picture: (picture > 40).mean() > 0.002),
            "other colour": (lambda: page.get_by_text("Other colour").click(), changed),
            "lasso": (lambda: lasso(page, place), changed),
        }
        for name, (act, done) in steps.items():
            traffic[:] = [0, 0]
            try:
                took = seconds(page, place, act, done=done, most=most)
                page.wait_for_timeout(1_500)  # what still comes belongs to this step
            except (TooLong, Error):
                break
            found[name] = (took, traffic[0], traffic[1])
            before = photograph(page, place)
    return found


def _count(socket, traffic: list[int]) -> None:  # type: ignore[no-untyped-def]
    socket.on("framereceived", lambda frame: traffic.__setitem__(0, traffic[0] + len(frame)))
    socket.on("framesent", lambda frame: traffic.__setitem__(1, traffic[1] + len(frame)))


def several(chromium: str, address: str, cells: int, given: argparse.Namespace) -> dict[str, list[Run]]:
    """The measurements of both ways, in turns; a way that failed has no more. With many cells there are fewer, and
    Scattergl, which needs minutes there, has one turn or none."""
    large = cells > MANY
    turns = {"canvas": given.few if large else given.times, "Scattergl": 1 if large else given.times}
    turns["Scattergl"] *= cells <= given.peer
    runs: dict[str, list[Run]] = {kind: [] for kind in PLACES}
    measured(chromium, address, cells, "canvas", given.most)  # the server makes the cells
    for turn in range(max(turns.values())):
        for kind in [kind for kind in PLACES if turn < turns[kind]]:
            runs[kind].append(measured(chromium, address, cells, kind, given.most))
            if len(runs[kind][-1]) < len(STEPS):
                turns[kind] = 0
    return runs


def row(cells: int, step: str, runs: dict[str, list[Run]]) -> str:
    """One line of the table: median seconds and bytes of both, and how many times longer Scattergl takes."""
    both = [medians(runs[kind], step) for kind in PLACES]
    times = f"{both[1][0] / both[0][0]:.1f}" if all(both) else ""
    said = [
        f"{one[0]:.2f} s ({len(runs[kind])})" if one else "fails" if runs[kind] else "not asked"
        for one, kind in zip(both, PLACES, strict=True)
    ]
    sizes = [f"{one[1] / 1e6:.2f} MB, {one[2] / 1e3:.1f} kB" if one else "" for one in both]
    return f"| {cells:,} | {step} | {said[0]} | {sizes[0]} | {said[1]} | {sizes[1]} | {times} |"


def medians(runs: Sequence[Run], step: str) -> tuple[float, ...]:
    """Of seconds and bytes of a step; none where a run did not get there."""
    if not runs or not all(step in run for run in runs):
        return ()
    return tuple(median(run[step][k] for run in runs) for k in range(3))


# ---------------------------------------------------------------- what if


def untrained(n: int, patients: int = 60, repeats: int = 4) -> Analysis:
    """An analysis of n cells whose two members say random things."""
    rng = np.random.default_rng(0)
    owner = np.arange(n) * patients // n
    label = np.tile(["no", "yes"], patients // 2)
    named = pd.DataFrame({"patient": [f"P{b:02d}" for b in range(patients)], "response": label})
    x = rng.normal(size=(n, 2)).astype(np.float32)
    cohort = Cohort.of(x, named["patient"].to_numpy()[owner], names=("A", "B"), patients=named)
    weight = np.broadcast_to(np.float32(patients / n), (repeats, n))
    members = {
        name: Member(weight, rng.normal(size=(repeats, n, 1)).astype(np.float32), np.empty(0))
        for name in "ab"
    }
    size = (repeats, patients)
    mixture = Mixture(("a", "b"), np.zeros((*size, 1)), np.ones((2, *size)), np.zeros(size))
    settings, facts = Settings(target="response"), {"task": "binary", "folds": 5}
    cells = pd.DataFrame({"evidence": np.zeros(n)})
    nothing = pd.DataFrame()
    return Analysis(cohort, settings, facts, nothing, cells, None, members, mixture)  # type: ignore[arg-type]


def what_if(n: int, times: int) -> list[str]:
    """Lines of a table: milliseconds until a score without a tenth of all cells is known."""
    analysis = untrained(n)
    chosen = np.random.default_rng(1).random(n) < 0.1
    asked: dict[str, Callable[[], object]] = {
        "every patient's score": lambda: analysis.without(chosen),
        "one patient, with 50 removals of as many cells by chance": lambda: patient_without(
            analysis, 0, chosen
        ),
        "the cohort's leading score": lambda: cohort_without(analysis, chosen),
    }
    lines = []
    for name, ask in asked.items():
        ask()  # what is learnt once for an analysis
        took = []
        for _ in range(times):
            start = time.perf_counter()
            ask()
            took.append(time.perf_counter() - start)
        lines.append(f"| {name} | {1000 * median(took):.0f} ms |")
    return lines


def main() -> None:
    """Measures, prints and writes the tables."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--cells", type=int, nargs="+", default=[1_000, MANY, 1_000_000, 2_000_000])
    asked.add_argument("--times", type=int, default=5, help=f"turns with up to {MANY:,} cells")
    asked.add_argument("--few", type=int, default=3, help="turns of ours with more")
    asked.add_argument(
        "--peer", type=int, default=1_000_000, help="cells that Scattergl is asked to draw at most"
    )
    asked.add_argument("--most", type=float, default=120.0, help="seconds after which a step has failed")
    asked.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    given = asked.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        asked.error("there is no Chromium on this machine (Debian: apt install chromium)")
    about = ABOUT.format(cores=os.cpu_count(), peer=given.peer, load=os.getloadavg()[0])
    lines = [about, "", WHAT_IF, *what_if(MANY, given.times), "", HEAD]
    print("\n".join(lines), flush=True)
    with served() as address:
        for cells in given.cells:
            runs = several(chromium, address, cells, given)
            for step in STEPS:
                lines.append(row(cells, step, runs))
                print(lines[-1], flush=True)
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
