"""What each step costs as cells, patients, features and repeats grow: `make scaling`.

Every run is a whole analysis of a made-up cohort, in a process of its own with one thread, that notes processor seconds
and memory of its own by step (see memory). From these the page says what 500 slides of a million cells would cost, and
which step bounds: an extrapolation far beyond what was run, whose formula stands beside it. Rewrites scaling.md and
scaling.json; runs not asked for stay as they were.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from milcore import training
from tests.bench.compare import THREADS, made_up
from tests.bench.memory import Watch, anonymous

HERE = Path(__file__).parent
BASE = {"cells": 50_000, "patients": 50, "features": 40, "repeats": 1}
SWEEPS = {
    "cells": (50_000, 200_000, 1_000_000),
    "patients": (20, 100, 500),
    "features": (20, 40, 200),
    "repeats": (1, 5, 20),
}
WANTED = {"cells": 500_000_000, "patients": 500, "features": 40, "repeats": 4}
CLUSTER = ("models of neighbourhood", "training", "scoring")  # what workers do
PARTS = {  # steps that an analysis tells as one, by the share at which each begins
    "neighbourhood": ((1, "evidence of neighbourhood"), (0.5, "models of neighbourhood"), (0, "diffusion")),
    "attention": ((training.TRAINING, "scoring"), (0.0, "training")),
}
POWERS = {  # of cells, patients and repeats in a step's arithmetic
    "neighbours": (1.5, 0, 0),  # each cell looks through a few of lists as long as the root of cells
    "diffusion": (1, 1, 0),
    "models of neighbourhood": (0, 3, 1),
    "evidence of neighbourhood": (1, 1, 1),
    "umap": (1, 0, 0),
    "training": (0, 1, 1),
    "scoring": (1, 0, 1),
    "evidence": (1, 0, 1),
    "phenotypes": (1, 0, 0),
    "validation": (1, 1, 0),
    "drivers": (1, 0, 0),
}
LEAST = 0.2  # seconds below which a step's growth is not told from noise
MODELS, DRAWN, EPOCHS = 15, 4 * 128, 60  # of a repeat; cells of a model's step; of the shortest training
PAGE = 4096  # bytes that a file system reads for one row drawn

Run = dict[str, Any]


def one(size: dict[str, int]) -> dict[str, list[float]]:
    """{step: [processor seconds, MB at the highest above the start]} of an analysis in this process."""
    from milcore.chain import analyse
    from milcore.progress import Event, Progress
    from milcore.training import Settings

    cohort = made_up(size["cells"], size["patients"], size["features"])
    settings = Settings(target="response", effort="quick", repeats=size["repeats"])
    watch, held = Watch(), anonymous()

    def tell(event: Event) -> None:
        parts = PARTS.get(event.stage, ())
        watch.enter(next((name for begins, name in parts if event.share >= begins), event.stage))

    with watch.watching():
        analyse(cohort, settings, Progress(tell))
    steps = [name for name in watch.cpu if name not in ("start", "end")]
    return {name: [watch.cpu[name], max(0.0, watch.peaks.get(name, held) - held)] for name in steps}


def measured(size: dict[str, int]) -> Run:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.scaling", "--one", json.dumps(size)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | dict.fromkeys(THREADS, "1"), check=True
    )
    about = {"size": size, "load": os.getloadavg()[0], "code": _commit()}
    return about | {"steps": json.loads(done.stdout.splitlines()[-1])}


def _commit() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()


# ---------------------------------------------------------------- what follows from it


def swept(runs: list[Run], what: str) -> list[Run]:
    """The runs in which only one size differs from the base, by that size."""
    return sorted(
        (run for run in runs if all(run["size"][k] == v for k, v in BASE.items() if k != what)),
        key=lambda run: run["size"][what],
    )


def growth(runs: list[Run], what: str, step: str) -> float | None:
    """The power with which seconds of a step grew between the two largest runs of a sweep; None where that cannot be
    told."""
    few, many = swept(runs, what)[-2:]
    less, more = (run["steps"].get(step, [0.0])[0] for run in (few, many))
    if less < LEAST or more < LEAST:
        return None
    return math.log(more / less) / math.log(many["size"][what] / few["size"][what])


def seconds(runs: list[Run], step: str) -> float:
    """Of a step at the size wanted: those of the run with most cells, times (wanted / there) ** power."""
    largest = swept(runs, "cells")[-1]
    value = largest["steps"].get(step, [0.0])[0]
    for what, power in zip(("cells", "patients", "repeats"), POWERS[step], strict=True):
        value *= (WANTED[what] / largest["size"][what]) ** power
    return value


def megabytes(runs: list[Run], step: str) -> float:
    """Of a step at the size wanted: cells * (a + b * patients), a and b from the two largest runs of either sweep."""

    def slope(what: str) -> float:
        few, many = swept(runs, what)[-2:]
        less, more = (run["steps"].get(step, [0.0, 0.0])[1] for run in (few, many))
        return max(0.0, more - less) / (many["size"][what] - few["size"][what])

    both = slope("patients") / BASE["cells"]
    each = max(0.0, slope("cells") - both * BASE["patients"])
    return WANTED["cells"] * (each + both * WANTED["patients"])


def moved() -> dict[str, float]:
    """GB that a cluster moves at the size wanted, by what it is; counted, not measured."""
    N, B, F, R = (WANTED[name] for name in ("cells", "patients", "features", "repeats"))
    rows = math.ceil(0.8 * B / 4) * EPOCHS * MODELS * DRAWN * R
    parameters = MODELS * (F * 34 + 1105)  # of a repeat
    bytes_of = {
        "features, left once for the workers": 4 * N * F,
        "features, read once by each scoring of a repeat": 4 * N * F * R,
        "rows drawn in training, as they are": 4 * F * rows,
        "rows drawn in training, a page of the disk each": PAGE * rows,
        "attention and evidence of each cell, written and read": 2 * 8 * N * R,
        "through the scheduler: parameters, with each million cells": 4 * parameters * R * N / 1e6,
    }
    return {name: value / 1e9 for name, value in bytes_of.items()}


def reading() -> float:
    """Hours of one processor to read so many cells from Parquet, each costing what it does in read.json."""
    runs = json.loads((HERE / "read.json").read_text())["parquet"]["milscope"]
    return median(run["cpu"] for run in runs) / 1e7 * WANTED["cells"] / 3600


# ---------------------------------------------------------------- the page


def page(kept: dict[str, Any]) -> str:
    """Tables of the runs, then the extrapolation."""
    runs = kept["runs"]
    steps = list(dict.fromkeys(step for run in runs for step in run["steps"]))
    base = ", ".join(f"{name} {value:,}" for name, value in BASE.items())
    codes = ", ".join(dict.fromkeys(run["code"] for run in runs))
    lines = f"""# How the cost grows

