"""The parts of a long step, done by this process, by threads, and by the workers of a cluster of which one dies."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pandas as pd
import pytest

from milcore import crew
from milcore.analysis import Analysis
from milcore.chain import WHOLE, analyse
from milcore.crew import Crew
from milcore.errors import Cancelled, MilError
from milcore.progress import Event, Progress
from milcore.training import Settings
from tests.planted import planted

Tell = Callable[[float], None]


def quiet(share: float) -> None:
    """Says nothing."""


class Posted(ThreadPoolExecutor):
    """Workers elsewhere, in so far as all that they get and answer is pickled; `most`: bytes of the largest parcel."""

    most = 0

    def submit(self, work: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        def there() -> Any:
            return self._sent(work(*self._sent(args)))

        return super().submit(there)

    def _sent(self, what: Any) -> Any:
        parcel = pickle.dumps(what)
        self.most = max(self.most, len(parcel))
        return pickle.loads(parcel)


def scaled(x: np.ndarray, factor: int, tell: Tell) -> tuple[float, np.ndarray]:
    tell(0.5)
    assert x.flags.writeable  # as torch wants it
    return float(x[0, 0]), x * factor


@pytest.mark.parametrize("threads", [1, 3, 0])
def test_answers_come_in_order_and_large_arrays_do_not_travel(threads: int, tmp_path: Path) -> None:
    x = np.arange(400_000, dtype=np.float32).reshape(-1, 4)
    posted = Posted(2)
    hands = Crew() if threads else Crew(posted, tmp_path)
    said: list[float] = []
    found = list(hands.each(scaled, [(x, k) for k in range(5)], said.append, threads=threads))
    for k, (first, product) in enumerate(found):
        assert first == 0
        np.testing.assert_array_equal(product, x * k)
    assert said == sorted(said)
    if not threads:
        assert 0 < posted.most < 2000
        assert len(list(tmp_path.iterdir())) == 1 + 5  # x was left once


def failing(k: int, tell: Tell) -> int:
    if k == 2:
        problem = "part 2"
        raise ValueError(problem)
    while k > 2:  # until somebody stops it
        tell(0.1)
        time.sleep(0.01)
    return k


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_part_that_fails_ends_the_others(elsewhere: bool, tmp_path: Path) -> None:  # noqa: FBT001
    folder = tmp_path / "shared"
    folder.mkdir()
    hands = Crew(Posted(4), folder) if elsewhere else Crew()
    with pytest.raises(ValueError, match="part 2"):
        list(hands.each(failing, [(k,) for k in (3, 2, 0, 1)], quiet, threads=4))
    if elsewhere:
        folder.rmdir()  # as at the end of a run: the part that still goes on hears of it
        hands.executor.shutdown()


@pytest.mark.parametrize("threads", [1, 2])
def test_work_in_this_process_is_stopped_from_outside(threads: int) -> None:
    def stop(share: float) -> None:
        raise Cancelled

    before = threading.active_count()
    with pytest.raises(Cancelled):
        list(Crew().each(failing, [(3,), (4,)], stop, threads=threads))
    assert threading.active_count() == before


# ---------------------------------------------------------------- dask

# Trained long enough for a worker to be caught at it.
SETTINGS = Settings(target="response", effort="standard", repeats=3)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[distributed.LocalCluster]:
    with distributed.LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as cluster:
        yield cluster


def workers(address: str, folder: Path, number: int) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    command += ["--no-dashboard", "--memory-limit", "0", "--local-directory", str(folder)]
    return [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(number)]


def analysed(progress: Progress, crew: Crew) -> Analysis:
    return analyse(planted(0, patients=12, cells=16).cohort, SETTINGS, progress, crew=crew)


def test_a_worker_that_dies_changes_nothing(
    scheduler: distributed.LocalCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two worker processes, one of which is killed while it trains; then a run that is stopped."""
    monkeypatch.setattr(
        "milcore.chain.umap_map", lambda cells, owner, **_: np.zeros((len(owner), 2), np.float32)
    )
    monkeypatch.setitem(WHOLE, "standard", 1)
    monkeypatch.setattr(crew, "TRAVELS", 1000)  # the cohort is small
    address, killed, heard = scheduler.scheduler_address, [], []
    both = workers(address, tmp_path, 2)
    try:
        with distributed.Client(address, set_as_default=False) as watcher:
            watcher.wait_for_workers(2, timeout=300)
            process = watcher.run(os.getpid)

            def tell(event: Event) -> None:
                heard.append(event)
                for worker, tasks in (
                    {} if killed or event.stage != "attention" else watcher.call_stack()
                ).items():
                    if not killed and any("in trained" in line for lines in tasks.values() for line in lines):
                        os.kill(process[worker], signal.SIGKILL)
                        killed.append(worker)

            with crew.cluster(address, tmp_path / "out") as hands:
                there = analysed(Progress(tell), hands)
            assert killed
            assert len(watcher.run(os.getpid)) == 1
            again = [
                one for one in scheduler.scheduler.transition_log if one[1:3] == ("processing", "released")
            ]
            assert again
            stages = {event.stage for event in heard if 0 < event.share < 1}
            assert {"neighbourhood", "attention", "validation", "whole null"} <= stages

            def stopped() -> bool:
                return heard[-1].stage == "attention" and heard[-1].share > 0

            heard.clear()
            with pytest.raises(Cancelled), crew.cluster(address, tmp_path / "out") as hands:
                analysed(Progress(heard.append, lambda: bool(heard) and stopped()), hands)
            while any(watcher.processing().values()):
                time.sleep(0.05)
    finally:
        for one in both:
            one.kill()
            one.wait()
    here = analysed(Progress(), Crew())
    pd.testing.assert_frame_equal(there.predictions, here.predictions, check_exact=True)
    pd.testing.assert_frame_equal(there.cells, here.cells, check_exact=True)
    for name in ("scores", "null", "pooling", "baselines"):
        assert there.facts[name] == here.facts[name]
    assert not list(tmp_path.glob(".out-*"))


def test_a_cluster_that_cannot_be_used_is_refused(
    scheduler: distributed.LocalCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refusal(address: str) -> str:
        with pytest.raises(MilError) as caught, crew.cluster(address, tmp_path / "out"):
            pass
        return str(caught.value)

    monkeypatch.setattr(crew, "PATIENCE", 0.5)
    assert "No scheduler of dask answers at 'tcp://127.0.0.1:9'" in refusal("tcp://127.0.0.1:9")
    assert "no workers" in refusal(scheduler.scheduler_address)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'milscope[cluster]'" in refusal("tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ModuleNotFoundError("No module named 'milcore'"), "cannot run Milscope"),
        ((False, {}), "does not see"),
        ((True, crew._versions() | {"numpy": "0.1"}), "has numpy 0.1"),
    ],
)
def test_a_worker_of_another_kind_is_named(answer: Any, words: str, tmp_path: Path) -> None:
    class Client:
        def run(self, work: Any, *args: Any, **_: Any) -> dict[str, Any]:
            return {"tcp://other:1": answer}

    with pytest.raises(MilError, match=words) as caught:
        crew._check(Client(), "tcp://host:8786", tmp_path)
    assert "tcp://other:1" in caught.value.problem
    assert caught.value.fix
