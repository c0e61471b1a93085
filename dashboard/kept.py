"""What a user has named in an analysis: phenotypes and selections, as JSON beside the analyses of the workspace.

The analysis itself stays as it was made. No screen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dashboard import picks
from dashboard.workspace import Workspace, read_json, write_json

__all__ = ["LONGEST", "Kept", "keep", "kept"]

LONGEST = 60  # letters of a name


@dataclass(frozen=True)
class Kept:
    """`names`: a phenotype's own name -> what the user calls it; `selections`: a name -> a text of `picks`."""

    names: dict[str, str] = field(default_factory=dict)
    selections: dict[str, str] = field(default_factory=dict)

    def called(self, own: str, name: str, every: list[str]) -> Kept:
        """With another name for the phenotype `own`; its own again where the name is blank or another one has it."""
        plain = " ".join(name.split())[:LONGEST]
        others = {self.names.get(one, one) for one in every if one != own}
        rest = {one: given for one, given in self.names.items() if one != own}
        taken = not plain or plain == own or plain in others
        return replace(self, names=rest if taken else {**rest, own: plain})

    def with_selection(self, name: str, text: str) -> Kept:
        """With a selection under a name; one of that name is replaced, and goes where the text is blank."""
        plain = " ".join(name.split())[:LONGEST]
        rest = {one: given for one, given in self.selections.items() if one != plain}
        return replace(self, selections={**rest, plain: text} if plain and text else rest)


def kept(home: Workspace, analysis: str) -> Kept:
    """What is kept of an analysis; a damaged file is none."""
    found = read_json(_file(home, analysis)) or {}
    names, selections = _texts(found.get("names")), _texts(found.get("selections"))
    return Kept(names, {name: text for name, text in selections.items() if picks.trusted(text)})


def keep(home: Workspace, analysis: str, what: Kept) -> None:
    """Writes it down, complete or not at all."""
    write_json(_file(home, analysis), asdict(what))


def _file(home: Workspace, analysis: str) -> Path:
    return home.root / "kept" / f"{analysis}.json"


def _texts(found: Any) -> dict[str, str]:
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: text for key, text in pairs if isinstance(key, str) and isinstance(text, str)}
