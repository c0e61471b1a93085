"""A worker process as the server sees it: started, spoken to through a pipe, and found dead."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from dashboard import worker

STARTING_SECONDS = 120.0  # a worker that has not said it is ready by then never will


class Process:
    """A spawned worker and the pipe to it. OSError when this computer cannot start one."""

    def __init__(
        self, root: str, kinds: Mapping[str, worker.Work], warm: Callable[[], None] | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.stop, self.enough = context.Event(), context.Event()
        self.ready = False
        self._pipe, far = context.Pipe()
        self._process = context.Process(
            target=worker.serve, args=(far, self.stop, self.enough, root, kinds, warm), daemon=True
        )
        self._process.start()
        far.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def send(self, message: dict[str, Any]) -> None:
        """Hands over a request; to a dead process nothing is said, `news` tells of its death."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(message)

    def news(self, seconds: float) -> dict[str, Any] | None:
        """The next message, None if there is none yet; the worker's death is a message too ("dead")."""
        wait([self._pipe, self._process.sentinel], timeout=seconds)
        try:
            if self._pipe.poll():
                message: dict[str, Any] = self._pipe.recv()
                self.ready = True
                return message
        except (EOFError, ConnectionResetError):
            self._process.join()
        return None if self._process.is_alive() else self.death()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.join()

    def death(self) -> dict[str, Any]:
        """The message a dead worker can no longer send."""
        code = self._process.exitcode
        fix = "Try once more. If it happens again, please report it."
        if not self.ready:
            problem = f"The process that does the work could not start (exit code {code})."
            fix = "What the server printed says why. Mend that, then start it again."
        elif code == -signal.SIGKILL:
            problem = "The process that did the work was killed."
            fix = "The usual reason is too little memory. Use fewer cells or features, or more memory."
        elif code is not None and code < 0:
            problem = f"The process that did the work crashed ({signal.Signals(-code).name})."
        else:
            problem = f"The process that did the work ended unexpectedly (exit code {code})."
        return {"is": "dead", "problem": problem, "where": "Nothing half-finished was kept.", "fix": fix}
