"""How long a person waits for the first results of a warm worker: `python -m tests.bench.first`, on a quiet machine.

Breast cancer cells (Keren, 189,380 of 39 patients, from ../shared) are read by a job of the dashboard; then Train is
pressed, which makes the neighbour graph, and again for each effort, which finds it. Seconds from the press until the
first ranking of the patients can be shown, until the map is laid out, and until the end. Prints a table.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from dashboard.jobs import Job, Jobs
from dashboard.workspace import Workspace
from tests.bench.compare import ELEMENTAL, KEREN

WARM = 60  # seconds that a new worker has for its imports and compiling, before anything is asked
TWO = {"target": "tumor_architecture", "classes": ["mixed", "compartmentalized"]}
MILESTONES = ("first ranking", "map", "end")


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
    asked.add_argument("--warm", type=float, default=WARM, help="seconds before anything is asked")
    given = asked.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before.\n", flush=True)
    print(f"| | {' | '.join(f'{name}, s' for name in MILESTONES)} |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(Workspace(Path(folder)))
        time.sleep(given.warm)
        columns = {"drop": ELEMENTAL, "labels": ["tumor_architecture"]}
        tables = {"cells": [str(KEREN / "cells.parquet")], "patients": str(KEREN / "patients.csv")}
        found, read = waited(jobs, "read", tables | {"columns": columns})
        row("reading", found)
        presses = [(given.efforts[0], "made"), *((effort, "found") for effort in given.efforts)]
        for seed, (effort, made) in enumerate(presses):
            settings = TWO | {"effort": effort, "seed": seed}
            found, _ = waited(jobs, "analyse", {"cohort": read.result, "settings": settings})
            row(f"{effort}, graph {made}", found)
        jobs.close()


def row(name: str, found: dict[str, float]) -> None:
    """Prints one row of the table."""
    print(
        f"| {name} | {' | '.join(f'{found[m]:.1f}' if m in found else '-' for m in MILESTONES)} |", flush=True
    )


if __name__ == "__main__":
    main()
