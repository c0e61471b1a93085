"""The folder that keeps a user's work: cohorts, analyses, uploads and the records of jobs.

cohorts/<key>/      one cohort, key = first 16 letters of its fingerprint
analyses/<id>/      one analysis, id = time stamp and short hash; about.json: what the user calls it, chosen slides;
                    maps/: further maps of its cells
kept/<id>.json      what the user has named in an analysis
deleted/<id>/       analyses that were deleted and can be brought back
damaged/<id>/       cohorts and analyses that do not hold what was written; <id>.json says what is wrong
uploads/<hash>/     tables as they were uploaded
mappings/<hash>.json  roles of columns as the user changed them, by tool and names of columns
users/<digest>/     where people log in, all of the above but jobs of one user; user.json says whose
jobs/<id>.json      what was asked and what became of it; <id>.log what it said on its way
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

import platformdirs

from milcore.errors import MilError
from milcore.folder import MANIFEST, faults, leftovers, whole

TABLES = (
    *(f".{text}{packed}" for text in ("csv", "tsv", "tab", "txt") for packed in ("", ".gz", ".zst")),
    *(".parquet", ".pq", ".feather", ".arrow", ".h5ad", ".h5", ".fcs", ".xlsx", ".zip"),
)  # as milcore.tables reads them, without its imports
KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{3,63}")
PLACES = ("cohorts", "analyses", "uploads", "jobs")  # where something is written
KINDS = {"cohorts": "cohort", "analyses": "analysis"}  # of what is checked; <kind>.json describes it
USERS = "users"
LOCK = "lock"
MADE = re.compile(r"(patient|region|cell) \(.*\)")  # columns that the readers add
LISTED_FILES = 500  # a longer menu helps nobody


@dataclass(frozen=True)
class Workspace:
    """Where things are. Makes no promise that they exist."""

    root: Path

    def cohort(self, key: str) -> Path:
        """The folder of a cohort."""
        return self.root / "cohorts" / key

    def analysis(self, key: str) -> Path:
        """The folder of an analysis."""
        return self.root / "analyses" / key

    def within(self, home: str) -> Workspace:
        """The workspace of one user, "" for this one itself."""
        return Workspace(self.root / home)

    def of_user(self, who: str, email: str) -> Workspace:
        """The workspace of whom the provider of the login calls `who`; whose it is stands in it."""
        digest = hashlib.blake2b(who.encode(), digest_size=16).hexdigest()
        found = self.within(f"{USERS}/{digest}")
        if not (found.root / "user.json").is_file():
            write_json(found.root / "user.json", {"version": 1, "who": who, "email": email})
        return found

    def every_user(self) -> list[Workspace]:
        """This workspace and those of its users."""
        return [self, *map(Workspace, sorted((self.root / USERS).glob("*")))]

    def job(self, key: str) -> Path:
        """The record of a job."""
        return self.root / "jobs" / f"{key}.json"

    def job_log(self, key: str) -> Path:
        """What a job said on its way."""
        return self.root / "jobs" / f"{key}.log"

    def has_cohort(self, key: str) -> bool:
        """Whether `key` (perhaps from a URL) names a complete cohort."""
        return KEY.fullmatch(key) is not None and (self.cohort(key) / "cohort.json").is_file()

    def has_analysis(self, key: str) -> bool:
        """Whether `key` (perhaps from a URL) names a complete analysis."""
        return KEY.fullmatch(key) is not None and (self.analysis(key) / "analysis.json").is_file()

    def cohorts(self) -> list[tuple[str, dict[str, Any]]]:
        """(key, cohort.json) of every cohort, the newest first."""
        return list(_described(self.root / "cohorts", "cohort.json"))

    def analyses(self, fingerprint: str) -> list[tuple[str, dict[str, Any]]]:
        """(id, analysis.json) of every analysis of one cohort, the newest first; those in which its patients are new
        to the models go last."""
        every = _described(self.root / "analyses", "analysis.json")
        found = [(key, facts) for key, facts in every if facts["cohort"]["fingerprint"] == fingerprint]
        return sorted(found, key=lambda each: bool(each[1].get("new")))

    def claim(self) -> IO[str]:
        """Makes the folder one's own until the file that is returned is closed, or the process ends, whatever way it
        ends; leftovers are swept and damaged folders set aside. MilError where another server is at work, or nothing
        can be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / LOCK).open("a+", encoding="utf-8")
        except OSError as error:
            problem = f"Nothing can be written to the workspace ({error.strerror or error})."
            fix = "Allow it, or name another folder with --workspace."
            raise MilError(problem, str(self.root), fix) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read().strip() or "starting"
            problem = f"Another Milscope is at work in this workspace ({holder})."
            fix = "Use that one, end it first, or name another folder with --workspace."
            raise MilError(problem, str(self.root), fix) from None
        except OSError as error:
            file.close()
            problem = f"The disk of the workspace knows no locks ({error.strerror or error})."
            fix = "Name a folder on a disk of this computer with --workspace; network disks often know none."
            raise MilError(problem, str(self.root), fix) from None
        file.truncate(0)
        file.write(
            f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M}\n"
        )
        file.flush()
        self.sweep()
        for each in self.every_user():
            each.inspect()
        return file

    def inspect(self) -> list[str]:
        """Sets aside every cohort and analysis whose files are missing or of another size; their keys. Contents are
        compared when a folder is opened: here that would keep a large workspace from starting."""
        found = []
        for place, kind in KINDS.items():
            for folder in sorted(path.parent for path in (self.root / place).glob(f"*/{MANIFEST}")):
                wrong = faults(folder, "sizes")
                if read_json(folder / f"{kind}.json") is None:
                    wrong = [f"'{kind}.json' cannot be read", *wrong]
                if wrong:
                    self.set_aside(folder, wrong[0])
                    found.append(folder.name)
        return found

    def set_aside(self, folder: Path, why: str) -> None:
        """Moves a damaged cohort or analysis out of the way, where `damaged` finds it."""
        goal = self.root / "damaged" / folder.name
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(goal, ignore_errors=True)
        folder.rename(goal)
        facts = {"version": 1, "kind": KINDS[folder.parent.name], "why": why, "found": time.time()}
        write_json(goal.with_name(f"{goal.name}.json"), facts)

    def damaged(self) -> list[tuple[str, dict[str, Any]]]:
        """(key, `kind` and `why`) of what was set aside, the newest first."""
        found = [(path.stem, read_json(path)) for path in (self.root / "damaged").glob("*.json")]
        known = [(key, facts) for key, facts in found if facts is not None and facts.get("version") == 1]
        return sorted(known, key=lambda each: -each[1]["found"])

    def discard(self, key: str) -> None:
        """Deletes what was set aside for good."""
        if KEY.fullmatch(key):
            shutil.rmtree(self.root / "damaged" / key, ignore_errors=True)
            (self.root / "damaged" / f"{key}.json").unlink(missing_ok=True)

    def sweep(self, pid: int | None = None) -> int:
        """Removes what interrupted writes have left, of one process or of all; only for whoever knows that these no
        longer write. How many were removed."""
        homes = [home.root for home in self.every_user()]
        every = [part for root in homes for place in PLACES for part in leftovers(root / place, pid)]
        for part in every:
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        return len(every)

    def every_analysis(self) -> list[tuple[str, dict[str, Any]]]:
        """(id, analysis.json) of every analysis of any cohort, the newest first."""
        return list(_described(self.root / "analyses", "analysis.json"))

    def about(self, key: str) -> dict[str, Any]:
        """What was added to an analysis: `name`, what the user calls it, `slides`, the patients of its presentation,
        and `of`, the analysis whose models scored these new patients."""
        return read_json(self.analysis(key) / "about.json") or {}

    def note(self, key: str, **facts: Any) -> None:
        """Adds to `about`."""
        if self.has_analysis(key):
            write_json(self.analysis(key) / "about.json", self.about(key) | facts)

    def size(self, key: str) -> int:
        """Bytes on disk of an analysis, without its cohort."""
        return sum(path.stat().st_size for path in self.analysis(key).rglob("*") if path.is_file())

    def held(self) -> int:
        """Bytes on disk of all of it."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def delete(self, key: str) -> None:
        """Puts an analysis aside, so that `restore` can bring it back."""
        self._move(key, self.analysis(key), self.root / "deleted" / key)

    def restore(self, key: str) -> None:
        """Brings a deleted analysis back."""
        self._move(key, self.root / "deleted" / key, self.analysis(key))

    def purge(self, key: str) -> None:
        """Removes a deleted analysis for good."""
        if KEY.fullmatch(key):
            shutil.rmtree(self.root / "deleted" / key, ignore_errors=True)
            (self.root / "kept" / f"{key}.json").unlink(missing_ok=True)

    def deleted(self) -> list[tuple[str, dict[str, Any]]]:
        """(id, analysis.json) of what can be brought back, the newest first."""
        return list(_described(self.root / "deleted", "analysis.json"))

    @staticmethod
    def _move(key: str, source: Path, goal: Path) -> None:
        if KEY.fullmatch(key) and source.is_dir() and not goal.exists():
            goal.parent.mkdir(parents=True, exist_ok=True)
            source.rename(goal)

    def remember(self, source: dict[str, Any]) -> None:
        """Keeps how the tables of a cohort were read, by tool and columns."""
        write_json(self._mapping(source), source["mapping"])

    def remembered(self, source: dict[str, Any]) -> Path | None:
        """The mapping kept for tables of the same tool with the same columns, if any."""
        path = self._mapping(source)
        return path if path.is_file() else None

    def _mapping(self, source: dict[str, Any]) -> Path:
        names = sorted({str(each["name"]).removeprefix("known: ") for each in source["columns"]})
        names = [name for name in names if not MADE.fullmatch(name)]
        digest = hashlib.blake2b(repr((source["format"], names)).encode(), digest_size=8).hexdigest()
        return self.root / "mappings" / f"{digest}.json"

    def keep_upload(self, name: str, content: BinaryIO) -> Path:
        """Stores one uploaded file under a name that is safe on disk; the same bytes are stored once."""
        content.seek(0)
        digest = hashlib.file_digest(content, "blake2b").hexdigest()[:16]  # type: ignore[arg-type]
        path = self.root / "uploads" / digest / safe_name(name)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            content.seek(0)
            with whole(path) as part, part.open("wb") as out:
                shutil.copyfileobj(content, out, 1 << 22)
        return path


def chosen(given: Path | None = None) -> Workspace:
    """The workspace that is meant: the one given, else the one the environment names, else this user's own."""
    named = (
        given
        or os.environ.get("MILSCOPE_WORKSPACE")
        or platformdirs.user_data_dir("milscope", appauthor=False)
    )
    return Workspace(Path(named).absolute())