{kept["machine"]}; Milscope as of {codes}.

Whole analyses of made-up cohorts, quick effort, one thread and one process each: processor seconds by step, one run
each. Unless said: {base}. Load is that of the machine: other work makes
seconds too many. The first map of a process (umap) waits ten seconds for numba's compiler; quick effort trains for one
length. `make scaling` measures anew.
"""
    for what in SWEEPS:
        rows = swept(runs, what)
        sizes = " | ".join(f"{run['size'][what]:,}" for run in rows)
        lines += f"\n## {what.capitalize()}\n\n| processor s | {sizes} |\n|---{'|---' * len(rows)}|\n"
        for step in steps:
            cost = " | ".join(f"{run['steps'].get(step, [0])[0]:.1f}" for run in rows)
            lines += f"| {step} | {cost} |\n"
        lines += f"| all | {' | '.join(f'{total(run):.1f}' for run in rows)} |\n"
        if what == "cells":
            each = " | ".join(f"{total(run) * 1e6 / run['size'][what]:.0f}" for run in rows)
            lines += f"| all, for a million cells | {each} |\n"
        lines += f"| MB of its own, at most | {' | '.join(f'{highest(run):,.0f}' for run in rows)} |\n"
        lines += f"| load | {' | '.join(format(run['load'], '.1f') for run in rows)} |\n"
    return lines + _far(runs, steps)


def _far(runs: list[Run], steps: list[str]) -> str:
    wanted = ", ".join(f"{value:,} {name}" for name, value in WANTED.items())
    last = swept(runs, "cells")[-1]
    largest = last["size"]["cells"]
    hours = {step: seconds(runs, step) / 3600 for step in steps}
    held = {step: megabytes(runs, step) / 1024 for step in steps}
    lines = f"""
