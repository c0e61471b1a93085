"""Long work beside the server: one warm worker process, a queue, and a record of every job.

A job is a frozen value; what changes is which value stands under its id. The same value is kept in
`jobs/<id>.json`, so that a page that was reloaded, or a server that was restarted, finds it again.
"""

from __future__ import annotations

import json
import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from dashboard import worker
from dashboard.workspace import Workspace, new_id, read_json, write_json

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
RECORD_SECONDS = 0.5  # between two records of the progress of a job
LOOK_SECONDS = 0.1  # between two looks at whether someone cancelled


@dataclass(frozen=True)
class Job:
    """One request and what became of it. Times: seconds since 1970, 0 = not yet; `share` is the stage's."""

    id: str
    kind: str
    request: dict[str, Any]
    state: State = "queued"
    stages: tuple[str, ...] = ()
    share: float = 0.0
    early: dict[str, Any] | None = None
    asked: float = 0.0
    begun: float = 0.0
    ended: float = 0.0
    result: str = ""
    problem: str = ""
    where: str = ""
    fix: str = ""
    bug: bool = False
    cancelling: bool = False

    @property
    def over(self) -> bool:
        return self.state in ENDED

    @property
    def stage(self) -> str:
        """The stage it is in, "" before the first."""
        return self.stages[-1] if self.stages else ""

    @property
    def seconds(self) -> float:
        """How long it has run, or ran."""
        return (self.ended or time.time()) - self.begun if self.begun else 0.0


