"""The workspace: one server at a time, nothing half-written, damage named and set aside, a full disk said."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboard.workspace import Workspace
from milcore.analysis import Analysis, space
from milcore.cohort import Cohort
from milcore.errors import Damaged, MilError
from milcore.folder import MANIFEST, aside, faults, leftovers, room, seal, whole
from milcore.training import Settings


@contextlib.contextmanager
def disk(place: Path, options: str) -> Iterator[Path]:
    """A small disk of its own; skips without the right to mount."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def cohort() -> Cohort:
    features = np.random.default_rng(0).normal(size=(6000, 200))
    return Cohort.of(features, np.repeat(["a", "b", "c"], 2000))


# ---------------------------------------------------------------- folders


def written(folder: Path) -> Path:
    with aside(folder) as part:
        (part / "inside").mkdir()
        (part / "a.txt").write_text("abc")
        (part / "inside" / "b.txt").write_text("def")
        np.save(part / "large.npy", np.zeros((1 << 20) + 1, np.float32))
    return folder


def flip(file: Path) -> None:
    """Changes one bit in the middle, the size kept."""
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        byte = opened.read(1)[0]
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte ^ 1]))


def test_a_folder_knows_what_was_written(tmp_path: Path) -> None:
    folder = written(tmp_path / "f")
    assert faults(folder, "all") == []
    (folder / "added.txt").write_text("later")
    assert faults(folder, "all") == []
    flip(folder / "large.npy")
    assert faults(folder, "sizes") == faults(folder) == []  # memory-mapped: never read whole when opened
    assert faults(folder, "all") == ["'large.npy' does not hold what was written"]
    flip(folder / "inside" / "b.txt")
    assert faults(folder, "sizes") == []
    assert faults(folder) == ["'inside/b.txt' does not hold what was written"]
    (folder / "a.txt").write_text("abcd")
    assert faults(folder, "sizes") == ["'a.txt' has 4 bytes where 3 were written"]
    (folder / "a.txt").unlink()
    assert faults(folder, "sizes") == ["'a.txt' is missing"]


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 1, "files": {"a": 3}}', "\udcff"])
def test_a_manifest_is_not_trusted(tmp_path: Path, text: str) -> None:
    written(tmp_path / "f").joinpath(MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert faults(tmp_path / "f") == [f"'{MANIFEST}' cannot be read"]


def test_what_comes_after_the_seal_may_change(tmp_path: Path) -> None:
    with aside(tmp_path / "f") as part:
        (part / "a.txt").write_text("abc")
        seal(part)
        (part / "report.html").write_text("one")
    (tmp_path / "f" / "report.html").write_text("another")
    assert faults(tmp_path / "f", "all") == []


def test_leftovers_are_known_by_their_process(tmp_path: Path) -> None:
    for name in (".a-12-abcdefgh", ".a-13-abcdefgh", ".hidden", "kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "kept" / ".graph.npz-12-0a1b2c3d").touch()
    assert {path.name for path in leftovers(tmp_path, 12)} == {".a-12-abcdefgh", ".graph.npz-12-0a1b2c3d"}
    assert len(leftovers(tmp_path)) == 3
    with pytest.raises(FileNotFoundError), aside(tmp_path / "new") as part:  # noqa: PT012
        assert leftovers(tmp_path, os.getpid()) == [part]
        (part / "missing").unlink()
    assert leftovers(tmp_path, os.getpid()) == []


def test_one_bit_of_an_analysis_is_noticed(tiny_run: tuple[Path, str, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run[0], tmp_path / "analysis"))
    assert faults(folder, "all") == []
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    made = Analysis.open(folder)
    assert space(made.cohort, made.settings) < size  # tiny: most of it does not grow with the cells
    flip(folder / "predictions.csv")
    with pytest.raises(Damaged, match=r"predictions\.csv"):
        Analysis.open(folder)


def saved(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array, allow_pickle=True)


def told(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        facts = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
        change(facts)
        (folder / "analysis.json").write_text(json.dumps(facts), encoding="utf-8")

    return attack


def endless(folder: Path) -> None:
    file = folder / "members" / "w_attention.npy"
    words = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000)}\n"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(words).to_bytes(2, "little") + words)


def talkative(folder: Path) -> None:
    file = folder / "members" / "w_attention.npy"
    file.write_bytes(b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + b"{" * 100)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code of a folder was run",))


ATTACKS: dict[str, Callable[[Path], None]] = {
    "a path for a member": told(lambda facts: facts["pooling"]["members"].update({"../../secret": {}})),
    "a path for the cohort": told(lambda facts: facts["cohort"].update(path="../../../secret")),
    "members that are no table": told(lambda facts: facts["pooling"].update(members=5)),
    "an unknown setting": told(lambda facts: facts["settings"].update(run="rm")),
    "text for numbers": saved("members/a.npy", np.array([["a"]])),
    "evidence of another shape": saved("members/v_attention.npy", np.zeros((1, 2, 3))),
    "code for numbers": saved("members/w_attention.npy", np.array([Code()], object)),
    "a mixture that does not fit": saved("members/b.npy", np.zeros((9, 9, 9))),
    "more cells than can be": endless,
    "a header without end": talkative,
    "too few rows": lambda folder: pd.DataFrame({"patient": ["a"]}).to_parquet(folder / "cells.parquet"),
    "no table": lambda folder: (folder / "cells.parquet").write_bytes(b"PAR1" * 9),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_hostile_analysis_is_refused_in_words(
    attack: Callable[[Path], None], tiny_run: tuple[Path, str, str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run[0], tmp_path / "analysis"))
    (folder / MANIFEST).unlink()
    seal(folder)  # as a forger would
    Analysis.open(folder)
    attack(folder)
    (folder / MANIFEST).unlink()
    seal(folder)
    with pytest.raises(MilError):
        Analysis.open(folder)


# ---------------------------------------------------------------- the disk


def test_room(tmp_path: Path) -> None:
    room(tmp_path / "not" / "there", 1000)
    with pytest.raises(MilError, match=r"About 1048576\.0 GB will be written"):
        room(tmp_path / "not" / "there", 1 << 50)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with disk(tmp_path / "small", "size=2m") as small:
        with pytest.raises(MilError, match="The disk is full"):
            cohort().save(small / "cohort")
        with pytest.raises(MilError, match="The disk is full"), whole(small / "file") as part:
            part.write_bytes(b"x" * (3 << 20))
        assert list(small.iterdir()) == []


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    with disk(tmp_path / "still", "ro") as still:
        with pytest.raises(MilError, match="Nothing can be written to the workspace"):
            Workspace(still / "home").claim()
        with pytest.raises(MilError, match="Nothing can be written to"):
            cohort().save(still / "cohort")
    (tmp_path / "file").touch()
    with pytest.raises(MilError, match="Nothing can be written to the workspace"):
        Workspace(tmp_path / "file").claim()


# ---------------------------------------------------------------- one server, at rest


def test_one_server_at_a_time(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    with home.claim(), pytest.raises(MilError, match=f"process {os.getpid()} on "):
        home.claim()
    home.claim().close()


def test_a_start_sweeps_and_sets_aside(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    for key in ("good", "torn", "garbled", "older"):
        with aside(home.analysis(key)) as part:
            (part / "analysis.json").write_text("{}")
    (home.analysis("torn") / "analysis.json").write_text("{ }")
    (home.analysis("garbled") / "analysis.json").write_text("!!")
    (home.analysis("older") / MANIFEST).unlink()
    home.analysis(".new-1-abcdefgh").mkdir()
    (tmp_path / "uploads" / "0a").mkdir(parents=True)
    (tmp_path / "uploads" / "0a" / ".cells.csv-1-0a1b2c3d").touch()
    home.claim().close()
    assert {path.name for path in (tmp_path / "analyses").iterdir()} == {"good", "older"}
    assert list((tmp_path / "uploads" / "0a").iterdir()) == []
    said = {key: facts["why"] for key, facts in home.damaged()}
    assert said == {
        "torn": "'analysis.json' has 3 bytes where 2 were written",
        "garbled": "'analysis.json' cannot be read",
    }
    home.discard("torn")
    assert [key for key, _ in home.damaged()] == ["garbled"]
    assert json.loads((tmp_path / "damaged" / "garbled.json").read_text())["kind"] == "analysis"
    assert not (tmp_path / "damaged" / "torn").exists()


def test_space_is_estimated_a_little_too_high(tmp_path: Path) -> None:
    made = Cohort.of(np.zeros((1000, 2)), np.repeat(["a", "b"], 500))
    quick, thorough = (space(made, Settings(target="x", effort=effort)) for effort in ("quick", "thorough"))
    assert 100_000 < quick < thorough < 1_000_000
