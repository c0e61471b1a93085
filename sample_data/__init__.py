"""The sample cohort: a made-up tissue study of 48 patients whose true driver cells are known.

files     the two tables a user reads: cells.parquet and patients.csv
write     puts copies of them into a folder
TRUTH     which cells were planted; tests alone read it

`python -m sample_data.generate` made all three files; docstrings there say what drives which label.
"""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from milcore.errors import MilError

HERE = Path(__file__).parent
TRUTH = HERE / "truth.parquet"


def files() -> tuple[Path, Path]:
    """The packaged cell table and patient table, in this order."""
    return HERE / "cells.parquet", HERE / "patients.csv"


def write(folder: Path) -> tuple[Path, Path]:
    """The copies of both tables, put into `folder` (made if need be). MilError if another file is there."""
    if folder.exists() and not folder.is_dir():
        problem = f"'{folder}' is a file, not a folder."
        raise MilError(problem, str(folder), "Name a folder for the sample cohort.")
    cells, patients = (folder / file.name for file in files())
    for file, copy in zip(files(), (cells, patients), strict=True):
        if copy.exists() and not (copy.is_file() and filecmp.cmp(file, copy, shallow=False)):
            problem = f"'{copy.name}' is there already and is not the sample cohort's."
            raise MilError(problem, str(copy), "Name another folder, or move that file away.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(files()[0], cells)
    shutil.copyfile(files()[1], patients)
    return cells, patients
