"""A report under pseudonyms: no id is left anywhere in it, the numbers stay, and the key leads back."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from dashboard import pseudonyms, report, webpage
from milcore.analysis import Analysis
from tests.tiny import PATIENTS

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once


@pytest.fixture(scope="module")
def telltale(analysis: Analysis) -> Analysis:
    """The analysis with ids in every place that may hold one."""
    cells = analysis.cohort.cells
    cells = cells.assign(
        region="Core " + cells["region"].astype(str), cell_id="Cell-" + cells["cell_id"].astype(str)
    )
    source = analysis.cohort.source | {"files": ["P01 and others.csv"]}
    warnings = [
        {
            "kind": "unmatched_patients",
            "words": "Patients kept without label (2): 'Peter O'Hara', 'P02' and 3 more.",
        },
        {
            "kind": "mixed_types",
            "words": "Column 'age' holds text in 1 of 9 rows (first: row 2, 'Peter'); missing.",
        },
        {"kind": "new_kind", "words": "Something about 'P05'."},
    ]
    cohort = replace(analysis.cohort, cells=cells.astype({"region": "category"}), source=source)
    return replace(analysis, cohort=cohort, facts=analysis.facts | {"warnings": warnings})


def test_no_id_is_left(telltale: Analysis) -> None:
    document, key = report.drafted(telltale, patients=PATIENTS, pseudonyms=True)
    assert key
    text = re.sub(r'base64,[^"]+', "", webpage.html(document))
    for name in (*PATIENTS, "Core ", "Cell-", "R0", "Peter", "O'Hara", "and others"):
        assert not re.search(rf"(?<![0-9A-Za-z]){re.escape(name)}", text), name
    assert "Patient 01" in text
    assert "1 file" in text
    assert "kept without label (2)." in text


def test_the_numbers_stay(telltale: Analysis) -> None:
    masked = pseudonyms.masked(telltale)
    back = masked.analysis.predictions["patient"].map({new: old for old, new in masked.names.items()})
    assert list(back) == list(telltale.predictions["patient"].astype(str))
    assert masked.analysis.predictions["score"].equals(telltale.predictions["score"])
    assert len(set(masked.names.values())) == len(PATIENTS)
    assert list(masked.names.values()) != sorted(masked.names.values()), "the order tells nothing"
    assert masked.names == pseudonyms.masked(telltale).names


def test_the_key_leads_back(telltale: Analysis) -> None:
    _, content = report.drafted(telltale, patients=["P01"], pseudonyms=True)
    key = pd.read_csv(io.BytesIO(content or b""))
    assert list(key) == ["pseudonym", "region_pseudonym", "patient", "region"]
    assert set(key["patient"]) == set(PATIENTS)
    assert len(key) == 2 * len(PATIENTS), "two regions each"
    assert dict(zip(key["patient"], key["pseudonym"], strict=True)) == pseudonyms.masked(telltale).names


def test_regions_that_are_predicted_and_patients_without_any(telltale: Analysis) -> None:
    regions = telltale.predictions.assign(region="Core R1")
    masked = pseudonyms.masked(replace(telltale, predictions=regions))
    assert set(masked.analysis.predictions["region"]) <= {"region 1", "region 2"}
    cells = telltale.cohort.cells.assign(region=pd.Categorical([None] * telltale.cohort.N))
    bare = pseudonyms.masked(replace(telltale, cohort=replace(telltale.cohort, cells=cells)))
    assert set(bare.key["patient"]) == set(PATIENTS)


def test_the_command_writes_both(tiny_run: tuple[Path, str, str], tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dashboard.cli import cli

    out = tmp_path / "r.html"
    done = CliRunner().invoke(
        cli, ["report", str(tiny_run[0]), "--out", str(out), "--patient", "P05", "--pseudonyms"]
    )
    assert done.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.html.key.csv"]
    assert "P05" not in out.read_text()
    assert "P05" in (tmp_path / "r.html.key.csv").read_text()