## 500 slides of a million cells: an extrapolation

To {wanted}, from {largest:,} cells that were run. Time is
that of the largest run times (wanted / there) ^ power for cells, patients and repeats: the power of the step's
arithmetic, and beside it the one found between the two largest runs. Where more was found (caches overflow, other work
interferes), the hours are too few. GB is what the computer that asks holds meanwhile, cells x (a + b x patients), with
a and b from the same runs. Nothing of this was tried: it holds only as long as nothing new becomes scarce.

| step | s for 1M cells | power of cells, found | of patients, found | hours of one processor | GB | by |
|---|---|---|---|---|---|---|
"""
    for step in steps:
        each = last["steps"].get(step, [0.0])[0] * 1e6 / largest
        found = [growth(runs, what, step) for what in ("cells", "patients")]
        told = ["-" if power is None else f"{power:.2f}" for power in found]
        powers = " | ".join(f"{p:g}, {f}" for p, f in zip(POWERS[step][:2], told, strict=True))
        who = "workers" if step in CLUSTER else "this computer"
        lines += f"| {step} | {each:.1f} | {powers} | {hours[step]:,.1f} | {held[step]:,.0f} | {who} |\n"
    lines += "\n| moved on a cluster, counted | GB |\n|---|---|\n"
    lines += "".join(f"| {name} | {value:,.1f} |\n" for name, value in moved().items())
    slow, wide = max(hours, key=lambda step: hours[step]), max(held, key=lambda step: held[step])
    spread = sum(hours[step] for step in steps if step in CLUSTER)
    return f"""{lines}
**What bounds**: time in {slow} ({hours[slow]:,.0f} hours of one processor), memory in {wide} ({held[wide]:,.0f} GB).
Workers share {spread:,.1f} hours; {sum(hours.values()) - spread:,.0f} stay with the computer that asks.
Reading, by the ten million cells of [read.md](read.md), takes it {reading():.1f} hours, and is not spread for that.
"""


def total(run: Run) -> float:
    return sum(cost[0] for cost in run["steps"].values())


def highest(run: Run) -> float:
    return max(cost[1] for cost in run["steps"].values())


def main() -> None:
    """Measures the sweeps asked for and writes the page."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("sweeps", nargs="*", choices=[*SWEEPS, []], help="all, if none is named")
    asked.add_argument("--most", type=int, default=10**9, help="cells; larger runs stay as they were")
    asked.add_argument("--one", help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.one:
        print(json.dumps(one(json.loads(given.one))))
        return
    file = HERE / "scaling.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"runs": []}
    kept["machine"] = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    sizes = [BASE | {what: value} for what in given.sweeps or SWEEPS for value in SWEEPS[what]]
    for size in [
        size for i, size in enumerate(sizes) if size not in sizes[:i] and size["cells"] <= given.most
    ]:
        run = measured(size)
        print(size, f"{total(run):.1f} s", flush=True)
        kept["runs"] = [one for one in kept["runs"] if one["size"] != size] + [run]
        file.write_text(json.dumps(kept, indent=1) + "\n")
        file.with_suffix(".md").write_text(page(kept))


if __name__ == "__main__":
    main()
