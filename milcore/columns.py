"""What each column of a cell table is: recognised by name and content, overridable, explained in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from milcore import names
from milcore.cohort import alike
from milcore.errors import MilError
from milcore.formats import Format
from milcore.names import folded
from milcore.profiles import ENOUGH_CELLS, Profile, levels, profiles, texts, whole, wordy

__all__ = ["LEVELS", "YOURS", "Columns", "Role", "named_roles", "recognise"]

NO_COLUMN = ("bag", "pattern", "names_in", "layer")  # text of Columns that says no column's role
YOURS = "you named it"
NO_PATIENT = "no column names the patient, so each of these counts as one"
CODED = 2  # a number of no more values may measure what the text says
SOME_ROWS = 16  # at as many places show that two columns differ, mostly
LEVELS = 100  # a text column with more different values is no category


@dataclass(frozen=True)
class Columns:
    """What the user said of the columns of the cell table; None or () where it is to be recognised.

    `features` are used exactly; `drop` never; `known` is a truth column, kept but never a feature; `labels`
    belong to patients and must not vary within one; `bag` says whether a patient or a region is predicted. `pattern`
    takes the file names apart, or the text of column `names_in`; `merge_labels` makes one of a label's spellings.
    `layer` is the layer of an h5ad that is read instead of X.
    `trained`: these are the columns of a trained model, whose features are used also where they say nothing here, and
    of which any may be missing (who reads for the model says so).
    """

    patient: str | None = None
    region: str | None = None
    cell: str | None = None
    x: str | None = None
    y: str | None = None
    cell_type: str | None = None
    features: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    known: str | None = None
    labels: tuple[str, ...] = ()
    bag: str = "patient"
    pattern: str = ""
    names_in: str | None = None
    merge_labels: bool = False
    layer: str | None = None
    trained: bool = False


@dataclass(frozen=True)
class Role:
    """What one column is and why.

    `role` is patient, region, cell, x, y, cell_type, feature, label (patient-level), known, kept (with the
    cells) or left out; `kind` is the kind of note it deserves, if any. A category may be a feature besides:
    then it has two roles.
    """

    name: str
    role: str
    why: str
    kind: str = ""


def recognise(
    frame: pl.DataFrame,
    columns: Columns | None = None,
    *,
    patient_names: Collection[str] = (),
    matrix: Collection[str] = (),
    tool: Format | None = None,
) -> list[Role]:
    """The roles of all columns of a cell table, in its order.

    `patient_names` are the columns of the patients file (never features); `matrix`, if any, are the only
    columns that are features unasked (the X of an h5ad); `tool` wrote the table. MilError for a column that is not
    there or is named for two things, and for a table without patients, usable features, or the regions that are to be
    the bags.
    """
    columns, tool = _there(columns or Columns(), frame), tool or PLAIN
    _check_named(frame, columns)
    roles = {role.name: role for role in _named(frame, columns, patient_names)}
    for role in _by_name(frame, columns, tool, taken=set(roles)):
        roles[role.name] = role
    for role in _beside_the_cells(frame, columns, tool, taken=set(roles)):
        roles[role.name] = role
    owners = _owners(frame, columns, roles)
    region = next((role.name for role in roles.values() if role.role == "region"), owners[-1])
    for profile in profiles(frame, owners, region=region, skip=set(roles)):
        judged = _Judge(profile, columns, set(patient_names), set(matrix))
        roles[profile.name] = _judged(judged)
    for role in () if columns.trained else (*_copies(frame, roles), *_codes(frame, columns, roles)):
        roles[role.name] = role
    return _with_categories(frame, columns, [roles[name] for name in frame.columns])


def named_roles(frame: pl.DataFrame, columns: Columns, tool: Format | None = None) -> list[Role]:
    """The roles that the user or a column's name gives away, before any look at what varies within patients."""
    columns = _there(columns, frame)
    _check_named(frame, columns)
    given = [Role(name, role, YOURS) for role, name in _asked(columns)]
    return given + list(_by_name(frame, columns, tool or PLAIN, taken={role.name for role in given}))


# What the user said


def _asked(columns: Columns) -> Iterator[tuple[str, str]]:
    """(role, column) of every single column the user named."""
    for field in fields(columns):
        name = getattr(columns, field.name)
        if isinstance(name, str) and field.name not in NO_COLUMN:
            yield field.name, name


def _there(columns: Columns, frame: pl.DataFrame) -> Columns:
    """Of a trained model's columns those that the table has."""
    if not columns.trained:
        return columns
    single: dict[str, Any] = {option: None for option, name in _asked(columns) if name not in frame.columns}
    return replace(columns, features=tuple(n for n in columns.features if n in frame.columns), **single)


