"""The patients file: read exactly, and joined to the patients (or regions) of the cells; who has no partner is said."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from milcore import names
from milcore.cohort import Note
from milcore.errors import MilError
from milcore.tables import Table, read_table

__all__ = [
    "SHOWN",
    "join",
    "known_share",
    "likeness",
    "listed",
    "matched",
    "one_spelling",
    "patient_key",
    "plain",
    "read_patients",
]

SHOWN = 5  # names in a sentence
PATIENT = names.PATIENT + names.STAND_IN
LABELS = 20  # a column of more different words is no label
SAME = (
    ("yes", "y", "true", "t", "1", "positive", "pos", "+"),
    ("no", "n", "false", "f", "0", "negative", "neg", "-"),
)  # words for one label, in columns that hold no others
MATCHING = 0.5  # of the bags must be found in a column, for it to be the key whatever its name
IMAGES = (
    r"(\.ome)?\.(ndpi|svs|tiff?|qptiff|im3|czi|mrxs|scn|vsi|mcd|png|jpe?g|csv|fcs|txt)$"  # endings of an id
)


def read_patients(path: Path) -> Table:
    """The patients file as written, for its ids are found by their text; `join` makes numbers of the rest.

    MilError for what is missing, empty or no table.
    """
    return read_table(path, text=None)


def _number(column: pl.Series) -> pl.Series:
    """Text that is numbers throughout becomes numbers, whole ones where all are."""
    if column.dtype != pl.String or column.null_count() == len(column):
        return column
    number = column.str.strip_chars().cast(pl.Float64, strict=False)
    if number.null_count() > column.null_count():
        return column.str.strip_chars()
    whole = number.is_finite().fill_null(value=True).all() and (number.drop_nulls() % 1 == 0).all()
    return number.cast(pl.Int64, strict=False) if whole else number


def plain(column: pl.Series) -> pd.Series:
    """For pandas: whole numbers stay whole beside gaps, and 0.1 read as float32 is 0.1 again."""
    if column.dtype == pl.Float32:
        column = column.cast(pl.String).cast(pl.Float64)
    if column.dtype.is_float():
        column = column.fill_nan(None)
        if (column.drop_nulls() % 1 == 0).all() and column.drop_nulls().is_finite().all():
            column = column.cast(pl.Int64)
    if isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String)
    values = column.to_pandas()
    return values.astype("Int64") if column.dtype.is_integer() and column.null_count() else values


def listed(items: Collection[object], *, at_most: int = SHOWN) -> str:
    """A few of the items in words."""
    shown = ", ".join(f"'{item}'" for item in list(items)[:at_most])
    return shown + (f" and {len(items) - at_most} more" if len(items) > at_most else "")


def join(
    bags: pd.DataFrame, frame: pl.DataFrame, *, named: dict[str, str], file: str
) -> tuple[pd.DataFrame, list[Note]]:
    """The bags (`patient`[, `region`] first) with the columns of the patients file, and what had no partner.

    `named` says what the cell table calls its patients and regions. Ids match exactly as written, else without
    case and outer spaces, else without separators and leading zeros; other columns of numbers, unless they name
    patients or regions, become numbers. MilError where no column holds the ids, where none of them matches, and where
    an id comes twice.
    """
    keys = _keys(bags, frame, named, file)
    rows = _rows(frame, keys, file)
    wanted = list(bags[list(keys)].astype(str).itertuples(index=False, name=None))
    found, forgiven = _partners(wanted, rows)
    if (found < 0).all():
        problem = f"No {' or '.join(keys)} of the cell table is in the patients file."
        cells, others = (listed([_said(key) for key in keys]) for keys in (wanted, rows))
        where = f"the cells have {cells}; '{file}' has {others}"
        raise MilError(problem, where, "Write the ids the same way in both.")
    at = pl.Series(found).set(pl.Series(found < 0), None)
    joined = bags.copy()
    for column in frame.get_columns():
        if column.name not in keys.values():
            name = column.name if column.name not in joined else f"{column.name} (patients file)"
            id_like = column.name in named.values() or names.owner(column.name)
            joined[name] = plain((column if id_like else _number(column)).gather(at))
    missing = [_said(key) for key, row in zip(wanted, found, strict=True) if row < 0]
    idle = [_said(key) for key, row in rows.items() if row not in set(found.tolist())]
    return joined, [*_notes(list(keys)[-1], missing, idle, forgiven), *_blank(frame, keys)]


Key = tuple[str, ...]


def _said(key: Key) -> str:
    return " / ".join(key)


def _keys(bags: pd.DataFrame, frame: pl.DataFrame, named: dict[str, str], file: str) -> dict[str, str]:
    """What tells bags apart -> its column in the patients file."""
    keys: dict[str, str] = {}
    for role, known in (("patient", PATIENT), ("region", names.REGION)):
        if role in named and role in bags:
            free = frame.drop(keys.values())
            column = _key(bags[role], free, named[role], known)
            keys |= {role: column} if column else {}
    if not keys:
        problem = f"The patients file '{file}' has no column with the patients of the cell table."
        where = f"the columns {', '.join(frame.columns[:12])}"
        raise MilError(problem, where, f"Call that column '{named['patient']}', as in the cell table.")
    return keys


def patient_key(ids: pd.Series, frame: pl.DataFrame, name: str) -> str | None:
    """The column of a patients file that names these patients, `name` in the cell table; None where there is none."""
    return _key(ids, frame, name, PATIENT)


def _key(ids: pd.Series, frame: pl.DataFrame, name: str, known: Collection[str]) -> str | None:
    """The column of that name, else one whose name means it, else the one that holds most of the ids."""
    wanted = pl.Series(ids.astype(str).tolist(), dtype=pl.String)
    held = {c.name: known_share(wanted, c.cast(pl.String)) for c in frame.get_columns()}
    if name in held:
        return name
    meant = [other for other in held if names.folded(other) in known and held[other]]
    best = max(meant or held, key=lambda other: held[other], default="")
    return best if meant or held.get(best, 0) >= MATCHING else None


def _texts(frame: pl.DataFrame, keys: dict[str, str]) -> list[tuple[str | None, ...]]:
    columns = [frame[name].cast(pl.String).str.strip_chars().replace("", None) for name in keys.values()]
    return list(zip(*(column.to_list() for column in columns), strict=True))


def _rows(frame: pl.DataFrame, keys: dict[str, str], file: str) -> dict[Key, int]:
    """The row of every id; MilError for one that comes twice."""
    rows: dict[Key, int] = {}
    for row, key in enumerate(_texts(frame, keys)):
        whole = tuple(part for part in key if part is not None)
        if len(whole) < len(key):
            continue
        if whole in rows:
            where = f"rows {rows[whole] + 1} and {row + 1}"
            problem = f"The patients file has {' and '.join(keys)} '{_said(whole)}' twice, in {where}."
            fix = f"Keep one row for each {list(keys)[-1]}, or predict regions with --bag region."
            raise MilError(problem, f"'{file}', column '{list(keys.values())[-1]}'", fix)
        rows[whole] = row
    return rows


def _close(part: str) -> str:
    """Without case and outer spaces."""
    return part.casefold().strip()


def _loose(part: str) -> str:
    """Also without the ending of an image, separators, and zeros before a number: "P01" and "p 1" are alike."""
    plain = re.sub(r"[\W_]+", "", re.sub(IMAGES, "", _close(part)))
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)


def _partners(wanted: list[Key], rows: dict[Key, int]) -> tuple[np.ndarray, list[str]]:
    """The row of each bag (-1 for none), and who was found only by forgiving how ids are written.

    Each step forgives more, and leaves alone who was found before; ids that it makes alike cannot be told apart, so
    none of them is meant.
    """
    at: dict[Key, int] = dict.fromkeys(wanted, -1)
    forgiven = []
    for alike in (str, _close, _loose):
        taken = set(at.values())
        there = _only([key for key, row in rows.items() if row not in taken], alike)
        here = _only([key for key, row in at.items() if row < 0], alike)
        for form, key in here.items():
            other = there.get(form)
            if key is not None and other is not None:
                at[key] = rows[other]
                forgiven += [] if key == other else [f"{_said(key)}' with '{_said(other)}"]
    return np.array([at[key] for key in wanted]), forgiven


def _only(keys: list[Key], alike: Callable[[str], str]) -> dict[Key, Key | None]:
    """The keys by the form that `alike` gives them; None where two have the same."""
    seen: dict[Key, Key | None] = {}
    for key in keys:
        form = tuple(map(alike, key))
        seen[form] = None if form in seen else key
    return seen


def likeness(ids: pl.Series, frame: pl.DataFrame) -> float:
    """The share of ids that the best column of a patients file knows, however written, if it tells its rows apart."""
    best = 0.0
    for column in frame.get_columns():
        texts = column.cast(pl.String).drop_nulls()
        if texts.n_unique() == len(texts):
            best = max(best, known_share(ids.cast(pl.String), texts))
    return best


def known_share(ids: pl.Series, texts: pl.Series) -> float:
    """The share of ids that are among the texts, however written."""
    wanted = {_loose(text) for text in ids.drop_nulls()}
    return len(wanted & {_loose(text) for text in texts.drop_nulls()}) / max(1, len(wanted))


def matched(ids: list[str], theirs: list[str | None]) -> list[int]:
    """The place among `theirs` of each id, however written; -1 where it has none, or might be several."""
    rows: dict[Key, int] = {(text.strip(),): row for row, text in enumerate(theirs) if text is not None}
    return [int(row) for row in _partners([(each,) for each in ids], rows)[0]]


def _notes(role: str, missing: list[str], idle: list[str], forgiven: list[str]) -> Iterator[Note]:
    for kind, words, who in (
        ("forgiving_match", f"{role.capitalize()}s matched though written differently", forgiven),
        (
            "unmatched_patients",
            f"{role.capitalize()}s with cells but not in the patients file, kept without label",
            missing,
        ),
        (
            "patients_without_cells",
            f"{role.capitalize()}s of the patients file without cells, left out",
            idle,
        ),
    ):
        if who:
            yield Note(kind, f"{words} ({len(who)}): {listed(who)}.")


def _blank(frame: pl.DataFrame, keys: dict[str, str]) -> Iterator[Note]:
    blank = sum(None in key for key in _texts(frame, keys))
    if blank:
        yield Note(
            "blank_patients", f"{blank} rows of the patients file name no {list(keys)[-1]} and were left out."
        )


def one_spelling(bags: pd.DataFrame, *, merge: bool) -> tuple[pd.DataFrame, list[Note]]:
    """The bags with labels that are one but for case, spaces or a word for yes or no; merged only if asked to."""
    notes = []
    for name in bags.columns:
        if name in ("patient", "region") or not pd.api.types.is_object_dtype(bags[name]):
            continue
        better = _spellings(bags[name].dropna().astype(str))
        if better:
            pairs = listed([f"{old}' as '{new}" for old, new in better.items()])
            bags = bags.assign(**{name: bags[name].replace(better)}) if merge else bags
            done = "They count as one." if merge else "They count as different labels."
            words = f"'{name}' seems to write one label in several ways: {pairs}. {done}"
            notes.append(Note("label_spellings", words))
    return bags, notes


def _spellings(texts: pd.Series) -> dict[str, str]:
    """What is to be written another way -> the commonest way to write it."""
    counts = texts.value_counts()
    if not 1 < len(counts) <= LABELS:
        return {}
    plain = {text: " ".join(re.split(r"[\s_\-]+", text.casefold().strip())) or text for text in counts.index}
    words = {word: group[0] for group in SAME for word in group}
    if all(form in words for form in plain.values()):
        plain = {text: words[form] for text, form in plain.items()}
    best: dict[str, str] = {}
    for text, form in plain.items():  # the commonest first
        best.setdefault(form, text)
    return {text: best[form] for text, form in plain.items() if best[form] != text}
