"""Starting the dashboard's server: who may reach it, which workspace is its own, and with which flags it runs."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from dashboard.journal import Journal
from dashboard.workspace import chosen
from milcore.errors import MilError

APP = Path(__file__).with_name("app.py")
HERE_ONLY = ("127.0.0.1", "localhost", "::1")
PORTS = 100  # tried, from the wanted one on
OF_ALL = ("redirect_uri", "cookie_secret")  # keys of [auth]
OF_EACH = ("client_id", "client_secret", "server_metadata_url")  # of each provider, or of [auth] itself
FOR_LOGIN = ("authlib", "httpx")  # modules; without the second the login page is shown and no login succeeds
FLAGS = {
    "server.headless": "true",
    "server.showEmailPrompt": "false",
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",  # which is the check of the origin
    "server.enableStaticServing": "false",
    "browser.gatherUsageStats": "false",
}


def start(
    workspace: Path | None,
    host: str,
    port: int,
    *,
    data: Sequence[Path],
    limits: Mapping[str, int],
    insecure: bool,
    url: str = "",
) -> NoReturn:
    """Becomes the server. `limits`: `workers` at once, and the largest `upload` in MB; `url`: where a proxy offers it,
    if one does. MilError when others could reach it without a login, when the workspace is in use or cannot be written,
    or when no port is free."""
    elsewhere = behind(url)
    providers = () if insecure else login(folders())
    if host not in HERE_ONLY and not providers and not insecure:
        problem = f"'{host}' may be reached by other computers, and there is no login."
        fix = "Leave --host out, set up a login (README, Security), or accept this with --insecure-no-login."
        raise MilError(problem, "--host", fix)
    home = chosen(workspace)
    lock = home.claim()
    os.set_inheritable(lock.fileno(), True)  # noqa: FBT003 (held on when this process becomes Streamlit)
    port = free_port(host, port)
    environment = {
        "MALLOC_ARENA_MAX": "2",  # glibc keeps what threads gave back, for each: a quarter more memory after a busy day
        **os.environ,
        "MILSCOPE_WORKSPACE": str(home.root),
        "MILSCOPE_WORKERS": str(limits["workers"]),
        "MILSCOPE_LOGIN": ",".join(providers),
    }
    if data:
        environment["MILSCOPE_DATA"] = os.pathsep.join(str(folder.absolute()) for folder in data)
    shown = f"[{host}]" if ":" in host else host
    print(f"Milscope: {url or f'http://{shown}:{port}'}  (Ctrl-C ends it; research use only)", flush=True)
    Journal(home.root).note("server", host=host, port=port, **limits, login=",".join(providers))
    flags = FLAGS | {"server.address": host, "server.port": str(port)} | elsewhere
    flags["server.maxUploadSize"] = str(limits["upload"])
    command = [sys.executable, "-m", "streamlit", "run", str(APP)]
    command += [f"--{name}={value}" for name, value in flags.items()]
    os.execve(sys.executable, command, environment)  # the same process: signals reach Streamlit


def behind(url: str) -> dict[str, str]:
    """Flags for a server that people reach under another address, perhaps with a path; only from there pages may talk
    to it. MilError where that is no address."""
    if not url:
        return {}
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        parts, port = urlsplit(""), 0
    if not parts.hostname or parts.query or parts.fragment:
        problem = f"'{url}' is no address."
        raise MilError(problem, "--url", "Write it like https://lab.example.org/milscope.")
    return {
        "browser.serverAddress": parts.hostname,
        "browser.serverPort": str(port),
        "server.baseUrlPath": parts.path.strip("/"),
    }


def folders() -> tuple[Path, ...]:
    """Where Streamlit looks for its secrets, the last word last."""
    return Path.home(), Path.cwd(), APP.parent


def login(places: Sequence[Path]) -> tuple[str, ...]:
    """The providers through which people log in, of `.streamlit/secrets.toml` below `places`; none when it has no
    [auth]. MilError when what it has is not enough."""
    auth: dict[str, Any] = {}
    file = Path()
    for place in places:
        path = place / ".streamlit" / "secrets.toml"
        if path.is_file() and (found := _toml(path).get("auth")):
            auth, file = found, path
    if not auth:
        return ()
    named = {
        name: value for name, value in auth.items() if isinstance(value, dict) and name != "client_kwargs"
    }
    every = named or {"default": auth}
    for name, provider in every.items():
        missing = [key for key in OF_ALL if not auth.get(key)]
        missing += [key for key in OF_EACH if not provider.get(key)]
        if missing:
            problem = f"The login '{name}' has no {', '.join(missing)}."
            raise MilError(problem, str(file), "Add what is missing to [auth] (README, Security).")
    if lacking := [name for name in FOR_LOGIN if importlib.util.find_spec(name) is None]:
        problem = (
            f"A login is set up, but what Streamlit needs for it is not installed: {', '.join(lacking)}."
        )
        raise MilError(problem, str(file), "Install it: pip install 'milscope[login]'.")
    return tuple(every)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problem = f"The secrets cannot be read: {error}"
        raise MilError(problem, str(path), "Mend the file, or remove it.") from None


def free_port(host: str, wanted: int) -> int:
    """The first port from `wanted` on that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(wanted, min(wanted + PORTS, 65536)):
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError:
                continue
            return port
    problem = f"None of the ports {wanted} to {wanted + PORTS - 1} of '{host}' can be used."
    raise MilError(problem, "--host, --port", "Name an address of this computer and a free port.")
