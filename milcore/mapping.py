"""What a table was read as, kept so that the next table of that kind is read the same way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import polars as pl

from milcore.cohort import alike
from milcore.columns import YOURS, Columns, Role
from milcore.errors import MilError
from milcore.tables import Cells

__all__ = ["KNOWN", "OWN", "Reading", "overruled", "read_mapping"]

VERSION = 1
OWN = ("patient", "region", "cell_id", "x", "y", "cell_type")  # the cohort's own names for columns of cells
KNOWN = "known: "  # before the name of a known column that would else have one of these
KEPT = ("patient", "region", "cell", "x", "y", "cell_type", "known")  # roles that one column has


@dataclass(frozen=True)
class Reading:
    """A table, the roles of its columns, what the user said, and the columns that are in the files themselves."""

    table: Cells
    roles: list[Role]
    columns: Columns
    files: list[str]
    given: frozenset[str]

    def names(self, role: str) -> list[str]:
        """The columns of a role."""
        return [entry.name for entry in self.roles if entry.role == role]

    def column(self, role: str) -> pl.Series | None:
        """The column of a role that only one has."""
        found = self.names(role)
        return self.table.frame[found[0]] if found else None

    def source(self) -> dict[str, Any]:
        """What the cohort keeps of how it was read."""
        said = [{"name": self.stored(each), "role": each.role, "why": each.why} for each in self.roles]
        return {
            "files": self.files,
            "format": self.table.format,
            "columns": said,
            "layers": list(self.table.layers),
            "made": [each.name for each in self.roles if each.name not in self.given],
            "mapping": self.mapping(),
        }

    @staticmethod
    def stored(role: Role) -> str:
        """What the cohort calls a column; a known one never as it calls what it knows itself."""
        return KNOWN + role.name if role.role == "known" and role.name in OWN else role.name

    def mapping(self) -> dict[str, Any]:
        """The roles as they are, for tables with the same columns; made columns are made anew by their pattern."""
        single = {role: next(iter(self.names(role)), None) for role in KEPT}
        if not self.columns.pattern and single["patient"] not in self.given:
            single["region"] = next(
                (e.name for e in self.roles if e.role == "region" and e.why == YOURS), None
            )
        single = {role: name if name in self.given else None for role, name in single.items()}
        features = tuple(name for name in dict.fromkeys(self.names("feature")) if name in self.given)
        settled = replace(self.columns, **single, features=features, labels=())  # type: ignore[arg-type]
        return {"version": VERSION, "format": self.table.format, "columns": asdict(settled)}


def read_mapping(path: Path) -> Columns:
    """The columns a mapping file names; MilError where it is missing, damaged, or says something unknown."""
    path = Path(path)
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        columns, version = dict(said["columns"]), said["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"The mapping '{path.name}' cannot be read: {error}"
        raise MilError(problem, str(path), "Write one with milscope check --write-mapping.") from None
    if version != VERSION:
        problem = f"The mapping '{path.name}' is of version {version}; this Milscope reads version {VERSION}."
        raise MilError(problem, str(path), "Write it anew with milscope check --write-mapping.")
    plain = asdict(Columns())
    for name, value in columns.items():
        if name not in plain:
            problem = f"The mapping '{path.name}' says '{name}', which is nothing of a table."
            raise MilError(problem, str(path), alike(name, plain))
        if not _fits(value, plain[name]):
            problem = f"The mapping '{path.name}' has {json.dumps(value)[:60]} for '{name}'."
            raise MilError(problem, str(path), "Write it anew with milscope check --write-mapping.")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in columns.items()}
    return Columns(**values)


def _fits(value: Any, plain: Any) -> bool:
    """Whether a value of a file is of the kind that `plain`, the default, is; a name may be there or not."""
    if isinstance(plain, tuple):
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return isinstance(value, bool) if isinstance(plain, bool) else value is None or isinstance(value, str)


def overruled(mapping: Columns, asked: Columns) -> Columns:
    """A mapping with everything that was also asked for taken from there, and nothing that this excludes."""
    plain = Columns()
    changed = {
        field.name: getattr(asked, field.name)
        for field in fields(Columns)
        if getattr(asked, field.name) != getattr(plain, field.name)
    }
    named = {*asked.drop, *asked.labels, asked.known}
    kept = tuple(name for name in mapping.features if name not in named)
    owned = {"pattern": "", "names_in": None} if asked.patient else {}
    return replace(mapping, **{"features": kept, **owned, **changed})  # type: ignore[arg-type]
