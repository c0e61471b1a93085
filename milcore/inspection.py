"""What the user must know of a cohort, in words with figures: how wrong training could go, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl

from milcore import names
from milcore.cohort import Note
from milcore.columns import LEVELS
from milcore.mapping import Reading
from milcore.patients import listed
from milcore.profiles import texts

__all__ = ["LOOKED_AT", "gap_notes", "graded", "owner_notes", "role_notes", "target_notes", "value_notes"]

LOOKED_AT = 200_000  # cells, evenly taken, show what values are like
FEWEST = 6  # patients, 3 of each of two classes
UNEVEN = 200  # times the cells of the smallest patient
SHARED = 0.2  # of the regions in two patients: more, and regions are only numbered anew in each patient
CEILING = 0.005  # of the cells at the highest value
RAW = 100.0  # a feature that reaches this was neither scaled nor transformed
FEW_BELOW = 0.05  # of the cells below zero: more, and the scale is meant so

# kind -> how grave (stop: training would be wrong; warn: read this first), and what to do
GRADES = {
    "one_row_each": (
        "stop",
        "Give the table of cells first, and this one as the patients table (--patients).",
    ),
    "label_as_feature": ("stop", "Leave it out (--drop)."),
    "unmatched_patients": ("warn", "Correct the ids in either table; nothing was dropped."),
    "patients_without_cells": ("warn", "Correct the ids in either table, or add the cells."),
    "sample_as_patient": (
        "warn",
        "Where a patient has several, say which column or part of a name is the patient (--patient, --pattern), or give"
        " the patients file a column 'patient'.",
    ),
    "unknown_patient": ("warn", "Add them to the patients file."),
    "differs_within_patients": (
        "warn",
        "Predict samples or images instead of patients, if one of them is the label (--bag region).",
    ),
    "from_names": (
        "warn",
        "Where that is not so, change the pattern, or name the columns (--pattern, --patient).",
    ),
    "label_spellings": ("warn", "Merge them if they are one (--merge-labels)."),
    "few_patients": ("warn", "Add the tables of the other patients."),
    "region_in_two_patients": ("warn", "Correct the patient of these regions."),
    "missing_values": ("warn", ""),
    "infinite_values": ("warn", "Correct the table if these are not meant as missing."),
    "mixed_types": ("warn", "Correct these entries, or leave them empty."),
    "cells_without_patient": ("warn", "Fill the column, or name another (--patient)."),
    "blank_patients": ("warn", "Fill the ids in the patients file."),
    "duplicate_cell_ids": ("warn", "Look whether cells come twice."),
    "one_cell": ("warn", ""),
    "layers": ("note", "Choose the one to read (--layer)."),
    "encoding": ("note", "Export it in UTF-8."),
    "thousands": ("note", "Export numbers without a sign between thousands."),
    "mixed_units": ("note", "Export all in one unit, if they are compared."),
    "negative_values": ("note", "Look at the background correction."),
    "saturated": ("note", "Look at the exposure; the values above are lost."),
    "dropped_code": ("note", "Name it as a feature to use it all the same (--features)."),
    "constant_within_patients": ("note", "Leave them out, if they describe patients (--drop)."),
}
ORDER = ("stop", "warn", "note")


def graded(notes: Iterable[Note]) -> list[Note]:
    """The notes with severity and fix, the gravest first."""
    known = [
        replace(note, severity=grade[0], fix=note.fix or grade[1])
        for note in dict.fromkeys(notes)
        for grade in (GRADES.get(note.kind, ("note", "")),)
    ]
    return sorted(known, key=lambda note: ORDER.index(note.severity))


SUMMARIES = {
    "features_ignored": "Features that the model does not know, ignored ({n}): {names}.",
    "dropped_empty": "Columns without any value, left out ({n}): {names}.",
    "dropped_constant": "Columns with one value everywhere, left out ({n}): {names}.",
    "dropped_duplicate": "Columns that repeat another, left out ({n}): {names}.",
    "dropped_code": "Columns of numbers that only stand for another column's text, left out ({n}): {names}.",
    "sample_as_patient": "No column names the patient, so each value of {names} counts as one.",
    "constant_within_patients": (
        "Features that never vary within a {bag} ({n}): {names}. Most {bag}s have too few cells to tell whether they"
        " describe the {bag}; drop them if they do."
    ),
}


def role_notes(reading: Reading) -> Iterator[Note]:
    """What was left out or taken for something, column by column."""
    for kind, words in SUMMARIES.items():
        found = [role.name for role in reading.roles if role.kind == kind]
        if found:
            yield Note(kind, words.format(n=len(found), names=listed(found), bag=reading.columns.bag))
    for role in reading.roles:
        if role.role == "left out" and role.name in reading.columns.features:
            yield Note("feature_left_out", f"'{role.name}' was named as a feature but left out: {role.why}.")


def target_notes(
    reading: Reading, bags: pd.DataFrame, *, order: np.ndarray, offsets: np.ndarray
) -> Iterator[Note]:
    """Of a target in both tables: whether the cell table agrees with the patients file, whose column is in `bags`."""
    owner = np.repeat(np.arange(len(bags)), np.diff(offsets))
    keys = ["patient", "region"][: 1 + (reading.columns.bag == "region")]
    for name in [role.name for role in reading.roles if role.kind == "target_in_both" and role.name in bags]:
        seen = pl.DataFrame({"b": owner, "cells": reading.table.frame[name].gather(order)}).unique()
        seen = seen.with_columns(pl.Series(bags[name]).gather(seen["b"]).alias("patients"))
        seen = seen.filter(texts(seen["cells"]).is_not_null() & ~_alike(seen["cells"], seen["patients"]))
        lone = seen.filter(seen["patients"].is_null())["b"].n_unique()
        differing = seen.filter(seen["patients"].is_not_null())["b"].unique().sort().to_list()
        who = listed([" / ".join(bags.loc[b, keys]) for b in differing])
        said = f"differ for {len(differing)} of {len(bags)} {reading.columns.bag}s: {who}" if who else "agree"
        said += f"; {reading.columns.bag}s with one in the cell table only: {lone}" if lone else ""
        yield Note("target_in_both", f"'{name}' is in both tables; the patients file's is used. They {said}.")


def _alike(one: pl.Series, other: pl.Series) -> pl.Series:
    """Where two columns say the same, whatever types they have; never where `other` is missing."""
    if one.dtype.is_numeric() and other.dtype.is_numeric():
        return (one.cast(pl.Float32) == other.cast(pl.Float32)).fill_null(value=False)
    return (texts(one).str.to_lowercase() == texts(other).str.to_lowercase()).fill_null(value=False)


def owner_notes(
    reading: Reading, patient: pd.Categorical, region: pd.Categorical, *, offsets: np.ndarray
) -> Iterator[Note]:
    """Cells without a patient, patients of one cell, and cell ids that come again; `offsets` in cohort order."""
    rows, bag = reading.table.frame.height, reading.columns.bag
    if offsets[-1] < rows:
        words = f"{rows - offsets[-1]:,} of {rows:,} cells have no patient and were left out."
        yield Note("cells_without_patient", words)
    single = int((np.diff(offsets) == 1).sum())
    if single == len(offsets) - 1 > 1:
        words = f"Every {bag} has exactly one row, so this may be the table of patients, not of cells."
        yield Note("one_row_each", words)
    elif single:
        words = f"{bag.capitalize()}s with one cell only, so without a score leaving it out: {single}."
        yield Note("one_cell", words)
    ids = reading.column("cell")
    if ids is not None:
        repeats = _repeats(patient, region, ids)
        if repeats:
            words = f"{repeats:,} of {rows:,} cells share their cell id with another of the same patient and region."
            yield Note("duplicate_cell_ids", words)


def _repeats(patient: pd.Categorical, region: pd.Categorical, ids: pl.Series) -> int:
    """Cells that share their id with another of the same patient and region."""
    if ids.n_unique() == len(ids):
        return 0
    keys = {"patient": patient.codes, "region": region.codes, "id": ids}
    return int((pl.DataFrame(keys).is_duplicated() & ids.is_not_null()).sum())


def gap_notes(
    names: Sequence[str], infinite: np.ndarray, missing: np.ndarray, *, cells: int
) -> Iterator[Note]:
    """`infinite` and `missing` (F,) count values; the infinite ones are among the missing."""
    if infinite.any():
        where = listed([name for name, many in zip(names, infinite, strict=True) if many])
        yield Note(
            "infinite_values", f"Infinite values, counted as missing ({infinite.sum():,}), in {where}."
        )
    if missing.any():
        worst, values = int(missing.argmax()), cells * len(names)
        share = f"{missing.sum():,} of {values:,} ({missing.sum() / values:.2%})"
        most = f"most in '{names[worst]}': {missing[worst]:,}"
        done = (
            "The networks fill them from the training patients of each fold; the neighbour graph and the plain"
            " baselines from all cells, without labels."
        )
        words = f"Missing feature values: {share}, in {(missing > 0).sum()} of {len(names)} features ({most}). {done}"
        yield Note("missing_values", words)


def value_notes(
    reading: Reading,
    features: np.ndarray,
    sample: np.ndarray,
    columns: Sequence[str],
    *,
    bags: pd.DataFrame,
    region: np.ndarray,
    offsets: np.ndarray,
) -> Iterator[Note]:
    """What values show: features (N, F) of these columns in cohort order, an even sample of them, region (N,) codes, -1
    for none."""
    if reading.columns.trained:
        return  # nothing is trained on these
    yield from _bag_notes(reading, bags, region, offsets)
    wanted = [name for name in dict.fromkeys(reading.columns.labels) if name in bags] or list(bags)
    yield from _label_notes(features, columns, bags[wanted], offsets)
    yield from _unit_notes(reading)
    yield from _range_notes(sample, columns)


def _bag_notes(
    reading: Reading, bags: pd.DataFrame, region: np.ndarray, offsets: np.ndarray
) -> Iterator[Note]:
    sizes, people, bag = np.diff(offsets), bags["patient"].nunique(), reading.columns.bag
    if people < FEWEST:
        words = f"There {'is' if people == 1 else 'are'} {people} patient{'s' * (people > 1)} in this table."
        yield Note("few_patients", f"{words} Training needs 3 of each class.")
    if sizes.max() > UNEVEN * sizes.min():
        low, high = (
            " / ".join(bags.iloc[b, : 1 + (bag == "region")]) for b in (sizes.argmin(), sizes.argmax())
        )
        words = f"'{low}' has {sizes.min():,} cells, '{high}' {sizes.max():,}."
        yield Note("uneven_patients", f"{bag.capitalize()}s differ much in size: {words}")
    if bag == "patient" and (region >= 0).any():
        owner = np.repeat(np.arange(len(bags)), sizes)
        turns = np.flatnonzero(
            (region >= 0) & ((np.diff(region, prepend=-2) != 0) | (np.diff(owner, prepend=-1) != 0))
        )
        pairs = pd.DataFrame({"patient": owner[turns], "region": region[turns]}).drop_duplicates()
        shared = pairs["region"].value_counts()
        twice = shared[shared > 1]
        if 0 < len(twice) <= SHARED * len(shared):
            column = reading.column("region")
            found = [] if column is None else list(dict.fromkeys(texts(column).drop_nulls().to_list()))
            words = f"Regions that come in more than one patient ({len(twice)} of {len(shared)}): "
            yield Note(
                "region_in_two_patients", words + listed([found[int(code)] for code in twice.index]) + "."
            )


def _label_notes(
    features: np.ndarray, columns: Sequence[str], bags: pd.DataFrame, offsets: np.ndarray
) -> Iterator[Note]:
    """Features that are a label in other words: the same in every cell of a patient, and one to one with its label."""
    first = features[offsets[:-1]]
    last = features[offsets[1:] - 1]
    labels = {name: pd.factorize(bags[name])[0] for name in bags if name not in ("patient", "region")}
    labels = {name: codes for name, codes in labels.items() if 0 < codes.max() < min(LEVELS, len(bags) // 2)}
    for j in np.flatnonzero((first == last).all(axis=0)).tolist() if labels else ():
        steady = np.repeat(first[:, j], np.diff(offsets)) == features[:, j]
        if not steady.all():
            continue
        for name, codes in labels.items():
            known = codes >= 0
            value = pd.factorize(first[known, j])[0]
            pairs = len(np.unique(value * (codes.max() + 1) + codes[known]))
            if pairs == len(np.unique(value)) == len(np.unique(codes[known])):
                words = f"The feature '{columns[j]}' says the same as '{name}' in every patient, so it is no feature."
                where, fix = f"column '{columns[j]}'", f"Leave it out (--drop '{columns[j]}')."
                yield Note("label_as_feature", words, where=where, fix=fix, target=name)


def _unit_notes(reading: Reading) -> Iterator[Note]:
    measured = [name for role in ("feature", "x", "y") for name in reading.names(role)]
    units = {unit: [name for name in measured if names.unit(name) == unit] for unit in ("µm", "px")}
    if all(units.values()):
        words = f"Lengths and areas are partly in micrometres ({listed(units['µm'], at_most=2)}), partly in pixels"
        yield Note("mixed_units", f"{words} ({listed(units['px'], at_most=2)}).")


def _range_notes(features: np.ndarray, columns: Sequence[str]) -> Iterator[Note]:
    """Values below zero where nearly none is, and many at one ceiling, on raw scales."""
    with np.errstate(invalid="ignore"):
        top = np.fmax.reduce(features, axis=0, initial=-np.inf)
        below = (features < 0).mean(axis=0)
        at_top = (features == top).mean(axis=0)
    odd = [columns[j] for j in np.flatnonzero((below > 0) & (below < FEW_BELOW) & (top > RAW)).tolist()]
    if odd:
        words = f"Features with a few values below zero ({len(odd)}): {listed(odd)}."
        yield Note("negative_values", words)
    full = [
        j for j in np.flatnonzero((at_top > CEILING) & (top > RAW)).tolist() if _continuous(features[:, j])
    ]
    if full:
        most = max(full, key=lambda j: at_top[j])
        words = f"Features with many cells at their highest value ({len(full)}): {listed([columns[j] for j in full])};"
        yield Note("saturated", f"{words} most in '{columns[most]}' ({at_top[most]:.1%} at {top[most]:g}).")


def _continuous(values: np.ndarray) -> bool:
    return len(np.unique(values[~np.isnan(values)])) > LEVELS
