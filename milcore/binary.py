"""Tables that are no text: Parquet, Feather, h5ad, FCS and Excel; each refused where it claims more than it holds."""

from __future__ import annotations

import datetime
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from milcore.cohort import Note, alike
from milcore.errors import MilError
from milcore.names import PLACES
from milcore.text import Table

__all__ = [
    "parquet_blocks",
    "parquet_extent",
    "read_10x",
    "read_excel",
    "read_fcs",
    "read_feather",
    "read_h5ad",
    "read_parquet",
]

MOST_VALUES = 1 << 31  # of an h5ad matrix: 8 GB
MOST_SHEET = 5_000_000  # values of a sheet
SAFE_BYTES = 1 << 30  # what a file may unpack to, however small it is
MOST_TIMES = 1_000  # its own size, beyond that
ROWS_AT_ONCE = 1 << 17  # of a large Parquet file
MEASURED = (
    "Gene Expression",
    "Protein Expression",
    "Antibody Capture",
)  # of a 10x matrix; the others are controls
TITLES = 20  # rows of a sheet among which the header is looked for


def _check_claim(path: Path, claimed: int) -> None:
    """MilError where a file says it holds far more bytes than it can."""
    if claimed > max(SAFE_BYTES, MOST_TIMES * path.stat().st_size):
        problem = (
            f"'{path.name}' claims to hold {claimed / 1e9:,.0f} GB, {MOST_TIMES:,} times its size and more."
        )
        raise MilError(problem, str(path), "Export the table again, or as CSV.")


def read_parquet(path: Path, wanted: Collection[str]) -> Table:
    """A Parquet file."""
    parquet_extent(path)
    return Table(pl.read_parquet(path), "Parquet")


def parquet_extent(path: Path) -> tuple[int, int]:
    """The rows of a Parquet file, and its bytes in memory, about; MilError where it claims more than it can hold."""
    facts = pq.read_metadata(path)
    size = facts.num_rows * facts.num_columns * 4
    _check_claim(path, size)
    return facts.num_rows, size


def parquet_blocks(path: Path) -> Iterator[tuple[int, pl.DataFrame]]:
    """The rows of a Parquet file by pieces, each with the bytes read so far, about."""
    size, seen = path.stat().st_size, 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            seen += batch.num_rows
            yield size * seen // file.metadata.num_rows, pl.DataFrame(batch)