def _check_named(frame: pl.DataFrame, columns: Columns) -> None:
    asked = [*_asked(columns), *(("features", name) for name in columns.features)]
    asked += [("drop", name) for name in columns.drop]
    for option, name in asked:
        if name not in frame.columns:
            problem = f"There is no column '{name}' in the cell table."
            raise MilError(problem, f"--{option.replace('_', '-')}", alike(name, frame.columns))
    single = [name for _, name in _asked(columns)] + [*columns.drop]
    unfit = {columns.patient, columns.known, *columns.labels, *columns.drop}
    for name in [name for name in single if single.count(name) > 1] + [
        n for n in columns.features if n in unfit
    ]:
        problem = f"Column '{name}' is named for two things that exclude each other."
        raise MilError(
            problem, "the column options", "Name each column once; a label or truth is never a feature."
        )


def _named(frame: pl.DataFrame, columns: Columns, patient_names: Collection[str]) -> Iterator[Role]:
    for option, name in _asked(columns):
        yield Role(name, option, YOURS)
    for name in columns.labels:
        if name in frame.columns and name in patient_names:
            yield Role(name, "left out", "the patients file has it, and that one is used", "target_in_both")
        elif name in frame.columns:
            yield Role(name, "label", "you named it as a label")
    for name in columns.drop:
        yield Role(name, "left out", "you dropped it")


# By name


def _region_like(column: pl.Series) -> bool:
    """Not the kind of shape that QuPath writes under "ROI"."""
    if not wordy(column):
        return whole(column)
    return not {str(text).casefold() for text in column.unique()} <= names.SHAPES


def _name_like(column: pl.Series) -> bool:
    """Text, or whole numbers that stay the same for a while and are no place."""
    if not whole(column) or wordy(column):
        return wordy(column)
    changes = int((column.diff(null_behavior="ignore") != 0).sum())
    return changes <= len(column) // 5 and not names.coordinate(column.name)


def _number(column: pl.Series) -> bool:
    return column.dtype.is_numeric()


def _type_like(column: pl.Series) -> bool:
    return column.dtype != pl.Boolean and whole(column) and column.n_unique() <= LEVELS


@dataclass(frozen=True)
class Known:
    """What a name means: `role`, the folded names (the surest first), a test of the content, and why."""

    role: str
    names: tuple[str, ...]
    fits: Callable[[pl.Series], bool]
    why: str = "by its name"
    kind: str = ""


KNOWN = (
    Known("patient", names.PATIENT, whole),
    Known("patient", names.STAND_IN, whole, NO_PATIENT, "sample_as_patient"),
    Known("region", names.REGION, _region_like),
    Known("cell", names.CELL, whole),
    Known("x", names.X, _number),
    Known("y", names.Y, _number),
    Known("cell_type", names.CELL_TYPE, _type_like),
)
PLAIN = Format("", marks=())  # a table of no tool


def _known(tool: Format) -> Iterator[Known]:
    """What names mean: the patient anywhere, what stands in for it, then other roles, the tool's own first."""
    why = f"as {tool.name} writes it"
    yield Known("patient", tool.patient, whole, why)
    yield from KNOWN[:2]
    for stand_in in (tool.stand_in, names.IMAGE):
        yield Known("patient", stand_in, _region_like, NO_PATIENT, "sample_as_patient")
    for known in KNOWN[2:]:
        yield Known(known.role, getattr(tool, known.role), known.fits, why)
        yield known


def _by_name(frame: pl.DataFrame, columns: Columns, tool: Format, taken: set[str]) -> Iterator[Role]:
    """The roles that a name gives away, one column a role; columns without a value have none."""
    free = [n for n in frame.columns if n not in taken and (n not in columns.features or wordy(frame[n]))]
    free = [name for name in free if frame[name].null_count() < frame.height]
    found = {role for role, _ in _asked(columns)}
    for known in _known(tool):
        if known.role in found:
            continue
        meant = [name for name in free if folded(name) in known.names and known.fits(frame[name])]
        if meant:
            surest = min(meant, key=lambda name: known.names.index(folded(name)))
            found.add(known.role)
            free.remove(surest)
            yield Role(surest, known.role, known.why, known.kind)


