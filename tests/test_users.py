"""Where people log in, each has a workspace of their own: one user tries everything to reach another's."""

from __future__ import annotations

import fcntl
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import frame, state
from dashboard.jobs import Desk, Job, Jobs
from dashboard.workspace import Workspace
from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.progress import Progress
from tests.test_views import SCRIPT, words

ANALYSIS = "20260101-120000-abcdef"
ANNA, BEN = ({"iss": "https://id", "sub": who, "email": f"{who}@lab.org"} for who in ("anna", "ben"))


class User(dict):  # type: ignore[type-arg]
    is_logged_in = True


def secret(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """A job that writes into the workspace it is given, and says something in its log."""
    (workspace.root / "made.txt").write_text(request["name"])
    print(f"reading {request['name']}", flush=True)
    return "made"


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    jobs = Jobs(Workspace(tmp_path_factory.mktemp("users")), kinds={"read": secret}, warm=None)
    over(
        Desk(jobs), jobs.submit("read", {"name": "first"})
    )  # a worker that starts beside an AppTest would run its script
    yield jobs
    jobs.close()


@pytest.fixture
def be(queue: Jobs, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Logs another user in."""
    monkeypatch.setenv("MILSCOPE_WORKSPACE", str(queue.workspace.root))
    monkeypatch.setenv("MILSCOPE_LOGIN", "default")
    monkeypatch.setattr(state, "_jobs", lambda _: queue)
    monkeypatch.setattr(state.st, "secrets", {"milscope": {"quota_gb": 1e-3}})

    def log_in(who: dict[str, str]) -> Workspace:
        monkeypatch.setattr(state.st, "user", User(who))
        return state.workspace()

    return log_in


def cohort(names: list[str], *, seed: int) -> Cohort:
    rng = np.random.default_rng(seed)
    people = pd.DataFrame({"patient": names, "outcome": ["no", "yes"] * (len(names) // 2)})
    return Cohort.of(
        rng.normal(size=(len(names) * 5, 3)).astype(np.float32), np.repeat(names, 5), patients=people
    )


def page(view: str, **url: str) -> AppTest:
    at = AppTest.from_string(SCRIPT.format(view=view), default_timeout=120)
    for key, value in url.items():
        at.query_params[key] = value
    return at.run()


def over(jobs: Desk, key: str) -> Job:
    for _ in range(2400):
        job = jobs.get(key)
        assert job is not None
        if job.over:
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def test_two_users_share_no_folder(be: Any) -> None:
    anna, ben = be(ANNA).root, be(BEN).root
    assert anna != ben
    assert anna.parent == ben.parent == state.places.chosen().root / "users"
    assert json.loads((anna / "user.json").read_text())["email"] == "anna@lab.org"
    assert be({**ANNA, "email": "new@lab.org"}).root == anna, "who a user is does not hang on an address"
    assert be({**ANNA, "iss": "https://other"}).root not in (anna, ben)
    assert be({"email": "../../ben"}).root.parent == anna.parent
    with pytest.raises(MilError, match="neither who you are"):
        be({"iss": "https://id"})


def test_a_link_of_another_shows_nothing(be: Any) -> None:
    made = cohort([f"SECRET{k}" for k in range(6)], seed=1)
    key = made.fingerprint[:16]
    made.save(be(ANNA).cohort(key))
    assert key in page("train", cohort=key).query_params.get("cohort", [])
    be(BEN)
    for view in frame.VIEWS:
        at = page(view, cohort=key, analysis=ANALYSIS, patient="SECRET1")
        assert not at.exception
        assert "SECRET" not in words(at)
        assert "cohort" not in at.query_params, "the URL is brought back to what this user may see"


def test_one_name_in_two_workspaces_is_two_things(be: Any) -> None:
    """The caches of the server are asked for the same key by both."""
    names = {}
    for who, prefix in ((ANNA, "A"), (BEN, "B"), (ANNA, "A")):
        home = be(who)
        if not home.has_cohort("samekey1"):
            cohort([f"{prefix}{k}" for k in range(6)], seed=2).save(home.cohort("samekey1"))
        state_of = state._cohort(str(home.root), "samekey1")
        names[prefix] = state_of.patients["patient"][0]
    assert names == {"A": "A0", "B": "B0"}


def test_jobs_of_another_are_not_there(be: Any) -> None:
    anna = be(ANNA)
    mine = state.jobs()
    key = mine.submit("read", {"name": "anna.csv"}, owner="anna@lab.org")
    assert over(mine, key).result == "made"
    assert (anna.root / "made.txt").read_text() == "anna.csv", "it works in her workspace"
    assert "reading anna.csv" in mine.log(key)
    ben = be(BEN)
    other = state.jobs()
    assert (other.get(key), other.every(), other.log(key), other.maker("read", "made")) == (
        None,
        [],
        "",
        None,
    )
    other.cancel(key)
    other.enough(key)
    same = other.submit("read", {"name": "anna.csv"}, owner="ben@lab.org")
    assert same != key, "the same request of another user is another job"
    over(other, same)
    assert (ben.root / "made.txt").is_file()
    assert [job.id for job in mine.every()] == [key]


def test_a_share_of_the_disk(be: Any) -> None:
    home = be(BEN)
    home.keep_upload("a.csv", io.BytesIO(b"x" * 600_000))
    state.afford(100_000)
    with pytest.raises(MilError, match="fill your share"):
        state.afford(600_000)
    be(ANNA)
    state.afford(600_000)


def test_a_full_share_takes_no_training(be: Any) -> None:
    home, made = be(ANNA), cohort([f"P{k}" for k in range(6)], seed=4)
    key = made.fingerprint[:16]
    made.save(home.cohort(key))

    def train() -> Any:
        return next(button for button in page("train", cohort=key).button if button.label == "Train")

    assert not train().disabled
    home.keep_upload("b.csv", io.BytesIO(b"x" * 990_000))
    assert train().disabled
    assert "fill your share" in words(page("train", cohort=key))


def test_a_disk_without_locks_is_a_problem_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(MilError, match="knows no locks"):
        Workspace(tmp_path).claim()


@pytest.mark.parametrize("view", ["cohort", "predictions", "analyses"])
def test_a_cohort_of_another_version_is_a_card(
    view: str, queue: Jobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MILSCOPE_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(state, "_jobs", lambda _: queue)
    made = cohort([f"P{k}" for k in range(6)], seed=3)
    key = made.fingerprint[:16]
    folder = made.save(Workspace(tmp_path).cohort(key)).path
    assert folder is not None
    facts = json.loads((folder / "cohort.json").read_text()) | {"version": 0}
    (folder / "cohort.json").write_text(json.dumps(facts))
    at = page(view, cohort=key)
    assert not at.exception
    assert "version 0" in words(at) or view == "analyses"
