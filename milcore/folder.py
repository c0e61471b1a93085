"""Writing a folder so that it is complete or absent."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["aside"]


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into; it takes the place of `folder`, which is removed if it exists, only when
    the block ends without an error. Readable by whom the user's umask says."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        if folder.exists():
            shutil.rmtree(folder)
        part.chmod(0o777 & ~_umask())
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
