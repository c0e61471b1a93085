"""A cohort: every cell of every patient as one matrix, and what is known of patients and cells.

Patient b owns rows offsets[b]:offsets[b+1] of the features. On disk a cohort is one folder whose matrix is
memory-mapped, so that many millions of cells need no memory of their own.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from milcore.errors import Damaged, MilError
from milcore.folder import aside, checked, seal
from milcore.matrix import Written, digest_of, laid_down

__all__ = ["MAPPED", "TEXT", "Cohort", "Note", "alike"]

VERSION = 2
DERIVED = 5  # of what `derived` keeps: raise it when graphs, groups or maps come out otherwise
MEND = "Read its tables again."
TEXT = pd.StringDtype("pyarrow")  # text of N cells without N Python objects
KEYS = {"patient": ["patient"], "region": ["patient", "region"]}  # what tells one bag from another
GLIMPSE = "glimpse.parquet"
MAPPED = ("umap_1", "umap_2")  # columns of cells with their places on a map that the tables brought
CELL_COLUMNS = ("region", "cell_id", "x", "y")
DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, pa.ArrowException)  # of a folder
BYTES_AT_ONCE, TEXTS_AT_ONCE = 1 << 24, 1 << 16  # hashed in one go


@dataclass(frozen=True)
class Note:
    """Something the user must know: `kind` for programs, `words` (one sentence with figures) for people.

    `severity` is stop (training would be wrong), warn or note; `where` and `fix` may be empty. `target` is the patient
    column that it concerns alone: predicting others is no worse for it.
    """

    kind: str
    words: str
    severity: str = "note"
    where: str = ""
    fix: str = ""
    target: str = ""


@dataclass(frozen=True, eq=False)
class Cohort:
    """N cells with F features, owned by B patients (or regions, where `bag` is "region").

    features (N, F) float32, rows grouped by owner, NaN where missing; names the F features; offsets (B+1,);
    patients B rows: `patient`[, `region`] and every patient-level column; cells N rows: `region`, `cell_id`,
    `x`, `y` and other kept columns; order (N,) the input row of each cell, of `inputs` input rows (more than
    N when some had no patient); written: where the features stand in a file already; glimpse: some rows of
    the tables as they were read, with all columns. All arrays are read-only.
    """

    features: np.ndarray
    names: tuple[str, ...]
    offsets: np.ndarray
    patients: pd.DataFrame
    cells: pd.DataFrame
    order: np.ndarray
    bag: str = "patient"
    notes: tuple[Note, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    inputs: int = -1
    written: Written | None = None
    glimpse: pa.Table | None = None

    def __post_init__(self) -> None:
        for name in ("features", "offsets", "order"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))
        if self.inputs < 0:
            object.__setattr__(self, "inputs", len(self.order))
        for problem in _faults(self):
            raise ValueError(problem)

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        patient_ids: Any,
        *,
        names: Sequence[str] | None = None,
        patients: pd.DataFrame | None = None,
        cells: pd.DataFrame | None = None,
        bag: str = "patient",
        order: np.ndarray | None = None,
        inputs: int = -1,
        notes: Iterable[Note] = (),
        source: dict[str, Any] | None = None,
        written: Written | None = None,
        glimpse: pa.Table | None = None,
    ) -> Cohort:
        """A cohort from arrays in memory, rows in any order.

        features (N, F); patient_ids (N,) of any kind; cells N rows with any of `region`, `cell_id`, `x`, `y`
        and more; patients any rows with `patient` (and `region` where that is the bag), joined exactly; order
        (N,) input rows. Patients stand in the order of their first cell. ValueError for what does not fit.
        """
        given = pd.DataFrame(index=pd.RangeIndex(len(features))) if cells is None else cells
        given = given.set_axis(pd.RangeIndex(len(given)), copy=False)
        owner, bags = _bags(patient_ids, given, bag)
        rows = np.argsort(owner, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(bags)))]).astype(np.int64)
        grouped = bool((owner[1:] >= owner[:-1]).all())
        if not grouped:
            features, given, written = features[rows], given.take(rows).reset_index(drop=True), None
        order = np.arange(len(owner)) if order is None else order
        return cls(
            features=np.ascontiguousarray(features, np.float32),
            names=tuple(names or (f"feature {i + 1}" for i in range(np.shape(features)[1]))),
            offsets=offsets,
            patients=_joined(bags, patients),
            cells=_cell_table(given, offsets),
            order=np.asarray(order, np.int64)[rows],
            bag=bag,
            notes=tuple(notes),
            source=source or {},
            inputs=inputs,
            written=written,
            glimpse=glimpse,
        )

    @property
    def N(self) -> int:
        """Number of cells."""
        return len(self.features)

    @property
    def F(self) -> int:
        """Number of features."""
        return len(self.names)

    @property
    def B(self) -> int:
        """Number of patients (or regions, where these are the bags)."""
        return len(self.patients)

    @cached_property
    def groups(self) -> np.ndarray:
        """(B,) code of the true patient: bags of one patient share it and must never be split over folds."""
        return _read_only(pd.factorize(self.patients["patient"])[0])

    @cached_property
    def owner(self) -> np.ndarray:
        """(N,) int32, the index b of every cell's patient."""
        return _read_only(np.repeat(np.arange(self.B, dtype=np.int32), np.diff(self.offsets)))

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of everything in the cohort but its notes, source and place."""
        digest = hashlib.blake2b(digest_size=16)
        for part in _content(self):
            digest.update(part)
        return digest.hexdigest()

    @cached_property
    def _digest(self) -> str:
        """Of the file of features."""
        return digest_of(self.features) if self.written is None else self.written.digest

    def rows(self, b: int) -> slice:
        """The rows of patient b."""
        return slice(int(self.offsets[b]), int(self.offsets[b + 1]))

    def position(self, patient: str, region: str | None = None) -> int:
        """The index b of a patient (of its first region, unless one is named); MilError if there is none."""
        here = self.patients["patient"] == str(patient)
        if region is not None and "region" in self.patients:
            here &= self.patients["region"] == str(region)
        if not here.any():
            wanted = f"{patient}' region '{region}" if region is not None else patient
            problem = f"There is no patient '{wanted}' in the cohort."
            raise MilError(problem, self._place(), alike(str(patient), self.patients["patient"]))
        return int(np.argmax(here))

    def label(self, name: str) -> pd.Series:
        """(B,) a patient-level column, missing where unknown; MilError if there is none of that name."""
        known = [column for column in self.patients if column not in KEYS[self.bag]]
        if name not in known:
            problem = f"There is no patient-level column '{name}'."
            raise MilError(problem, self._place(), alike(name, known))
        return self.patients[name]

    def save(self, folder: Path) -> Cohort:
        """Writes the cohort folder, complete or not at all; the cohort opened from there, memory-mapped.

        An older cohort of that name is replaced; a folder holding anything else is a MilError.
        """
        folder = Path(folder)
        if self.path is not None and folder.exists() and folder.resolve() == self.path.resolve():
            return self
        _check_free(folder)
        with aside(folder) as part:
            _write(self, part)
            seal(part, {"features.npy": self._digest})
        return _read(folder, _facts(folder), self.cells)

    def derived(self, kind: str, how: str, ending: str) -> Path | None:
        """Where what was made of these cells, of a `kind` and in a way that `how` tells, is kept; None where the cohort
        has no folder. Not among the files of the manifest: what is damaged there, or was made by older code, is made
        anew."""
        if self.path is None:
            return None
        made = hashlib.blake2b(f"{self.fingerprint} {DERIVED} {how}".encode(), digest_size=6).hexdigest()
        return self.path / f"{kind}-{made}.{ending}"

    def write_mapping(self, path: Path) -> None:
        """Writes how the tables were read as JSON, for tables of the same kind; nothing where that is not known."""
        if mapping := self.source.get("mapping"):
            path.write_text(json.dumps(mapping, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Cohort:
        """The cohort of a folder, memory-mapped; MilError if it is missing, damaged or of another version."""
        folder = Path(folder)
        facts = _facts(folder)
        checked(folder, "cohort", MEND)
        try:
            return _read(folder, facts, _cells(folder / "cells.parquet"))
        except DAMAGE as error:
            problem = f"The cohort in '{folder.name}' is damaged: {error}"
            raise Damaged(problem, str(folder), MEND) from None

    def _place(self) -> str:
        return ", ".join(self.source.get("files", [])) or (str(self.path) if self.path else "")


def alike(wanted: str, available: Iterable[str], *, at_most: int = 12) -> str:
    """The words that help after a mistyped name: close matches if there are any, else what there is."""
    names = [str(name) for name in available]
    folded = {name.casefold(): name for name in reversed(names)}
    close = [folded[key] for key in difflib.get_close_matches(wanted.casefold(), folded, n=3)]
    if close:
        return f"Did you mean {' or '.join(repr(name) for name in close)}?"
    if not names:
        return "There is nothing to choose from."
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return f"There is: {', '.join(names[:at_most])}{more}."


def _faults(cohort: Cohort) -> Iterator[str]:
    """What would make a cohort unfit for everything after it."""
    shape, offsets, order = cohort.features.shape, cohort.offsets, cohort.order
    if len(shape) != 2 or cohort.features.dtype != np.float32:
        yield f"features are {cohort.features.dtype} of shape {shape}, not a float32 matrix"
    elif shape[1] != cohort.F or len(set(cohort.names)) != cohort.F:
        yield f"{shape[1]} features have {len(set(cohort.names))} different names"
    elif len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != shape[0] or (np.diff(offsets) < 1).any():
        yield f"offsets do not share {shape[0]} cells among patients with at least one cell each"
    elif len(cohort.patients) != len(offsets) - 1 or cohort.bag not in KEYS:
        yield f"{len(cohort.patients)} rows of patients for {len(offsets) - 1} bags ('{cohort.bag}')"
    elif list(cohort.patients)[: len(KEYS[cohort.bag])] != KEYS[cohort.bag]:
        yield f"the patient table begins with {list(cohort.patients)[:2]}"
    elif len(cohort.cells) != shape[0] or tuple(cohort.cells)[:4] != CELL_COLUMNS:
        yield f"the cell table has {len(cohort.cells)} rows and begins with {list(cohort.cells)[:4]}"
    elif len(order) != shape[0] or not _is_selection(order, cohort.inputs):
        yield f"the order of {shape[0]} cells does not name different ones of {cohort.inputs} input rows"


def _is_selection(order: np.ndarray, inputs: int) -> bool:
    """Whether every entry of `order` is another one of `inputs` rows."""
    if order.min() < 0 or order.max() >= inputs:
        return False
    seen = np.zeros(inputs, bool)
    seen[order] = True
    return int(seen.sum()) == len(order)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _text(value: Any) -> str:
    """A patient's name as written: 1.0 from a table with gaps is "1"."""
    return str(int(value)) if isinstance(value, (float, np.floating)) and value.is_integer() else str(value)


