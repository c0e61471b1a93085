"""Maps of an analysis' cells that were asked for later, kept in its folder: maps/<name>.npy, and how in <name>.json.

The name is that of the settings, so the same settings make the same map, and a link to it keeps its meaning. No screen.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dashboard.workspace import Workspace, read_json, write_json
from milcore.errors import MilError
from milcore.folder import whole
from milcore.projection import Layout

__all__ = ["from_json", "keep", "kind", "named", "places", "saved", "spoken"]


def named(layout: Layout) -> str:
    """The name of a map that is laid out so: eight letters."""
    text = json.dumps(asdict(layout), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def from_json(found: dict[str, object]) -> Layout:
    """The layout that a request or a file describes; MilError where it is none."""
    try:
        return Layout(**{**found, "features": tuple(found["features"])})  # type: ignore[arg-type]
    except (TypeError, KeyError) as error:
        problem = f"This does not describe a map ({error})."
        raise MilError(problem, "the map's settings", "Ask for it anew.") from None


def keep(home: Workspace, key: str, layout: Layout, coordinates: np.ndarray) -> str:
    """Writes the map (N, 2) of an analysis down; its name."""
    name = named(layout)
    with whole(_folder(home, key) / f"{name}.npy") as part, part.open("wb") as out:
        np.save(out, coordinates.astype(np.float32))
    write_json(_folder(home, key) / f"{name}.json", asdict(layout))  # last: with it the map is there
    return name


def saved(home: Workspace, key: str) -> dict[str, Layout]:
    """The maps of an analysis by name, the oldest first; damaged ones are none."""
    found = {}
    for path in sorted(_folder(home, key).glob("*.json"), key=lambda path: path.stat().st_mtime):
        try:
            layout = from_json(read_json(path) or {})
        except MilError:
            continue
        if path.stem == named(layout) and path.with_suffix(".npy").is_file():
            found[path.stem] = layout
    return found


def places(home: Workspace, key: str, name: str) -> np.ndarray:
    """(N, 2) one of `saved`, memory-mapped."""
    found: np.ndarray = np.load(_folder(home, key) / f"{name}.npy", mmap_mode="r")
    return found


def spoken(layout: Layout, *, of_file: bool = False) -> str:
    """How a map is laid out, in words; `of_file`: it came with the tables."""
    if of_file:
        return "from file"
    by = "all features" if not layout.features else ", ".join(layout.features)
    fit = "every cell fitted" if layout.full else "approximate"
    return f"{layout.neighbours} neighbours, distance {layout.distance:g}, {by}, {fit}"


def kind(layout: Layout, *, of_file: bool = False) -> str:
    """What the map is, for its title."""
    if of_file:
        return "UMAP from file"
    return "UMAP" if layout.full else "approximate UMAP"


def _folder(home: Workspace, key: str) -> Path:
    return home.analysis(key) / "maps"
