"""What runs in a worker process: reading cohorts and training, one request at a time.

Everything crosses the pipe as plain dicts. Out go "ready" once, then for each request "taken", any number of
{"is": "event", ...} and one last message: "done" (result), "failed" (problem, where, fix), "cancelled" or "bug"
(problem). Whatever is printed meanwhile, tracebacks and crashes among it, goes to the job's log.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any

from dashboard.workspace import Workspace
from milcore.errors import Cancelled, MilError
from milcore.folder import room
from milcore.progress import Event, Progress

Work = Callable[[dict[str, Any], Workspace, Progress], str]

NEWS_SECONDS = 0.1  # between two messages about the same stage
PREPARED = 150  # bytes that the graph and the map of a cell take on the disk
IDLE_SECONDS = 0.5  # without a request before warming up
NICE = 5  # where pages want the processor too, they come first


def serve(
    pipe: Connection,
    stop: Flag,
    enough: Flag,
    root: str,
    kinds: Mapping[str, Work],
    warm: Callable[[], None] | None,
) -> None:
    """Answers requests from `pipe` until it closes; from its first idle moment `warm` runs beside."""
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process itself
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    faulthandler.enable()  # a crash says in which line
    workspace = Workspace(Path(root))
    warming = threading.Thread(target=warm or (lambda: None), daemon=True)
    try:
        pipe.send({"is": "ready"})
        while True:
            if warming.ident is None and not pipe.poll(IDLE_SECONDS):
                warming.start()
            message = pipe.recv()
            pipe.send({"is": "taken"})
            progress = Progress(_teller(pipe, warming), stop.is_set, enough.is_set)
            with _logged(workspace.job_log(message["id"])):
                answer = _answer(message, kinds, workspace.within(message["home"]), progress)
            pipe.send({**answer, "peak_mb": _peak()})
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the server is gone


def _end_with_the_server() -> None:
    """A server that was killed cannot stop its workers, and the next one must find the workspace at rest."""
    server = parent_process()
    if server is not None:
        wait([server.sentinel])
        os._exit(1)


def _peak() -> int:
    """The most memory this process has held so far, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (1 << 20 if sys.platform == "darwin" else 1 << 10))


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Whatever is printed inside, also by compiled code, is added to a file; where that cannot be, to what it was."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        file = os.dup(2)
    try:
        for number in (1, 2):
            os.dup2(file, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
        for number in (file, *kept):
            os.close(number)


def _say(words: str) -> None:
    """One line of the job's log."""
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {words}", file=sys.stderr, flush=True)


def _answer(
    message: dict[str, Any], kinds: Mapping[str, Work], workspace: Workspace, progress: Progress
) -> dict[str, Any]:
    """Runs one request; every way it can end is a message."""
    request = message["request"] | {"job": message["id"]}
    try:
        _say(f"{message['kind']} begins")
        answer = {"is": "done", "result": kinds[message["kind"]](request, workspace, progress)}
    except Cancelled:
        answer = {"is": "cancelled"}
    except MilError as error:
        answer = {"is": "failed", "problem": error.problem, "where": error.where, "fix": error.fix}
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        traceback.print_exc()
        answer = _short_of_memory() if _is_about_memory(error) else _bug(error)
    _say(f"{message['kind']} ends: {answer['is']}")
    return answer


def _is_about_memory(error: Exception) -> bool:
    """torch says so in words alone."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _short_of_memory() -> dict[str, Any]:
    problem = "There is too little memory for this."
    fix = "Use fewer cells or features, or a computer with more memory."
    return {"is": "failed", "problem": problem, "where": "Nothing half-finished was kept.", "fix": fix}


def _bug(error: Exception) -> dict[str, Any]:
    return {"is": "bug", "problem": f"{type(error).__name__}: {error}"}


def _teller(pipe: Connection, warming: threading.Thread) -> Callable[[Event], None]:
    """Sends events on, at most ten a second for one stage."""
    last_stage, last_at = "", 0.0

    def tell(event: Event) -> None:
        nonlocal last_stage, last_at
        if event.stage == "umap" and warming.ident is not None:
            warming.join()  # numba aborts the process when two threads run its parallel code at once
        now = time.monotonic()
        if event.early is None and event.stage == last_stage and now - last_at < NEWS_SECONDS:
            return
        if event.stage not in (last_stage, ""):
            _say(event.stage)
        last_stage, last_at = event.stage, now
        told = {"stage": event.stage, "share": event.share, "words": event.words, "early": event.early}
        pipe.send({"is": "event", **told})

    return tell


def read(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """Cell files, patients file and columns to a cohort in the workspace; returns its key."""
    from milcore.cohort import Note
    from milcore.mapping import read_mapping
    from milcore.readers import Columns, read_cohort

    asked = request["columns"].items()
    named: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in asked}
    patients = Path(request["patients"]) if request["patients"] else None
    cells = [Path(file) for file in request["cells"]]
    room(workspace.root, sum(file.stat().st_size for file in cells if file.is_file()))
    columns = Columns(**named)
    cohort = read_cohort(cells, patients=patients, columns=columns, progress=progress)
    if request.get("remember"):
        workspace.remember(cohort.source)
    elif columns == Columns() and (kept := workspace.remembered(cohort.source)) is not None:
        words = f"Columns have the roles you gave them in the last {cohort.source['format']} table."
        with suppress(MilError):  # where they do not fit after all, the tables are as they were read first
            cohort = read_cohort(cells, patients=patients, columns=read_mapping(kept), progress=progress)
            cohort = replace(cohort, notes=(*cohort.notes, Note("remembered", words)))
    key = cohort.fingerprint[:16]
    with progress.stage("saving"):
        if not workspace.has_cohort(key):
            room(workspace.root, cohort.features.nbytes)
            cohort.save(workspace.cohort(key))
    return key


def prepare(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """What training on a cohort of the workspace begins with, made before anybody asks; the cohort's key."""
    from milcore import chain
    from milcore.cohort import Cohort

    cohort = Cohort.open(workspace.cohort(request["cohort"]))
    room(workspace.root, PREPARED * cohort.N)
    chain.prepare(cohort, progress)
    return str(request["cohort"])


def analyse(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """A cohort of the workspace and settings to an analysis in the workspace; returns its id, which is the job's: so a
    server that was stopped between the two records knows that the work is there."""
    from milcore.analysis import space
    from milcore.chain import analyse as run
    from milcore.cohort import Cohort
    from milcore.training import Settings

    cohort, settings = (
        Cohort.open(workspace.cohort(request["cohort"])),
        Settings.from_json(request["settings"]),
    )
    room(workspace.root, space(cohort, settings))
    analysis = run(cohort, settings, progress)
    with progress.stage("saving"):
        analysis.save(workspace.analysis(request["job"]))
    return str(request["job"])


def lay_out(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """Another map of the cells of an analysis in the workspace, kept with it; returns the map's name."""
    from dashboard import layouts
    from milcore import chain
    from milcore.analysis import Analysis

    layout = layouts.from_json(request["layout"])
    if (name := layouts.named(layout)) in layouts.saved(workspace, request["analysis"]):
        return name
    analysis = Analysis.open(workspace.analysis(request["analysis"]))
    room(workspace.root, 8 * analysis.cohort.N)
    made = chain.lay_out(analysis.cohort, analysis.settings, layout, progress)
    with progress.stage("saving"):
        return layouts.keep(workspace, request["analysis"], layout, made)


def predict(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """Tables of new patients, scored by the models of an analysis, to an analysis in the workspace; its id, the job's.
    Their cohort stands beside it, as the views look for it there."""
    from milcore.cohort import Cohort
    from milcore.prediction import open_model, read_new
    from milcore.prediction import predict as run

    scorer, trained_on = open_model(workspace.analysis(request["analysis"]))
    patients = Path(request["patients"]) if request["patients"] else None
    cells = [Path(file) for file in request["cells"]]
    room(workspace.root, sum(file.stat().st_size for file in cells if file.is_file()))
    cohort = read_new(scorer, cells, patients=patients, progress=progress)
    found = run(scorer, cohort, trained_on=trained_on, progress=progress)
    with progress.stage("saving"):
        place = workspace.cohort(found.cohort.fingerprint[:16])
        if not workspace.has_cohort(place.name):
            found.cohort.save(place)
        found.beside(Cohort.open(place)).save(workspace.analysis(request["job"]))
        workspace.note(request["job"], of=request["analysis"])
    return str(request["job"])


def warm() -> None:
    """Imports what jobs need and lets numba compile UMAP, so that the first job does not wait for it."""
    import numpy as np
    import umap

    import milcore.chain
    import milcore.readers  # noqa: F401

    umap.UMAP(n_neighbors=5, n_epochs=5, init="random").fit(np.random.default_rng(0).random((200, 5)))


KINDS_OF_MILSCOPE: Mapping[str, Work] = {
    "read": read,
    "prepare": prepare,
    "analyse": analyse,
    "predict": predict,
    "lay out": lay_out,
}