def _codes(values: Any) -> tuple[np.ndarray, list[str]]:
    """Codes by first appearance, -1 where missing, and the text of each."""
    codes, found = pd.factorize(pd.Series(values))
    texts = [_text(value) for value in found]
    again, names = pd.factorize(np.array(texts, object))  # 1 and "1" are one patient
    return np.append(again, -1)[codes], list(names)


def _bags(patient_ids: Any, cells: pd.DataFrame, bag: str) -> tuple[np.ndarray, pd.DataFrame]:
    """(N,) bag of every cell, numbered by first appearance, and the bags' names."""
    if len(patient_ids) != len(cells):
        problem = f"{len(patient_ids)} patient ids for {len(cells)} cells"
        raise ValueError(problem)
    owner, patients = _codes(patient_ids)
    if bag == "patient":
        bags = pd.DataFrame({"patient": pd.array(patients, object)})
    else:
        region, regions = _codes(cells["region"])
        region[region < 0] = len(regions)  # cells without a region are together
        owner, both = pd.factorize(
            np.where(owner < 0, -1, owner * (len(regions) + 1) + region), use_na_sentinel=False
        )
        patient, region = np.divmod(both, len(regions) + 1)
        named = {
            "patient": np.array(patients, object)[patient],
            "region": np.array([*regions, ""], object)[region],
        }
        bags = pd.DataFrame(named)
    if (owner < 0).any() or not len(owner):
        problem = "every cell needs a patient, and there must be cells"
        raise ValueError(problem)
    return owner, bags


