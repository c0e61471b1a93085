"""Whether the memory that work will take is there: asked before it begins, and said with how many cells would fit. And
what it no longer needs is given back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from milcore.errors import MilError
from milcore.folder import amount

__all__ = ["allowed", "free", "give_back", "spare"]

CGROUP = Path("/sys/fs/cgroup")
CONTAINERS = (  # limit, use, and what of the use is given back at need, of both kinds of control groups
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
MEMINFO = Path("/proc/meminfo")
TOLD = "MILSCOPE_MEMORY_GB"  # of the environment: what may be taken, in place of what is free


def allowed() -> int:
    """Bytes that this process may hold: of the computer, or of the container where that allows less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *(limit for limit, _ in _containers())])


def free() -> int:
    """Bytes that can still be taken, of the computer and of the container; where the system does not say, all that is
    allowed. The user may know better, and says so in the environment."""
    told = os.environ.get(TOLD, "")
    if told.replace(".", "", 1).isdigit():
        return int(float(told) * (1 << 30))
    available = _figures(MEMINFO).get("MemAvailable:")
    room = [limit - used for limit, used in _containers()]
    return max(0, min([allowed() if available is None else available * 1024, *room]))


def spare(needed: float, what: str, *, cells: int = 0) -> None:
    """MilError where `what` takes more bytes than are free; of work on `cells`, with how many of them would fit."""
    there = free()
    if needed <= there:
        return
    problem = f"{what} takes about {amount(needed)} of memory, and {amount(there)} are free."
    few = float(f"{cells * there / needed:.1g}")
    fit = (
        f"Keep about {few:,.0f} of the {cells:,} cells, at random (README, Memory, says how), or close"
        if few
        else "Close"
    )
    rest = f"other programs, or use a computer with more memory. This is an estimate: {TOLD} overrules what is free."
    raise MilError(problem, "this computer", f"{fit} {rest}")


def give_back() -> None:
    """Hands what this process has freed back to the system: Arrow keeps it for itself, and so does the C library where
    it lies between what is in use (glibc; others are not asked)."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _containers() -> list[tuple[int, int]]:
    """(limit, use) in bytes of the control groups that limit memory; caches of files do not count as used."""
    out = []
    for limit, used, stat, caches in CONTAINERS:
        texts = [_text(CGROUP / name) for name in (limit, used)]
        if all(text.isdigit() for text in texts):
            kept = _figures(CGROUP / stat).get(caches, 0)
            out.append((int(texts[0]), int(texts[1]) - kept))
    return out


def _figures(file: Path) -> dict[str, int]:
    """The numbers of a file with a name and a number a line."""
    rows = [line.split() for line in _text(file).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
