"""Whose cells they are, where no column says so: read from file names and ids, and said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from milcore import names
from milcore.belonging import Belonging, belonging
from milcore.cohort import Note
from milcore.columns import Columns, Role, named_roles
from milcore.errors import MilError
from milcore.files import ending
from milcore.naming import FIELDS, expression, proposals, stem, take_apart
from milcore.patients import likeness, listed
from milcore.profiles import texts
from milcore.tables import READERS, Cells

__all__ = ["BY_FILE", "with_owners"]

MATCHING = 0.5  # of the owners must be in the patients file before it decides between ways to read them
NUMBERED = r"^(.+)[_\-.: ](\d+|[ACGT]{8,}(-\d+)?)$"  # a cell's id that begins with that of its sample
CELLS_EACH = 5  # rows of a sample, on average, before the begin of an id is taken for it
FILE = "file name"  # where a field was read, in the made columns' names
BY_FILE = "patient (patients file)"  # the column of patients that the patients file tells


@dataclass(frozen=True)
class _Way:
    """One way to tell patients apart: a column as it stands, or a pattern over file names or a column's text."""

    values: pl.Series
    pattern: str = ""
    source: str | None = None


def with_owners(
    cells: Cells, columns: Columns, outcomes: pl.DataFrame | None
) -> tuple[Cells, Columns, list[Note]]:
    """The same cells with a column for the patient and region where these stand only in names, and what was done.

    A pattern the user gave is obeyed; else one is proposed. Where the patients file knows the ids of one way to tell
    patients apart, that way is taken; where it lists these as images of patients, its patients own them, so that no
    fold parts them. MilError for a pattern that does not fit, but for that of a trained model, which is then put aside,
    and where the user named the images as patients.
    """
    theirs = _theirs(cells, columns, outcomes)
    told, settled, notes = _told_apart(cells, replace(columns, patient=None) if theirs else columns, outcomes)
    if outcomes is None:
        return told, settled, notes
    name, said = _belonging(told, settled, outcomes, theirs)
    if said is None or (columns.patient and not theirs and not said.shared):
        return told, settled, notes
    if columns.patient and not theirs:
        problem = (
            f"'{name}' is named as the patient, but the patients file lists several of one '{said.column}'."
        )
        fix = f"Leave out --patient, so that '{said.column}' counts, or take that column from the patients file."
        raise MilError(problem, f"--patient {name}", fix)
    return _owned(told, settled, name, said)


def _told_apart(
    cells: Cells, columns: Columns, outcomes: pl.DataFrame | None
) -> tuple[Cells, Columns, list[Note]]:
    """The cells with patients as the tables of cells and the names of their files tell them."""
    if columns.pattern:
        source = columns.names_in
        pattern = _without_ending(columns.pattern) if source is None else columns.pattern
        try:
            return _taken_apart(cells, columns, _Way(pl.Series(), pattern, source), asked=True)
        except MilError:
            if not columns.trained:
                raise
        words = f"Names do not fit the pattern '{pattern}' of the training tables, so owners were recognised anew."
        cells, columns, said = _told_apart(cells, replace(columns, pattern="", names_in=None), outcomes)
        return cells, columns, [Note("from_names", words), *said]
    found = {role.role: role for role in named_roles(cells.frame, columns, cells.tool)}
    patient = found.get("patient")
    if patient is not None and patient.kind != "sample_as_patient":
        return _with_regions(cells, columns, patient, found)
    ways = list(_ways(cells, columns, found))
    if outcomes is not None and (known := _known_way(ways, outcomes)):
        return _chosen(cells, columns, known)
    unsure = patient is None or (
        patient.name in _regions(cells.frame, columns) and _in_files(cells, patient.name)
    )
    if unsure and (way := next((way for way in ways if way.pattern), None)):
        return _taken_apart(cells, columns, way)
    return cells, columns, []


# Images of patients


def _theirs(cells: Cells, columns: Columns, outcomes: pl.DataFrame | None) -> str | None:
    """The column the user named as the patient, where the patients file alone has it."""
    named = columns.patient
    alone = outcomes is not None and named in outcomes.columns and named not in cells.frame.columns
    return named if alone else None


def _belonging(
    cells: Cells, columns: Columns, outcomes: pl.DataFrame, theirs: str | None
) -> tuple[str, Belonging | None]:
    """The column of the cells that the patients file lists as images, cores or samples, and whose they are."""
    found = {role.role: role for role in named_roles(cells.frame, columns, cells.tool)}
    patient, region = found.get("patient"), found.get("region")
    tried = [patient] if patient is not None else []
    if region is not None and (patient is None or patient.kind == "sample_as_patient" or theirs):
        tried.append(region)
    for role in tried:
        ids = texts(cells.frame[role.name]).unique(maintain_order=True).drop_nulls()
        if said := belonging(ids, outcomes, name=role.name, asked=theirs):
            return role.name, said
    if theirs:
        problem = (
            f"The patients file has '{theirs}', but no column that lists the images or samples of the cells."
        )
        raise MilError(problem, f"--patient {theirs}", "Add a column with their names, as in the cell table.")
    return "", None


