"""Accuracy on real cohorts and on the sample, default settings, seed 0: `make accuracy` rewrites tests/accuracy/.

    python -m tests.accuracy [NAME ...]

Each row runs the command line as a user would, in a process of its own, and reads the files it writes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from sklearn.metrics import average_precision_score

import sample_data

DATA = Path(__file__).parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "accuracy"
ELEMENTAL = "Au,Background,Ca,Fe,Na,P,Si,Ta,Celltype_code"
SAMPLE = [str(path) for path in sample_data.files()]


def cohort(folder: str) -> list[str]:
    return [str(DATA / folder / "cells.parquet"), str(DATA / folder / "patients.csv")]


ROWS: dict[str, tuple[list[str], list[str]]] = {
    "AML, FlowCAP-II": (cohort("flowcap_aml_cytodx"), ["--target", "Label", "--positive", "aml"]),
    "Breast cancer MIBI (Keren), architecture": (
        cohort("keren_tnbc_mibi"),
        ["--target", "tumor_architecture", "--classes", "mixed,compartmentalized", "--drop", ELEMENTAL],
    ),
    "Colorectal CODEX (Schürch), cell types only": (cohort("schurch_crc_codex"), ["--target", "group"]),
    "sample, response": (SAMPLE, ["--target", "response"]),
    "sample, coin": (SAMPLE, ["--target", "coin"]),
}


def measured(name: str) -> dict:
    """What one run reached and cost."""
    (cells, patients), options = ROWS[name]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        command = ["-m", "dashboard.cli", "run", cells, "--patients", patients, *options, "--out", str(out)]
        before, begun = cpu_seconds(), time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        row = {"name": name, "cpu_s": cpu_seconds() - before, "wall_s": time.perf_counter() - begun}
        facts = json.loads((out / "analysis.json").read_text())
        if (cells, patients) == tuple(SAMPLE):
            row["cells_average_precision"] = found_cells(out)
    row["patients"] = {label: n for label, n in facts["counts"].items() if n}
    row["auroc"] = facts["scores"]["auroc"]
    row["members"] = {m: v | {"scores": v["scores"]["auroc"]} for m, v in facts["pooling"]["members"].items()}
    row["baselines"] = {b: v["auroc"] for b, v in facts["baselines"].items()}
    return row | {"p": facts["null"]["p"], "verdict": facts["verdict"]["kind"], "versions": facts["versions"]}


def found_cells(out: Path) -> float:
    """Average precision of importance for the sample's planted cells; both files are in input order."""
    truth = pd.read_parquet(sample_data.TRUTH)["driver"]
    return float(average_precision_score(truth, pd.read_parquet(out / "cells.parquet")["importance"]))


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "# Accuracy, out of fold",
        "",
        "Default settings, seed 0. AUROC over pairs of patients of one fold, mean over repeats, with a 95 % interval",
        "for what the procedure reaches on cohorts of this size. `make accuracy` makes this page anew.",
        "",
        "| cohort | patients | AUROC | p | verdict | members: AUROC (weight) | best plain baseline | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        members = ", ".join(
            f"{m} {v['scores']['value']:.2f} ({v['weight']:.2f})" for m, v in row["members"].items()
        )
        best = max(row["baselines"], key=lambda b: row["baselines"][b]["value"])
        patients = ", ".join(f"{label} {n}" for label, n in row["patients"].items())
        a, b = row["auroc"], row["baselines"][best]["value"]
        lines.append(
            f"| {row['name']} | {patients} | **{a['value']:.2f}** ({a['low']:.2f} to {a['high']:.2f}) | {row['p']:.2g} "
            f"| {row['verdict']} | {members} | {best} {b:.2f} | {row['cpu_s']:.0f} |"
        )
    for row in rows:
        if row["name"] == "sample, response":
            found = row["cells_average_precision"]
            lines += ["", f"Planted cells of the sample found by importance: average precision {found:.2f}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    names = sys.argv[1:] or list(ROWS)
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / "results.json"
    rows = {row["name"]: row for row in json.loads(kept.read_text())} if kept.exists() else {}
    for name in names:
        rows[name] = measured(name)
        print(name, json.dumps(rows[name]["auroc"]), flush=True)
    ordered = [rows[name] for name in ROWS if name in rows]
    kept.write_text(json.dumps(ordered, indent=1) + "\n")
    (RESULTS / "README.md").write_text(table(ordered))


if __name__ == "__main__":
    main()
