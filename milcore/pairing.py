"""Tables of cells that a tool spreads over several files: which belong together, and the two joined cell by cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import polars as pl

from milcore import names
from milcore.cohort import Note
from milcore.errors import MilError
from milcore.files import Source
from milcore.profiles import texts
from milcore.text import Table

__all__ = ["joined", "together"]

INTENSITIES, REGIONPROPS, IMAGES, OBJECT = (
    "intensities",
    "regionprops",
    "images.csv",
    "Object",
)  # of steinbock
Beside = dict[Source, list[Source]]


@dataclass(frozen=True)
class Pair:
    """Two files of a tool: the `cells` by the end of their name, and the `counts` of the same cells, whose name has the
    same begin. `keys`: what tells cells apart in the one and in the other, in folded names."""

    cells: str
    counts: str
    keys: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


PAIRS = (
    Pair(
        r"metadata_file\.csv(\.gz)?",
        r"exprmat_file\.csv(\.gz)?",
        ((("fov",), ("fov",)), (("cellid",), ("cellid",))),
    ),  # CosMx
    Pair(
        r"cell_metadata\.csv(\.gz)?",
        r"cell_by_gene\.csv(\.gz)?",
        ((("entityid", "unnamed0", ""), ("cell", "unnamed0", "")),),
    ),  # MERSCOPE
    Pair(
        r"cells\.(parquet|csv(\.gz)?)",
        r"cell_feature_matrix\.h5",
        ((("cellid",), ("cellid",)),),
    ),  # Xenium
)


def together(sources: list[Source]) -> tuple[list[Source], Beside]:
    """The tables of cells, and what belongs beside each; where a tool's files are found, others are left alone."""
    return _steinbock(sources) or _pairs(sources) or (sources, {})


def _steinbock(sources: list[Source]) -> tuple[list[Source], Beside] | None:
    """Intensities, and beside each its region properties and the facts of all images."""
    cells = [source for source in sources if source.folder == INTENSITIES]
    beside = {source.name: source for source in sources if source.folder == REGIONPROPS}
    if not cells or not beside:
        return None
    images = [source for source in sources if PurePosixPath(source.name).name == IMAGES]
    at = {cell: beside.get(cell.name.replace(INTENSITIES, REGIONPROPS)) for cell in cells}
    return cells, {cell: [*([found] if found else []), *images] for cell, found in at.items()}


def _pairs(sources: list[Source]) -> tuple[list[Source], Beside] | None:
    """Cells, and beside each their counts; of cells that come in two kinds of file the first."""
    for pair in PAIRS:
        counts = {begin: source for source in sources if (begin := _begin(source, pair.counts)) is not None}
        found: dict[str, Source] = {}
        for source in sources:
            begin = _begin(source, pair.cells)
            if begin in counts:
                found.setdefault(str(begin), source)
        if found:
            return list(found.values()), {source: [counts[begin]] for begin, source in found.items()}
    return None


def _begin(source: Source, end: str) -> str | None:
    """A name without its end, None where it ends otherwise."""
    found = re.fullmatch(rf"(.*?){end}", source.name, flags=re.IGNORECASE | re.DOTALL)
    return found[1] if found else None


def joined(table: Table, cells: Source, beside: Sequence[Source], read: Callable[[Source], Table]) -> Table:
    """A table of cells with what stands beside it: counts or properties of each cell, or facts of its image."""
    for source in beside:
        other, pair = read(source).frame, _pair_of(cells)
        if pair is not None:
            table = _with_counts(table, other, pair, (cells.name, source.name))
        elif OBJECT in other.columns and OBJECT in table.frame.columns:
            frame = table.frame.join(other, on=OBJECT, how="left", suffix=" (2)", maintain_order="left")
            table = replace(table, frame=frame)
        elif "image" in other.columns:
            table = _with_image(table, other, cells, source)
    return table


def _pair_of(cells: Source) -> Pair | None:
    return next((pair for pair in PAIRS if _begin(cells, pair.cells) is not None), None)


def _with_image(table: Table, facts: pl.DataFrame, cells: Source, source: Source) -> Table:
    """With the facts of its image in every row."""
    stems = [PurePosixPath(str(name)).stem for name in facts["image"]]
    here = facts.filter(pl.Series(stems) == PurePosixPath(cells.name).stem).drop("image")
    if here.height != 1:
        words = f"'{source.name}' says nothing of the image of '{cells.name}'."
        return replace(table, notes=(*table.notes, Note("image_unknown", words)))
    return replace(
        table, frame=table.frame.with_columns(pl.lit(here[name][0]).alias(name) for name in here.columns)
    )


def _with_counts(table: Table, counts: pl.DataFrame, pair: Pair, files: tuple[str, str]) -> Table:
    """With the counts of each cell; cells without any are said."""
    ours = [_named(table.frame, here, files[0]) for here, _ in pair.keys]
    theirs = [_named(counts, there, files[1]) for _, there in pair.keys]
    keys = [f"key {i} of the cells" for i in range(len(ours))]  # no column's name
    left = table.frame.with_columns(
        texts(table.frame[name]).alias(key) for name, key in zip(ours, keys, strict=True)
    )
    right = counts.with_columns(
        texts(counts[name]).alias(key) for name, key in zip(theirs, keys, strict=True)
    )
    right = right.drop(theirs)
    if right.select(keys).is_duplicated().any():
        problem = f"'{files[1]}' has counts of one cell twice."
        raise MilError(problem, files[1], "Export the table again.")
    both = left.join(
        right.with_columns(found=True), on=keys, how="left", suffix=" (2)", maintain_order="left"
    )
    lacking = int(both["found"].is_null().sum())
    if lacking == both.height:
        problem = f"No cell of '{files[0]}' has counts in '{files[1]}'."
        where = f"the columns {', '.join(ours)} and {', '.join(theirs)}"
        raise MilError(problem, where, "Give the two files of one sample.")
    words = f"Each cell of '{files[0]}' was joined with its counts in '{files[1]}'"
    words += f"; {lacking:,} of {both.height:,} have none." if lacking else "."
    notes = (*table.notes, Note("joined_counts", words))
    return replace(table, frame=both.drop([*keys, "found"]), notes=notes)


def _named(frame: pl.DataFrame, wanted: tuple[str, ...], file: str) -> str:
    """The column with one of these folded names, the first of them if it is there."""
    plain = {names.folded(name): name for name in reversed(frame.columns)}
    for name in wanted:
        if name in plain:
            return plain[name]
    problem = f"'{file}' has no column '{wanted[0]}', which tells its cells apart."
    raise MilError(problem, file, "Export the table again.")
