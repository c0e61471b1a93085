"""Names that hold the patient or region ("P01_core-3.csv"): a pattern takes them apart, and one is proposed.

A pattern is the name with {patient}, {region}, {cell} in place of what varies, and {} for what does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from milcore.errors import MilError
from milcore.files import PACKED

__all__ = ["FIELDS", "expression", "proposals", "stem", "take_apart"]

FIELDS = ("patient", "region", "cell")
FIELD = re.compile(r"\{(\w*)\}")
PARTS = re.compile(r"([_\-\s./=+]+)")
HINTS = {
    "patient": r"(patients?|pat|pt|subject|case|donor|individual|participant)(id)?",
    "region": r"(core|roi|fov|region|reg|image|img|field|spot|slide|scene|tile|acquisition)(id)?",
    "": r"(chunk|part|batch|run|page|split)",
}  # words before, or at the begin of, what a name says


def stem(name: str) -> str:
    """A file's name without its endings, its folders kept."""
    path = PurePosixPath(name)
    if path.suffix.casefold().removeprefix(".") in PACKED:
        path = path.with_suffix("")
    return str(path.with_suffix("")) if path.suffix else str(path)


def expression(pattern: str) -> str:
    """A pattern as a regular expression with one group a field; MilError for one that names no field, or one twice."""
    found = FIELD.findall(pattern)
    unknown = [name for name in found if name and name not in FIELDS]
    named = [name for name in found if name]
    if unknown or not named or len(set(named)) < len(named):
        problem = f"The pattern '{pattern}' does not say where in a name the patient or region stands."
        fix = "Write the name with {patient}, {region} or {cell}, each once, and {} for what varies besides."
        raise MilError(problem, "--pattern", fix)
    places = FIELD.split(pattern)
    texts, fields = places[::2], places[1::2]
    groups = [f"(?P<{name}>.+)" if name else ".*?" for name in fields] + [""]
    return "^" + "".join(re.escape(text) + group for text, group in zip(texts, groups, strict=True)) + "$"


def take_apart(names: Sequence[str], pattern: str) -> dict[str, list[str]]:
    """What each field of the pattern is in every name; MilError where one does not fit."""
    fits = re.compile(expression(pattern))
    found = [fits.match(name) for name in names]
    if None in found:
        strange = names[found.index(None)]
        problem = f"The name '{strange}' does not fit the pattern '{pattern}'."
        raise MilError(problem, "--pattern", "Write {} for parts that vary and do not matter.")
    fields = [name for name in FIELDS if f"{{{name}}}" in pattern]
    return {name: [match[name] for match in found if match] for name in fields}


def proposals(names: Sequence[str]) -> list[str]:
    """Patterns that fit all names and say the patient, the likeliest first; none for a single name without a hint."""
    split = [PARTS.split(name) for name in names]
    regular = len({(len(parts), *parts[1::2]) for parts in split}) == 1
    found = _by_parts(split) if regular else []
    if len(names) > 1:
        found.append("{patient}")
    return [pattern for pattern in dict.fromkeys(found) if _fits(names, pattern)]


def _fits(names: Sequence[str], pattern: str) -> bool:
    fits = re.compile(expression(pattern))
    return all(fits.match(name) for name in names)


def _by_parts(split: list[list[str]]) -> list[str]:
    """Patterns of names with the same parts: by the words in them, else by what varies."""
    columns = list(zip(*split, strict=True))
    hinted = {i: hint for i in range(0, len(columns), 2) if (hint := _hint(columns, i)) is not None}
    varying = [i for i in range(0, len(columns), 2) if len(set(columns[i])) > 1 and i not in hinted]
    fields = {i: name for i, name in hinted.items() if name in ("", "region")}
    patient = [i for i, name in hinted.items() if name == "patient"][:1]
    free = [i for i in varying if i not in patient]
    if patient:
        return [_pattern(columns, fields | {patient[0]: "patient"} | _rest(free, fields))]
    if not free:
        return []
    whole = _pattern(columns, fields | {free[0]: "patient"}, until=free[-1])
    first = _pattern(columns, fields | {free[0]: "patient"} | _rest(free[1:], fields))
    repeats = len(set(columns[free[0]])) < len(split)
    return [first, whole] if repeats else [whole, first]


def _hint(columns: list[tuple[str, ...]], i: int) -> str | None:
    """What a part is by the word before it or at its begin; None where no word tells."""
    for field, word in HINTS.items():
        before = columns[i - 2][0] if i >= 2 and len(set(columns[i - 2])) == 1 else ""
        if re.fullmatch(word, before, re.I) or all(re.match(rf"{word}\d", part, re.I) for part in columns[i]):
            return field
    return None


def _rest(free: list[int], fields: dict[int, str]) -> dict[int, str]:
    """Further parts that vary: the first is the region, if none is known yet."""
    names = ["" if "region" in fields.values() else "region"] + [""] * len(free)
    return dict(zip(free, names, strict=False))


def _pattern(columns: list[tuple[str, ...]], fields: dict[int, str], *, until: int = -1) -> str:
    """The pattern with these fields; the patient goes on to part `until`, if any."""
    patient = next((i for i, name in fields.items() if name == "patient"), len(columns))
    kept = [i for i in range(len(columns)) if not patient < i <= until]
    return "".join(f"{{{fields[i]}}}" if i in fields else columns[i][0] for i in kept)