def read_feather(path: Path, wanted: Collection[str]) -> Table:
    """A Feather (Arrow IPC) file."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
        table.validate(full=True)  # damaged offsets would end the process
        return Table(pl.DataFrame(table), "Feather")


# h5ad


def read_h5ad(path: Path, wanted: Collection[str], *, layer: str | None = None) -> Table:
    """An h5ad file: obs, the place of each cell in tissue and on a UMAP, and X or another `layer`, of which only the
    `wanted` columns are read if any is there."""
    _check_links(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old files and newer versions: nothing the user can mend
        import anndata
        from anndata._io.specs.registry import IORegistryError

        try:
            data = anndata.read_h5ad(path)
        except IORegistryError as error:
            raise ValueError(str(error)) from None
    columns = {str(name): _observed(data.obs[name]) for name in data.obs}
    for kept, named in PLACES.items():
        if kept in data.obsm:
            place = np.asarray(data.obsm[kept], np.float32)
            columns |= {name: pl.Series(place[:, i]) for i, name in enumerate(named[: place.shape[1]])}
    columns.setdefault(
        str(data.obs.index.name or "obs_names"), pl.Series(data.obs_names.astype(str).to_numpy())
    )
    layers = tuple(str(name) for name in data.layers)
    measured = _measured(data, wanted, _matrix(data, layer, path))
    matrix = {f"{name} (2)" if name in columns else name: column for name, column in measured.items()}
    return Table(
        pl.DataFrame(columns | matrix), "h5ad", tuple(matrix), tuple(_layer_notes(layers, layer)), layers
    )


def _matrix(data: Any, layer: str | None, path: Path) -> Any:
    """X, or the layer that was asked for."""
    if layer is None:
        return data.X
    if layer not in data.layers:
        problem = f"There is no layer '{layer}' in '{path.name}'."
        raise MilError(problem, "--layer", alike(layer, [str(name) for name in data.layers]))
    return data.layers[layer]


def _layer_notes(layers: tuple[str, ...], layer: str | None) -> Iterator[Note]:
    others = ", ".join(f"'{name}'" for name in layers if name != layer)
    if layer is not None:
        yield Note("layers", f"The values are those of the layer '{layer}', not of X.")
    elif others:
        yield Note("layers", f"The values are those of X; there are also the layers {others}.")


def _check_links(path: Path) -> None:
    """MilError where a part of the file lies in another file, or claims more than the file can hold."""
    import h5py

    links: dict[str, Any] = {}
    parts: dict[str, tuple[bool, int]] = {}

    def look(name: str, thing: Any) -> None:  # raises nothing: h5py may lose it
        if isinstance(thing, h5py.Dataset):
            parts[name] = (bool(thing.external) or thing.is_virtual, thing.nbytes)

    with h5py.File(path) as file:
        file.visititems_links(links.__setitem__)
        file.visititems(look)
    elsewhere = [name for name, link in links.items() if isinstance(link, h5py.ExternalLink)]
    for name in elsewhere + [name for name, (outside, _) in parts.items() if outside]:
        problem = f"'{path.name}' keeps '{name}' in another file."
        raise MilError(problem, str(path), "Write it anew with all its parts inside.")
    _check_claim(path, max((size for _, size in parts.values()), default=0))


def _observed(column: Any) -> pl.Series:
    """A column of obs; categories stay categories, whatever they are made of."""
    if column.dtype == "category":
        texts = pl.Series([str(value) for value in column.cat.categories], dtype=pl.String)
        codes = pl.Series(column.cat.codes.to_numpy(np.int64))
        return texts.gather(codes.set(codes < 0, None)).cast(pl.Categorical)
    return pl.Series(
        pa.array(column.astype("string") if column.dtype == object else column, from_pandas=True)
    )


def _measured(data: Any, wanted: Collection[str], x: Any) -> dict[str, pl.Series]:
    """The columns of a matrix, those `wanted` if any of them is there."""
    if x is None:
        return {}
    given = [str(name) for name in data.var_names]
    chosen = [j for j, name in enumerate(given) if name in wanted] or range(len(given))
    if len(chosen) * data.n_obs > MOST_VALUES:
        problem = (
            f"The matrix has {len(chosen):,} columns for {data.n_obs:,} cells, more than can be read at once."
        )
        raise MilError(problem, "X", "Name the features to use with --features.")
    x = x.tocsc() if hasattr(x, "tocsc") else x
    columns: dict[str, pl.Series] = {}
    for j in chosen:
        column = x[:, [j]].toarray().ravel() if hasattr(x, "toarray") else np.ascontiguousarray(x[:, j])
        columns[given[j] if given[j] not in columns else f"{given[j]} ({j + 1})"] = pl.Series(
            column.astype(np.float32)
        )
    return columns


def read_10x(path: Path, wanted: Collection[str]) -> Table:
    """The counts of a cell_feature_matrix.h5, one row a cell: genes and proteins, not the controls."""
    import h5py
    from scipy.sparse import csc_matrix

    _check_links(path)
    with h5py.File(path) as file:
        matrix = file["matrix"]
        parts = [matrix[name][:] for name in ("data", "indices", "indptr")]
        cells, genes = ([text.decode() for text in matrix[name][:]] for name in ("barcodes", "features/name"))
        kinds = [text.decode() for text in matrix["features/feature_type"][:]]
    if len(genes) * len(cells) > MOST_VALUES:
        problem = (
            f"The matrix has {len(genes):,} features for {len(cells):,} cells, more than can be read at once."
        )
        raise MilError(problem, path.name, "Give an .h5ad of the features you need.")
    counts = csc_matrix(tuple(parts), shape=(len(genes), len(cells))).tocsr()
    kept = [j for j, kind in enumerate(kinds) if kind in MEASURED]
    columns = {"cell_id": pl.Series(cells, dtype=pl.String)}
    for j, name in zip(kept, _distinct(genes[j] for j in kept), strict=True):
        columns[name] = pl.Series(counts[[j]].toarray().ravel().astype(np.float32))
    return Table(pl.DataFrame(columns), "10x")


# Flow cytometry


def read_fcs(path: Path, wanted: Collection[str]) -> Table:
    """An FCS file, on the scale its keywords give; channels under their marker ($PnS) where they have one."""
    import flowio

    try:
        with path.open("rb") as file:
            data = flowio.FlowData(file)
        values = np.asarray(data.as_array(preprocess=True), np.float32)
    except flowio.exceptions.FlowIOException as error:
        raise ValueError(str(error)) from None
    titles = [
        marker.strip() or channel.strip()
        for marker, channel in zip(data.pns_labels, data.pnn_labels, strict=True)
    ]
    named = _distinct(titles)
    return Table(pl.DataFrame({name: values[:, j] for j, name in enumerate(named)}), "FCS")


def _distinct(titles: Iterable[str]) -> list[str]:
    """The same, told apart by numbers where one comes twice."""
    named: dict[str, None] = {}
    for title in titles:
        again = (f"{title} ({n})" for n in range(2, len(named) + 3))
        named[title if title not in named else next(name for name in again if name not in named)] = None
    return list(named)


# Excel


def read_excel(path: Path, wanted: Collection[str]) -> Table:
    """The first sheet with a table, as text written as Excel shows it, below any title."""
    with zipfile.ZipFile(path) as archive:
        _check_claim(path, sum(part.file_size for part in archive.infolist()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and extensions that do not concern the values
        import openpyxl

        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            sheets = [(sheet.title, _rows(sheet, path)) for sheet in book.worksheets]
        finally:
            book.close()
    filled = [(title, rows) for title, rows in sheets if len(rows) > 1]
    title, rows = filled[0] if filled else ("", [[]])
    notes = []
    if len(filled) > 1:
        others = ", ".join(f"'{other}'" for other, _ in filled[1:6])
        notes.append(Note("sheet", f"Of '{path.name}', the sheet '{title}' was read; it also has {others}."))
    return Table(_sheet_frame(rows), "Excel", notes=tuple(notes))


def _rows(sheet: Any, path: Path) -> list[list[str | None]]:
    """The header and the rows below it that hold anything."""
    sheet.reset_dimensions()  # the file's own word for its size may be anything
    rows, seen = [], 0
    for row in sheet.iter_rows(values_only=True):
        seen += len(row)
        if seen > MOST_SHEET:
            problem = f"The sheet '{sheet.title}' has more than {MOST_SHEET:,} cells."
            raise MilError(problem, str(path), "Save it as CSV.")
        if any(value is not None for value in row):
            rows.append([_written(value) for value in row])
    wide = max((sum(value is not None for value in row) for row in rows[:TITLES]), default=0)
    head = next((i for i, row in enumerate(rows) if 2 * sum(v is not None for v in row) > wide), 0)
    return rows[head:]


def _written(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)


def _sheet_frame(rows: list[list[str | None]]) -> pl.DataFrame:
    """Columns of text; those without a name and a value are none."""
    header, body = rows[0], rows[1:]
    wide = max((len(row) for row in rows), default=0)
    columns = [[row[j] if j < len(row) else None for row in body] for j in range(wide)]
    titles = [header[j] if j < len(header) else None for j in range(wide)]
    kept = [j for j in range(wide) if titles[j] or any(value is not None for value in columns[j])]
    named = _distinct((titles[j] or f"column {j + 1}").strip() for j in kept)
    return pl.DataFrame(
        {name: pl.Series(columns[j], dtype=pl.String) for name, j in zip(named, kept, strict=True)}
    )
