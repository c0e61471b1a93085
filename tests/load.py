"""Twenty tabs of four users who have logged in, two minutes, while two of them train; writes load.md.

`make load`: a really served Milscope with one worker, whose users log in with an OpenID provider of this computer. Each
user has a cohort of 200,000 cells and its analysis in a workspace of their own; the names of the patients say whose.
Every tab (tests/visitor.py) speaks over a websocket of its own and goes from view to view as a reader would. All that
comes back to a tab is searched for the patients of the other users, byte by byte.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from dashboard import picks
from dashboard.workspace import Workspace
from milcore import chain
from milcore.training import Settings
from tests.bench.memory import anonymous
from tests.browsing import served
from tests.planted import planted
from tests.provider import USERS, logged_in, provider
from tests.visitor import Answer, Visitor

SEED = 20
THINKING = (4.0, 12.0)  # seconds that a reader looks at what has come
STORED = 130.0  # seconds; Streamlit keeps what a closed tab has seen for 120, should it come back
# what a tab does: how often, and the view it does it in ("": it goes there)
STEPS: dict[str, tuple[int, str]] = {
    "Cohort": (1, ""),
    "Train": (1, ""),
    "Predictions": (3, ""),
    "Patient": (2, ""),
    "Patient, another": (6, "patient"),
    "Cells": (2, ""),
    "Cells, other colour": (4, "cells"),
    "Cells, lasso": (4, "cells"),
    "Report": (1, ""),
    "Analyses": (1, ""),
}
HEAD = """# Load

`make load` wrote this: {tabs} tabs of {users} users who had logged in with an OpenID provider, each with a workspace of
their own with a cohort of {cells:,} cells and its analysis; {seconds:.0f} seconds, {workers} worker, {cores} cores. Two
tabs trained all the while: one training ran, one waited for its turn, {trained} ended. The others went from view to
view, with {least:.0f} to {most:.0f} seconds to look at each. A tab is a websocket that speaks Streamlit's protocol as a
browser does; what a browser takes to draw is not in these seconds. Other programs of the computer took {others:.0%} of
its cores meanwhile.

{verdict}

Seconds from the request until the view is whole; kB that came; CPU seconds that the server takes for it when nobody
else is there.

| view | times | half within | 95 % within | longest | kB | CPU s alone |
|---|---|---|---|---|---|---|
"""
MEMORY = """
Memory of the server's own (Linux, RssAnon), worker not counted. A tab that has seen every view and is idle holds
{each:.1f} MB. Streamlit lets go of what a closed tab has seen two minutes later.

| when | MB |
|---|---|
"""


@dataclass(frozen=True)
class Taken:
    """One step of a tab: what it was, how long it took, how many bytes came."""

    step: str
    seconds: float
    bytes: int


@dataclass
class Tab:
    """One tab of a user, all that it did, and what went wrong."""

    who: str
    visitor: Visitor
    draw: random.Random
    taken: list[Taken] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    own: int = 0  # answers that name patients of this user
    lines: int = 0  # drawn around cells

    def step(self, name: str) -> None:
        """Does one thing, in the view it belongs to."""
        view = STEPS[name][1]
        if view and self.visitor.view != view:
            self.note(view.capitalize(), self.visitor.go(view))
        self.note(name, self._done(name))

    def _done(self, name: str) -> Answer:
        menu = {"Patient, another": "Patient", "Cells, other colour": "Colour by"}.get(name)
        if menu:
            options = self.visitor.find("selectbox", menu).options
            return self.visitor.choose(menu, self.draw.choice(options))
        if name == "Cells, lasso":
            self.lines += 1
            return self.visitor.draw(line(self.draw), self.lines)
        return self.visitor.go(name.lower())

    def note(self, name: str, answer: Answer) -> None:
        """Keeps how it went; what tells of another user's patients went wrong."""
        self.taken.append(Taken(name, answer.seconds, len(answer.received)))
        self.wrong += [f"{name}: {error}" for error in answer.errors]
        if b"mil-card stop" in answer.received:
            self.wrong.append(f"{name}: the page says that something failed")
        told = [who for who in USERS if mark(who).encode() in answer.received]
        self.own += self.who in told
        self.wrong += [f"{name}: {self.who} was told of {who}" for who in told if who != self.who]


def mark(who: str) -> str:
    """How the names of a user's patients begin."""
    return f"{who.upper()}-P"


def line(draw: random.Random) -> str:
    """A triangle somewhere on the map by likeness, as a selection."""
    corners = [draw.uniform(0, 65_535) for _ in range(6)]
    return picks.stroke(SimpleNamespace(id="u"), corners)  # type: ignore[arg-type]


# ---------------------------------------------------------------- who is there


