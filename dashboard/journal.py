"""The server's log: one JSON object a line, with times, states and sizes, and nothing of any patient."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

NAME = "log.jsonl"
LONGEST = 8 << 20  # bytes; then the log begins anew, and one older file is kept


class Journal:
    """Writes `log.jsonl` of a workspace. What cannot be written, as on a full disk, is lost without a word."""

    def __init__(self, root: Path) -> None:
        self._path, self._lock = root / NAME, threading.Lock()

    def note(self, event: str, **facts: str | float | None) -> None:
        """One line: when, what, and facts that name no patient, file or label."""
        when = datetime.now().astimezone().isoformat(timespec="milliseconds")
        known = {name: value for name, value in facts.items() if value is not None}
        with self._lock, suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file() and self._path.stat().st_size > LONGEST:
                self._path.replace(self._path.with_suffix(".old.jsonl"))
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": when, "event": event, **known}) + "\n")
