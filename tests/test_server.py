"""The server: who may reach it, and that it is refused rather than left open."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from websockets.exceptions import InvalidStatus

from dashboard.doctor import findings
from dashboard.server import FLAGS, FOR_LOGIN, behind, login
from dashboard.workspace import Workspace
from milcore.errors import MilError
from milcore.folder import aside
from tests import load
from tests.browsing import served
from tests.provider import configured, provider
from tests.tiny import milscope
from tests.visitor import Visitor

AUTH = configured("http://there", "http://here")


def secrets(place: Path, text: str) -> Path:
    (place / ".streamlit").mkdir(exist_ok=True)
    (place / ".streamlit" / "secrets.toml").write_text(text)
    return place


def test_a_login_is_read_where_streamlit_reads_it(tmp_path: Path) -> None:
    assert login([tmp_path]) == ()
    assert login([secrets(tmp_path, "[other]\nx = 1\n")]) == ()
    assert login([secrets(tmp_path, AUTH)]) == ("default",)
    named = AUTH.replace("client_id", "[auth.clinic]\nclient_id")
    assert login([secrets(tmp_path, named)]) == ("clinic",)


@pytest.mark.parametrize("key", ["redirect_uri", "cookie_secret", "client_secret", "server_metadata_url"])
def test_half_a_login_is_none(tmp_path: Path, key: str) -> None:
    lines = [line for line in AUTH.splitlines() if not line.startswith(key)]
    with pytest.raises(MilError, match=f"has no {key}"):
        login([secrets(tmp_path, "\n".join(lines))])
    with pytest.raises(MilError, match="secrets cannot be read"):
        login([secrets(tmp_path, "[auth")])


@pytest.mark.parametrize("module", FOR_LOGIN)
def test_a_login_needs_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(MilError, match=f"not installed: {module}"):
        login([secrets(tmp_path, AUTH)])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Workspace]]:
    """Address, provider of the login and workspace of a Milscope for which Anna and Ben have each made an analysis."""
    home = Workspace(tmp_path_factory.mktemp("lab") / "home")
    with provider() as issuer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "milcore.projection.umap_map", lambda _, owner, **__: np.eye(2, dtype=np.float32)[owner % 2]
        )
        for who in ("anna", "ben"):
            load.prepare(home, issuer, who, patients=8, cells=400)
        with served(home.root, provider=issuer) as address:
            yield address, issuer, home
    home.claim().close()  # ended, so free again


def test_two_servers_on_one_workspace(lab: tuple[str, str, Workspace]) -> None:
    address, _, home = lab
    with urllib.request.urlopen(f"{address}/_stcore/health", timeout=10) as answer:
        assert answer.read() == b"ok"
    second = milscope("serve", "--workspace", home.root)
    assert second.returncode == 2
    assert "Another Milscope is at work in this workspace (process " in second.stderr
    lines = [json.loads(line) for line in (home.root / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["server"]


def test_people_who_log_in_see_their_own_work_alone(lab: tuple[str, str, Workspace]) -> None:
    """The short version of `make load`: real logins, real websockets, every view."""
    address, issuer, home = lab
    cookies = {who: load.enter(address, who) for who in ("anna", "ben", "carl")}
    places = {who: load.of_user(home, issuer, who) for who in cookies}
    anna, ben = (load.open_tab(address, places[who], who, cookies[who], 1) for who in ("anna", "ben"))
    with anna.visitor, ben.visitor:
        for step in load.STEPS:
            anna.step(step)
            if step.startswith(("Predictions", "Patient")):
                ben.step(step)
        assert anna.wrong == ben.wrong == []
        assert min(anna.own, ben.own) >= 3, "the search finds the names of one's own patients"
    stolen = dict(parse_qsl(anna.visitor.query))
    assert {"cohort", "analysis"} <= set(stolen)
    with Visitor(address, cookies=cookies["carl"], **stolen) as carl:
        assert not carl.go().errors
        assert "Try the sample cohort" in carl.labels(), "a link of Anna's opens nothing for Carl"
        assert load.mark("anna") not in carl.words()
        assert "carl@lab.org" in carl.words()
        carl.press("Log out")
        assert carl.redirect == "/auth/logout"


def test_a_login_that_nobody_gave_is_none(lab: tuple[str, str, Workspace]) -> None:
    address, _, _ = lab
    good = load.enter(address, "anna")
    forged = good | {"_streamlit_user": f"{good['_streamlit_user'][:-4]}AAAA"}
    for cookies in ({}, forged):
        with Visitor(address, cookies=cookies) as visitor:
            visitor.go()
            assert visitor.labels() == ["Log in"]
    with pytest.raises(InvalidStatus, match="403"):  # a page from elsewhere in the user's browser
        Visitor(address, cookies=good, origin="http://elsewhere.example")


def test_the_lock_goes_with_a_killed_server(tmp_path: Path) -> None:
    code = "import sys, time; from dashboard.workspace import chosen; kept = chosen().claim(); print(1, flush=True); "
    run = [sys.executable, "-c", code + "time.sleep(60)"]
    environment = os.environ | {"MILSCOPE_WORKSPACE": str(tmp_path)}
    with subprocess.Popen(run, stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        server.stdout.readline()
        with pytest.raises(MilError, match=f"process {server.pid} on"):
            Workspace(tmp_path).claim()
        server.send_signal(signal.SIGKILL)
    Workspace(tmp_path).claim().close()


def test_nothing_is_shown_before_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILSCOPE_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("MILSCOPE_LOGIN", "default")
    monkeypatch.chdir(secrets(tmp_path, AUTH))
    at = AppTest.from_file(str(Path(__file__).parents[1] / "dashboard" / "app.py"), default_timeout=60)
    at.run()
    assert not at.exception
    assert [button.label for button in at.button] == ["Log in"]
    assert "Log in to use Milscope" in str([element.proto for element in at.main.children.values()])


@pytest.mark.parametrize(
    ("user", "allowed", "may"),
    [
        ({"email": "A@clinic.org"}, [], True),
        ({"email": "A@clinic.org"}, ["a@clinic.org"], True),
        ({"email": "a@clinic.org"}, ["@clinic.org"], True),
        ({"email": "a@evilclinic.org"}, ["@clinic.org"], False),
        ({"email": "a@clinic.org", "email_verified": False}, ["@clinic.org"], False),
        ({"email": "b@clinic.org"}, ["a@clinic.org"], False),
        ({}, ["@clinic.org"], False),
        (None, [], False),
    ],
)
def test_who_is_admitted(
    monkeypatch: pytest.MonkeyPatch, user: dict[str, object] | None, allowed: list[str], *, may: bool
) -> None:
    from dashboard import state

    class User(dict):  # type: ignore[type-arg]
        is_logged_in = user is not None

    monkeypatch.setenv("MILSCOPE_LOGIN", "default")
    monkeypatch.setattr(state.st, "user", User(user or {}))
    monkeypatch.setattr(state.st, "secrets", {"milscope": {"allow": allowed}})
    assert state.admitted() is may


def test_a_proxy_offers_it_elsewhere() -> None:
    flags = behind("https://lab.example.org/tools/milscope/")
    assert flags["browser.serverAddress"] == "lab.example.org"
    assert (flags["browser.serverPort"], flags["server.baseUrlPath"]) == ("443", "tools/milscope")
    assert behind("http://lab:8080")["browser.serverPort"] == "8080"
    assert behind("") == {}
    for wrong in ("lab.example.org/milscope", "ftp://lab", "https://lab:x", "https://lab/?a=1"):
        with pytest.raises(MilError, match="is no address"):
            behind(wrong)


def test_flags_that_keep_it_safe() -> None:
    assert FLAGS["server.enableXsrfProtection"] == FLAGS["server.enableCORS"] == "true"
    assert FLAGS["browser.gatherUsageStats"] == "false"


def test_the_doctor_finds_damage_in_the_largest_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.doctor._self_test", lambda: None)
    home = Workspace(tmp_path)
    for key in ("good", "harmed"):
        with aside(home.analysis(key)) as part:
            (part / "analysis.json").write_text("{}")
            (part / "large.npy").write_bytes(bytes(5 << 20))
    (home.analysis("harmed") / "large.npy").write_bytes(b"1" * (5 << 20))
    found = {(each.state, each.about): each.words for each in findings(home) if each}
    assert found["good", "analyses"] == "1 of 2 hold what was written to them"
    assert found["bad", "analysis"] == "harmed: 'large.npy' does not hold what was written"


def test_the_doctor_tries_itself(tmp_path: Path) -> None:
    *_, last = findings(Workspace(tmp_path / "none"))
    assert (last.state, last.about) == ("good", "self-test"), last.words
    assert "planted cells found" in last.words
    assert not (tmp_path / "none").exists()
