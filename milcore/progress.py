"""How a long step reports its share and is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from milcore.errors import Cancelled
from milcore.memory import give_back

__all__ = ["Event", "Progress"]


@dataclass(frozen=True)
class Event:
    """One message of a running step: its `stage`, the `share` of it done (0 to 1), how much that is in `words`, where
    it can be said, and perhaps an early result."""

    stage: str
    share: float
    early: dict[str, Any] | None = None
    words: str = ""


@dataclass
class Progress:
    """Hears from a long step and may stop it.

    `tell` gets an Event whenever there is news; `stopped` is asked at the same moments and ends the step with
    Cancelled when it says True. `enough` is asked by a step that can end early with what it has. `timings` holds the
    seconds of every finished stage.
    """

    tell: Callable[[Event], None] = lambda event: None
    stopped: Callable[[], bool] = lambda: False
    enough: Callable[[], bool] = lambda: False
    timings: dict[str, float] = field(default_factory=dict)
    _stage: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Names what runs now and times it; memory that was freed before, and by it, is given back."""
        give_back()
        outer, self._stage = self._stage, name
        begun = time.perf_counter()
        self.share(0.0)
        try:
            yield
        finally:
            self._stage = outer
            give_back()
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - begun

    def share(self, done: float, words: str = "") -> None:
        """Says how much of the current stage is done; raises Cancelled if the caller asked to stop."""
        self._news(Event(self._stage, min(max(float(done), 0.0), 1.0), words=words))

    def early(self, result: dict[str, Any]) -> None:
        """Hands over a result that can be shown before the end (plain JSON values only)."""
        self._news(Event(self._stage, 1.0, result))

    def _news(self, event: Event) -> None:
        if self.stopped():
            raise Cancelled
        self.tell(event)