def new_id(*parts: object) -> str:
    """A name that sorts by time: time stamp and a short hash of `parts`."""
    now = datetime.now()
    digest = hashlib.blake2b(repr((now.isoformat(), *parts)).encode(), digest_size=3).hexdigest()
    return f"{now:%Y%m%d-%H%M%S}-{digest}"


def safe_name(name: str) -> str:
    """A file name without path parts or unusual signs, its ending kept; never empty."""
    plain = re.sub(r"[^0-9A-Za-z._-]+", "_", re.split(r"[/\\]", name)[-1]).lstrip(".")
    stem, ending = plain[: -len(found)] if (found := table_ending(plain)) else plain, found
    return f"{stem[:80] or 'table'}{ending}"


def table_ending(name: str) -> str:
    """The ending of `name` if it is one of a table Milscope reads, else ""."""
    return max((e for e in TABLES if name.casefold().endswith(e)), key=len, default="")


def tables_in(folders: list[Path]) -> list[Path]:
    """Every readable table in the given folders and below them, sorted, at most 500."""
    found = (path for folder in folders for path in _walk(folder) if table_ending(path.name))
    return sorted(path for path, _ in zip(found, range(LISTED_FILES), strict=False))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(json.dumps(value, indent=1), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _described(folder: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(folder name, its JSON) of each complete folder, the newest first."""
    files = [path / name for path in folder.glob("*") if KEY.fullmatch(path.name)]
    for file in sorted((f for f in files if f.is_file()), key=lambda f: f.stat().st_mtime, reverse=True):
        if (value := read_json(file)) is not None:
            yield file.parent.name, value


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(parent) / name for name in sorted(names))
