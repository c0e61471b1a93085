"""Whose image it is, where the patients file has a row an image: patients own images, and no fold parts a patient."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import polars as pl

from milcore import names
from milcore.cohort import Note
from milcore.errors import MilError
from milcore.patients import known_share, listed, matched

__all__ = ["Belonging", "belonging", "one_row_each"]

KNOWN = 0.5  # of the ids must be in a column, for it to list them whatever its name
STATES = 2  # a column of no more different words tells two groups apart, not patients


@dataclass(frozen=True)
class Belonging:
    """What column `key` of a patients file lists, and `owner`, the patient of each id (None where it is not known)."""

    key: str
    column: str
    owner: dict[str, str | None]

    @property
    def shared(self) -> bool:
        """Whether any patient has several."""
        owners = [patient for patient in self.owner.values() if patient is not None]
        return len(set(owners)) < len(owners)


def belonging(
    ids: pl.Series, frame: pl.DataFrame, *, name: str, asked: str | None = None
) -> Belonging | None:
    """The patient of each of `ids`, column `name` of the cell table, as the patients file says it; None where it says
    nothing of the kind.

    `asked` is the file's column of patients, if the user named it. MilError where several columns seem to name the
    patient and do not agree.
    """
    key = _key(ids, frame, name)
    if key is None:
        return None
    column = asked or _patient_column(frame, key)
    if column is None:
        return None
    people = one_spelling_each(frame[column])
    rows = matched(ids.to_list(), frame[key].cast(pl.String).to_list())
    owner = {each: None if row < 0 else people[row] for each, row in zip(ids, rows, strict=True)}
    return Belonging(key, column, owner)


def one_spelling_each(column: pl.Series) -> list[str | None]:
    """Ids without outer spaces, those that differ in case alone written as the first of them."""
    first: dict[str, str] = {}
    texts = column.cast(pl.String).str.strip_chars().replace("", None)
    return [None if text is None else first.setdefault(text.casefold(), text) for text in texts]


def _key(ids: pl.Series, frame: pl.DataFrame, name: str) -> str | None:
    """The column that lists the ids, one a row: that of the same name, else one named for it, else what holds most."""
    plain, person = names.folded(name), names.folded(name) in names.PATIENT
    best: tuple[tuple[bool, bool, float], str] | None = None
    for column in frame.get_columns():
        other, texts = names.folded(column.name), column.cast(pl.String).drop_nulls()
        share = known_share(ids, texts)
        named = other in (*names.REGION, *names.STAND_IN)
        fits = other == plain if person else other == plain or other not in names.PATIENT
        if share and fits and texts.n_unique() == len(texts) and (named or other == plain or share >= KNOWN):
            rank = (other == plain, named, share)
            best = max(best or (rank, column.name), (rank, column.name), key=lambda pair: pair[0])
    return best[1] if best else None


def _patient_column(frame: pl.DataFrame, key: str) -> str | None:
    """The column that names the patient more surely than `key`; of several that agree the one of whole patients."""
    order = names.PATIENT
    surest = order.index(names.folded(key)) if names.folded(key) in order else len(order)
    found = [name for name in frame.columns if name != key and names.folded(name) in order[:surest]]
    counts = {name: frame[name].drop_nulls().n_unique() for name in found}
    able = sorted((name for name in found if counts[name] > STATES), key=lambda name: counts[name])
    for finer in able[1:]:
        if frame.select(able[0], finer).drop_nulls().unique().height > counts[finer]:
            problem = (
                f"Both '{able[0]}' and '{finer}' of the patients file seem to name the patient, differently."
            )
            fix = f"Say which it is (--patient '{able[0]}'), or give the other another name."
            raise MilError(problem, "the patients file", fix)
    return able[0] if able else None


# One row a patient


def one_row_each(
    frame: pl.DataFrame, patient: str, *, labels: Collection[str], file: str
) -> tuple[pl.DataFrame, list[Note]]:
    """The patients file with one row a patient where it has one an image; what differs between them is left out and
    said.

    Untouched where no column tells a patient's rows apart as images, cores or samples. MilError for one of `labels`
    that differs within a patient.
    """
    people = pl.Series(patient, one_spelling_each(frame[patient]), dtype=pl.String)
    known = frame.with_columns(people).filter(people.is_not_null())
    if known[patient].n_unique() == known.height or not any(_tells_apart(known, patient)):
        return frame, []
    others = [name for name in frame.columns if name != patient]
    differing = [name for name in others if _differs(known, patient, name)]
    for name in differing:
        if name in labels:
            raise _contradiction(known, patient, name, file)
    kept = [name for name in others if name not in differing]
    first = [pl.col(name).drop_nulls().first() for name in kept]
    said = [name for name in differing if not names.owner(name)]
    words = (
        f"Columns of the patients file that differ within a patient, left out ({len(said)}): {listed(said)}."
    )
    notes = [Note("differs_within_patients", words)] if said else []
    return known.group_by(patient, maintain_order=True).agg(first).select([patient, *kept]), notes


def _tells_apart(frame: pl.DataFrame, patient: str) -> Iterator[bool]:
    """Of each column named like images, cores or samples: whether it is another one in every row of a patient."""
    for name in frame.columns:
        if name != patient and names.folded(name) in (*names.REGION, *names.STAND_IN):
            yield (
                frame[name].null_count() == 0 and frame.select(patient, name).unique().height == frame.height
            )


def _differs(frame: pl.DataFrame, patient: str, name: str) -> bool:
    pairs = frame.select(
        patient, pl.col(name).cast(pl.String).str.strip_chars().replace("", None)
    ).drop_nulls()
    return pairs.unique().height > pairs[patient].n_unique()


def _contradiction(frame: pl.DataFrame, patient: str, name: str, file: str) -> MilError:
    values = frame.select(patient, pl.col(name).cast(pl.String)).drop_nulls().unique(maintain_order=True)
    who = values.filter(values[patient].is_duplicated())[patient][0]
    one, other = values.filter(values[patient] == who)[name].to_list()[:2]
    problem = f"'{name}' varies within patient '{who}': '{one}' and '{other}'."
    fix = "Predict regions with --bag region (folds still keep a patient together), or correct the file."
    return MilError(problem, f"'{file}'", fix)
