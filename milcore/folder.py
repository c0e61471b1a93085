"""Writing folders and files so that they are complete or absent, and telling later whether they still are.

While something is written it stands beside its place under a hidden name, `.<name>-<process>-<random>`; a process that
was killed leaves that behind. A complete folder holds `manifest.json`: the size and the blake2b digest of every file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from milcore.errors import Damaged, MilError

__all__ = [
    "MANIFEST",
    "amount",
    "aside",
    "checked",
    "faults",
    "leftovers",
    "refused",
    "room",
    "seal",
    "whole",
]

VERSION = 1
MANIFEST = "manifest.json"
HIDDEN = re.compile(r"\..+-(\d+)-[^-]{8}")
MAPPED = 1 << 22  # bytes; arrays above this are memory-mapped, not read
SPARE = 64 << 20  # bytes that stay free on a disk


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into; it takes the place of `folder`, which is removed if it exists, only when
    the block ends without an error. Readable by whom the user's umask says; MilError where the disk refuses."""
    with refused(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-{os.getpid()}-", dir=folder.parent))
    try:
        with refused(folder):  # asked while what was written still fills the disk
            yield part
            if not (part / MANIFEST).exists():
                seal(part)
            if folder.exists():
                shutil.rmtree(folder)
            part.chmod(0o777 & ~_umask())
            part.rename(folder)
            _settle(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file under; it takes the place of `path` only when the block ends without an
    error. MilError where the disk refuses."""
    with refused(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def leftovers(folder: Path, pid: int | None = None) -> list[Path]:
    """What interrupted writes have left in a folder and the folders in it, of one process or of all."""
    found = [*folder.glob(".*"), *folder.glob("*/.*")]
    owners = {path: HIDDEN.fullmatch(path.name) for path in found}
    return [path for path, name in owners.items() if name and pid in (None, int(name[1]))]


def seal(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Writes the manifest: sizes and digests of the files, each of which is on the disk first. `known` are digests
    taken while files were written. What is added to the folder afterwards may change freely."""
    files = {}
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        name = path.relative_to(folder).as_posix()
        files[name] = (path.stat().st_size, (known or {}).get(name) or _digest(path))
    text = json.dumps({"version": VERSION, "files": files}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def checked(folder: Path, kind: str, fix: str) -> None:
    """Damaged, of a `kind` such as "cohort" and with what to do about it, unless a folder holds what was written."""
    if found := faults(folder):
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        problem = f"The {kind} in '{folder.name}' is damaged: {found[0]}{more}."
        raise Damaged(problem, str(folder), fix)


def faults(folder: Path, depth: Literal["sizes", "read", "all"] = "read") -> list[str]:
    """How a folder differs from what was written, in words; empty when it does not.

    Sizes are compared always. Contents are of the files that are read whole when the folder is opened ("read"):
    reading the large memory-mapped arrays too ("all") would cost what mapping them saves. Files added later do not
    count; a folder inside that has a manifest of its own answers for itself.
    """
    try:
        written = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if written["version"] != VERSION:
            return [f"'{MANIFEST}' has version {written['version']}, not {VERSION}"]
        known = {str(name): (int(size), str(digest)) for name, (size, digest) in written["files"].items()}
    except FileNotFoundError:
        return [f"'{MANIFEST}' is missing"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [f"'{MANIFEST}' cannot be read"]
    return [fault for name, facts in known.items() if (fault := _fault(folder / name, name, facts, depth))]


def room(folder: Path, needed: float) -> None:
    """MilError unless the disk that holds `folder`, or will, has `needed` bytes and a little more."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed + SPARE:
        problem = f"About {amount(needed)} will be written, and the disk has {amount(free)} free."
        raise MilError(problem, str(folder), "Free some space, or use a folder on another disk.")


def _fault(path: Path, name: str, written: tuple[int, str], depth: str) -> str:
    """What is wrong with one file, "" if nothing."""
    if not path.is_file():
        return f"'{name}' is missing"
    size = path.stat().st_size
    if size != written[0]:
        return f"'{name}' has {size} bytes where {written[0]} were written"
    mapped = path.suffix == ".npy" and size > MAPPED
    if depth == "sizes" or (depth == "read" and mapped) or _digest(path) == written[1]:
        return ""
    return f"'{name}' does not hold what was written"


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder and its folders; of one that has a manifest, the manifest."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif (path / MANIFEST).is_file():
            yield path / MANIFEST
        elif path.is_dir():
            yield from _files(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _settle(folder: Path) -> None:
    """What was renamed in a folder stays so after a power cut."""
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """A disk that is full or may not be written as a MilError; any other error as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and _full(path)):
            problem = "The disk is full."
            fix = "Free some space, then start it again. Nothing half-written was kept."
            raise MilError(problem, str(path), fix) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            problem = f"Nothing can be written to '{path.parent}' ({os.strerror(error.errno)})."
            raise MilError(problem, str(path), "Allow it, or use a folder you may write to.") from None
        raise


def _full(path: Path) -> bool:
    """Whether a short write, which numpy reports without a number, was for want of space."""
    return shutil.disk_usage(path.parent).free < 1 << 20


def amount(number: float) -> str:
    """Bytes as people say them: '3.1 GB'."""
    return f"{number / (1 << 30):.1f} GB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MB"


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
