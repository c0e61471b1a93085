"""How much memory of its own each step takes, from tables to a map of the cells: `python -m tests.bench.memory`.

A made-up cohort is written as one Parquet file a patient, then read, analysed and opened, each in a process of its own
that looks at its anonymous memory (RssAnon of Linux: what is not backed by a file) fifty times a second. Rewrites
memory.md and memory.json beside this file; sizes that are not measured anew stay.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
STEPS = ("read", "analyse", "open")
LIMITS = {1_000_000: 800, 5_000_000: 1500}  # MB that we mean to stay below
HEAD = """# Memory

Anonymous memory (Linux, RssAnon) at the highest, in MB, {features} features, {patients} patients, {effort} effort; each
row of a step is a stage of it, with what it held at the highest. `make memory` measures anew. {machine}.

| cells | step | stage | MB at the highest | CPU s |
|---|---|---|---|---|
"""


class Watch:
    """Looks at this process from a thread of its own; `peaks` holds {stage: MB}, `cpu` {stage: seconds}."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.stage, self._since, self._over = "start", time.process_time(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def enter(self, stage: str) -> None:
        """What runs from now on is this stage."""
        if stage != self.stage:
            now = time.process_time()
            self.cpu[self.stage] = self.cpu.get(self.stage, 0.0) + now - self._since
            self.stage, self._since = stage, now

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        self._thread.start()
        yield self
        self.enter("end")
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.peaks[self.stage] = max(self.peaks.get(self.stage, 0.0), anonymous())


def anonymous(process: int | str = "self") -> float:
    """MB of a process that no file backs."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def write(folder: Path, cells: int, features: int, patients: int) -> None:
    """One Parquet file a patient; every other patient has 1 % of cells with four shifted features."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(8, features)) * 2
    for b in range(patients):
        n = cells * (b + 1) // patients - cells * b // patients
        x = draw.standard_normal((n, features), np.float32)
        x += centres[draw.integers(0, 8, n)]
        x[: n // 100 * (b % 2), :4] += 3
        table = pd.DataFrame(x, columns=[f"marker {j + 1}" for j in range(features)])
        place = pd.DataFrame(draw.uniform(0, 1000, (n, 2)), columns=["x", "y"])
        pd.concat([place, table], axis=1).assign(patient=f"P{b:03d}").to_parquet(folder / f"{b:03d}.parquet")
    labels = [("no", "yes")[b % 2] for b in range(patients)]
    frame = pd.DataFrame({"patient": [f"P{b:03d}" for b in range(patients)], "response": labels})
    frame.to_csv(folder.with_suffix(".csv"), index=False)


def take(step: str, folder: Path, effort: str) -> Watch:
    """One step in this process."""
    watch = Watch()
    with watch.watching():
        watch.enter("imports")
        from milcore.analysis import Analysis
        from milcore.chain import analyse
        from milcore.cohort import Cohort
        from milcore.progress import Progress
        from milcore.readers import read_cohort
        from milcore.training import Settings

        progress = Progress(lambda event: watch.enter(event.stage))
        if step == "read":
            tables = folder / "tables"
            cohort = read_cohort([tables], patients=tables.with_suffix(".csv"), progress=progress)
            watch.enter("saving")
            cohort.save(folder / "cohort")
        elif step == "analyse":
            settings = Settings(target="response", effort=effort)
            found = analyse(Cohort.open(folder / "cohort"), settings, progress)
            watch.enter("saving")
            found.save(folder / "analysis")
        else:
            watch.enter("opening")
            opened = Analysis.open(folder / "analysis")
            watch.enter("what-if over the cohort")
            opened.without(np.arange(0, opened.cohort.N, 7))
    return watch


def measured(cells: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each stage of each step; a step that fails is said to, and ends the measurement."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        folder = Path(scratch)
        write(folder / "tables", cells, given.features, given.patients)
        for step in STEPS:
            command = [sys.executable, "-m", "tests.bench.memory", "--take", step, "--scratch", str(folder)]
            command += ["--effort", given.effort]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                problem = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
                return [*rows, {"cells": cells, "step": step, "stage": f"fails: {problem}"}]
            stages = json.loads(done.stdout.splitlines()[-1])
            rows += [{"cells": cells, "step": step, "stage": s, "mb": m, "cpu_s": c} for s, m, c in stages]
            print(*rows[-len(stages) :], sep="\n", flush=True)
    return rows


def page(kept: dict[str, Any]) -> str:
    """The table, and of each size the highest of all beside what we mean to stay below."""
    lines = HEAD.format(**kept)
    for row in kept["rows"]:
        cost = f"{row['mb']:,.0f} | {row['cpu_s']:.1f}" if "mb" in row else "- | -"
        lines += f"| {row['cells']:,} | {row['step']} | {row['stage']} | {cost} |\n"
    for cells in sorted({row["cells"] for row in kept["rows"]}):
        top = max(
            (row for row in kept["rows"] if row["cells"] == cells and "mb" in row), key=lambda r: r["mb"]
        )
        limit = f"; meant: {LIMITS[cells]:,} MB" if cells in LIMITS else ""
        lines += f"\n{cells:,} cells: {top['mb']:,.0f} MB at the highest, in {top['stage']}{limit}.\n"
    return lines


def main() -> None:
    """Measures and writes the page, or takes one step for a parent that measures."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--cells", type=int, nargs="+", default=[1_000_000, 5_000_000])
    asked.add_argument("--features", type=int, default=40)
    asked.add_argument("--patients", type=int, default=50)
    asked.add_argument("--effort", default="quick")
    asked.add_argument("--scratch", type=Path, help="where tables and folders may lie while it runs")
    asked.add_argument("--take", choices=STEPS, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.take:
        watch = take(given.take, given.scratch, given.effort)
        print(json.dumps([(s, watch.peaks[s], watch.cpu.get(s, 0.0)) for s in watch.peaks]))
        return
    kept: dict[str, Any] = {name: getattr(given, name) for name in ("features", "patients", "effort")}
    kept["machine"] = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    file = HERE / "memory.json"
    before = json.loads(file.read_text())["rows"] if file.exists() else []
    rows = [row for row in before if row["cells"] not in given.cells]
    rows += [row for cells in given.cells for row in measured(cells, given)]
    kept["rows"] = sorted(rows, key=lambda row: row["cells"])
    file.write_text(json.dumps(kept, indent=1) + "\n")
    (HERE / "memory.md").write_text(page(kept))


if __name__ == "__main__":
    main()