def _owned(cells: Cells, columns: Columns, name: str, said: Belonging) -> tuple[Cells, Columns, list[Note]]:
    """The cells with the patients of the patients file; what named the patient before is the region."""
    people = texts(cells.frame[name]).replace_strict(said.owner, default=None, return_dtype=pl.String)
    region = _region(cells, columns, name)
    many = len({owner for owner in said.owner.values() if owner is not None})
    words = (
        f"The patients file says whose each '{name}' is: {len(said.owner)} belong to {many} patients by"
        f" '{said.column}', and folds keep a patient's together."
    )
    notes = [Note("patients_by_file", words)]
    if strangers := [each for each, owner in said.owner.items() if owner is None]:
        words = f"The patients file does not say whose these are, so their cells were left out ({len(strangers)}): "
        notes.append(Note("unknown_patient", f"{words}{listed(strangers)}."))
    settled = replace(columns, patient=BY_FILE, region=region.name)
    frame = cells.frame.with_columns(people.alias(BY_FILE), region)
    return replace(cells, frame=frame), settled, notes


def _region(cells: Cells, columns: Columns, name: str) -> pl.Series:
    """The column that tells regions apart: a finer one that is there, else `name`, both joined where neither does."""
    if columns.bag == "region" or columns.region == name:
        return cells.frame[name]
    roles = named_roles(cells.frame, replace(columns, patient=name), cells.tool)
    finer = next((role.name for role in roles if role.role == "region"), name)
    pairs = cells.frame.select(a=texts(cells.frame[name]), b=texts(cells.frame[finer])).unique()
    if finer == name or pairs["b"].n_unique() == pairs.height:
        return cells.frame[finer]
    both = pl.concat_str(pl.col(name), pl.col(finer), separator=" ", ignore_nulls=True)
    return cells.frame.select(both.alias(f"region ({name}, {finer})")).to_series()


# Ways


def _ways(cells: Cells, columns: Columns, found: dict[str, Role]) -> Iterator[_Way]:
    """Every way to tell patients apart, the surest first."""
    frame = cells.frame
    patient = found.get("patient")
    if patient is not None:
        yield _Way(frame[patient.name], source=patient.name)
    yield from (_Way(frame[name], source=name) for name in _regions(frame, columns))
    for pattern in _patterns(cells):
        yield _Way(_spread(cells, take_apart(_stems(cells), pattern)["patient"]), pattern)
    yield from _within_ids(cells)


def _regions(frame: pl.DataFrame, columns: Columns) -> list[str]:
    """The columns that name images, cores or slides."""
    asked = {columns.region, columns.cell, columns.x, columns.y, columns.known, *columns.features}
    wanted = (*names.REGION, *names.STAND_IN)
    return [name for name in frame.columns if names.folded(name) in wanted and name not in asked]


def _patterns(cells: Cells) -> list[str]:
    """Patterns of the file names; a tool's file for each sample needs none."""
    found = proposals(_stems(cells))
    return found or (["{patient}"] if cells.tool and cells.tool.alone else [])


def _stems(cells: Cells) -> list[str]:
    """The files' names without endings and without the folder they are all in."""
    stems = [stem(name) for name in cells.files]
    while all("/" in name for name in stems) and len({name.split("/")[0] for name in stems}) == 1:
        stems = [name.partition("/")[2] for name in stems]
    return stems


def _without_ending(pattern: str) -> str:
    return stem(pattern) if any(ending(part) in READERS for part in (pattern, stem(pattern))) else pattern


def _within_ids(cells: Cells) -> Iterator[_Way]:
    """Samples that cells' ids begin with, or that the tool keeps in a column of ids."""
    frame = cells.frame
    wanted, pattern = cells.tool.takes_apart if cells.tool else ("", "")
    for name in frame.columns:
        if pattern and names.folded(name) == wanted:
            yield _Way(frame[name].str.extract(expression(pattern)), pattern, name)
        elif names.folded(name) in names.CELL and frame.schema[name] == pl.String:
            begin = frame[name].str.extract(NUMBERED)
            if not begin.null_count() and begin.n_unique() * CELLS_EACH <= frame.height:
                yield _Way(begin, "{patient}_{cell}", name)


def _spread(cells: Cells, values: Sequence[str]) -> pl.Series:
    """A value of each file for each of its rows."""
    counts = pl.Series(cells.rows, dtype=pl.Int64)
    return pl.DataFrame({"value": values, "rows": counts}).select(
        pl.col("value").repeat_by("rows").explode()
    )["value"]