def _beside_the_cells(frame: pl.DataFrame, columns: Columns, tool: Format, taken: set[str]) -> Iterator[Role]:
    """The columns a tool writes to name and place things."""
    for name in frame.columns:
        if name in names.LAID_OUT and name not in taken:
            yield Role(name, "kept", "the place of the cell on the file's own map (X_umap)")
            continue
        free = name not in taken and name not in columns.features
        if tool.never and free and re.fullmatch(tool.never, folded(name)):
            yield Role(name, "left out", f"{tool.name} writes it to name or place things")


def _owners(frame: pl.DataFrame, columns: Columns, roles: dict[str, Role]) -> list[str]:
    """The columns that tell one bag from another; MilError where there are none."""
    owners = [role.name for wanted in ("patient", "region") for role in roles.values() if role.role == wanted]
    kinds = [roles[name].role for name in owners]
    for wanted in ("patient", "region"):
        if wanted not in kinds and (wanted == "patient" or columns.bag == "region"):
            problem = f"No column says which {wanted} a cell belongs to."
            where = f"the columns {', '.join(frame.columns[:12])}{', ...' * (frame.width > 12)}"
            raise MilError(problem, where, f"Name it with --{wanted}. {_candidates(frame, roles)}")
    patients = frame[owners[0]]
    if not texts(patients.unique()).count():
        problem = f"No cell has a patient: column '{patients.name}' is blank."
        raise MilError(problem, f"column '{patients.name}'", "Name another column with --patient.")
    return owners if columns.bag == "region" else owners[:1]


