"""The short version of `make faults`: two workers and two servers, killed in the middle of real work."""

from __future__ import annotations

from pathlib import Path

from tests.faults import under_fire


def test_killed_in_the_middle_of_work(tmp_path: Path) -> None:
    aims = ["reading", "training"]
    kills = under_fire(tmp_path, aims, aims, cells=1600, train=False)
    assert [(kill.who, kill.aim) for kill in kills] == [
        (who, aim) for who in ("worker", "server") for aim in aims
    ]
    assert all(kill.stage for kill in kills)
