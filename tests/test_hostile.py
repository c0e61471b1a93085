"""Files that are damaged, that lie, or that attack: only problems in words come out, and memory stays bounded."""

from __future__ import annotations

import gzip
import io
import os
import resource
import stat
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from milcore import binary, files, large
from milcore.errors import MilError
from milcore.readers import read_cohort
from milcore.tables import READERS

ROOT = Path(__file__).parents[1]
MOST_ADDED = 700 << 20  # bytes of memory while reading damaged files of a few kilobytes


def refused(path: Path, words: str) -> MilError:
    with pytest.raises(MilError, match=words) as caught:
        read_cohort([path])
    assert caught.value.fix
    return caught.value


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


CELLS = "patient,CD3\n" + "".join(f"P{i % 3},{i / 7:.3f}\n" for i in range(60))


@pytest.mark.parametrize(
    "name", ["../evil.csv", "/evil.csv", "a/../../evil.csv", "C:\\evil.csv", "..\\evil.csv"]
)
def test_an_archive_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    refused(zipped(inner / "a.zip", {"good.csv": CELLS, name: CELLS}), "points outside")
    assert not list(tmp_path.rglob("evil.csv"))


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("cells.csv")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path / "a.zip", "points outside")


@pytest.mark.parametrize("kind", ["zip", "csv.gz", "csv.zst", "xlsx"])
def test_a_bomb_is_refused_before_it_goes_off(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SAFE_BYTES", 1 << 20)
    monkeypatch.setattr(binary, "SAFE_BYTES", 1 << 20)
    monkeypatch.setattr(binary, "MOST_TIMES", 200)
    path, zeros = tmp_path / f"bomb.{kind}", "patient,n\n" + "a,0\n" * (4 << 20)
    if kind == "csv.gz":
        path.write_bytes(gzip.compress(zeros.encode()))
    elif kind == "csv.zst":
        path.write_bytes(pa.compress(zeros.encode(), codec="zstd", asbytes=True))
    else:
        zipped(path, {"bomb.csv" if kind == "zip" else "xl/worksheets/sheet1.xml": zeros})
    refused(path, "unpacks to more|claims to hold")


def test_an_archive_without_a_table_and_one_that_is_locked_are_refused(tmp_path: Path) -> None:
    assert ".csv" not in refused(zipped(tmp_path / "a.zip", {"readme.md": "hello"}), "no table").problem
    path = zipped(tmp_path / "b.zip", {"cells.csv": CELLS})
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1  # says that it is encrypted
    path.write_bytes(data)
    refused(path, "cannot be read")


def external_link(file: h5py.File) -> None:
    file["obs/secret"] = h5py.ExternalLink("/etc/hosts", "/x")


def external_data(file: h5py.File) -> None:
    file.create_dataset("uns/x", (4,), "f4", external=[("other.bin", 0, 16)])


def virtual_data(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("uns/x", layout)


def huge_claim(file: h5py.File) -> None:
    file.create_dataset("uns/x", (1 << 40,), "f4", chunks=(1 << 20,))


@pytest.mark.parametrize("attack", [external_link, external_data, virtual_data, huge_claim])
def test_an_h5ad_with_parts_elsewhere_or_too_large_is_refused(tmp_path: Path, attack) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "c.h5ad"
    path.write_bytes(good()["h5ad"])
    with h5py.File(path, "a") as file:
        attack(file)
    refused(path, "in another file|claims to hold")


@pytest.mark.parametrize(
    "kind",
    [kind for kind in (*READERS, "zip", "csv.gz", "csv.zst") if kind not in ("csv", "tsv", "tab", "txt")],
)
def test_a_file_that_lies_about_its_kind_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"cells.{kind}").write_text(CELLS)
    refused(tmp_path / f"cells.{kind}", "cannot be read")


def test_a_parquet_file_cannot_claim_more_than_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "SAFE_BYTES", 1 << 16)
    monkeypatch.setattr(binary, "MOST_TIMES", 5)
    pd.DataFrame({"patient": "a", "n": np.zeros(200_000)}).to_parquet(tmp_path / "c.parquet")
    refused(tmp_path / "c.parquet", "claims to hold")