def _candidates(frame: pl.DataFrame, roles: dict[str, Role]) -> str:
    """Columns that might be the owner: few different values, none of them fractions."""
    most = max(2, frame.height // 2)
    regions = [name for name in frame.columns if folded(name) in names.REGION]
    free = [name for name in frame.columns if name not in roles and name not in regions]
    few = [n for n in free if _name_like(frame[n]) and 1 < frame[n].n_unique() <= most]
    quoted = ", ".join(f"'{name}'" for name in (regions + few)[:12])
    return (
        f"It might be {quoted}." if quoted else "None of its columns looks like one, so add it to the table."
    )


# By content


@dataclass(frozen=True)
class _Judge:
    """A column's profile beside everything a rule may ask."""

    seen: Profile
    columns: Columns
    patient_names: set[str]
    matrix: set[str]

    @property
    def asked(self) -> bool:
        return self.seen.name in self.columns.features

    def says(self, role: str, why: str, kind: str = "") -> Role:
        return Role(self.seen.name, role, why, kind)


def _without_values(judge: _Judge) -> Role | None:
    if judge.asked and judge.columns.trained:
        return None
    if judge.seen.empty:
        return judge.says("left out", "it holds no value", "dropped_empty")
    if judge.seen.constant:
        return judge.says("left out", "it has one value everywhere", "dropped_constant")
    return None


def _patients_own(judge: _Judge) -> Role | None:
    if judge.seen.name in judge.patient_names:
        return judge.says("left out", "the patients file has a column of this name")
    return None


def _no_measurement(judge: _Judge) -> Role | None:
    if judge.asked or not (judge.seen.number or judge.seen.word):
        return None
    if names.coordinate(judge.seen.name):
        return judge.says("left out", "by its name it is a coordinate")
    nominal = (judge.seen.whole or judge.seen.word) and not _per_patient(judge)
    if nominal and names.bookkeeping(judge.seen.name):
        return judge.says("left out", "by its name it is an id or number of something")
    if judge.seen.numbering:
        return judge.says("left out", "it numbers the rows")
    return None


def _per_patient(judge: _Judge) -> bool:
    seen = judge.seen
    return seen.constant_within and (seen.word or seen.cells >= ENOUGH_CELLS)


def _patient_level(judge: _Judge) -> Role | None:
    if _per_patient(judge) and not judge.asked:
        return judge.says("label", f"it never varies within a {judge.columns.bag}")
    return None


def _region_level(judge: _Judge) -> Role | None:
    seen = judge.seen
    if seen.number and seen.constant_in_regions and not (seen.constant_within or judge.asked):
        return judge.says("left out", "it never varies within a region, so it does not describe cells")
    return None


def _numeric(judge: _Judge) -> Role | None:
    if not judge.seen.number:
        return None
    if judge.columns.trained and judge.columns.features and not judge.asked:
        return judge.says("left out", "the model does not know it", "features_ignored")
    if judge.columns.features and not judge.asked:
        return judge.says("left out", "it is not among the features you named")
    if judge.matrix and judge.seen.name not in judge.matrix and not judge.asked:
        return judge.says("left out", "it stands beside the matrix, not in it; name it to use it")
    if judge.asked:
        return judge.says("feature", YOURS)
    if judge.seen.constant_within:
        why = f"numbers, and too few cells to tell whether they describe the {judge.columns.bag}"
        return judge.says("feature", why, "constant_within_patients")
    return judge.says("feature", "numbers that vary within patients")


def _category(judge: _Judge) -> Role:
    if not judge.seen.word:
        return judge.says("left out", "it is neither numbers nor text")
    if judge.seen.levels > LEVELS:
        return judge.says("left out", f"it is text with {judge.seen.levels:,} different values")
    return judge.says("kept", "text with few values describes cells")


RULES = (_without_values, _patients_own, _no_measurement, _patient_level, _region_level, _numeric)


def _judged(judge: _Judge) -> Role:
    """What the first rule with an opinion says; else the column is a category or of no use."""
    said = (rule(judge) for rule in RULES)
    return next((role for role in said if role), None) or _category(judge)


def _copies(frame: pl.DataFrame, roles: dict[str, Role]) -> Iterator[Role]:
    """Features that repeat an earlier one value for value."""
    first: dict[tuple[object, ...], list[str]] = {}
    begins = np.linspace(0, max(0, frame.height - SOME_ROWS), SOME_ROWS).astype(int)
    some = np.unique(np.add.outer(begins, np.arange(min(SOME_ROWS, frame.height))))
    ends = cache(lambda name: (frame[name].min(), frame[name].max()))
    for name in frame.columns:
        if roles[name].role != "feature":
            continue
        alike_so_far = first.setdefault(tuple(frame[name].gather(some)), [])
        twin = next((n for n in alike_so_far if ends(n) == ends(name) and _same(frame[n], frame[name])), None)
        if twin is None:
            alike_so_far.append(name)
        else:
            yield Role(name, "left out", f"it repeats '{twin}' in every row", "dropped_duplicate")


def _codes(frame: pl.DataFrame, columns: Columns, roles: dict[str, Role]) -> Iterator[Role]:
    """Features that only number the values of a column of text."""
    worded = [n for n in frame.columns if roles[n].role in ("cell_type", "kept") and wordy(frame[n])]
    for name, role in list(roles.items()):
        if role.role != "feature" or name in columns.features or not whole(frame[name]):
            continue
        many = frame[name].n_unique()
        for text in worded if CODED < many <= LEVELS else ():
            if frame[text].n_unique() == many == frame.select(name, text).n_unique():
                yield Role(name, "left out", f"it numbers the values of '{text}'", "dropped_code")
                break


def _same(a: pl.Series, b: pl.Series) -> bool:
    return bool(a.cast(pl.Float64).eq_missing(b.cast(pl.Float64)).all())


def _with_categories(frame: pl.DataFrame, columns: Columns, roles: list[Role]) -> list[Role]:
    """Adds categories as features: those named, or the cell type (else all) where no number is usable."""
    least = 1 if columns.trained else 2
    categories = [role for role in roles if role.role in ("cell_type", "kept")]
    categories = [role for role in categories if least <= levels(frame[role.name]) <= LEVELS]
    chosen = [role.name for role in categories if role.name in columns.features]
    why = YOURS
    if columns.features and not chosen and not any(role.role == "feature" for role in roles):
        raise _featureless(roles)
    if not chosen and not any(role.role == "feature" for role in roles):
        types = [role.name for role in categories if role.role == "cell_type"]
        chosen, why = types or [role.name for role in categories], "there is no numeric feature"
        if not chosen:
            raise _featureless(roles)
    extra = {name: Role(name, "feature", f"{why}; one feature for each of its values") for name in chosen}
    _check_wishes(columns, [role for role in roles if role.name not in extra])
    return [entry for role in roles for entry in (role, extra.get(role.name)) if entry]


def _check_wishes(columns: Columns, roles: list[Role]) -> None:
    """A column named as a feature is one, unless it says nothing (then a note tells)."""
    for role in roles:
        if role.name in columns.features and role.role != "feature" and not role.kind:
            what = role.why if role.role == "left out" else f"it is '{role.role}' ({role.why})"
            problem = f"Column '{role.name}' cannot be a feature: {what}."
            raise MilError(problem, "--features", "Take it from the list of features.")


def _featureless(roles: list[Role]) -> MilError:
    out = [
        f"'{role.name}': {role.why}"
        for role in roles
        if role.role in ("left out", "label", "kept", "cell_type")
    ]
    where = "; ".join(out[:8]) + f"; and {len(out) - 8} more" * (len(out) > 8)
    problem = (
        "The cell table has no usable feature: neither numbers nor a category that varies within patients."
    )
    return MilError(problem, where, "Add columns with measurements, or name some with --features.")
