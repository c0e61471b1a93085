"""The worker: every way a job can end, and that the next one runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboard.jobs import Desk, Job, Jobs
from dashboard.workspace import TABLES, Workspace, read_json, safe_name, table_ending, tables_in
from milcore.errors import MilError
from milcore.progress import Progress
from milcore.tables import TABLES as READABLE


def echo(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    with progress.stage("first"):
        progress.early({"auroc": 0.5})
    with progress.stage("second"):
        progress.share(1.0)
    return str(request["say"])


def wait_long(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    with progress.stage("waiting"):
        for step in range(600):
            progress.share(step / 600)
            if progress.enough():
                return "in time"
            time.sleep(0.05)
    return "too late"


def deaf(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    time.sleep(60)
    return "too late"


def refuse(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    problem = "Problem 'x'."
    raise MilError(problem, "Row 7.", "Mend it.")


def broken(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    return str(1 // int(request["by"]))


def die(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    os.kill(os.getpid(), int(request["signal"]))
    time.sleep(60)
    return "never"


def prepare(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    return wait_long(request, workspace, progress)


KINDS = {f.__name__: f for f in (echo, wait_long, deaf, refuse, broken, die, prepare)}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    jobs = Jobs(Workspace(tmp_path_factory.mktemp("jobs")), kinds=KINDS, grace=1.0, warm=None)
    yield jobs
    jobs.close()


def until(jobs: Jobs, key: str, true: Callable[[Job], bool] = lambda job: job.over) -> Job:
    for _ in range(600):
        job = jobs.get(key)
        assert job is not None
        if true(job):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def says_echo(jobs: Jobs) -> bool:
    return until(jobs, jobs.submit("echo", {"say": "yes"})).result == "yes"


def test_done(jobs: Jobs) -> None:
    job = until(jobs, jobs.submit("echo", {"say": "hello"}))
    assert (job.state, job.result, job.stages, job.early) == (
        "done",
        "hello",
        ("first", "second"),
        {"auroc": 0.5},
    )
    assert job.asked <= job.begun <= job.ended
    assert Desk(jobs).maker("echo", "hello") == job
    record = read_json(jobs.workspace.root / "jobs" / f"{job.id}.json")
    assert record is not None
    assert record["state"] == "done"


def test_milerror_crosses(jobs: Jobs) -> None:
    job = until(jobs, jobs.submit("refuse", {}))
    assert (job.state, job.bug) == ("failed", False)
    assert (job.problem, job.where, job.fix) == ("Problem 'x'.", "Row 7.", "Mend it.")
    assert says_echo(jobs)


def test_bug_has_a_log(jobs: Jobs) -> None:
    job = until(jobs, jobs.submit("broken", {"by": 0}))
    assert (job.state, job.bug) == ("failed", True)
    assert job.problem.startswith("ZeroDivisionError")
    assert "Traceback" in jobs.log(job.id)
    assert says_echo(jobs)


def test_cancel_at_the_next_step(jobs: Jobs) -> None:
    key = jobs.submit("wait_long", {})
    until(jobs, key, lambda job: job.stage == "waiting")
    jobs.cancel(key)
    assert until(jobs, key).state == "cancelled"
    assert says_echo(jobs)


def test_enough_ends_with_what_there_is(jobs: Jobs) -> None:
    key = jobs.submit("wait_long", {})
    until(jobs, key, lambda job: job.stage == "waiting")
    jobs.enough(key)
    ended = until(jobs, key)
    assert (ended.state, ended.result) == ("done", "in time")
    again = jobs.submit("wait_long", {})
    until(jobs, again, lambda job: job.stage == "waiting" and job.share > 0.01)  # it holds for one job
    jobs.cancel(again)
    assert until(jobs, again).state == "cancelled"


def test_cancel_what_waits(jobs: Jobs) -> None:
    first, second = jobs.submit("wait_long", {}), jobs.submit("echo", {"say": "never"})
    jobs.cancel(second)
    jobs.cancel(first)
    assert until(jobs, second).state == "cancelled"
    assert until(jobs, first).state == "cancelled"
    jobs.cancel(first)  # twice does no harm
    jobs.cancel("unknown")


def test_hard_stop_after_the_grace_period(jobs: Jobs) -> None:
    key = jobs.submit("deaf", {})
    until(jobs, key, lambda job: job.state == "running")
    begun = time.monotonic()
    jobs.cancel(key)
    assert until(jobs, key).state == "cancelled"
    assert time.monotonic() - begun < 5
    assert says_echo(jobs)


@pytest.mark.parametrize(("number", "words"), [(9, "killed"), (11, "SIGSEGV")])
def test_death_is_a_failed_job(jobs: Jobs, number: int, words: str) -> None:
    job = until(jobs, jobs.submit("die", {"signal": number}))
    assert (job.state, job.bug) == ("failed", False)
    assert words in job.problem
    assert says_echo(jobs)


def test_same_request_is_one_job(jobs: Jobs) -> None:
    first = jobs.submit("wait_long", {"n": 1})
    assert jobs.submit("wait_long", {"n": 1}) == first
    jobs.cancel(first)
    until(jobs, first)
    second = jobs.submit("wait_long", {"n": 1})
    assert second != first
    jobs.cancel(second)
    until(jobs, second)


def test_a_new_server_finds_the_jobs(tmp_path: Path) -> None:
    before = Jobs(Workspace(tmp_path), kinds=KINDS, warm=None)
    done = until(before, before.submit("echo", {"say": "kept"}))
    running = before.submit("wait_long", {})
    until(before, running, lambda job: job.stage == "waiting")
    left = {key: record for key in (done.id, running) if (record := before.get(key))}
    assert left[running].state == "running"
    after = Jobs(Workspace(tmp_path), kinds=KINDS, warm=None)
    before.close()
    try:
        assert after.get(done.id) == done
        interrupted = after.get(running)
        assert interrupted is not None
        assert (interrupted.state, interrupted.fix) == ("failed", "Start it again.")
    finally:
        after.close()


def test_names_of_files(tmp_path: Path) -> None:
    assert safe_name("../../etc/pass wd<b>.csv.gz") == "pass_wd_b_.csv.gz"
    assert safe_name("..") == "table"
    assert len(safe_name("x" * 10_000 + ".parquet")) < 100
    assert table_ending("A.CSV.GZ") == ".csv.gz"
    assert {f".{ending}" for ending in READABLE} == set(TABLES)
    (tmp_path / ".hidden").mkdir()
    for name in ("b.csv", "a.parquet", "notes.md", ".hidden/c.csv"):
        (tmp_path / name).touch()
    assert [p.name for p in tables_in([tmp_path])] == ["a.parquet", "b.csv"]


@pytest.mark.parametrize("key", ["", "..", "../x", "a/b", "x" * 100, "é" * 8])
def test_keys_from_a_url_are_not_trusted(tmp_path: Path, key: str) -> None:
    assert not Workspace(tmp_path).has_cohort(key)
    assert not Workspace(tmp_path).has_analysis(key)


# ---------------------------------------------------------------- workers


class Unstartable(dict):  # type: ignore[type-arg]
    """Kinds of work that no process can be handed, and that one can, but then cannot be read there."""

    def __init__(self, *, here: bool) -> None:
        super().__init__(KINDS)
        self.here = here

    def __reduce__(self) -> tuple[Any, ...]:
        if self.here:
            problem = "[Errno 12] no memory for another process"
            raise OSError(problem)
        return os._exit, (3,)


@pytest.mark.parametrize(("here", "words"), [(True, "no memory for another"), (False, "exit code 3")])
def test_a_worker_that_cannot_start_is_a_failed_job(tmp_path: Path, *, here: bool, words: str) -> None:
    jobs = Jobs(Workspace(tmp_path), kinds=Unstartable(here=here), warm=None)
    try:
        for say in ("one", "two"):  # the thread has outlived the first
            job = until(jobs, jobs.submit("echo", {"say": say}))
            assert (job.state, job.bug) == ("failed", False)
            assert "could not start" in job.problem
            assert words in job.problem
    finally:
        jobs.close()


def test_a_worker_killed_while_idle_is_replaced(jobs: Jobs) -> None:
    assert says_echo(jobs)
    os.kill(jobs._processes[0].pid, 9)
    assert says_echo(jobs)


def test_a_crash_leaves_its_line_in_the_log(jobs: Jobs) -> None:
    job = until(jobs, jobs.submit("die", {"signal": 11}))
    assert "in die" in jobs.log(job.id)
    assert "Segmentation fault" in jobs.log(job.id)


def test_owners_take_turns_and_two_workers_work(tmp_path: Path) -> None:
    jobs = Jobs(Workspace(tmp_path), kinds=KINDS, warm=None, workers=2)
    try:
        held = [jobs.submit("wait_long", {"n": n}, owner="a") for n in range(2)]
        for key in held:
            until(jobs, key, lambda job: job.state == "running")
        later = [jobs.submit("echo", {"say": f"a{n}"}, owner="a") for n in range(2)]
        first = jobs.submit("echo", {"say": "b"}, owner="b")
        jobs.cancel(held[0])
        ended = {key: until(jobs, key) for key in (*later, first)}
        assert [ended[key].state for key in later] == ["done", "done"]
        assert ended[first].begun < ended[later[0]].begun < ended[later[1]].begun
        jobs.cancel(held[1])
        until(jobs, held[1])
    finally:
        jobs.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["state"] for line in lines if line["event"] == "ended"].count("done") == 3


def test_work_that_was_done_when_the_server_stopped_is_done(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    for state in ("queued", "running"):
        key = f"20260101-000000-{state}"
        home.job(key).parent.mkdir(exist_ok=True)
        record = {"version": 1, "id": key, "kind": "analyse", "request": {}, "state": state, "stages": []}
        home.job(key).write_text(json.dumps(record))
    home.analysis("20260101-000000-running").mkdir(parents=True)
    (home.analysis("20260101-000000-running") / "analysis.json").write_text("{}")
    jobs = Jobs(home, kinds=KINDS, warm=None)
    jobs.close()
    assert {job.id[16:]: job.state for job in jobs.every()} == {"queued": "failed", "running": "done"}
    kept = read_json(home.job("20260101-000000-running"))
    assert kept is not None
    assert (kept["state"], kept["result"]) == ("done", "20260101-000000-running")


def test_what_nobody_waits_for_comes_last_and_makes_way(jobs: Jobs) -> None:
    """But not for work on the same cohort, which begins with it."""
    ahead = jobs.submit("wait_long", {})
    prepared = jobs.submit("prepare", {"cohort": "a"}, owner="first")
    shares = jobs.submit("echo", {"cohort": "a", "say": "a"})
    until(jobs, prepared, lambda job: job.state == "queued")
    jobs.enough(ahead)
    assert until(jobs, shares).result == "a"  # though it came later
    until(jobs, prepared, lambda job: job.state == "running")
    jobs.enough(prepared)
    assert until(jobs, prepared).state == "done"
    prepared = jobs.submit("prepare", {"cohort": "b"})
    until(jobs, prepared, lambda job: job.state == "running")
    assert until(jobs, jobs.submit("echo", {"cohort": "a", "say": "b"})).result == "b"
    assert until(jobs, prepared).state == "cancelled"