@dataclass
class Jobs:
    """Runs jobs one after the other in a process of their own.

    `kinds` are the functions a job may ask for; `grace` the seconds between a polite and a hard stop,
    `warm` what the worker does with its first idle moment.
    """

    workspace: Workspace
    kinds: Mapping[str, worker.Work] = field(default_factory=lambda: worker.KINDS_OF_MILSCOPE)
    grace: float = 8.0
    warm: Callable[[], None] | None = worker.warm

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._jobs = _recorded(self.workspace)
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._worker: _Worker | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="milscope jobs", daemon=True)
        self._thread.start()

    def submit(self, kind: str, request: dict[str, Any]) -> str:
        """Queues a job and returns its id; a request already waiting or running is not queued twice."""
        request = json.loads(json.dumps(request))
        with self._lock:
            for job in self._jobs.values():
                if not job.over and (job.kind, job.request) == (kind, request):
                    return job.id
            job = Job(new_id(kind, request), kind, request, asked=time.time())
            self._keep(job)
        self._queue.put(job.id)
        return job.id

    def get(self, key: str) -> Job | None:
        """The job of this id, as it stands now."""
        return self._jobs.get(key)

    def every(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: job.asked, reverse=True)

    def maker(self, kind: str, result: str) -> Job | None:
        """The newest finished job of this kind with this result."""
        return next((j for j in self.every() if (j.kind, j.state, j.result) == (kind, "done", result)), None)

    def cancel(self, key: str) -> None:
        """Asks a job to stop; a job that does not within the grace period is killed."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.over:
                return
            if job.state == "queued":
                self._keep(replace(job, state="cancelled", ended=time.time()))
            else:
                self._keep(replace(job, cancelling=True))

    def log(self, key: str) -> str:
        """What is known of a bug: the traceback, or ""."""
        path = self._log_path(key)
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def close(self) -> None:
        """Stops the worker at once; what it was doing is recorded as failed."""
        self._closing = True
        self._queue.put(None)
        if self._worker is not None:
            self._worker.kill()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        while not self._closing:
            if self._worker is None or not self._worker.alive:
                self._worker = _Worker(str(self.workspace.root), self.kinds, self.warm)
            key = self._queue.get()
            if key is None:
                return
            if self._jobs[key].state == "queued":
                self._run(self._jobs[key], self._worker)

    def _run(self, job: Job, process: _Worker) -> None:
        """Hands one job to the worker and follows it to its end."""
        process.stop.clear()
        self._change(job.id, state="running", begun=time.time())
        process.send({"kind": job.kind, "request": job.request})
        deadline, recorded = float("inf"), 0.0
        while True:
            message = process.news(LOOK_SECONDS)
            if message is not None and message["is"] != "event":
                return self._end(job.id, message)
            if message is not None:
                due = message["early"] is not None or time.monotonic() - recorded > RECORD_SECONDS
                recorded = time.monotonic() if due else recorded
                self._told(job.id, message, record=due)
            if self._jobs[job.id].cancelling and not process.stop.is_set():
                process.stop.set()
                deadline = time.monotonic() + self.grace
            if time.monotonic() > deadline:
                process.kill()
                return self._end(job.id, {"is": "cancelled"})

    def _told(self, key: str, event: dict[str, Any], *, record: bool) -> None:
        with self._lock:
            job = self._jobs[key]
            stages = job.stages if event["stage"] in (*job.stages, "") else (*job.stages, event["stage"])
            early = event["early"] or job.early
            self._keep(replace(job, stages=stages, share=event["share"], early=early), record=record)

    def _end(self, key: str, message: dict[str, Any]) -> None:
        changes: dict[str, Any] = {"state": "failed" if message["is"] == "bug" else message["is"]}
        changes |= {name: message[name] for name in ("result", "problem", "where", "fix") if name in message}
        if message["is"] == "bug":
            changes["bug"] = True
            with suppress(OSError):  # a full disk must not end the queue
                self._log_path(key).write_text(message["log"], encoding="utf-8")
        self._change(key, ended=time.time(), **changes)

    def _change(self, key: str, **changes: Any) -> None:
        with self._lock:
            self._keep(replace(self._jobs[key], **changes))

    def _keep(self, job: Job, *, record: bool = True) -> None:
        self._jobs[job.id] = job
        if record:
            with suppress(OSError):  # a full disk must not end the queue
                write_json(self.workspace.root / "jobs" / f"{job.id}.json", asdict(job))

    def _log_path(self, key: str) -> Path:
        return self.workspace.root / "jobs" / f"{key}.log"


class _Worker:
    """A spawned process and the pipe to it."""

    def __init__(self, root: str, kinds: Mapping[str, worker.Work], warm: Callable[[], None] | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.stop = context.Event()
        self._pipe, far = context.Pipe()
        self._process = context.Process(
            target=worker.serve, args=(far, self.stop, root, kinds, warm), daemon=True
        )
        self._process.start()
        far.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def send(self, message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # it died while idle: `news` says so
            self._pipe.send(message)

    def news(self, seconds: float) -> dict[str, Any] | None:
        """The next message, None if there is none yet; the worker's death is a message too."""
        wait([self._pipe, self._process.sentinel], timeout=seconds)
        try:
            if self._pipe.poll():
                message: dict[str, Any] = self._pipe.recv()
                return message
        except (EOFError, ConnectionResetError):
            self._process.join()
        return None if self._process.is_alive() else _died(self._process.exitcode)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _died(code: int | None) -> dict[str, Any]:
    """The message a dead worker can no longer send."""
    if code == -signal.SIGKILL:
        problem = "The process that did the work was killed."
        fix = "The usual reason is too little memory. Use fewer cells or features, or more memory."
    elif code is not None and code < 0:
        problem = f"The process that did the work crashed ({signal.Signals(-code).name})."
        fix = "Try once more. If it happens again, please report it."
    else:
        problem = f"The process that did the work ended unexpectedly (exit code {code})."
        fix = "Try once more. If it happens again, please report it."
    return {"is": "failed", "problem": problem, "where": "Nothing half-finished was kept.", "fix": fix}


def _recorded(workspace: Workspace) -> dict[str, Job]:
    """The jobs of earlier servers; those that were not over are marked as interrupted."""
    jobs = {}
    for path in (workspace.root / "jobs").glob("*.json"):
        if (record := read_json(path)) is None:
            continue
        try:
            job = Job(**{**record, "stages": tuple(record["stages"])})
        except (TypeError, KeyError):
            continue  # written by another version
        jobs[job.id] = job if job.over else _interrupted(job)
    return jobs


def _interrupted(job: Job) -> Job:
    problem = "The server stopped while this was waiting or running."
    where, fix = "Nothing half-finished was kept.", "Start it again."
    return replace(job, state="failed", problem=problem, where=where, fix=fix, ended=job.begun or job.asked)
