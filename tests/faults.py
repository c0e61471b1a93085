"""Kills workers and servers in the middle of real work and fills the disk; writes what came of it to faults.md.

`make faults`: 20 workers and 10 servers, killed (-9) at seeded random moments of reading, training and saving. After
each kill everything the workspace lists must open and hold what was written, what was finished before must still be
there, and the next job must run. A server here is a process that holds the workspace and its queue as `serve` does,
without pages.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dashboard.jobs import Job, Jobs
from dashboard.workspace import PLACES, Workspace, read_json
from milcore.analysis import Analysis
from milcore.cohort import Cohort
from milcore.folder import faults, leftovers

SEED = 9
WORKERS = ["reading"] * 6 + ["saving a cohort"] * 4 + ["training"] * 6 + ["saving an analysis"] * 4
SERVERS = ["reading"] * 3 + ["saving a cohort"] * 2 + ["training"] * 3 + ["saving an analysis"] * 2
TRIES = 10  # for a kill that came when the work was already over; each comes sooner
SECONDS = 180.0  # within which every single wait must end
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Kill:
    """What one kill met: the job's stage, and how many half-written folders and files it left."""

    who: str
    aim: str
    stage: str
    torn: int


@dataclass
class Ground:
    """A workspace under fire, the tables read into it, and how long its work takes undisturbed."""

    home: Workspace
    tables: Path
    draw: random.Random
    cells: int
    cohort: str = ""
    finished: set[str] = field(default_factory=set)
    lasts: dict[str, float] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)

    def reading(self) -> tuple[str, dict[str, Any]]:
        """A request to read a cohort that was not read before."""
        number = self.draw.randrange(1 << 30)
        rng, owner = np.random.default_rng(number), np.repeat(np.arange(16), self.cells // 16)
        values = rng.normal(size=(len(owner), 20)).astype(np.float32)
        values[:, 0] += 3 * (owner % 2) * (rng.random(len(owner)) < 0.3)
        table = pd.DataFrame(values, columns=[f"marker {j}" for j in range(20)])
        file, patients = self.tables / f"{number}.parquet", self.tables / "patients.csv"
        table.assign(patient=[f"P{b:02d}" for b in owner]).to_parquet(file)
        names = [f"P{b:02d}" for b in range(16)]
        pd.DataFrame({"patient": names, "outcome": ["no", "yes"] * 8}).to_csv(patients, index=False)
        return "read", {"cells": [str(file)], "patients": str(patients), "columns": {}, "name": ""}

    def training(self) -> tuple[str, dict[str, Any]]:
        """A request to train that was not made before."""
        asked = {"target": "outcome", "effort": "quick", "permutations": 20}
        return "analyse", {
            "cohort": self.cohort,
            "settings": asked | {"pooling": "neighbourhood", "seed": self.draw.randrange(1 << 30)},
        }

    def asked(self, aim: str) -> tuple[str, dict[str, Any]]:
        return self.reading() if aim in ("reading", "saving a cohort") else self.training()

    def check(self) -> None:
        """Everything listed is whole, and nothing that was finished is gone."""
        for key, _ in self.home.cohorts():
            assert faults(self.home.cohort(key), "all") == [], key
            Cohort.open(self.home.cohort(key))
        listed = {path.name for path in (self.home.root / "analyses").glob("[!.]*")}
        for key in listed:
            assert faults(self.home.analysis(key), "all") == [], key
            Analysis.open(self.home.analysis(key))
        assert self.finished <= listed
        assert self.home.damaged() == []

    def torn(self) -> int:
        """How many half-written folders and files there are."""
        return len([part for place in PLACES[:2] for part in leftovers(self.home.root / place)])


def until(true: Callable[[], Any], what: str) -> Any:
    """The first true answer; AssertionError when there is none in time."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if answer := true():
            return answer
        time.sleep(0.003)
    raise AssertionError(what)


def aimed(job: Job | dict[str, Any] | None, aim: str) -> bool:
    """Whether a job (or its record) has come to what a kill aims at, or is over."""
    if job is None:
        return False
    known = job if isinstance(job, dict) else {"stages": job.stages, "state": job.state}
    stages, saving = known["stages"], aim.startswith("saving")
    return known["state"] not in ("queued", "running") or ("saving" in stages if saving else bool(stages))


def undisturbed(ground: Ground, *, train: bool) -> None:
    """One cohort, and one analysis, made in peace; how long each aim lasts is taken from there."""
    jobs = Jobs(ground.home, warm=None)
    try:
        for aim in ("reading", "training") if train else ("reading",):
            key, seen = jobs.submit(*ground.asked(aim)), {}
            while not (job := jobs.get(key)).over:  # type: ignore[union-attr]
                seen.setdefault(job.stage, time.monotonic())  # type: ignore[union-attr]
                time.sleep(0.003)
            assert job is not None
            assert job.state == "done", job
            saving, first = seen["saving"], min(at for stage, at in seen.items() if stage)
            ground.lasts[aim] = saving - first
            ground.lasts["saving a cohort" if aim == "reading" else "saving an analysis"] = (
                time.monotonic() - saving
            )
            if aim == "reading":
                ground.cohort = job.result
            else:
                ground.finished.add(job.result)
    finally:
        jobs.close()
    ground.lasts.setdefault("training", 2.0)


def kill_worker(ground: Ground, jobs: Jobs, aim: str, sooner: float) -> bool:
    """Kills the worker while it is at `aim`; False when the work was over before."""
    key = jobs.submit(*ground.asked(aim))
    until(lambda: aimed(jobs.get(key), aim), f"{aim} never came")
    time.sleep(ground.draw.random() * ground.lasts[aim] * sooner)
    pid, before = jobs._processes[0].pid, jobs.get(key)
    os.kill(pid, signal.SIGSTOP)  # so that what is half-written can be seen before it is swept
    torn = ground.torn()
    os.kill(pid, signal.SIGKILL)
    job = until(lambda: (job := jobs.get(key)) and job.over and job, "the job never ended")
    if job.state == "done":
        ground.finished |= {job.result} if job.kind == "analyse" else set()
        return False
    assert job.state == "failed", job
    assert "was killed" in job.problem, job
    assert before is not None
    until(lambda: not ground.torn(), "what was half-written stayed")
    ground.kills.append(Kill("worker", aim, before.stage, torn))
    ground.check()
    return True


def kill_server(ground: Ground, aim: str, sooner: float) -> bool:
    """Kills a server while its worker is at `aim`; False when the work was over before."""
    command = [
        sys.executable,
        "-m",
        "tests.faults",
        str(ground.home.root),
        *map(json.dumps, ground.asked(aim)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        key, pid = json.loads(server.stdout.readline())
        until(lambda: aimed(read_json(ground.home.job(key)), aim), f"{aim} never came")
        time.sleep(ground.draw.random() * ground.lasts[aim] * sooner)
        server.kill()
    until(lambda: not _running(pid), "the worker outlived its server")
    record = read_json(ground.home.job(key)) or {}
    torn = ground.torn()
    jobs = _restarted(ground)
    job = jobs.get(key)
    assert job is not None
    if job.state == "done":
        ground.finished |= {job.result} if job.kind == "analyse" else set()
        return False
    assert record["state"] == "running", record
    assert (job.state, job.fix) == ("failed", "Start it again."), job
    ground.kills.append(Kill("server", aim, record["stages"][-1], torn))
    return True


def _restarted(ground: Ground) -> Jobs:
    """The queue of the next server, which found the workspace free and left it swept."""
    with ground.home.claim():
        jobs = Jobs(ground.home, warm=None)
        jobs.close()
        assert ground.torn() == 0
        ground.check()
    return jobs


def _running(pid: int) -> bool:
    """Whether a process is at work; one that ended and whose parent has not looked is not."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
        return state not in ("Z", "X")
    return False


def serve(root: Path, kind: str, request: dict[str, Any]) -> None:
    """A server with one job: says its key and its worker's process, and waits for its end."""
    home = Workspace(root)
    with home.claim():
        jobs = Jobs(home, warm=None)
        key = jobs.submit(kind, request)
        until(lambda: jobs.get(key).stage and jobs._processes, "the work never began")  # type: ignore[union-attr]
        print(json.dumps([key, jobs._processes[0].pid]), flush=True)
        until(lambda: jobs.get(key).over, "the work never ended")  # type: ignore[union-attr]
        jobs.close()


def under_fire(place: Path, workers: list[str], servers: list[str], *, cells: int, train: bool) -> list[Kill]:
    """All kills, one after the other, in one workspace; AssertionError at the first promise that is not kept."""
    (place / "tables").mkdir()
    ground = Ground(Workspace(place / "home"), place / "tables", random.Random(SEED), cells)
    undisturbed(ground, train=train)
    jobs = Jobs(ground.home, warm=None)
    try:
        for aim in workers:
            assert any(kill_worker(ground, jobs, aim, 0.7**n) for n in range(TRIES)), (
                f"no worker was hit while {aim}"
            )
    finally:
        jobs.close()
    for aim in servers:
        assert any(kill_server(ground, aim, 0.7**n) for n in range(TRIES)), f"no server was hit while {aim}"
    again = Jobs(ground.home, warm=None)  # and after all this, work is done as on the first day
    try:
        key = again.submit(*ground.reading())
        assert until(lambda: (job := again.get(key)) and job.over and job, "never ended").state == "done"
    finally:
        again.close()
    return ground.kills


# ---------------------------------------------------------------- the disk


@contextlib.contextmanager
def disk(place: Path, options: str) -> Iterator[Path | None]:
    """A small disk of its own; None without the right to mount one."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def full(place: Path) -> list[str]:
    """What a job says on a disk that is too small, and on one that fills while it is written; then that the next job
    runs once there is space again."""
    with disk(place / "disk", "size=100m") as small:
        if small is None:
            return []
        (place / "tables").mkdir()
        ground = Ground(Workspace(small / "home"), place / "tables", random.Random(SEED), 32_000)
        jobs, filler, said = Jobs(ground.home, warm=None), small / "filler", []
        try:
            filler.write_bytes(bytes(80 << 20))
            said.append(_ended(jobs, jobs.submit(*ground.reading())).problem)
            filler.unlink()
            key = jobs.submit(*ground.reading())
            until(lambda: aimed(jobs.get(key), "saving"), "saving never came")
            os.kill(jobs._processes[0].pid, signal.SIGSTOP)
            with contextlib.suppress(OSError), filler.open("wb") as out:
                while True:
                    out.write(bytes(1 << 16))
            os.kill(jobs._processes[0].pid, signal.SIGCONT)
            said.append(_ended(jobs, key).problem)
            assert ground.torn() == 0
            filler.unlink()
            assert _ended(jobs, jobs.submit(*ground.reading())).state == "done"
            ground.check()
        finally:
            jobs.close()
    return said


def _ended(jobs: Jobs, key: str) -> Job:
    job: Job = until(lambda: (job := jobs.get(key)) and job.over and job, "the job never ended")
    return job


# ---------------------------------------------------------------- the page of results


def page(kills: list[Kill], said: list[str], seconds: float) -> str:
    """What is committed: how often what was hit."""
    met = Counter((kill.who, kill.aim) for kill in kills)
    torn = Counter((kill.who, kill.aim) for kill in kills if kill.torn)
    rows = [f"| {who} | {aim} | {n} | {torn[who, aim]} |" for (who, aim), n in met.items()]
    stages = Counter(kill.stage for kill in kills)
    disks = [f"- {words}" for words in said] or ["- skipped: no right to mount a small disk"]
    lines = [
        "# Faults",
        "",
        f"By `make faults`, seed {SEED}, {seconds:.0f} s. Every kill counted here hit a job that was running.",
        "",
        "| killed with -9 | aimed at | kills | of these left something half-written |",
        "|---|---|---|---|",
        *rows,
        "",
        "Stages that were hit: " + ", ".join(f"{stage} {n}" for stage, n in sorted(stages.items())) + ".",
        "",
        "After every kill, all that the workspace listed opened and held, byte for byte, what was written; no",
        "finished analysis was lost; what was half-written was swept; after a server's death its worker had ended,",
        "the workspace was free, and the job was marked as interrupted. A server is here a process that holds",
        "workspace and queue as `serve` does, without pages. What jobs said on a disk that was too small, and on one",
        "that filled while saving:",
        "",
        *disks,
        "",
        "The job after these, with space again, was done. Read-only disks, two servers on one workspace and single",
        "bits that flip are in `tests/test_workspace.py` and `tests/test_server.py`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """All of it; the results go to faults.md."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as fire, tempfile.TemporaryDirectory() as small:
        kills = under_fire(Path(fire), WORKERS, SERVERS, cells=32_000, train=True)
        said = full(Path(small))
    (ROOT / "tests" / "faults.md").write_text(page(kills, said, time.monotonic() - begun), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        main()
