"""What the user named, as files to read: folders, patterns and archives opened, compressed files unpacked, safely."""

from __future__ import annotations

import gzip
import stat
import struct
import tempfile
import xml.etree.ElementTree
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import polars as pl
import pyarrow as pa

from milcore.cohort import alike
from milcore.errors import MilError

__all__ = ["PACKED", "Source", "ending", "opened", "readable"]

PACKED = ("gz", "zst")  # endings after that of a text table
SAFE_BYTES = 1 << 28  # a file that unpacks to no more than this is no bomb, however small it was
MOST_TIMES = 200  # a table shrinks to a tenth; only a bomb shrinks to less than this
MOST_FILES = 10_000
BLOCK = 1 << 20
GLOB = "*?["
SKIPPED = ("__MACOSX",)
DAMAGE = (
    OSError,
    EOFError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    xml.etree.ElementTree.ParseError,
    pa.ArrowException,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
)  # what the libraries raise when a file is not what its name says


@dataclass(frozen=True)
class Source:
    """A file to read at `path`; `name` is what the user knows it by: within a folder or archive, with "/"."""

    path: Path
    name: str

    @property
    def folder(self) -> str:
        """The last folder of its name, "" where there is none."""
        return PurePosixPath(self.name).parent.name


def ending(name: str) -> str:
    """The ending that tells the kind of table, without that of a compression: "csv" of "a.csv.gz"."""
    parts = name.casefold().rsplit(".", 2)
    return parts[-2] if parts[-1] in PACKED and len(parts) == 3 else parts[-1] if len(parts) > 1 else ""


@contextmanager
def readable(source: Source) -> Iterator[None]:
    """A block that reads one file; MilError for an empty one, and for whatever the libraries find wrong with it."""
    try:
        if not source.path.stat().st_size:
            problem = f"'{source.name}' is empty."
            raise MilError(problem, str(source.path), "Export the table again.")
        yield
    except DAMAGE as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"'{source.name}' cannot be read: {said}"
        fix = "Check that the file is whole and of the kind its name says."
        raise MilError(problem, str(source.path), fix) from None


@contextmanager
def opened(paths: Sequence[Path], *, kinds: Iterable[str], packed: Iterable[str]) -> Iterator[list[Source]]:
    """The files behind `paths`, in order; what had to be unpacked is removed at the end.

    `kinds` are the endings looked for in folders and archives, `packed` those that may be compressed. MilError for
    what is missing, empty or damaged, and for archives that are bombs or write outside themselves.
    """
    with tempfile.TemporaryDirectory(prefix="milscope-") as held:
        place, wanted, able = Path(held), frozenset(kinds), frozenset(packed)
        found = [source for path in paths for source in _found(Path(path), place, wanted)]
        if len(found) > MOST_FILES:
            problem = f"{len(found):,} files were named; {MOST_FILES:,} can be read at once."
            raise MilError(problem, str(paths[0]), "Put the cells of several samples into one file.")
        yield [_plain(source, place, able) for source in found]


def _found(path: Path, place: Path, kinds: frozenset[str]) -> Iterator[Source]:
    """The files of one thing the user named."""
    if path.is_dir():
        yield from _within(path, kinds)
    elif not path.exists() and any(mark in path.name for mark in GLOB):
        matching = sorted(other for other in path.parent.glob(path.name) if not other.name.startswith("."))
        if not matching:
            problem = f"No file matches '{path.name}'."
            raise MilError(problem, str(path.parent), "Check the pattern.")
        for other in matching:
            yield from _found(other, place, kinds)
    elif not path.exists():
        there = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        problem = f"There is no file '{path.name}'."
        raise MilError(problem, str(path.parent), alike(path.name, there) if there else "Check the path.")
    elif not path.stat().st_size:
        problem = f"'{path.name}' is empty."
        raise MilError(problem, str(path), "Export the table again.")
    elif path.suffix.casefold() == ".zip":
        yield from _within(_unzipped(path, place, kinds), kinds, of=path)
    else:
        yield Source(path, path.name)


def _within(folder: Path, kinds: frozenset[str], *, of: Path | None = None) -> Iterator[Source]:
    """The tables in a folder and below it, by name."""
    names = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and ending(path.name) in kinds and not _hidden(path.relative_to(folder))
    )
    if not names:
        problem = f"There is no table in '{(of or folder).name}'."
        fix = f"It should hold files ending in {', '.join(sorted(kinds))}."
        raise MilError(problem, str(of or folder), fix)
    yield from (Source(folder / name, name.as_posix()) for name in names)


def _hidden(name: PurePosixPath | Path) -> bool:
    return any(part.startswith(".") or part in SKIPPED for part in name.parts)


# Archives


def _unzipped(path: Path, place: Path, kinds: frozenset[str]) -> Path:
    """A folder with the tables of an archive."""
    into = Path(tempfile.mkdtemp(dir=place))
    budget = _Budget(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = PurePosixPath(member.filename.replace("\\", "/"))
                _check_inside(name, member, path)
                if member.is_dir() or _hidden(name) or ending(name.name) not in kinds:
                    continue
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, (into / name).open("wb") as out:
                    budget.copy(packed, out)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise _damaged(path, error) from None
    return into


def _check_inside(name: PurePosixPath, member: zipfile.ZipInfo, path: Path) -> None:
    link = stat.S_ISLNK(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or (name.parts[:1] and ":" in name.parts[0]) or link:
        problem = f"'{path.name}' holds '{member.filename}', which points outside the archive."
        raise MilError(problem, str(path), "Make a new archive of the tables alone.")


@dataclass
class _Budget:
    """How much may still come out of a packed file."""

    path: Path
    used: int = 0

    def __post_init__(self) -> None:
        self.most = max(SAFE_BYTES, MOST_TIMES * self.path.stat().st_size)

    def copy(self, packed: IO[bytes] | Any, out: IO[bytes]) -> None:
        """Unpacks a stream; MilError once more comes out than any table would hold."""
        while block := packed.read(BLOCK):
            self.used += len(block)
            if self.used > self.most:
                problem = (
                    f"'{self.path.name}' unpacks to more than {MOST_TIMES} times its size, as no table does."
                )
                raise MilError(problem, str(self.path), "Unpack it yourself and name the files.")
            out.write(block)


def _plain(source: Source, place: Path, packed: frozenset[str]) -> Source:
    """The same file without its compression."""
    kind = source.path.suffix.casefold().removeprefix(".")
    if kind not in PACKED or ending(source.path.name) not in packed:
        return source
    out = Path(tempfile.mkdtemp(dir=place)) / source.path.stem
    try:
        with _stream(source.path, kind) as stream, out.open("wb") as file:
            _Budget(source.path).copy(stream, file)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise _damaged(source.path, error) from None
    return Source(out, source.name)


def _stream(path: Path, kind: str) -> Any:
    return gzip.open(path) if kind == "gz" else pa.input_stream(str(path), compression="zstd")


def _damaged(path: Path, error: Exception) -> MilError:
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    problem = f"'{path.name}' cannot be read: {said}"
    return MilError(problem, str(path), "Check that the file is whole and of the kind its name says.")
