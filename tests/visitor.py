"""A tab of a browser without the browser: it speaks Streamlit's protocol over a real websocket, and keeps what it saw.

Twenty Chromiums do not fit on a small computer; twenty of these do. What a browser would draw is not looked at here.
"""

from __future__ import annotations

import json
import time
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

DONE = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)
SECONDS = 120.0  # within which a run must end
XSRF = "_streamlit_xsrf"


@dataclass
class Answer:
    """What came back for one request: how long it took, how much it was, what went wrong, and every byte."""

    seconds: float = 0.0
    received: bytes = b""
    errors: list[str] = field(default_factory=list)


class Visitor:
    """One tab. `cookies` are those of a browser that has logged in, `query` is what the URL says, `origin` the page
    that opens the socket, if it is not the server's own."""

    def __init__(
        self, address: str, *, cookies: dict[str, str] | None = None, origin: str = "", **query: str
    ) -> None:
        self.query = urlencode(query)
        self.elements: dict[tuple[int, ...], Any] = {}  # the page as it stands
        self.repeating: dict[str, float] = {}  # fragment -> seconds after which it wants to run again
        self.redirect = ""  # where the page leads to, as for a login
        self.view = ""
        self._pages: dict[str, str] = {}
        self._page = ""
        self._fragments: dict[str, str] = {}  # widget -> the fragment that it stands in
        self._kept: dict[str, ForwardMsg] = {}  # messages that the server need not send again
        token = _xsrf(address)
        cookies = {**(cookies or {}), XSRF: token}
        opening = connect(
            f"{address.replace('http', 'ws', 1)}/_stcore/stream",
            origin=origin or address,  # type: ignore[arg-type]
            subprotocols=["streamlit", token],  # type: ignore[list-item]
            additional_headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())},
            max_size=None,
            open_timeout=SECONDS,
        )
        self._open = ExitStack()
        self._socket = self._open.enter_context(opening)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """As when the tab is closed."""
        self._open.close()

    # ---------------------------------------------------------------- what a person does

    def go(self, view: str = "") -> Answer:
        """To a view, "" for the one the address leads to."""
        self._page = self._pages.get(view, "")
        return self._run(page_name="" if self._page else view)

    def choose(self, label: str, option: str) -> Answer:
        """Takes an option of a menu."""
        return self._change(self.find("selectbox", label).id, string_value=option)

    def press(self, label: str) -> Answer:
        """Presses a button."""
        return self._change(self.find("button", label).id, trigger_value=True)

    def draw(self, selection: str, turn: int) -> Answer:
        """Draws a line around cells, as the maps tell of it."""
        told = {"selection": {"text": selection, "turn": turn}}
        return self._change(self.find("bidi_component", "").id, json_value=json.dumps(told))

    def again(self) -> Answer:
        """What repeats by itself, once more."""
        return self._run(fragment_id=next(iter(self.repeating)), is_auto_rerun=True)

    def find(self, kind: str, label: str) -> Any:
        """The element of this kind and label. AssertionError when the page has none."""
        shown = [e for e in self.elements.values() if e[0] == kind and getattr(e[1], "label", "") == label]
        assert shown, f"no {kind} '{label}' on this page: {self.labels()}"
        return shown[0][1]

    def labels(self) -> list[str]:
        """The names of what can be used on the page."""
        return [label for _, element in self.elements.values() if (label := getattr(element, "label", ""))]

    def words(self) -> str:
        """All text of the page, markup among it."""
        return "\n".join(str(element) for _, element in self.elements.values())

    # ---------------------------------------------------------------- the protocol

    def _change(self, widget: str, **value: Any) -> Answer:
        fragment = self._fragments.get(widget, "")
        return self._run(WidgetState(id=widget, **value), fragment_id=fragment)

    def _run(self, *widgets: WidgetState, **asked: Any) -> Answer:
        """Asks for a run of the page and takes in all that comes until it has ended."""
        message = BackMsg()
        request = message.rerun_script
        request.query_string, request.page_script_hash = self.query, self._page
        request.cached_message_hashes.extend(self._kept)
        request.widget_states.widgets.extend(widgets)
        for name, value in asked.items():
            setattr(request, name, value)
        answer, begun, parts = Answer(), time.perf_counter(), []
        with suppress(_Ended):
            self._send(message, answer)
            while True:
                parts.append(self._received(answer, begun))
                self._take(parts[-1], answer)
        answer.seconds, answer.received = time.perf_counter() - begun, b"".join(parts)
        return answer

    def _send(self, message: BackMsg, answer: Answer) -> None:
        try:
            self._socket.send(message.SerializeToString())
        except ConnectionClosed as error:
            answer.errors.append(f"the socket is closed: {error}")
            raise _Ended from None

    def _received(self, answer: Answer, begun: float) -> bytes:
        try:
            raw = self._socket.recv(timeout=max(begun + SECONDS - time.perf_counter(), 0.0))
        except (ConnectionClosed, TimeoutError) as error:
            answer.errors.append(f"{type(error).__name__}: {error}")
            raise _Ended from None
        return raw if isinstance(raw, bytes) else raw.encode()

    def _take(self, raw: bytes, answer: Answer) -> None:
        """Brings the page up to one message; _Ended when it says that the run is over."""
        message = ForwardMsg.FromString(raw)
        if message.WhichOneof("type") == "ref_hash":
            known = self._kept[message.ref_hash]
            known.metadata.CopyFrom(message.metadata)
            message = known
        if message.metadata.cacheable:
            self._kept[message.hash] = message
        kind = message.WhichOneof("type")
        if kind == "new_session" and not message.metadata.run.fragment_ids:
            self.elements.clear()
            self.repeating.clear()
        elif kind == "navigation":
            pages = message.navigation.app_pages
            self._pages = {page.url_pathname or "cohort": page.page_script_hash for page in pages}
            self._page = message.navigation.page_script_hash
            self.view = next(name for name, known in self._pages.items() if known == self._page)
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "auto_rerun":
            self.repeating[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif kind == "auth_redirect":
            self.redirect = message.auth_redirect.url
        elif kind == "delta":
            self._put(tuple(message.metadata.delta_path), message.delta, answer)
        elif kind == "script_finished" and message.script_finished in DONE:
            raise _Ended

    def _put(self, place: tuple[int, ...], delta: Delta, answer: Answer) -> None:
        """An element at its place."""
        if delta.WhichOneof("type") != "new_element":
            return
        kind = delta.new_element.WhichOneof("type")
        element = getattr(delta.new_element, kind)
        self.elements[place] = (kind, element)
        if delta.fragment_id and getattr(element, "id", ""):
            self._fragments[element.id] = delta.fragment_id
        if kind == "exception":
            answer.errors.append(f"{element.type}: {element.message}")


class _Ended(Exception):
    """No more comes for this request."""


def _xsrf(address: str) -> str:
    """The token against forged requests that a browser gets with its first request."""
    with urllib.request.urlopen(f"{address}/_stcore/health", timeout=SECONDS) as answer:
        cookie: str = next(
            value for value in answer.headers.get_all("Set-Cookie") or () if value.startswith(f"{XSRF}=")
        )
    return cookie.split(";")[0].partition("=")[2].strip('"')
