"""Who does the parts of a long step: this process, or the workers of a cluster.

A part is done by a function that stands in a module, from arguments that can be pickled, and comes out the same whoever
does it. What workers elsewhere need beyond a megabyte does not travel: it is left in a folder that all of them see, and
opened there by memory map; so is what they answer.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from milcore.errors import Cancelled, MilError
from milcore.folder import refused

__all__ = ["HERE", "THREADS", "Crew", "cluster"]

THREADS = torch.get_num_threads()  # of this process, as OMP_NUM_THREADS has it
TRAVELS = 1 << 20  # bytes of the largest array that is sent
POLL = 0.1  # seconds between two words of how far the parts are
PATIENCE = 20  # seconds until a scheduler has answered
ALIKE = ("milscope", "numpy", "scipy", "torch")  # in the same versions on all workers, for the same numbers

Tell = Callable[[float], None]
Work = Callable[..., Any]


@dataclass(frozen=True)
class _Left:
    """An array that was left in a file."""

    file: Path


@dataclass(eq=False)
class Crew:
    """This process, or the workers behind `executor`, who see `folder` under the same path."""

    executor: Executor | None = None
    folder: Path = Path()
    _left: dict[int, tuple[np.ndarray, _Left]] = field(default_factory=dict)

    def each(
        self, work: Work, parts: Sequence[tuple[Any, ...]], share: Tell, *, threads: int = 1
    ) -> Generator[Any]:
        """work(*part, tell) of every part, in order. `share` hears how much of all is done, and stops it by raising, as
        does whoever asks for no more; `tell` is the part's own word, and how it hears of that. Without workers
        elsewhere, so many `threads`."""
        if self.executor is not None:
            return self._elsewhere(self.executor, work, parts, share)
        return _side_by_side(work, parts, share, threads) if threads > 1 else _in_turn(work, parts, share)

    def _elsewhere(
        self, executor: Executor, work: Work, parts: Sequence[tuple[Any, ...]], share: Tell
    ) -> Generator[Any]:
        runs = [executor.submit(_done, self.folder, work, self._sent(part)) for part in parts]
        try:
            for answer in _in_order(runs, lambda: share(sum(run.done() for run in runs) / len(runs))):
                yield tuple(map(_opened, answer)) if isinstance(answer, tuple) else _opened(answer)
        except CancelledError:
            problem = "The scheduler of the cluster is gone, or has dropped the work."
            raise MilError(problem, "--cluster", "See what it says, and start again.") from None
        except Exception as error:
            if type(error).__name__ != "KilledWorker":  # of dask, which may not be installed
                raise
            problem = f"One part of the work has ended several workers: {error}"
            fix = "They may lack memory: see the logs of the workers, and give them more."
            raise MilError(problem, "--cluster", fix) from None
        finally:
            for run in runs:
                run.cancel()

    def _sent(self, part: tuple[Any, ...]) -> tuple[Any, ...]:
        """Large arrays are left in the folder, each of them once."""
        return tuple(self._once(one) if _large(one) else one for one in part)

    def _once(self, array: np.ndarray) -> _Left:
        if id(array) not in self._left:  # which holds the array, so that its id is not given to another
            self._left[id(array)] = (array, _leave(array, self.folder))
        return self._left[id(array)][1]


HERE = Crew()


@contextmanager
def cluster(address: str, beside: Path) -> Iterator[Crew]:
    """The workers of dask's scheduler at such an address as tcp://host:8786. What they share lies in a folder beside
    `beside`, which goes at the end, and with it the work that nobody waits for any more.

    MilError where dask is not installed, no scheduler answers, it has no workers, or a worker cannot see the folder or
    has other versions.
    """
    client = _client(address)
    where = beside.absolute()
    with refused(where):
        where.parent.mkdir(parents=True, exist_ok=True)
    hidden = f".{where.name}-{os.getpid()}-"
    with (
        client,
        tempfile.TemporaryDirectory(prefix=hidden, dir=where.parent, ignore_cleanup_errors=True) as folder,
    ):
        _check(client, address, Path(folder))
        yield Crew(client.get_executor(pure=False), Path(folder))


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        problem = "Work on a cluster needs dask.distributed, which is not installed."
        raise MilError(
            problem, f"--cluster {address}", "Install it: pip install 'milscope[cluster]'."
        ) from None
    try:
        return Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        problem = f"No scheduler of dask answers at '{address}': {error}"
        fix = "Start one with 'dask scheduler', and give the address that it prints."
        raise MilError(problem, "--cluster", fix) from None


def _check(client: Any, address: str, folder: Path) -> None:
    """MilError unless there are workers, all of which see the folder and would give the same numbers."""
    own, told = _versions(), folder / "here"
    told.touch()
    workers = client.run(_seen, told, on_error="return")
    if not workers:
        problem = "The cluster has no workers."
        raise MilError(problem, f"--cluster {address}", f"Start some: dask worker {address} --nthreads 1.")
    for worker, found in workers.items():
        if isinstance(found, Exception):
            problem = f"The worker {worker} cannot run Milscope: {found}"
            raise MilError(problem, f"--cluster {address}", "Install it there as it is installed here.")
        sees, versions = found
        if not sees:
            problem = f"The worker {worker} does not see '{folder.parent}'."
            fix = "Name a folder for --out on storage that all workers share, under the same path."
            raise MilError(problem, "--out", fix)
        for name, number in own.items():
            if versions[name] != number:
                problem = f"The worker {worker} has {name} {versions[name]}, and this computer {number}."
                fix = "Install the same on both, or numbers may differ (constraints.txt names them)."
                raise MilError(problem, f"--cluster {address}", fix)


def _seen(file: Path) -> tuple[bool, dict[str, str]]:
    """On a worker: whether it sees a file, and its versions."""
    return file.exists(), _versions()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ALIKE}


def _done(folder: Path, work: Work, part: tuple[Any, ...]) -> Any:
    """On a worker: a part, and what of the answer is large left in the folder."""

    def tell(done: float) -> None:
        if not folder.exists():  # nobody waits any more
            raise Cancelled

    tell(0.0)
    answer = work(*map(_opened, part), tell)
    if isinstance(answer, tuple):
        return tuple(_leave(one, folder) if _large(one) else one for one in answer)
    return _leave(answer, folder) if _large(answer) else answer


def _large(one: Any) -> bool:
    return isinstance(one, np.ndarray) and one.nbytes > TRAVELS


def _leave(array: np.ndarray, folder: Path) -> _Left:
    """Under a name of its own: a worker may die meanwhile, and another does the part anew."""
    file = folder / f"{secrets.token_hex(8)}.npy"
    with file.open("xb") as out:
        np.save(out, array, allow_pickle=False)
    return _Left(file)


def _opened(one: Any) -> Any:
    """An array that was left, mapped: what is written to it stays in this process. Anything else as it is."""
    return np.load(one.file, mmap_mode="c", allow_pickle=False) if isinstance(one, _Left) else one


def _in_turn(work: Work, parts: Sequence[tuple[Any, ...]], share: Tell) -> Generator[Any]:
    for i, part in enumerate(parts):

        def tell(done: float, i: int = i) -> None:
            share((i + done) / len(parts))

        tell(0.0)
        answer = work(*part, tell)
        tell(1.0)
        yield answer


def _side_by_side(work: Work, parts: Sequence[tuple[Any, ...]], share: Tell, threads: int) -> Generator[Any]:
    """In threads; only this one reports, and when it is stopped (or fails) the others stop at their next word."""
    done, halt = [0.0] * len(parts), threading.Event()

    def run(i: int) -> Any:
        def tell(part: float) -> None:
            if halt.is_set():
                raise Cancelled
            done[i] = part

        tell(0.0)
        return work(*parts[i], tell)

    with ThreadPoolExecutor(max(1, min(threads, len(parts)))) as pool:
        runs = [pool.submit(run, i) for i in range(len(parts))]
        try:
            yield from _in_order(runs, lambda: share(sum(done) / len(parts)))
        finally:
            halt.set()


def _in_order(runs: list[Future[Any]], say: Callable[[], None]) -> Iterator[Any]:
    """What the runs answer; one that fails is heard at once."""
    waiting = deque(runs)
    while waiting:
        while not waiting[0].done() and not any(map(_failed, waiting)):
            say()
            wait([waiting[0]], timeout=POLL)
        yield next(filter(_failed, waiting), waiting[0]).result()
        waiting.popleft()


def _failed(run: Future[Any]) -> bool:
    return run.done() and (run.cancelled() or run.exception() is not None)
