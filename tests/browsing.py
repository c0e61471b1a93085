"""A really served page and a Chromium that drives it: shared by the browser tests and the screenshots."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.provider import configured

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
MINUTES = 60_000  # in milliseconds, as Playwright counts


@contextmanager
def served(
    workspace: Path, *, data: Path | None = None, provider: str = "", workers: int = 1
) -> Iterator[str]:
    """The address of a Milscope that serves `workspace`, to those who log in with the `provider` where there is one;
    it is stopped at the end."""
    port = free_port()
    if provider:
        secrets = workspace.parent / ".streamlit" / "secrets.toml"
        secrets.parent.mkdir(exist_ok=True)
        secrets.write_text(configured(provider, f"http://127.0.0.1:{port}"), encoding="utf-8")
    command = ["serve", "--port", str(port), "--workspace", str(workspace), "--workers", str(workers)]
    command += ["--data", str(data)] if data else []
    run = [sys.executable, "-c", "from dashboard.cli import main; main()", *command]
    with running(run, port, log=workspace.parent / f"{workspace.name}.log") as address:
        yield address


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, *, log: Path, **environment: str) -> Iterator[str]:
    """The address of a Streamlit server that `command` starts; it is stopped at the end."""
    known = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=known, cwd=log.parent)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_healthy(address, server, log)
        yield address
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise AssertionError(log.read_text())
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@contextmanager
def browser(chromium: str, *, width: int = 1280, dark: bool = False) -> Iterator[Page]:
    """A page of a fresh Chromium. Afterwards its `strays` are checked: requests that left this machine, dialogs."""
    strays: list[str] = []
    with sync_playwright() as play:
        program = play.chromium.launch(executable_path=chromium, args=FLAGS)
        scheme = "dark" if dark else "light"
        context = program.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(2 * MINUTES)
        page.on("request", lambda request: strays.append(request.url) if _leaves(request.url) else None)
        page.on("dialog", lambda dialog: (strays.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: strays.append(f"script error: {error}"))
        try:
            yield page
        except Exception as failure:
            failure.add_note(f"The page said: {page.inner_text('body')[:3000]}")
            raise
        finally:
            program.close()
    assert not strays, strays


def _leaves(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


def open_sample(page: Page, address: str) -> None:
    """From the empty page to the sample cohort."""
    page.goto(address)
    page.get_by_role("button", name="Try the sample cohort").click()
    page.get_by_role("button", name="Choose a target and train").wait_for()


def to_train(page: Page) -> None:
    """From the Cohort view to the form of the Train view."""
    page.get_by_role("button", name="Choose a target and train").click()
    page.get_by_role("button", name="Train", exact=True).wait_for()


def choose(page: Page, label: str, option: str) -> None:
    """Chooses an option of a menu; a page that still runs would close it again."""
    settle(page)
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()
    settle(page)


def go(page: Page, view: str) -> None:
    """To another view by the list on the left."""
    page.get_by_test_id("stSidebar").get_by_role("link", name=view).click()
    settle(page)


def settle(page: Page) -> None:
    """Waits until the page has stopped running and every chart is drawn."""
    page.wait_for_timeout(400)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
        " && !document.querySelector('[data-stale=true]')"
        " && [...document.querySelectorAll('.stPlotlyChart')].every(c => c.querySelector('.main-svg'))"
    )
    page.wait_for_timeout(400)


def upload(page: Page, place: int, path: Path) -> None:
    """Puts a file into the uploader at `place` and waits until the page has it: a click before that can be lost."""
    with page.expect_response(lambda response: "upload_file" in response.url):
        page.locator("input[type=file]").nth(place).set_input_files(path)
    settle(page)


def finding(page: Page) -> str:
    """The sentence a view opens with."""
    return page.locator(".mil-finding").first.inner_text()