def test_text_of_a_cell_is_never_run(tmp_path: Path) -> None:
    table = pd.read_csv(io.StringIO(CELLS)).assign(cell_type="=cmd|' /C calc'!A0")
    table.to_csv(tmp_path / "c.csv", index=False)
    assert read_cohort([tmp_path / "c.csv"]).N == 60


# Damage


def good() -> dict[str, bytes]:
    """A sound file of every kind, a few kilobytes each."""
    table = pd.read_csv(io.StringIO(CELLS)).assign(CD8=np.arange(60) / 3.0, kind=["T", "B", "NK"] * 20)
    found = {"csv": table.to_csv(index=False).encode(), "txt": table.to_csv(sep=" ").encode("utf-16")}
    for kind, write in (("parquet", table.to_parquet), ("feather", table.to_feather)):
        out = io.BytesIO()
        write(out)
        found[kind] = out.getvalue()
    sheet = io.BytesIO()
    table.head(20).to_excel(sheet, index=False, engine="openpyxl")
    found["xlsx"] = sheet.getvalue()
    found["csv.gz"] = gzip.compress(found["csv"])
    found["csv.zst"] = pa.compress(found["csv"], codec="zstd", asbytes=True)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", found["csv"])
    return {**found, "zip": held.getvalue(), "fcs": fcs(table), "h5ad": h5ad(table)}


def fcs(table: pd.DataFrame) -> bytes:
    import flowio

    out = io.BytesIO()
    flowio.create_fcs(out, table[["CD3", "CD8"]].to_numpy(np.float32).ravel().tolist(), ["CD3", "CD8"])
    return out.getvalue()


def h5ad(table: pd.DataFrame) -> bytes:
    import tempfile

    import anndata

    obs = table[["patient", "kind"]].astype("category").set_axis([f"c{i}" for i in table.index])
    data = anndata.AnnData(table[["CD3", "CD8"]].to_numpy(np.float32), obs=obs)
    with tempfile.TemporaryDirectory() as folder:
        data.write_h5ad(Path(folder) / "c.h5ad")
        return (Path(folder) / "c.h5ad").read_bytes()


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut out, doubled or cut off."""
    raw = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        at = int(rng.integers(0, max(1, len(raw))))
        how = int(rng.integers(0, 5))
        if how == 0:
            raw[at : at + 1] = bytes(rng.integers(0, 256, 1, dtype=np.uint8))
        elif how == 1:
            raw[at : at + int(rng.integers(1, 40))] = b""
        elif how == 2:
            raw[at:at] = raw[max(0, at - 30) : at]
        elif how == 3:
            raw[at : at + 4] = b"\xff\xff\xff\x7f"
        elif rng.random() < 0.2:
            del raw[at:]
    return bytes(raw)


IN_PIECES, LARGE = ("csv", "txt", "parquet"), large.LARGE


def fuzz(folder: Path, times: int) -> None:
    """Reads damaged files of every kind, and of some also in pieces; anything but a MilError goes through."""
    rng = np.random.default_rng(20261126)
    sound = good()
    for kind, least in [*((kind, LARGE) for kind in sound), *((kind, 0) for kind in IN_PIECES)]:
        path, data, large.LARGE = folder / f"f.{kind}", sound[kind], least
        path.write_bytes(data)
        read_cohort([path], columns=None)
        for _ in range(times):
            path.write_bytes(damaged(data, rng))
            with suppress(MilError):
                read_cohort([path])


def test_damaged_files_of_every_kind_end_in_words(tmp_path: Path) -> None:
    """In a process of its own: a crash, or memory beyond bounds, would end it."""
    code = (
        "import resource, sys, warnings; from pathlib import Path; from tests.test_hostile import fuzz;"
        "from milcore import text; text.PIECE = 1 << 9;"
        "warnings.simplefilter('ignore'); folder = Path(sys.argv[1]); fuzz(folder, 1);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; fuzz(folder, 30);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    limit = 12 << 30  # of address space, so that an absurd demand fails at once
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) * 1024 < MOST_ADDED