def _known_way(ways: list[_Way], outcomes: pl.DataFrame) -> _Way | None:
    """The way whose patients the patients file knows best."""
    scored = [(likeness(way.values.unique().drop_nulls(), outcomes), way) for way in ways]
    share, best = max(scored, key=lambda pair: pair[0], default=(0.0, None))
    return best if share >= MATCHING else None


def _in_files(cells: Cells, name: str) -> bool:
    """Whether a column's values come again in other files, or several in one: then a file says more than they do."""
    if len(cells.files) == 1:
        return False
    at = _spread(cells, [str(i) for i in range(len(cells.files))])
    pairs = pl.DataFrame({"file": at, "value": cells.frame[name].cast(pl.String)}).unique()
    return pairs.height != len(cells.files) or pairs["value"].n_unique() != len(cells.files)


# What is made of them


def _chosen(cells: Cells, columns: Columns, way: _Way) -> tuple[Cells, Columns, list[Note]]:
    if way.pattern:
        return _taken_apart(cells, columns, way)
    words = f"The patients file knows the values of '{way.source}', so each of them counts as a patient."
    return cells, replace(columns, patient=way.source), [Note("sample_as_patient", words)]


def _taken_apart(
    cells: Cells, columns: Columns, way: _Way, *, asked: bool = False
) -> tuple[Cells, Columns, list[Note]]:
    """The cells with a column for each field of a pattern."""
    if way.source is not None and way.source not in cells.frame.columns:
        problem = f"There is no column '{way.source}' in the cell table."
        raise MilError(problem, "--names-in", f"There is: {', '.join(cells.frame.columns[:12])}.")
    parts = _parts_of_files(cells, way.pattern) if way.source is None else _parts_of_column(cells, way)
    place = FILE if way.source is None else way.source or "row name"
    frame = cells.frame
    roles: dict[str, Any] = {}
    for field, values in parts.items():
        if asked and getattr(columns, field):
            problem = (
                f"The {field} is named twice: by the pattern, and as column '{getattr(columns, field)}'."
            )
            raise MilError(problem, f"--pattern, --{field}", "Say it once.")
        name = f"{field} ({place})"
        if field == "cell" and (columns.cell or way.source is None):
            continue
        frame, roles[field] = frame.with_columns(values.alias(name)), name
    if way.source is not None and "region" not in roles and not columns.region and "cell" not in roles:
        roles["region"] = way.source
    first = next(iter(parts.values()))[0]
    where = (
        "the file names" if way.source is None else f"the {place}" if not way.source else f"column '{place}'"
    )
    words = (
        f"The {' and '.join(field for field in parts if field != 'cell')} of each cell is read from {where} as"
        f" '{way.pattern}' (the first is '{first}')."
    )
    settled = replace(columns, pattern=way.pattern, names_in=way.source, **roles)
    return replace(cells, frame=frame), settled, [Note("from_names", words)]


def _parts_of_files(cells: Cells, pattern: str) -> dict[str, pl.Series]:
    parts = take_apart(_stems(cells), pattern)
    return {field: _spread(cells, values) for field, values in parts.items()}


def _parts_of_column(cells: Cells, way: _Way) -> dict[str, pl.Series]:
    """The fields of a pattern in a column's text; MilError where a value does not fit."""
    column = cells.frame[way.source or ""].cast(pl.String)
    fields = [field for field in FIELDS if f"{{{field}}}" in way.pattern]
    taken = (
        column.to_frame("id").select(pl.col("id").str.extract_groups(expression(way.pattern))).unnest("id")
    )
    strange = column.filter(taken[fields[0]].is_null() & column.is_not_null())
    if len(strange):
        problem = f"The name '{strange[0]}' does not fit the pattern '{way.pattern}'."
        raise MilError(problem, f"--pattern, column '{way.source}'", "Write {} for parts that do not matter.")
    return {field: taken[field] for field in fields}


def _with_regions(
    cells: Cells, columns: Columns, patient: Role, found: dict[str, Role]
) -> tuple[Cells, Columns, list[Note]]:
    """Where patients have several files and no column names a region, each file is one."""
    if "region" in found or len(cells.files) == 1:
        return cells, columns, []
    at = pl.DataFrame({"p": cells.frame[patient.name], "f": _spread(cells, _stems(cells))}).unique()
    if at.height == at["p"].n_unique():
        return cells, columns, []
    name = f"region ({FILE})"
    frame = cells.frame.with_columns(_spread(cells, _stems(cells)).alias(name))
    words = "No column names the region, so each file counts as one."
    return replace(cells, frame=frame), replace(columns, region=name), [Note("from_names", words)]
