"""How long reading takes, from text to a cohort folder, beside polars and pandas: `python -m tests.bench.read`.

Each measurement is a process of its own, which has imported everything and has the file in the system's cache; the
kinds take turns, so that a busy machine is as busy for all. Time is wall clock and processor time; memory is the peak
of the process above what it held before: all of it, and what is not merely a file in view (anonymous).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import polars as pl

from milcore.readers import read_cohort

HERE = Path(__file__)
PATIENTS, REGIONS, MARKERS = 50, 4, 35
WHO = {"milscope": "Milscope, to a folder", "polars": "polars, float32", "pandas": "pandas"}
Measure = dict[str, float]


def table(begin: int, cells: int, total: int, rng: np.random.Generator) -> pl.DataFrame:
    """Some cells of a cohort of `total`, 40 columns wide: owners, id, place and markers."""
    owner = np.arange(begin, begin + cells) * PATIENTS // total
    place = np.arange(begin, begin + cells) * PATIENTS * REGIONS // total
    columns = {"patient": pl.Series([f"P{i:02d}" for i in owner]), "region": [f"R{i:03d}" for i in place]}
    columns |= {"cell_id": np.arange(begin, begin + cells)}
    columns |= {axis: rng.uniform(0, 2000, cells).astype(np.float32) for axis in "xy"}
    columns |= {f"marker {j + 1}": rng.gamma(2, 3, cells).astype(np.float32) for j in range(MARKERS)}
    return pl.DataFrame(columns)


def by_polars(path: Path, out: Path) -> None:
    kinds = {n: pl.Float32 for n, kind in pl.scan_csv(path).collect_schema().items() if kind.is_float()}
    pl.read_csv(path, schema_overrides=kinds)


def by_pandas(path: Path, out: Path) -> None:
    pd.read_csv(path)


def by_milscope(path: Path, out: Path) -> None:
    read_cohort([path]).save(out)


KINDS: dict[str, Callable[[Path, Path], None]] = {
    "milscope": by_milscope,
    "polars": by_polars,
    "pandas": by_pandas,
}


def held() -> tuple[int, int]:
    """Bytes this process holds: all, and anonymous ones."""
    said = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(said["VmRSS"].split()[0]) << 10, int(said["RssAnon"].split()[0]) << 10


def child(kind: str, path: Path) -> None:
    """Measures one reading and prints it as JSON."""
    before, peaks, over = held(), [0, 0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peaks[:] = map(max, peaks, held())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        KINDS[kind](path, Path(folder) / "cohort")
        found = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        over.set()
        watcher.join()
    found |= {"peak": peaks[0] - before[0], "anonymous": peaks[1] - before[1]}
    print(json.dumps(found))


def measured(kind: str, path: Path) -> Measure:
    command = [sys.executable, "-m", "tests.bench.read", "--child", kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parents[2])
    return dict(json.loads(done.stdout))


def middle(runs: list[Measure]) -> Measure:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def rows(found: dict[str, list[Measure]], words: dict[str, str]) -> list[str]:
    """Rows of Markdown: medians, and times as a share of polars' where it ran."""
    out = []
    for kind, runs in found.items():
        one, base = middle(runs), middle(found.get("polars", runs))
        ratio = "" if "polars" not in found else f"{one['seconds'] / base['seconds']:.2f}"
        shares = f"{ratio} | {one['cpu'] / base['cpu']:.2f}" if ratio else " | "
        memory = f"{one['peak'] / 1e6:,.0f} MB | {one['anonymous'] / 1e6:,.0f} MB"
        out.append(f"| {words[kind]} | {one['seconds']:.1f} s | {one['cpu']:.1f} s | {shares} | {memory} |")
    return out


def csv(folder: Path, times: int) -> dict[str, list[Measure]]:
    """One million cells as CSV, read by all in turn."""
    path, rng = folder / "cells.csv", np.random.default_rng(0)
    table(0, 1_000_000, 1_000_000, rng).write_csv(path)
    print(f"{path.stat().st_size / 1e6:,.0f} MB of CSV", file=sys.stderr)
    return in_turn(dict.fromkeys(KINDS, path), times)


def parquet(folder: Path, times: int) -> dict[str, list[Measure]]:
    """Ten million cells as a folder of ten Parquet files."""
    parts, rng = folder / "parts", np.random.default_rng(0)
    parts.mkdir()
    for k in range(10):
        table(k * 1_000_000, 1_000_000, 10_000_000, rng).write_parquet(parts / f"part-{k}.parquet")
    return in_turn({"milscope": parts}, times)


def in_turn(paths: dict[str, Path], times: int) -> dict[str, list[Measure]]:
    found: dict[str, list[Measure]] = {kind: [] for kind in paths}
    for _ in range(times):
        for kind, path in paths.items():
            found[kind].append(measured(kind, path))
            print(kind, found[kind][-1], file=sys.stderr, flush=True)
    return found


HEAD = "| | wall | processor | wall / polars' | processor / polars' | peak memory added | of it anonymous |"


def main() -> None:
    """Measures, and writes read.json and read.md beside this file; what is not measured anew stays."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--times", type=int, default=3)
    asked.add_argument(
        "--parquet", action="store_true", help="ten million cells as Parquet instead (5 GB of disk)"
    )
    asked.add_argument("--child", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]))
        return
    kept = HERE.with_suffix(".json")
    results = json.loads(kept.read_text()) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        name, measure = ("parquet", parquet) if given.parquet else ("csv", csv)
        results[name] = measure(Path(folder), given.times)
    kept.write_text(json.dumps(results, indent=1) + "\n")
    write(results, HERE.with_suffix(".md"))


def write(results: dict[str, dict[str, list[Measure]]], path: Path) -> None:
    """The results as a page of Markdown."""
    lines = ["# Reading", "", *__doc__.splitlines()[2:], ""]
    titles = {"csv": "One million cells, 40 columns, as CSV", "parquet": "Ten million, as ten Parquet files"}
    for name, title in titles.items():
        if name in results:
            times = len(next(iter(results[name].values())))
            lines += [
                f"**{title}** ({'one run' if times == 1 else f'medians of {times}'})",
                "",
                HEAD,
                "|---" * 7 + "|",
            ]
            lines += [*rows(results[name], WHO), ""]
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
