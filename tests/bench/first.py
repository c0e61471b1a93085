"""How long a person waits for the first results of a warm worker: `python -m tests.bench.first`, on a quiet machine.

Breast cancer cells (Keren, from ../shared) are read by a job of the dashboard, which then prepares them, as it does
when a person has read a cohort; then Train is pressed, with each effort. Seconds from the press until the first ranking
of the patients can be shown, until the map is there, and until the end. Prints a table and writes it to first.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from dashboard.jobs import Job, Jobs
from dashboard.workspace import Workspace
from tests.bench.compare import ELEMENTAL, KEREN

WARM = 60  # seconds that a new worker has for its imports and compiling, before anything is asked
TWO = {"target": "tumor_architecture", "classes": ["mixed", "compartmentalized"]}
MILESTONES = ("first ranking", "map", "end")


ABOUT = """# First results

Seconds from the press until the first ranking of the patients, out of fold, can be shown, until the map of cells is
there, and until the end; a worker that has warmed up, breast cancer cells (Keren, 189,380 cells of 39 patients, 36
features). Medians of {times}; {cores} processors, load {load:.1f} before. `make bench-first` measures anew.

| | first ranking | map | end |
|---|---|---|---|"""


def waited(jobs: Jobs, kind: str, request: dict[str, Any]) -> tuple[dict[str, float], Job]:
    """Seconds from the press until each milestone, and the job as it ended."""
    begun, found = time.perf_counter(), dict[str, float]()
    key = jobs.submit(kind, request)
    while (job := jobs.get(key)) is not None:
        now = time.perf_counter() - begun
        if job.early:
            found.setdefault("first ranking", now)
        if "umap" in job.stages and job.stage != "umap":
            found.setdefault("map", now)
        if job.over:
            break
        time.sleep(0.05)
    if job is None or job.state != "done":
        raise SystemExit(job.problem if job else "the job is gone")
    return found | {"end": time.perf_counter() - begun}, job


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--efforts", nargs="+", default=["quick", "standard"])
    asked.add_argument("--times", type=int, default=3)
    asked.add_argument("--warm", type=float, default=WARM, help="seconds before anything is asked")
    asked.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    given = asked.parse_args()
    runs: dict[str, list[dict[str, float]]] = {}
    load = os.getloadavg()[0]
    for _ in range(given.times):
        for name, found in once(given.efforts, given.warm):
            runs.setdefault(name, []).append(found)
            print(row(name, [found]), flush=True)
    lines = [ABOUT.format(cores=os.cpu_count(), load=load, times=given.times)]
    lines += [row(name, found) for name, found in runs.items()]
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def once(efforts: Sequence[str], warm: float) -> Iterator[tuple[str, dict[str, float]]]:
    """What each job in its turn took, with a new worker."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(Workspace(Path(folder)))
        time.sleep(warm)
        columns = {"drop": ELEMENTAL, "labels": ["tumor_architecture"]}
        tables = {"cells": [str(KEREN / "cells.parquet")], "patients": str(KEREN / "patients.csv")}
        found, read = waited(jobs, "read", tables | {"columns": columns})
        yield "reading", found
        yield "preparing, behind the page", waited(jobs, "prepare", {"cohort": read.result})[0]
        for effort in efforts:
            asked = {"cohort": read.result, "settings": TWO | {"effort": effort}}
            yield f"training, {effort} effort", waited(jobs, "analyse", asked)[0]
        jobs.close()


def row(name: str, runs: Sequence[dict[str, float]]) -> str:
    """One row of the table: medians."""
    seconds = [[run[m] for run in runs if m in run] for m in MILESTONES]
    return f"| {name} | {' | '.join(f'{median(each):.1f} s' if each else '-' for each in seconds)} |"


if __name__ == "__main__":
    main()
