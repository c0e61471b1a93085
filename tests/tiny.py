"""A cohort small enough to train on in seconds, with a planted cell type and nasty names, and the run over it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboard.workspace import Workspace
from milcore.analysis import Analysis

NASTY = '<img src=x onerror="alert(1)">&P03'  # a patient's name that markup would run
PATIENTS = [NASTY if k == 3 else f"P{k:02d}" for k in range(16)]


@dataclass(frozen=True)
class Tables:
    """Where the two tables of the tiny cohort are."""

    cells: Path
    patients: Path


def milscope(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """The command line as a user runs it, in a process of its own."""
    command = [sys.executable, "-m", "dashboard.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def cells() -> pd.DataFrame:
    """16 patients, two regions each, 80 cells; type 'driver' (high m0) fills 30 % of odd patients, 2 % of even ones.

    Rows are shuffled, so that input order differs from the order of patients.
    """
    rng = np.random.default_rng(7)
    parts = []
    for k, name in enumerate(PATIENTS):
        kind = np.where(rng.random(80) < (0.3 if k % 2 else 0.02), "driver", "other <i>")
        values = rng.normal(size=(80, 5)) + 4 * (kind == "driver")[:, None] * [1, 0, 0, 0, 0]
        part = pd.DataFrame(values, columns=[f"m{j}" for j in range(5)])
        part["X_um"], part["Y_um"] = rng.uniform(0, 300, (2, 80))
        part["region"] = [f"R{j // 40}" for j in range(80)]
        parts.append(part.assign(patient=name, cell_type=kind))
    table = pd.concat(parts).sample(frac=1, random_state=1, ignore_index=True)
    return table.assign(cell_id=np.arange(len(table)))


def patients() -> pd.DataFrame:
    """Label `outcome` (yes for odd patients; the last has none), and a constant one."""
    outcome = [("yes" if k % 2 else "no") for k in range(15)] + [None]
    return pd.DataFrame({"patient": PATIENTS, "outcome": outcome, "same": "one"})


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The tables of the tiny cohort as files."""
    folder = tmp_path_factory.mktemp("tiny")
    tables = Tables(folder / "cells.csv", folder / "patients.csv")
    cells().to_csv(tables.cells, index=False)
    patients().to_csv(tables.patients, index=False)
    return tables


@pytest.fixture(scope="session")
def tiny_run(tiny: Tables, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder as `milscope run` made it of the tiny cohort, and what it printed on stdout and stderr."""
    own, base = tmp_path_factory.mktemp("run"), tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "tiny-run.lock").open("w") as lock:  # trained once, whichever process needs it first
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (said := shared / "tiny-run.json").exists():
            done = milscope(
                *("run", tiny.cells, "--patients", tiny.patients, "--target", "outcome", "--effort", "quick"),
                *("--permutations", "50", "--out", shared / "tiny-run" / "analysis"),
            )
            assert done.returncode == 0, done.stderr
            said.write_text(json.dumps([done.stdout, done.stderr]))
    shutil.copytree(shared / "tiny-run", own, dirs_exist_ok=True)
    out, err = json.loads(said.read_text())
    return own / "analysis", out, err


@pytest.fixture(scope="session")
def analysis(tiny_run: tuple[Path, str, str]) -> Analysis:
    """The analysis of the tiny cohort, opened from its folder."""
    return Analysis.open(tiny_run[0])


@pytest.fixture(scope="session")
def tiny_home(tiny_run: tuple[Path, str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that holds the tiny cohort and its analysis."""
    home = Workspace(tmp_path_factory.mktemp("home") / "workspace")
    cohort = Analysis.open(tiny_run[0]).cohort
    cohort.save(home.cohort(cohort.fingerprint[:16]))
    shutil.copytree(tiny_run[0], home.analysis("20260101-120000-abcdef"))
    return home.root
