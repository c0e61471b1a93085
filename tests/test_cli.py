"""The command line: what it writes, what it says, and what bad input gets."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboard import cli
from tests import tiny as made
from tests.tiny import Tables, milscope

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once

Run = tuple[Path, str, str]


@pytest.fixture
def inside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process; returns exit code, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["milscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def three_lines(err: str) -> tuple[str, str, str]:
    """The last three lines of stderr, which say problem, where and fix."""
    lines = err.strip().splitlines()
    problem, where, fix = lines[-3:]
    assert "Traceback" not in err
    assert problem.startswith("Problem: ")
    assert where.startswith("Where: ")
    assert fix.startswith("Fix: ")
    assert fix != "Fix: -"
    return problem, where, fix


# ---------------------------------------------------------------- run


def test_run_writes_what_the_contract_names(tiny_run: Run) -> None:
    names = {path.name for path in tiny_run[0].iterdir()}
    assert {"analysis.json", "predictions.csv", "cells.parquet", "members", "report.html", "cohort"} <= names
    assert not [path for path in tiny_run[0].parent.iterdir() if path != tiny_run[0]], (
        "nothing is left beside it"
    )


def test_run_facts(tiny_run: Run) -> None:
    facts = json.loads((tiny_run[0] / "analysis.json").read_text())
    keys = "version settings cohort task classes positive pooling scores null baselines verdict warnings"
    assert {*keys.split(), "timings", "versions"} <= set(facts)
    assert facts["positive"] == "yes"
    assert facts["task"] == "binary"
    assert set(facts["cohort"]) >= {"fingerprint", "path", "patients", "regions", "cells", "features"}
    assert set(facts["scores"]) >= {"auroc", "average_precision", "brier", "balanced_accuracy"}
    for score in facts["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]
    assert set(facts["null"]) >= {"p", "permutations", "chain"}
    assert facts["verdict"]["kind"] in ("signal", "none", "unclear")
    assert {"unlabelled_patients", "small_cohort"} <= {warning["kind"] for warning in facts["warnings"]}
    assert facts["settings"]["target"] == "outcome"
    assert facts["settings"]["permutations"] == 50


def test_run_predictions(tiny_run: Run) -> None:
    table = pd.read_csv(tiny_run[0] / "predictions.csv", keep_default_na=False)
    assert list(table.columns) == ["patient", "label", "score", "prediction", "low", "high"]
    assert sorted(table["patient"]) == sorted(made.PATIENTS)
    assert list(table.loc[table["label"] == "", "patient"]) == ["P15"]
    assert np.allclose(table["prediction"], 1 / (1 + np.exp(-table["score"])))
    assert (table["low"] <= table["prediction"] + 1e-12).all()
    assert (table["high"] >= table["prediction"] - 1e-12).all()


def test_run_cells_are_in_input_order_and_sum(tiny_run: Run) -> None:
    given, table = made.cells(), pd.read_parquet(tiny_run[0] / "cells.parquet")
    assert list(table["patient"].astype(str)) == list(given["patient"])
    assert list(table["cell_id"].astype(int)) == list(given["cell_id"])
    assert np.allclose(table["x"], given["X_um"], atol=1e-3)
    scores = pd.read_csv(tiny_run[0] / "predictions.csv").set_index("patient")["score"]
    groups = table.assign(patient=table["patient"].astype(str)).groupby("patient")
    assert np.allclose(groups["contribution"].sum(), scores.sort_index(), atol=1e-5)
    assert np.allclose(groups["attention"].sum(), 1, atol=1e-5)
    assert np.allclose(groups["importance"].mean(), scores.sort_index(), atol=1e-5)
    wanted = {"region", "evidence", "evidence_sd", "leave_one_out", "umap_1", "umap_2"}
    wanted |= {
        f"{kind}_{member}" for kind in ("evidence", "importance") for member in ("neighbourhood", "attention")
    }
    assert wanted <= set(table.columns)


def test_run_finds_the_planted_cells(tiny_run: Run) -> None:
    table = pd.read_parquet(tiny_run[0] / "cells.parquet")
    driver = (made.cells()["cell_type"] == "driver").to_numpy()
    assert table["importance"][driver].median() > table["importance"][~driver].quantile(0.9)


def test_run_talks(tiny_run: Run) -> None:
    _, out, err = tiny_run
    assert "AUROC" in out
    assert "predictions.csv" in out
    lines = err.splitlines()
    stages = [line.split()[0] for line in lines if line.endswith(" s")]
    order = [
        "reading",
        "neighbours",
        "neighbourhood",
        "attention",
        "evidence",
        "validation",
        "umap",
        "saving",
    ]
    assert stages == order
    assert "\r" not in err, "bars are for terminals"


def test_ctrl_c_leaves_nothing(tiny: Tables, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "dashboard.cli",
        "run",
        str(tiny.cells),
        "--patients",
        str(tiny.patients),
    ]
    command += ["--target", "outcome", "--out", str(tmp_path / "out"), "--effort", "thorough"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("reading")
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "Stopped" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- bad input

Change = Callable[[pd.DataFrame], pd.DataFrame]

BAD_CELLS: dict[str, tuple[Change, str]] = {
    "empty table": (lambda t: t.iloc[:0], "row"),
    "no usable features": (lambda t: t[["patient", "cell_id", "X_um", "Y_um"]], "feature"),
    "mixed types in a column": (
        lambda t: t.assign(m1=t["m1"].astype(object).where(t.index != 5, "high")),
        "m1",
    ),
    "infinite values": (lambda t: t.assign(m1=t["m1"].where(t.index != 5, np.inf)), "Infinite"),
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_bad_cell_tables(
    name: str, tiny: Tables, tmp_path: Path, inside: Callable[..., tuple[int, str, str]]
) -> None:
    change, word = BAD_CELLS[name]
    change(made.cells()).to_csv(tmp_path / "cells.csv", index=False)
    out = tmp_path / "out"
    code, said, err = inside("check", tmp_path / "cells.csv", "--patients", tiny.patients)
    if code == 0:  # usable: then what was done is said
        assert word in said.split("Note:", 1)[1]
        return
    assert code == 1
    assert word in "".join(three_lines(err))
    arguments = ("--patients", tiny.patients, "--target", "outcome", "--out", out)
    code, _, err = inside("run", tmp_path / "cells.csv", *arguments)
    assert code == 2
    assert word in "".join(three_lines(err))
    assert not out.exists()


BAD_PATIENTS: dict[str, tuple[Change, str, str]] = {
    "one class only": (lambda t: t, "same", "one"),
    "unknown target": (lambda t: t, "outcom", "outcom"),
    "a class of two": (lambda t: t.assign(outcome=["yes", "yes"] + ["no"] * 14), "outcome", "yes"),
}


@pytest.mark.parametrize("name", BAD_PATIENTS)
def test_bad_labels(
    name: str, tiny: Tables, tmp_path: Path, inside: Callable[..., tuple[int, str, str]]
) -> None:
    change, target, word = BAD_PATIENTS[name]
    change(made.patients()).to_csv(tmp_path / "patients.csv", index=False)
    out = tmp_path / "out"
    arguments = ("--patients", tmp_path / "patients.csv", "--target", target, "--out", out)
    code, _, err = inside("run", tiny.cells, *arguments)
    assert code == 2
    assert word in "".join(three_lines(err))
    assert [path.name for path in tmp_path.iterdir()] == ["patients.csv"]


def test_label_that_varies_within_a_patient(
    tmp_path: Path, inside: Callable[..., tuple[int, str, str]]
) -> None:
    table = made.cells()
    table["status"] = np.where(table.index % 2, "a", "b")
    table.to_csv(tmp_path / "cells.csv", index=False)
    code, _, err = inside("run", tmp_path / "cells.csv", "--target", "status", "--out", tmp_path / "out")
    assert code == 2
    assert any(name in err for name in made.PATIENTS), "the error names a patient"
    three_lines(err)


def test_a_patient_of_one_cell_and_doubled_ids_are_said(
    tiny: Tables, tmp_path: Path, inside: Callable[..., tuple[int, str, str]]
) -> None:
    table = made.cells()
    table = table[(table["patient"] != "P02") | ~table["patient"].duplicated()]
    table.assign(cell_id=1).to_csv(tmp_path / "cells.csv", index=False)
    code, out, _ = inside("check", tmp_path / "cells.csv", "--patients", tiny.patients)
    assert code == 0
    notes = [line for line in out.splitlines() if line.startswith("Note:")]
    assert any("one cell" in note for note in notes)
    assert any("cell" in note and "id" in note for note in notes)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "nowhere.csv", "--target", "outcome", "--out", "out"),
        ("run", "CELLS", "--target", "outcome", "--patients", "nowhere.csv", "--out", "out"),
        (
            "run",
            "CELLS",
            "--target",
            "outcome",
            "--patients",
            "PATIENTS",
            "--out",
            "out",
            "--features",
            "m0,m9",
        ),
        (
            "run",
            "CELLS",
            "--target",
            "outcome",
            "--patients",
            "PATIENTS",
            "--out",
            "out",
            "--patient",
            "nobody",
        ),
        (
            "run",
            "CELLS",
            "--target",
            "outcome",
            "--patients",
            "PATIENTS",
            "--out",
            "out",
            "--classes",
            "yes,maybe",
        ),
        (
            "run",
            "CELLS",
            "--target",
            "outcome",
            "--patients",
            "PATIENTS",
            "--out",
            "out",
            "--positive",
            "maybe",
        ),
        (
            "run",
            "CELLS",
            "--target",
            "outcome",
            "--patients",
            "PATIENTS",
            "--out",
            "out",
            "--transform",
            "sqrt",
        ),
        ("run", "CELLS", "--target", "outcome", "--patients", "PATIENTS", "--out", "out", "--repeats", "0"),
        ("run", "CELLS", "--target", "outcome", "--patients", "PATIENTS", "--out", "out", "--seed", "-1"),
        ("run", "CELLS", "--target", "outcome", "--patients", "PATIENTS"),
        ("run", "CELLS", "--target", "outcome", "--out", "out", "--effort", "heroic"),
        ("run", "--target", "outcome", "--out", "out"),
        ("run", "CELLS", "--colour", "red"),
        ("frobnicate",),
        ("report", "nowhere", "--out", "r.html"),
        ("report", "nowhere", "--out", "r.docx"),
        ("report", "nowhere", "--out", "nofolder/r.html"),
        ("serve", "--host", "0.0.0.0"),
        ("serve", "--data", "nowhere"),
        ("serve", "--port", "99999"),
        ("--port", "zero"),
    ],
)
def test_bad_requests(
    arguments: tuple[str, ...],
    tiny: Tables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: Callable[..., tuple[int, str, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    real = {"CELLS": str(tiny.cells), "PATIENTS": str(tiny.patients)}
    code, _, err = inside(*(real.get(word, word) for word in arguments))
    assert code == 2
    three_lines(err)
    assert list(tmp_path.iterdir()) == [], "nothing is half-written"


def test_a_folder_that_exists_is_refused_at_once(
    tmp_path: Path, inside: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    code, _, err = inside("run", "nowhere.csv", "--target", "outcome", "--out", tmp_path)
    assert code == 2
    assert "exists already" in three_lines(err)[0]
    assert (tmp_path / "kept.txt").read_text() == "mine"


# ---------------------------------------------------------------- the other commands


def test_check_tells_roles_and_facts(tiny: Tables, inside: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = inside("check", tiny.cells, "--patients", tiny.patients)
    assert code == 0
    assert out.startswith("16 patients, 32 regions, 1,280 cells, 5 features")
    roles = {line.split()[0]: line.split()[1] for line in out.splitlines() if line.startswith("  ")}
    assert roles["patient"] == "patient"
    assert roles["X_um"] == "x"
    assert roles["m0"] == "feature"
    assert roles["cell_type"] == "cell_type"


def test_report_of_one_patient(
    tiny_run: Run, tmp_path: Path, inside: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, _ = inside("report", tiny_run[0], "--out", tmp_path / "r.html", "--patient", "P05")
    assert code == 0
    assert "P05" in (tmp_path / "r.html").read_text(encoding="utf-8")
    code, _, err = inside("report", tiny_run[0], "--out", tmp_path / "s.html", "--patient", "nobody")
    assert code == 2
    assert "nobody" in three_lines(err)[0]
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_sample(tmp_path: Path, inside: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = inside("sample", tmp_path / "here")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["cells.parquet", "patients.csv"]
    assert "milscope run" in out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['milscope', '--help']\n"
        "from dashboard.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = 'numpy pandas torch umap faiss anndata polars streamlit plotly sklearn scipy pyarrow'.split()\n"
        "print('LOADED', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout


def test_exit_codes_of_the_real_command() -> None:
    assert milscope("--version").returncode == 0
    done = milscope("run", "nowhere.csv")
    assert done.returncode == 2
    three_lines(done.stderr)


def test_serve_takes_the_next_free_port_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "dashboard.cli", "--workspace", str(tmp_path), "--port", str(port)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            assert running.stdout is not None
            first = running.stdout.readline()
            url = first.split()[1]
            assert url.startswith("http://127.0.0.1:")
            assert not url.endswith(f":{port}")
            assert _answers(url + "/_stcore/health")
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=30)
    assert "Traceback" not in rest
    assert running.returncode in (0, 130)


def _answers(url: str, *, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    return False
