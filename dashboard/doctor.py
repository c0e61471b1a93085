"""What `milscope doctor` looks at: versions, computer, memory, workspace, and whether a tiny analysis comes out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dashboard.server import folders, login
from dashboard.workspace import KINDS, Workspace
from milcore import memory
from milcore.errors import MilError
from milcore.folder import faults

if TYPE_CHECKING:
    from milcore.cohort import Cohort

PACKAGES = ("milscope", "numpy", "pandas", "torch", "faiss-cpu", "umap-learn", "streamlit")
LITTLE_MEMORY, LITTLE_DISK = 4, 5  # GB under which a cohort of some hundred thousand cells may not fit


@dataclass(frozen=True)
class Finding:
    """One line: `about` what, in `words`; `state` "bad" means that something must be done."""

    state: Literal["good", "note", "bad"]
    about: str
    words: str


def findings(home: Workspace) -> Iterator[Finding]:
    """Everything, as it is found out; the slow parts, the workspace's contents and the self-test, come last."""
    yield Finding("good", "versions", _versions())
    yield Finding("good", "computer", _computer())
    yield _memory()
    yield _login()
    yield from _workspace(home)
    yield _self_test()


def _versions() -> str:
    known = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return ", ".join([f"Python {platform.python_version()}", *known])


def _computer() -> str:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    unused = " (a GPU is there and not used)" if torch.cuda.is_available() else ""
    return (
        f"{platform.platform(terse=True)}, {platform.machine()}, {cores} cores; models run on the CPU{unused}"
    )


def _memory() -> Finding:
    size = memory.allowed() / (1 << 30)
    few = size < LITTLE_MEMORY
    return Finding(
        "note" if few else "good", "memory", f"{size:.1f} GB" + (", little for large cohorts" if few else "")
    )


def _login() -> Finding:
    try:
        providers = login(folders())
    except MilError as error:
        return Finding("bad", "login", f"{error.problem} {error.where}. {error.fix}")
    words = (
        f"by {', '.join(providers)}" if providers else "none set up; the dashboard serves this computer only"
    )
    return Finding("good", "login", words)


# ---------------------------------------------------------------- the workspace


def _workspace(home: Workspace) -> Iterator[Finding]:
    """Where it is, what it holds, and every byte of it against its manifests."""
    if not home.root.is_dir():
        yield Finding("good", "workspace", f"{home.root} (not there yet; made at the first start)")
        return
    free = shutil.disk_usage(home.root).free / (1 << 30)
    if not os.access(home.root, os.W_OK):
        yield Finding("bad", "workspace", f"{home.root} may not be written to")
    held = sum(path.stat().st_size for path in home.root.rglob("*") if path.is_file()) / (1 << 30)
    words = f"{home.root}, {held:.1f} GB, {free:.0f} GB free"
    yield Finding("note" if free < LITTLE_DISK else "good", "workspace", words)
    every = home.every_user()
    for place, kind in KINDS.items():
        keys = [path.parent for each in every for path in sorted((each.root / place).glob(f"*/{kind}.json"))]
        broken = {key.name: found for key in keys if (found := faults(key, "all"))}
        yield Finding(
            "good", place, f"{len(keys) - len(broken)} of {len(keys)} hold what was written to them"
        )
        yield from (Finding("bad", kind, f"{key}: {found[0]}") for key, found in broken.items())
    for key, facts in (found for each in every for found in each.damaged()):
        yield Finding("note", "set aside", f"{key}: {facts['why']}")


# ---------------------------------------------------------------- the self-test


def _self_test() -> Finding:
    """A tiny cohort whose signal is planted must be found, kept and opened again."""
    import numpy as np

    from milcore.analysis import Analysis
    from milcore.chain import analyse
    from milcore.training import Settings

    settings = Settings(target="outcome", effort="quick", permutations=20)
    try:
        with tempfile.TemporaryDirectory(prefix="milscope-") as place:
            analysis = analyse(_tiny(), settings).save(Path(place) / "analysis")
            wrong = faults(Path(place) / "analysis", "all")
            analysis = Analysis.open(Path(place) / "analysis")
            auroc = analysis.facts["scores"]["auroc"]["value"]
            sums = analysis.cells["contribution"].groupby(analysis.cohort.owner).sum().to_numpy()
            off = np.abs(sums - analysis.predictions["score"].to_numpy()).max()
    except Exception as error:  # whatever it is, the user must hear of it
        return Finding("bad", "self-test", f"failed: {type(error).__name__}: {error}")
    if wrong or not off < 1e-3 or not auroc > 0.8:
        return Finding("bad", "self-test", f"AUROC {auroc:.2f}, sums off by {off:.1g}, {wrong or 'whole'}")
    return Finding(
        "good", "self-test", f"planted cells found: AUROC {auroc:.2f}; contributions sum to the scores"
    )


def _tiny() -> Cohort:
    """16 patients with 60 cells of 4 features; a third of the cells of every other one have the first high."""
    import numpy as np
    import pandas as pd

    from milcore.cohort import Cohort

    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(16), 60)
    features = rng.normal(size=(960, 4)).astype(np.float32)
    features[:, 0] += 4 * (owner % 2) * (rng.random(960) < 0.33)
    names = np.array([f"P{b:02d}" for b in range(16)])
    patients = pd.DataFrame({"patient": names, "outcome": np.tile(["no", "yes"], 8)})
    return Cohort.of(features, names[owner], patients=patients)
