"""The matrix of features while it is made: rows go to a file without a name, and its digest is taken on the way."""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from milcore.errors import MilError
from milcore.folder import refused, whole

__all__ = ["Matrix", "Nameless", "Written", "blocks", "digest_of", "kept_array", "laid_down", "on_disk"]

BYTES_AT_ONCE = 1 << 24  # hashed, or copied, in one go
LARGE = 1 << 24  # bytes of an array, from which on it is worth a file
LASTING = "/var/tmp"  # on a disk, where the usual folder for temporary files may be memory


class Nameless:
    """An open file in a folder for temporary ones (TMPDIR overrules which) that no name leads to; gone when nobody
    holds it any more."""

    def __init__(self) -> None:
        usual = "TMPDIR" in os.environ or not os.access(LASTING, os.W_OK)
        folder = tempfile.gettempdir() if usual else LASTING
        self.place = Path(folder) / "milscope"
        with refused(self.place):
            self.fd = _nameless(folder)
        weakref.finalize(self, os.close, self.fd)

    def write(self, part: bytes | memoryview, at: int) -> None:
        """Puts bytes into it; MilError where the disk refuses."""
        with refused(self.place):
            while part := part[(done := os.pwrite(self.fd, part, at)) :]:
                at += done

    def reserve(self, size: int) -> None:
        """Makes it so many bytes long, all of which the disk has; MilError where it has not."""
        with refused(self.place):
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.fd, 0, size)
            os.truncate(self.fd, size)

    def mapped(self) -> mmap.mmap:
        """All of it, to be read."""
        return mmap.mmap(self.fd, 0, access=mmap.ACCESS_READ)

    def name(self, path: Path) -> None:
        """Gives it a name, where it lies on that disk and the system can; else copies it."""
        try:
            os.link(f"/proc/self/fd/{self.fd}", path, src_dir_fd=self.fd, follow_symlinks=True)
        except OSError:
            with path.open("wb") as out:
                for begin in range(0, os.fstat(self.fd).st_size, BYTES_AT_ONCE):
                    out.write(os.pread(self.fd, BYTES_AT_ONCE, begin))


def on_disk(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """An array to be filled; a large one lies in a file without a name, so that the system can take its memory back at
    need. MilError where the disk is full."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    file = Nameless()
    file.reserve(size)
    return np.frombuffer(mmap.mmap(file.fd, size), dtype).reshape(shape)


def laid_down(array: np.ndarray) -> np.ndarray:
    """A copy of an array, as `on_disk` makes them."""
    out = on_disk(array.shape, array.dtype.type)
    out[...] = array
    return out


def blocks(offsets: np.ndarray, cells: int) -> list[slice]:
    """Patients, in order, that together have about so many cells: what is made of whole patients some at a time is the
    same as if made at once."""
    first = np.unique(offsets[:-1] // cells, return_index=True)[1]
    return [slice(int(a), int(b)) for a, b in pairwise([*first, len(offsets) - 1])]


def kept_array(
    file: Path | None, shape: tuple[int, ...], dtype: type, make: Callable[[], np.ndarray]
) -> np.ndarray:
    """What `make` makes, of such a shape and type; found in the file where it was made before, and left there if not. A
    damaged one is made anew."""
    if file is not None and file.exists():
        with suppress(OSError, EOFError, ValueError):
            found = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
            if found.shape == shape and found.dtype == dtype:
                return found
    made = make()
    if file is not None:
        with suppress(OSError, MilError), whole(file) as part, part.open("wb") as out:
            np.save(out, made)
    return made


def _nameless(folder: str) -> int:
    """Where the system can, a file that may be given a name later."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())


@dataclass(frozen=True, eq=False)
class Written:
    """A matrix (N, F) float32 that stands in a file as .npy, and the hex digest of the file."""

    array: np.ndarray
    file: Nameless
    digest: str


class Matrix:
    """Takes a matrix (rows, columns) by blocks of rows, in order; `done` gives it back, memory-mapped.

    Writing and hashing run beside the caller, who must leave a block alone once it is given. MilError where the disk
    refuses.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.shape, self.file, self.end = (rows, columns), Nameless(), 0
        self.digest = hashlib.blake2b(digest_size=16)
        self.pool = ThreadPoolExecutor(1)
        self.under_way: Future[None] | None = None
        self._write(_header(self.shape))

    def append(self, block: np.ndarray) -> None:
        """Takes the next rows, float32."""
        self._settle()
        self.under_way = self.pool.submit(self._write, np.ascontiguousarray(block).data.cast("B"))

    def done(self) -> Written:
        """The matrix, read-only, once all rows are written."""
        self._settle()
        self.pool.shutdown()
        begin = len(_header(self.shape))
        array = np.frombuffer(self.file.mapped(), np.float32, offset=begin).reshape(self.shape)
        return Written(array, self.file, self.digest.hexdigest())

    def _write(self, part: bytes | memoryview) -> None:
        self.digest.update(part)
        self.file.write(part, self.end)
        self.end += len(part)

    def _settle(self) -> None:
        if self.under_way is not None:
            self.under_way.result()


def _header(shape: tuple[int, ...]) -> bytes:
    """The bytes before the values of a float32 matrix in an .npy file."""
    out = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, facts)
    return out.getvalue()


def digest_of(array: np.ndarray) -> str:
    """The digest of the .npy file that would hold a float32 matrix."""
    digest = hashlib.blake2b(_header(array.shape), digest_size=16)
    step = max(1, BYTES_AT_ONCE // max(1, array[:1].nbytes))
    for begin in range(0, len(array), step):
        digest.update(np.ascontiguousarray(array[begin : begin + step]).data.cast("B"))
    return digest.hexdigest()
