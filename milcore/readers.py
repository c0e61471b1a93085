"""From files to a cohort: cell tables and the patients file, read, joined and checked; all that was done is said."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from milcore import names
from milcore.belonging import one_row_each
from milcore.cohort import MAPPED, TEXT, Cohort, Note
from milcore.columns import YOURS, Columns, Role, named_roles, recognise
from milcore.errors import MilError
from milcore.inspection import graded, owner_notes, role_notes, target_notes, value_notes
from milcore.mapping import KNOWN, OWN, Reading
from milcore.measurements import measured, numbers
from milcore.owners import BY_FILE, with_owners
from milcore.patients import join, one_spelling, patient_key, plain, read_patients
from milcore.profiles import coded
from milcore.progress import Progress
from milcore.tables import Cells, Table, read_cells

__all__ = ["Columns", "Role", "glimpsed", "read_cohort", "recognise"]

FIRST, SEEN = 6, 600  # rows kept to look at: of the begin of the table, and of the first cell's region
MOST_SEEN = 500_000  # values of them


def read_cohort(
    cells: Sequence[Path],
    *,
    patients: Path | None = None,
    columns: Columns | None = None,
    progress: Progress | None = None,
) -> Cohort:
    """The cohort, in memory, of one or more cell tables (stacked) and perhaps a patients file.

    Every column's role and the reason are in `source["columns"]`, all the user must know in `notes`. MilError for
    files and tables that cannot be used, columns that are not there, and labels that vary within a patient.
    """
    columns, progress = columns or Columns(), progress or Progress()
    owners = [name for name in (columns.patient, columns.region, columns.names_in) if name]
    with progress.stage("reading"):
        outcomes = None if patients is None else read_patients(Path(patients))
        table = read_cells(
            cells,
            text=owners,
            wanted=columns.features,
            layer=columns.layer,
            besides=patients,
            progress=progress,
        )
        columns, given = _in_table(columns, table), frozenset(table.frame.columns)
        named = {columns.patient, columns.region, columns.cell}
        _check_swapped(table, outcomes, columns)
        table, columns, said = with_owners(table, columns, None if outcomes is None else outcomes.frame)
        table = replace(table, notes=(*table.notes, *said))
        progress.share(0.6)
        known = () if outcomes is None else outcomes.frame.columns
        roles = recognise(table.frame, columns, patient_names=known, matrix=table.matrix, tool=table.tool)
        roles = [_explained(role, named, given) for role in roles]
        table.release()
        progress.share(0.8)
        files = [Path(path).name for path in [*cells, *([] if patients is None else [patients])]]
        parts = _parts(Reading(table, roles, columns, files, given), outcomes, progress)
        del table  # what the parts are made of is needed no more
        return Cohort.of(**parts)


def glimpsed(cohort: Cohort, columns: Columns) -> Cohort | None:
    """What other columns would make of the few rows of its tables that a cohort keeps; None where it keeps none.

    MilError as in `read_cohort`.
    """
    if cohort.glimpse is None:
        return None
    frame = pl.DataFrame(cohort.glimpse)
    cells = Cells(frame, "", (), (frame.height,))
    columns = _in_table(columns, cells)
    roles = recognise(frame, columns)
    reading = Reading(cells, roles, columns, [], frozenset(frame.columns))
    return Cohort.of(**_parts(reading, None, Progress()))


def _glimpse(frame: pl.DataFrame, patient: pd.Categorical, region: pd.Categorical) -> pa.Table:
    """The first rows, and an even choice of those of the first cell's patient and region."""
    most = min(SEEN, MOST_SEEN // frame.width)
    near = np.flatnonzero((patient.codes == patient.codes[0]) & (region.codes == region.codes[0]))
    even = near[np.linspace(0, len(near) - 1, min(most, len(near))).astype(int)]
    rows = np.unique([*range(min(FIRST, most, frame.height)), *even])
    return frame[rows].to_arrow()


def _in_table(columns: Columns, table: Cells) -> Columns:
    """The same, by the table's names, where one was given as the cohort calls a known column."""
    meant = {KNOWN + name: name for name in OWN if KNOWN + name not in table.frame.columns}

    def back(value: Any) -> Any:
        return tuple(map(back, value)) if isinstance(value, tuple) else meant.get(value, value)

    return Columns(**{field.name: back(getattr(columns, field.name)) for field in fields(columns)})


def _explained(role: Role, named: Collection[str | None], given: Collection[str]) -> Role:
    """An owner that the user did not name, with what made it one."""
    if role.role not in ("patient", "region", "cell") or role.why != YOURS or role.name in named:
        return role
    if role.name == BY_FILE:
        return replace(role, why="the patients file says whose each image or sample is")
    why = "the patients file knows its values" if role.role == "patient" else "names tell it apart"
    return replace(role, why=why if role.name in given else "made from names")


def _check_swapped(table: Cells, outcomes: Table | None, columns: Columns) -> None:
    """MilError where the cell table has each patient once and the patients file has them many times."""
    if outcomes is None:
        return
    columns = columns if columns.patient in table.frame.columns else replace(columns, patient=None)
    found = [
        next((frame[role.name] for role in named_roles(frame, asked) if role.role == "patient"), None)
        for frame, asked in ((table.frame, columns), (outcomes.frame, Columns()))
    ]
    once, often = ((column.n_unique(), len(column)) if column is not None else (0, 0) for column in found)
    if once[0] == once[1] > 1 and often[0] < often[1] > once[1]:
        problem = f"The cell table has {once[1]:,} rows, each of another patient; the patients file has {often[1]:,}."
        raise MilError(
            problem,
            "the two tables",
            "They seem swapped: name the cells first, the patients after --patients.",
        )


def _parts(reading: Reading, outcomes: Table | None, progress: Progress) -> dict[str, Any]:
    """What a cohort is made of, as `Cohort.of` takes it."""
    rows = reading.table.frame.height
    patient, region = (coded(reading.column(role), rows) for role in ("patient", "region"))
    order, offsets = _grouped(patient, region, reading)
    found = measured(reading, order, progress)
    owners = owner_notes(reading, patient, region, offsets=offsets)
    notes = [*reading.table.notes, *role_notes(reading), *owners, *found.notes]
    bags = _bags(reading, patient.take(order), region.take(order), order=order, offsets=offsets)
    if outcomes is not None:
        bags, joined = _joined(reading, bags, outcomes)
        notes += [*joined, *target_notes(reading, bags, order=order, offsets=offsets)]
    bags, spelled = one_spelling(bags, merge=reading.columns.merge_labels)
    notes += spelled
    matrix, place = found.written.array, region.codes[order]
    notes += value_notes(reading, matrix, found.sample, found.names, bags=bags, region=place, offsets=offsets)
    return {
        "features": matrix,
        "patient_ids": patient.take(order),
        "names": found.names,
        "patients": bags,
        "cells": _cells(reading, region, order),
        "bag": reading.columns.bag,
        "order": order,
        "inputs": rows,
        "notes": graded(notes),
        "source": reading.source(),
        "written": found.written,
        "glimpse": _glimpse(reading.table.frame, patient, region),
    }


def _joined(reading: Reading, bags: pd.DataFrame, outcomes: Table) -> tuple[pd.DataFrame, list[Note]]:
    """The bags with what the patients file knows of them."""
    named = {role: reading.names(role)[0] for role in ("patient", "region") if reading.names(role)}
    frame, file, said = outcomes.frame, reading.files[-1], list(outcomes.notes)
    key = patient_key(bags["patient"], frame, named["patient"])
    if reading.columns.bag == "patient" and key is not None:
        frame, more = one_row_each(frame, key, labels=reading.columns.labels, file=file)
        said += more
    bags, joined = join(bags, frame, named=named, file=file)
    return bags, [*said, *joined]


# Owners


def _grouped(
    patient: pd.Categorical, region: pd.Categorical, reading: Reading
) -> tuple[np.ndarray, np.ndarray]:
    """The input rows that have a patient, sorted by bag, and where each bag begins and ends."""
    bag = patient.codes.astype(np.int64)
    if reading.columns.bag == "region":
        beside = len(region.categories) + 1
        bag = np.where(bag < 0, -1, bag * beside + region.codes % beside)
    order = np.flatnonzero(bag >= 0)
    bag = pd.factorize(bag[order])[0]
    order = order[np.argsort(bag, kind="stable")]
    return order, np.concatenate([[0], np.cumsum(np.bincount(bag))])


def _bags(
    reading: Reading,
    patient: pd.Categorical,
    region: pd.Categorical,
    *,
    order: np.ndarray,
    offsets: np.ndarray,
) -> pd.DataFrame:
    """One row a bag: its names, and the patient-level columns of the cell table."""
    first = offsets[:-1]
    bags = pd.DataFrame({"patient": np.asarray(patient.take(first), object)})
    if reading.columns.bag == "region":
        bags["region"] = region.take(first).add_categories("").fillna("").astype(object)
    for name in reading.names("label"):
        codes, values = _levels(reading.table.frame[name].gather(order))
        most = np.maximum.reduceat(codes, first)
        least = np.minimum.reduceat(np.where(codes < 0, len(values), codes), first)
        varying = np.flatnonzero((least < most) & (most >= 0))
        if len(varying):
            b = varying[0]
            raise _contradiction(
                name, reading, bags.iloc[b].tolist(), (values[int(least[b])], values[int(most[b])])
            )
        label = plain(values.gather(pl.Series(most).set(pl.Series(most < 0), None)))
        bags[name if name not in bags else f"{name} (cell table)"] = label
    return bags


def _levels(column: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Codes (-1 where missing) and the values they stand for, in their own type."""
    column = column.fill_nan(None) if column.dtype.is_float() else column
    column = column.cast(pl.String) if isinstance(column.dtype, (pl.Categorical, pl.Enum)) else column
    coded = column.rechunk().to_arrow().dictionary_encode()
    values = pl.Series(coded.dictionary).cast(column.dtype)
    return coded.indices.fill_null(-1).to_numpy(zero_copy_only=False), values


def _contradiction(name: str, reading: Reading, owner: list[Any], values: tuple[Any, Any]) -> MilError:
    bag = reading.columns.bag
    one, other = (f"'{value:g}'" if isinstance(value, float) else f"'{value}'" for value in values)
    problem = f"'{name}' varies within {bag} '{' / '.join(map(str, owner))}': {one} and {other}."
    regions = "predict regions with --bag region, or " if bag == "patient" else ""
    return MilError(
        problem, ", ".join(reading.files), f"Correct the column, {regions}put it in the patients file."
    )


# Cells


def _cells(reading: Reading, region: pd.Categorical, order: np.ndarray) -> pd.DataFrame:
    """Everything kept of the cells, in cohort order, under the cohort's own names where it has one."""
    frame = reading.table.frame
    table: dict[str, Any] = {"region": region.take(order)}
    ids = reading.column("cell")
    if ids is not None:
        table["cell_id"] = _cell_ids(ids.gather(order))
    for axis in ("x", "y"):
        place = reading.column(axis)
        if place is not None:
            values = numbers(place, order).to_numpy()
            table[axis] = np.where(np.isinf(values), np.nan, values)
    described = [
        role for kind in ("known", "cell_type", "kept") for role in reading.roles if role.role == kind
    ]
    for role in described:
        column, lab = frame[role.name], role.role == "cell_type"
        own = "cell_type" if lab else reading.stored(role)
        own = f"{own} (2)" if own in table or (own in OWN and not lab) else own
        if role.name in names.LAID_OUT:
            table[MAPPED[names.LAID_OUT.index(role.name)]] = numbers(column, order).to_numpy()
            continue
        text = role.role != "known" or not column.dtype.is_numeric()
        table[own] = coded(column).take(order) if text else column.gather(order).to_numpy()
    return pd.DataFrame(table, copy=False)


def _cell_ids(ids: pl.Series) -> Any:
    """Whole numbers as such, anything else as text."""
    if ids.dtype.is_float() and not ids.null_count() and (ids % 1 == 0).all():
        ids = ids.cast(pl.Int64)
    if ids.dtype.is_integer() and not ids.null_count():
        return ids.cast(pl.Int64).to_numpy()
    return pd.array(ids.cast(pl.String).to_arrow(), dtype=TEXT)