def _joined(bags: pd.DataFrame, patients: pd.DataFrame | None) -> pd.DataFrame:
    """The bags with whatever is known of them, in the bags' order."""
    if patients is None:
        return bags
    keys = [key for key in bags if key in patients]
    known = patients.assign(**{key: pd.array([_text(v) for v in patients[key]], object) for key in keys})
    return bags.merge(known, on=keys, how="left", validate="many_to_one")


def _cell_table(given: pd.DataFrame, offsets: np.ndarray) -> pd.DataFrame:
    """The columns every cohort has first, in their own types, then the others."""
    n, sizes = len(given), np.diff(offsets)
    table: dict[str, Any] = {}
    table["region"] = _category(given["region"] if "region" in given else np.full(n, np.nan))
    running = np.arange(1, n + 1) - np.repeat(offsets[:-1], sizes)
    table["cell_id"] = _cell_ids(given["cell_id"]) if "cell_id" in given else running
    for axis in ("x", "y"):
        table[axis] = given[axis].to_numpy(np.float32) if axis in given else np.full(n, np.nan, np.float32)
    for name in given:
        if name not in table:
            number = pd.api.types.is_numeric_dtype(given[name]) and given[name].dtype != bool
            coded = not number or name == "cell_type"  # a kind of cell is one also where it is a number
            table[name] = _category(given[name]) if coded else given[name].to_numpy()
    return pd.DataFrame(table, copy=False)


