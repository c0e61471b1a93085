"""Long work beside the server: warm worker processes, one fair queue, and a record of every job.

A job is a frozen value; what changes is which value stands under its id. The same value is kept in
`jobs/<id>.json`, so that a page that was reloaded, or a server that was restarted, finds it again; beside it
`jobs/<id>.log` holds what the job said on its way.
"""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from dashboard import worker
from dashboard.journal import Journal
from dashboard.process import STARTING_SECONDS, Process
from dashboard.workspace import Workspace, new_id, read_json, write_json
from milcore.errors import MilError

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
LAST = (*ENDED, "bug", "dead")  # messages after which a worker says no more about a job
VERSION = 1  # of a record
BEHIND = ("prepare",)  # kinds that nobody waits for: they come last, and make way
RECORD_SECONDS = 0.5  # between two records of the progress of a job
LOOK_SECONDS = 0.1  # between two looks at whether someone cancelled
INTERRUPTED = {
    "is": "failed",
    "problem": "The server stopped while this was waiting or running.",
    "where": "Nothing half-finished was kept.",
    "fix": "Start it again.",
}


@dataclass(frozen=True)
class Job:
    """One request of an owner ("" = nobody in particular), for the workspace of a user (`home` within that of the
    server; "" = the server's own), and what became of it. Times: seconds since 1970, 0 = not
    yet; `share` is the stage's, `words` say how much that is, where it can be said."""

    id: str
    kind: str
    request: dict[str, Any]
    owner: str = ""
    home: str = ""
    state: State = "queued"
    stages: tuple[str, ...] = ()
    share: float = 0.0
    words: str = ""
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
    enough: bool = False

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
    """Runs jobs in `workers` processes of their own; whoever has waited longest since their last turn is next.

    `kinds` are the functions a job may ask for; `grace` the seconds between a polite and a hard stop,
    `warm` what a worker does with its first idle moment; without it a worker starts with its first job.
    """

    workspace: Workspace
    kinds: Mapping[str, worker.Work] = field(default_factory=lambda: worker.KINDS_OF_MILSCOPE)
    grace: float = 8.0
    warm: Callable[[], None] | None = worker.warm
    workers: int = 1

    def __post_init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._journal = Journal(self.workspace.root)
        self._jobs = _recorded(self.workspace)
        for job in self._jobs.values():
            self._keep(job)
        self._turns: dict[str, int] = {}  # owner -> number of the last turn
        self._closing = False
        self._processes: dict[int, Process] = {}  # seat -> the worker that sits there
        self._threads = [
            threading.Thread(target=self._serve, args=(seat,), name=f"milscope jobs {seat}", daemon=True)
            for seat in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, kind: str, request: dict[str, Any], *, owner: str = "", home: str = "") -> str:
        """Queues a job and returns its id; a request already waiting or running is not queued twice."""
        request = json.loads(json.dumps(request))
        asked = (kind, request, home)
        with self._changed:
            for job in self._jobs.values():
                if not job.over and not job.cancelling and (job.kind, job.request, job.home) == asked:
                    return job.id
            job = Job(new_id(*asked), kind, request, owner=owner, home=home, asked=time.time())
            self._keep(job)
            self._make_way(job)
            self._journal.note("queued", job=job.id, kind=kind)
            self._changed.notify_all()
        return job.id

    def _make_way(self, newcomer: Job) -> None:
        """Cancels what nobody waits for, but for what the newcomer begins with."""
        for job in list(self._jobs.values()):
            shared = job.request.get("cohort") == newcomer.request.get("cohort") and job.home == newcomer.home
            if job.kind in BEHIND and newcomer.kind not in BEHIND and not shared:
                self.cancel(job.id)

    def get(self, key: str) -> Job | None:
        """The job of this id, as it stands now."""
        return self._jobs.get(key)

    def every(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._changed:
            return sorted(self._jobs.values(), key=lambda job: job.asked, reverse=True)

    def cancel(self, key: str) -> None:
        """Asks a job to stop; a job that does not within the grace period is killed."""
        with self._changed:
            job = self._jobs.get(key)
            if job is None or job.over:
                return
            if job.state == "queued":
                self._finish(key, {"is": "cancelled"})
            else:
                self._keep(replace(job, cancelling=True))

    def enough(self, key: str) -> None:
        """Asks a job to end soon with what it has, where its step can."""
        with self._changed:
            job = self._jobs.get(key)
            if job is not None and not job.over:
                self._keep(replace(job, enough=True))

    def log(self, key: str) -> str:
        """What a job said on its way, warnings and the traceback of a bug among it; "" when nothing is known."""
        with suppress(OSError):
            return self.workspace.job_log(key).read_text(encoding="utf-8", errors="replace")
        return ""

    def close(self) -> None:
        """Stops the workers at once; what they were doing is recorded as interrupted."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for process in list(self._processes.values()):
            process.kill()
        for thread in self._threads:
            thread.join(timeout=5)

    # ---------------------------------------------------------------- one seat

    def _serve(self, seat: int) -> None:
        """Sees to one job after the other; whatever goes wrong with one is that job's end, not the thread's."""
        with suppress(OSError):  # the first job tries again, and says why it cannot
            if self.warm is not None:
                self._seated(seat)
        while (job := self._next()) is not None:
            try:
                self._run(job, seat)
            except Exception as error:
                process = self._processes.pop(seat, None)
                if process is not None:
                    process.kill()
                self._finish(job.id, _unable(error))

    def _seated(self, seat: int) -> Process:
        """The living worker of a seat, a new one if need be."""
        process = self._processes.get(seat)
        if process is None or not process.alive:
            process = Process(str(self.workspace.root), self.kinds, self.warm)
            self._processes[seat] = process
            if self._closing:
                process.kill()
        return process

    def _next(self) -> Job | None:
        """The job whose turn it is, now running; waits for one, None when all is over."""
        with self._changed:
            while not self._closing:
                waiting = [job for job in self._jobs.values() if job.state == "queued"]
                if waiting:
                    job = min(waiting, key=self._turn)
                    self._turns[job.owner] = max(self._turns.values(), default=0) + 1
                    begun = replace(job, state="running", begun=time.time())
                    self._keep(begun)
                    return begun
                self._changed.wait()
        return None

    def _turn(self, job: Job) -> tuple[bool, int, float]:
        """Of waiting jobs the one with the least of these is next."""
        return job.kind in BEHIND, self._turns.get(job.owner, 0), job.asked

    def _run(self, job: Job, seat: int) -> None:
        """Hands one job to the worker and follows it to its end. A worker that dies before it has taken the job, as
        one that was killed while idle, is replaced once."""
        self._journal.note("running", job=job.id, kind=job.kind)
        process = self._seated(seat)
        end = self._followed(job, process)
        if end["is"] == "dead" and not end["taken"] and not self._closing:
            process = self._seated(seat)
            end = self._followed(job, process)
        if not process.alive:
            self.workspace.sweep(process.pid)
        if end["is"] == "dead" and self._closing:
            end = INTERRUPTED
        self._finish(job.id, end)

    def _followed(self, job: Job, process: Process) -> dict[str, Any]:
        """The last message of the worker about a job; what it says before is kept."""
        process.stop.clear()
        process.enough.clear()
        process.send({"id": job.id, "kind": job.kind, "request": job.request, "home": job.home})
        late, recorded, taken = time.monotonic() + STARTING_SECONDS, 0.0, False
        while True:
            message = process.news(LOOK_SECONDS) or {"is": "nothing"}
            if message["is"] in LAST:
                return {"taken": taken, **message}
            if message["is"] == "taken":
                taken, late = True, float("inf")
            if message["is"] == "event":
                news = message["early"] is not None or message["stage"] != self._jobs[job.id].stage
                due = news or time.monotonic() - recorded > RECORD_SECONDS
                recorded = time.monotonic() if due else recorded
                self._told(job.id, message, record=due)
            if self._jobs[job.id].enough:
                process.enough.set()
            if self._jobs[job.id].cancelling and not process.stop.is_set():
                process.stop.set()
                late = time.monotonic() + self.grace
            if time.monotonic() > late:
                process.kill()
                return {"is": "cancelled"} if process.stop.is_set() else {**process.death(), "taken": True}

    # ---------------------------------------------------------------- what is known of a job

    def _told(self, key: str, event: dict[str, Any], *, record: bool) -> None:
        with self._changed:
            job = self._jobs[key]
            stages = job.stages if event["stage"] in (*job.stages, "") else (*job.stages, event["stage"])
            early = event["early"] or job.early
            told = {"stages": stages, "share": event["share"], "words": event["words"], "early": early}
            self._keep(replace(job, **told), record=record)

    def _finish(self, key: str, message: dict[str, Any]) -> None:
        """Records how a job ended."""
        state = {"bug": "failed", "dead": "failed"}.get(message["is"], message["is"])
        changes = {name: message[name] for name in ("result", "problem", "where", "fix") if name in message}
        with self._changed:
            job = replace(self._jobs[key], state=state, ended=time.time(), **changes)
            self._keep(replace(job, bug=message["is"] == "bug"))
        seconds, peak = round(job.seconds, 1), message.get("peak_mb")
        self._journal.note(
            "ended", job=key, kind=job.kind, state=message["is"], seconds=seconds, peak_mb=peak
        )
        if message.get("log"):
            with suppress(OSError), self.workspace.job_log(key).open("a", encoding="utf-8") as log:
                log.write(message["log"])

    def _keep(self, job: Job, *, record: bool = True) -> None:
        self._jobs[job.id] = job
        if record:
            with suppress(OSError, MilError):  # a full disk must not end the queue
                write_json(self.workspace.job(job.id), {"version": VERSION, **asdict(job)})


@dataclass(frozen=True)
class Desk:
    """The jobs of one user's workspace: all that its pages see of the queue, ask of it, and stop."""

    queue: Jobs
    home: str = ""

    def submit(self, kind: str, request: dict[str, Any], *, owner: str = "") -> str:
        """As Jobs."""
        return self.queue.submit(kind, request, owner=owner, home=self.home)

    def get(self, key: str) -> Job | None:
        """The job of this id, None where it is another's."""
        job = self.queue.get(key)
        return job if job is not None and job.home == self.home else None

    def every(self) -> list[Job]:
        """These jobs, the newest first."""
        return [job for job in self.queue.every() if job.home == self.home]

    def maker(self, kind: str, result: str) -> Job | None:
        """The newest finished job of this kind with this result."""
        return next((j for j in self.every() if (j.kind, j.state, j.result) == (kind, "done", result)), None)

    def cancel(self, key: str) -> None:
        """As Jobs, of these jobs alone."""
        if self.get(key) is not None:
            self.queue.cancel(key)

    def enough(self, key: str) -> None:
        """As Jobs, of these jobs alone."""
        if self.get(key) is not None:
            self.queue.enough(key)

    def log(self, key: str) -> str:
        """As Jobs, of these jobs alone."""
        return self.queue.log(key) if self.get(key) is not None else ""


def _unable(error: Exception) -> dict[str, Any]:
    """The end of a job whose worker could not be started or spoken to."""
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        problem = f"The process that does the work could not start ({words})."
        fix = "The usual reason is too little memory. Free some, then start it again."
        return {"is": "failed", "problem": problem, "where": "Nothing was begun.", "fix": fix}
    return {"is": "bug", "problem": words, "log": traceback.format_exc()}


def _recorded(workspace: Workspace) -> dict[str, Job]:
    """The jobs of earlier servers; those that were not over are marked as interrupted, unless their work is there."""
    jobs = {}
    for path in sorted(workspace.job("x").parent.glob("*.json")):
        record = read_json(path) or {}
        if record.pop("version", None) != VERSION:
            continue  # damaged, or of another version: its work is listed all the same
        with suppress(TypeError, KeyError):
            job = Job(**{**record, "stages": tuple(record["stages"])})
            jobs[job.id] = job if job.over else _left(job, workspace)
    return jobs


def _left(job: Job, workspace: Workspace) -> Job:
    """What became of a job whose server stopped."""
    ended = job.begun or job.asked
    if workspace.within(job.home).has_analysis(job.id):
        return replace(job, state="done", result=job.id, share=1.0, ended=ended)
    words: dict[str, Any] = {name: INTERRUPTED[name] for name in ("problem", "where", "fix")}
    return replace(job, state="failed", ended=ended, **words)
