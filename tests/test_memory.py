"""Memory is asked for before work begins: of the computer, and of a container that allows less."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from milcore import chain, memory
from milcore.analysis import Analysis, needs
from milcore.errors import MilError
from milcore.projection import Layout
from milcore.readers import read_cohort
from milcore.training import Settings
from tests.bench.memory import anonymous
from tests.planted import planted
from tests.tiny import cells

GB = 1 << 30


def container(folder: Path, limit: str, used: int, caches: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - caches}\ninactive_file {caches}\n")
    return folder


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer with 3 GB to spare, in a container that allows 2 GB, of which 1.5 are used, 1 of them for files."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {8 * GB // 1024} kB\nMemAvailable: {3 * GB // 1024} kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", container(tmp_path, str(2 * GB), 3 * GB // 2, GB))
    return tmp_path


def test_the_container_counts_and_its_caches_do_not(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.allowed() == 2 * GB
    assert memory.free() == 3 * GB // 2
    container(computer, "max", 0, 0)
    assert memory.free() == 3 * GB
    monkeypatch.setenv(memory.TOLD, "1.5")
    assert memory.free() == 3 * GB // 2
    monkeypatch.setenv(memory.TOLD, "much")
    assert memory.free() == 3 * GB
    (computer / "meminfo").unlink()
    assert memory.free() == memory.allowed() > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory")
def test_what_was_freed_between_what_is_in_use_is_given_back() -> None:
    begin = anonymous()
    held = [np.ones(10_000) for _ in range(1_000)]  # 80 MB
    assert anonymous() > begin + 70
    held = held[::50]
    memory.give_back()
    assert anonymous() < begin + 20
    assert len(held) == 20


def test_what_would_fit_is_said(computer: Path) -> None:
    memory.spare(GB, "Training")
    with pytest.raises(MilError) as caught:
        memory.spare(6 * GB, "Training on these cells", cells=1_000_000)
    assert (
        caught.value.problem == "Training on these cells takes about 6.0 GB of memory, and 1.5 GB are free."
    )
    assert "Keep about 200,000 of the 1,000,000 cells" in caught.value.fix


def test_reading_training_and_a_full_map_ask_first(
    computer: Path, monkeypatch: pytest.MonkeyPatch, analysis: Analysis
) -> None:
    container(computer, str(GB), GB - 1000, 0)
    cells().to_feather(computer / "cells.feather")
    with pytest.raises(MilError, match="Reading these tables takes about"):
        read_cohort([computer / "cells.feather"])
    with pytest.raises(MilError, match="Training on these cells takes about"):
        chain.analyse(planted(0, patients=8, cells=20).cohort, Settings(target="label"))
    with pytest.raises(MilError, match="A map with every cell fitted takes about"):
        chain.lay_out(analysis.cohort, analysis.settings, Layout(full=True))


def test_more_features_need_more_and_what_repeats_add_lies_on_disk(analysis: Analysis) -> None:
    plain = needs(analysis.cohort, Settings(target="x", effort="quick"))
    assert plain < needs(analysis.cohort, Settings(target="x", effort="quick", context=5))
    assert plain == needs(analysis.cohort, Settings(target="x", effort="thorough"))