def _category(values: Any) -> pd.Categorical:
    """Text, coded; text kinds of one column are the same whatever they were read from."""
    codes, texts = _codes(values)
    return pd.Categorical.from_codes(codes, categories=pd.Index(texts, dtype=object))


def _cell_ids(values: pd.Series) -> Any:
    """Integers where all are, else text."""
    if pd.api.types.is_integer_dtype(values) and not values.hasnans:
        return values.to_numpy(np.int64)
    return values.astype(TEXT).array


def _content(cohort: Cohort) -> Iterator[bytes | memoryview]:
    """Everything the fingerprint covers, piece by piece."""
    facts = [cohort.names, cohort.bag, cohort.inputs, list(cohort.cells), list(cohort.patients)]
    yield json.dumps(facts).encode()
    yield cohort.patients.to_csv(index=False).encode()
    yield from _bytes(cohort.offsets)
    yield from _bytes(cohort.order)
    for name in cohort.cells:
        column = cohort.cells[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            yield json.dumps([str(value) for value in column.cat.categories]).encode()
            yield from _bytes(column.cat.codes.to_numpy(np.int32))
        elif isinstance(column.dtype, pd.StringDtype):
            yield from _letters(column)
        else:
            yield from _bytes(column.to_numpy())
    yield cohort._digest.encode()


def _bytes(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array in pieces of bounded size."""
    step = max(1, BYTES_AT_ONCE // max(1, array[:1].nbytes))
    for begin in range(0, len(array), step):
        yield np.ascontiguousarray(array[begin : begin + step]).data.cast("B")


def _letters(column: pd.Series) -> Iterator[bytes]:
    """Text in pieces, the same however it lies in memory."""
    for begin in range(0, len(column), TEXTS_AT_ONCE):
        yield json.dumps(column.iloc[begin : begin + TEXTS_AT_ONCE].fillna("").tolist()).encode()


def _check_free(folder: Path) -> None:
    """Nothing but an older cohort is ever replaced."""
    if (
        folder.exists()
        and not (folder / "cohort.json").exists()
        and not (folder.is_dir() and not any(folder.iterdir()))
    ):
        problem = f"'{folder.name}' is there already and is not a cohort."
        raise MilError(problem, str(folder), "Choose another folder.")


def _write(cohort: Cohort, folder: Path) -> None:
    facts = {
        "version": VERSION,
        "fingerprint": cohort.fingerprint,
        "counts": {"patients": cohort.B, "cells": cohort.N, "features": cohort.F, "inputs": cohort.inputs},
        "bag": cohort.bag,
        "names": cohort.names,
        "notes": [asdict(note) for note in cohort.notes],
        "source": cohort.source,
    }
    if cohort.written is not None:
        cohort.written.file.name(folder / "features.npy")
    else:
        np.save(folder / "features.npy", cohort.features)
    np.savez(folder / "rows.npz", offsets=cohort.offsets, order=cohort.order)
    table = _arrow(cohort.cells)
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    pq.write_table(table, folder / "cells.parquet", compression="zstd", use_dictionary=texts)
    cohort.patients.to_parquet(folder / "patients.parquet", index=False)
    if cohort.glimpse is not None:
        pq.write_table(cohort.glimpse, folder / GLIMPSE, compression="zstd")
    cohort.write_mapping(folder / "mapping.json")
    (folder / "cohort.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def _arrow(cells: pd.DataFrame) -> pa.Table:
    """The cell table for Parquet; a categorical column stays one, also where it has no category."""
    columns: dict[str, pa.Array] = {}
    for name, column in cells.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes = column.cat.codes.to_numpy(np.int32)
            texts = pa.array(list(column.cat.categories), pa.string())
            columns[str(name)] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), texts)
        else:
            columns[str(name)] = pa.array(column)
    return pa.table(columns)


def _cells(file: Path) -> pd.DataFrame:
    """The cell table of a folder, held once."""
    texts = {pa.string(): TEXT, pa.large_string(): TEXT}
    how: dict[str, Any] = {"split_blocks": True, "self_destruct": True}
    return pq.read_table(file).to_pandas(types_mapper=texts.get, ignore_metadata=True, **how)


def _facts(folder: Path) -> dict[str, Any]:
    """What cohort.json says, once it is known to be ours."""
    file = folder / "cohort.json"
    if not file.exists():
        problem = f"There is no cohort in '{folder.name}'."
        raise MilError(problem, str(folder), "Name a folder that holds 'cohort.json'.")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        version = facts["version"]
    except DAMAGE as error:
        problem = f"The cohort in '{folder.name}' is damaged: {error}"
        raise Damaged(problem, str(file), MEND) from None
    if version != VERSION:
        problem = (
            f"The cohort in '{folder.name}' is of version {version}; this Milscope reads version {VERSION}."
        )
        raise MilError(problem, str(file), MEND)
    return facts


def _read(folder: Path, facts: dict[str, Any], cells: pd.DataFrame) -> Cohort:
    """The cohort of a folder with its `cells`, which whoever has just written them need not read again."""
    with np.load(folder / "rows.npz") as rows:
        offsets, order = rows["offsets"], laid_down(rows["order"])
    cohort = Cohort(
        features=np.load(folder / "features.npy", mmap_mode="r"),
        names=tuple(facts["names"]),
        offsets=offsets,
        patients=pd.read_parquet(folder / "patients.parquet"),
        cells=cells,
        order=order,
        bag=facts["bag"],
        notes=tuple(Note(**note) for note in facts["notes"]),
        source=facts["source"],
        path=folder,
        inputs=facts["counts"]["inputs"],
        glimpse=pq.read_table(folder / GLIMPSE) if (folder / GLIMPSE).exists() else None,
    )
    written = facts["counts"]["cells"]
    if written != cohort.N:
        problem = f"{cohort.N} cells where {written} were written"
        raise ValueError(problem)
    cohort.__dict__["fingerprint"] = facts["fingerprint"]
    return cohort