def of_user(home: Workspace, issuer: str, who: str) -> Workspace:
    """The workspace of a user of the provider `issuer`."""
    return home.of_user(f"{issuer} {who}-1", f"{who}@lab.org")


def prepare(home: Workspace, issuer: str, who: str, *, patients: int, cells: int) -> None:
    """Gives a user a cohort and its analysis."""
    number = USERS.index(who)
    cohort = planted(number, patients=patients, cells=cells // patients, features=12, prefix=mark(who)).cohort
    place = of_user(home, issuer, who)
    saved = cohort.save(place.cohort(cohort.fingerprint[:16]))
    settings = Settings(target="response", pooling="neighbourhood", effort="quick", permutations=100)
    chain.analyse(saved, settings).save(place.analysis(f"20260101-12000{number}-abcdef"))


def enter(address: str, who: str) -> dict[str, str]:
    """The cookies of a user who has logged in, from the first page on."""
    with Visitor(address) as visitor:
        visitor.go()
        visitor.press("Log in")
        return logged_in(address, visitor.redirect, who)


def open_tab(address: str, home: Workspace, who: str, cookies: dict[str, str], seed: int) -> Tab:
    """A tab on the first cohort of a user's workspace `home`."""
    key = next((home.root / "cohorts").iterdir()).name
    tab = Tab(who, Visitor(address, cookies=cookies, cohort=key), random.Random(seed))
    tab.note("first page", tab.visitor.go())
    return tab


def round_trip(tab: Tab, server: int) -> dict[str, float]:
    """Does every step once: {step: CPU seconds of the server}."""
    took = {}
    for name in STEPS:
        before = worked(server)
        tab.step(name)
        took[name] = worked(server) - before
    return took


def wander(tab: Tab, end: float) -> None:
    """One step after the other, with time to look, until the time is over."""
    names, often = list(STEPS), [many for many, _ in STEPS.values()]
    while time.monotonic() < end and not tab.wrong:
        time.sleep(tab.draw.uniform(*THINKING))
        tab.step(tab.draw.choices(names, often)[0])


def train(tab: Tab, end: float) -> int:
    """Asks for a training, follows it as the page does, asks for the next; how many ended."""
    ended, seen = 0, tab.visitor
    while time.monotonic() < end and not tab.wrong:
        tab.note("Train", seen.go("train"))
        tab.note("Train, pressed", seen.press("Train"))
        while seen.repeating and time.monotonic() < end and not tab.wrong:
            time.sleep(min(seen.repeating.values()))
            tab.note("Train, progress", seen.again())
        ended += not seen.repeating
    return ended


# ---------------------------------------------------------------- what the system tells


def server_of(home: Workspace) -> int:
    """The process that holds a workspace, as its lock says."""
    return int((home.root / "lock").read_text(encoding="utf-8").split()[1])


def worked(*processes: int) -> float:
    """CPU seconds that processes have taken so far."""
    ticks = 0
    for each in processes:
        fields = Path(f"/proc/{each}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(process: int) -> list[int]:
    """A process and its children."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [process, *(int(child) for task in tasks for child in task.read_text(encoding="utf-8").split())]


def busy() -> float:
    """CPU seconds that all programs of this computer have taken so far."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
    ticks = sum(map(int, fields)) - int(fields[3]) - int(fields[4])  # without idle, without waiting for disks
    return ticks / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------- all of it


@dataclass
class Load:
    """What was measured: steps and what went wrong; trainings that ended; answers that name the user's own patients;
    {when: MB}; {step: CPU seconds alone}; the share of the cores that other programs took."""

    taken: list[Taken] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    trained: int = 0
    own: int = 0
    memory: dict[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    others: float = 0.0


def under_load(place: Path, given: argparse.Namespace) -> Load:
    """Prepares, serves, lets everybody in, and looks at what stays when they have gone."""
    home, load, users = Workspace(place / "home"), Load(), USERS[: given.users]
    with provider() as issuer:
        for who in users:
            prepare(home, issuer, who, patients=given.patients, cells=given.cells)
        with served(home.root, provider=issuer, workers=given.workers) as address, ExitStack() as tabs:
            cookies = {who: enter(address, who) for who in users}

            def tab(k: int) -> Tab:
                who = users[k % len(users)]
                made = open_tab(address, of_user(home, issuer, who), who, cookies[who], SEED + k)
                tabs.callback(made.visitor.close)
                return made

            every = _gather(tab, load, server_of(home), given)
            _storm(every, load, server_of(home), given.seconds)
            load.memory["after the load, all tabs idle"] = anonymous(server_of(home))
            tabs.close()
            time.sleep(given.stored)
            enter(address, users[0])  # Streamlit looks at what is too old when someone comes
            load.memory["all tabs closed, two minutes later"] = anonymous(server_of(home))
    said = (place / "home.log").read_text(encoding="utf-8")
    load.wrong += re.findall(r"^\w*(?:Error|Exception)\b.*", said, flags=re.MULTILINE)
    return load


def _gather(tab: Callable[[int], Tab], load: Load, server: int, given: argparse.Namespace) -> list[Tab]:
    """All tabs, one after the other, each of which has seen every view."""
    load.memory["before, the login page shown"] = anonymous(server)
    every, took = [], []
    for k in range(given.tabs):
        every.append(tab(k))
        took.append(round_trip(every[-1], server))
        if k + 1 == given.users:
            load.memory[f"{given.users} tabs, each with another analysis, have seen every view"] = anonymous(
                server
            )
    load.memory[f"{given.tabs} tabs have seen every view, idle"] = anonymous(server)
    warm = took[given.users :]
    load.alone = {step: float(np.mean([each[step] for each in warm])) for step in STEPS}
    return every


def _storm(every: list[Tab], load: Load, server: int, seconds: float) -> None:
    """All tabs at once, two of them training."""
    ended: list[int] = []

    def guarded(work: Callable[[Tab, float], int | None], tab: Tab) -> None:
        try:
            ended.append(work(tab, end) or 0)
        except Exception as error:  # a thread that ends in silence would look like a quiet tab
            tab.wrong.append(f"{type(error).__name__}: {error}")

    for tab in every:
        tab.taken.clear()
    begun, all_before, ours_before = time.monotonic(), busy(), _ours(server)
    end = begun + seconds
    threads = [
        threading.Thread(target=partial(guarded, train if k < 2 else wander, tab))
        for k, tab in enumerate(every)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cores = (os.cpu_count() or 1) * (time.monotonic() - begun)
    load.others = max(0.0, busy() - all_before - _ours(server) + ours_before) / cores
    load.trained = sum(ended)
    for tab in every:
        load.taken += tab.taken
        load.wrong += tab.wrong
        load.own += tab.own


def _ours(server: int) -> float:
    return worked(os.getpid(), *family(server))


def page(load: Load, given: argparse.Namespace) -> str:
    """What is committed."""
    views = [each for each in load.taken if each.step in STEPS]
    names = [*STEPS, *sorted({each.step for each in load.taken} - set(STEPS))]
    rows = [row(name, [each for each in load.taken if each.step == name], load) for name in names]
    rows.insert(len(STEPS), row("**every change of the view**", views, load))
    verdict = (
        f"Nothing went wrong: no error, no closed socket. {load.own:,} answers named patients of the tab's own user, "
        "none those of another."
        if not load.wrong
        else f"{len(load.wrong)} things went wrong: " + "; ".join(sorted(set(load.wrong)))
    )
    head = HEAD.format(
        **vars(given),
        cores=os.cpu_count(),
        least=THINKING[0],
        most=THINKING[1],
        trained=load.trained,
        others=load.others,
        verdict=verdict,
    )
    few, many = list(load.memory.values())[1:3]
    memory = MEMORY.format(each=(many - few) / max(given.tabs - given.users, 1))
    held = [f"| {when} | {mb:.0f} |" for when, mb in load.memory.items()]
    return head + "\n".join(rows) + "\n" + memory + "\n".join(held) + "\n"


def row(name: str, taken: Sequence[Taken], load: Load) -> str:
    """One line of the table."""
    if not taken:
        return f"| {name} | 0 | | | | | |"
    half, most, longest = np.quantile([each.seconds for each in taken], [0.5, 0.95, 1.0])
    size = np.mean([each.bytes for each in taken]) / 1000
    alone = f"{load.alone[name]:.2f}" if name in load.alone else ""
    return f"| {name} | {len(taken)} | {half:.2f} | {most:.2f} | {longest:.2f} | {size:,.0f} | {alone} |"


def asked() -> argparse.Namespace:
    """What the command line asks for."""
    given = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    given.add_argument("--users", type=int, default=4)
    given.add_argument("--tabs", type=int, default=20)
    given.add_argument("--cells", type=int, default=200_000)
    given.add_argument("--patients", type=int, default=40)
    given.add_argument("--seconds", type=float, default=120.0)
    given.add_argument(
        "--stored", type=float, default=STORED, help="seconds to wait when all tabs are closed"
    )
    given.add_argument("--workers", type=int, default=1)
    given.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    return given.parse_args()


def main() -> None:
    """Measures, prints and writes; fails where something went wrong."""
    given = asked()
    with tempfile.TemporaryDirectory() as place:
        load = under_load(Path(place), given)
    told = page(load, given)
    print(told)
    given.out.write_text(told, encoding="utf-8")
    if load.wrong:
        raise SystemExit("\n".join(load.wrong))


if __name__ == "__main__":
    main()
