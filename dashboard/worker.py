"""What runs in the worker process: reading cohorts and training, one request at a time.

Everything crosses the pipe as plain dicts. Out go {"is": "event", ...} while a job runs and one last message:
"done" (result), "failed" (problem, where, fix), "cancelled" or "bug" (problem, log).
"""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any

from dashboard.workspace import Workspace, new_id
from milcore.errors import Cancelled, MilError
from milcore.progress import Event, Progress

Work = Callable[[dict[str, Any], Workspace, Progress], str]

NEWS_SECONDS = 0.1  # between two messages about the same stage
IDLE_SECONDS = 0.5  # without a request before warming up


def serve(
    pipe: Connection, stop: Flag, root: str, kinds: Mapping[str, Work], warm: Callable[[], None] | None
) -> None:
    """Answers requests from `pipe` until it closes; from its first idle moment `warm` runs beside."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process itself
    workspace = Workspace(Path(root))
    warming = threading.Thread(target=warm or (lambda: None), daemon=True)
    while True:
        try:
            if warming.ident is None and not pipe.poll(IDLE_SECONDS):
                warming.start()
            message = pipe.recv()
            progress = Progress(_teller(pipe, warming), stop.is_set)
            pipe.send(_answer(message, kinds, workspace, progress))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # the server is gone


def _answer(
    message: dict[str, Any], kinds: Mapping[str, Work], workspace: Workspace, progress: Progress
) -> dict[str, Any]:
    """Runs one request; every way it can end is a message."""
    try:
        return {"is": "done", "result": kinds[message["kind"]](message["request"], workspace, progress)}
    except Cancelled:
        return {"is": "cancelled"}
    except MilError as error:
        return {"is": "failed", "problem": error.problem, "where": error.where, "fix": error.fix}
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        return {"is": "bug", "problem": f"{type(error).__name__}: {error}", "log": traceback.format_exc()}


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
        last_stage, last_at = event.stage, now
        pipe.send({"is": "event", "stage": event.stage, "share": event.share, "early": event.early})

    return tell


def read(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """Cell files, patients file and columns to a cohort in the workspace; returns its key."""
    from milcore.readers import Columns, read_cohort

    asked = request["columns"].items()
    named: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in asked}
    patients = Path(request["patients"]) if request["patients"] else None
    cells = [Path(file) for file in request["cells"]]
    cohort = read_cohort(cells, patients=patients, columns=Columns(**named), progress=progress)
    key = cohort.fingerprint[:16]
    with progress.stage("saving"):
        if not workspace.has_cohort(key):
            cohort.save(workspace.cohort(key))
    return key


def analyse(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """A cohort of the workspace and settings to an analysis in the workspace; returns its id."""
    from milcore.chain import analyse as run
    from milcore.cohort import Cohort
    from milcore.training import Settings

    cohort = Cohort.open(workspace.cohort(request["cohort"]))
    analysis = run(cohort, Settings.from_json(request["settings"]), progress)
    key = new_id(cohort.fingerprint, request["settings"])
    with progress.stage("saving"):
        analysis.save(workspace.analysis(key))
    return key


def warm() -> None:
    """Imports what jobs need and lets numba compile UMAP, so that the first job does not wait for it."""
    import numpy as np
    import umap

    import milcore.chain
    import milcore.readers  # noqa: F401

    umap.UMAP(n_neighbors=5, n_epochs=5, init="random").fit(np.random.default_rng(0).random((200, 5)))


KINDS_OF_MILSCOPE: Mapping[str, Work] = {"read": read, "analyse": analyse}
