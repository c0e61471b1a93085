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

from dashboard import cli, theme
from tests import tiny as made
from tests.tiny import Tables, milscope

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once

Run = tuple[Path, str, str]
Inside = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inside:
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
        "umap",
        "neighbourhood",
        "attention",
        "evidence",
        "phenotypes",
        "validation",
        "drivers",
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


# ---------------------------------------------------------------- other labels, other bags

FAST = ("--pooling", "neighbourhood", "--effort", "quick", "--permutations", "20")


@pytest.fixture
def no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of the cells plays no part in these tests."""
    monkeypatch.setattr(
        "milcore.projection.umap_map", lambda cells, owner, **_: np.zeros((len(owner), 2), np.float32)
    )


LABELS: dict[str, tuple[str, list[str], set[str]]] = {
    "survival": ("dead --time days", ["time until an event", "higher risk"], {"time", "event"}),
    "regression": ("grade --centre region", ["a number", "higher grade"], set()),
    "multiclass": (
        "kind --task multiclass",
        ["3 classes", "the predicted class"],
        {"p_a", "p_b", "p_c", "score_a"},
    ),
}


@pytest.mark.usefixtures("no_map")
@pytest.mark.parametrize("task", LABELS)
def test_every_kind_of_label_runs_and_is_named(
    task: str, tiny: Tables, tmp_path: Path, inside: Inside
) -> None:
    target, words, columns = LABELS[task]
    driver = np.arange(16) % 2
    table = with_times(made.patients()).assign(
        dead=driver, grade=10 * driver + np.arange(16) / 4, kind=[*"abc"] * 5 + ["a"]
    )
    table.to_csv(tmp_path / "patients.csv", index=False)
    out = tmp_path / "out"
    arguments = ("--patients", tmp_path / "patients.csv", "--out", out, "--target", *target.split())
    code, said, err = inside("run", tiny.cells, *arguments, *FAST)
    assert code == 0, err
    facts = json.loads((out / "analysis.json").read_text())
    assert facts["task"] == task
    score = f"{theme.score_name(facts['main'])} "
    assert all(word in said for word in [*words, f"({task})", score])
    assert score in next(line for line in err.splitlines() if line.startswith("first look"))
    assert columns <= set(pd.read_csv(out / "predictions.csv").columns)


@pytest.mark.usefixtures("no_map")
def test_samples_of_one_patient_under_two_conditions(tmp_path: Path, inside: Inside) -> None:
    table = made.cells()
    condition = np.where(table["region"] == "R1", "treated", "control")
    table = table.assign(condition=condition, m1=table["m1"] + 2 * (condition == "treated"))
    table.to_csv(tmp_path / "cells.csv", index=False)
    arguments = ("--bag", "region", "--target", "condition", "--context", "3", "--out", tmp_path / "out")
    code, said, err = inside("run", tmp_path / "cells.csv", *arguments, *FAST)
    assert code == 0, err
    assert "'treated'" in said
    regions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert len(regions) == 32
    assert ((regions["prediction"] > 0.5) == (regions["label"] == "treated")).mean() > 0.9
    patients = pd.read_csv(tmp_path / "out" / "predictions_patient.csv", keep_default_na=False)
    assert sorted(patients["patient"]) == sorted(made.PATIENTS)
    assert set(patients["label"]) == {""}, "no patient has one label"
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())["settings"]["context"] == 3


# ---------------------------------------------------------------- bad input


@pytest.fixture
def refused(
    inside: Inside, tiny: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Runs a command that must end with exit code 2 and three lines, which it returns, and write nothing. CELLS and
    PATIENTS stand for the tiny tables, or for those written to the folder of the test."""

    def call(words: str) -> str:
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.iterdir())
        own = {"CELLS": tmp_path / "cells.csv", "PATIENTS": tmp_path / "patients.csv"}
        real = {"CELLS": tiny.cells, "PATIENTS": tiny.patients}
        real |= {name: path for name, path in own.items() if path.exists()}
        code, _, err = inside(*(real.get(word, word) for word in words.split()))
        assert code == 2
        assert sorted(tmp_path.iterdir()) == before, "nothing is half-written"
        return " ".join(three_lines(err))

    return call


RUN = "run CELLS --patients PATIENTS --out out --target"

BAD_REQUESTS = {
    "run nowhere.csv --target outcome --out out": "nowhere.csv",
    "run CELLS --target outcome --patients nowhere.csv --out out": "nowhere.csv",
    f"{RUN} outcom": "outcome",
    f"{RUN} same": "'one'",
    f"{RUN} outcome --features m0,m9": "m9",
    f"{RUN} outcome --patient nobody": "nobody",
    f"{RUN} outcome --classes yes,maybe": "maybe",
    f"{RUN} outcome --classes yes": "--classes yes",
    f"{RUN} outcome --positive maybe": "maybe",
    f"{RUN} outcome --transform sqrt": "sqrt",
    f"{RUN} outcome --context -1": "--context",
    f"{RUN} outcome --repeats 0": "--repeats",
    f"{RUN} outcome --seed -1": "--seed",
    f"{RUN} outcome --task multiclass": "three or more",
    f"{RUN} outcome --task regression": "is not a number",
    f"{RUN} outcome --task survival": "--time",
    f"{RUN} outcome --task binary --time outcome": "--time",
    f"{RUN} outcome --task ranking": "ranking",
    f"{RUN} outcome --pooling max": "max",
    f"{RUN} outcome --centre patient": "centre",
    f"{RUN} outcome --context near": "near",
    f"{RUN} outcome --effort heroic": "heroic",
    "run CELLS --patients PATIENTS --target outcome": "--out",
    "run --target outcome --out out": "CELLS",
    "run CELLS --colour red": "--colour",
    "frobnicate": "frobnicate",
    "report nowhere --out r.html": "nowhere",
    "report nowhere --out r.docx": "r.docx",
    "report nowhere --out nofolder/r.html": "nofolder",
    "serve --host 0.0.0.0": "--insecure-no-login",
    "serve --data nowhere": "nowhere",
    "serve --port 99999": "99999",
    "--port zero": "zero",
}


@pytest.mark.parametrize("words", BAD_REQUESTS)
def test_bad_requests(words: str, refused: Callable[..., str]) -> None:
    assert BAD_REQUESTS[words] in refused(words)


Change = Callable[[pd.DataFrame], pd.DataFrame]


def with_times(table: pd.DataFrame, *, events: int = 8, first: object = 40) -> pd.DataFrame:
    """The patients with a time and an event; `first` is the time of the first patient."""
    days: list[object] = [first, *range(10, 160, 10)]
    return table.assign(days=days, dead=[1] * events + [0] * (16 - events))


BAD_PATIENTS: dict[str, tuple[Change, str, str]] = {
    "a class of two": (lambda t: t.assign(outcome=["yes"] * 2 + ["no"] * 14), "outcome", "'yes'"),
    "text among numbers": (
        lambda t: t.assign(grade=["high", *range(15)]),
        "grade --task regression",
        "'high' in 'grade'",
    ),
    "few different numbers": (lambda t: t.assign(grade=2), "grade --task regression", "1 different"),
    "no events": (lambda t: with_times(t, events=0), "dead --time days", "0 event(s)"),
    "few events": (lambda t: with_times(t, events=3), "dead --time days", "3 event(s)"),
    "negative time": (lambda t: with_times(t, first=-40), "dead --time days", "-40 in 'days'"),
    "time in words": (lambda t: with_times(t, first="soon"), "dead --time days", "'soon' in 'days'"),
    "unknown time": (with_times, "dead --time dayz", "days"),
    "no event column": (with_times, "days --time days", "15 different values"),
    "unclear event": (
        lambda t: with_times(t).assign(dead=["up", "down"] * 8),
        "dead --time days",
        "not clear which",
    ),
}


@pytest.mark.parametrize("name", BAD_PATIENTS)
def test_bad_labels(name: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    change, options, word = BAD_PATIENTS[name]
    change(made.patients()).to_csv(tmp_path / "patients.csv", index=False)
    assert word in refused(f"{RUN} {options}")


BAD_CELLS: dict[str, tuple[Change, str, str]] = {
    "empty table": (lambda t: t.iloc[:0], "", "row"),
    "no usable features": (lambda t: t[["patient", "cell_id", "X_um", "Y_um"]], "", "feature"),
    "no regions": (lambda t: t.drop(columns="region"), "--bag region", "which region"),
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_bad_cells(
    name: str, tiny: Tables, tmp_path: Path, inside: Inside, refused: Callable[..., str]
) -> None:
    change, options, word = BAD_CELLS[name]
    change(made.cells()).to_csv(tmp_path / "cells.csv", index=False)
    assert word in refused(f"{RUN} outcome {options}")
    code, _, err = inside("check", tmp_path / "cells.csv", "--patients", tiny.patients, *options.split())
    assert code == 1, "of `check` a problem is the finding"
    assert word in " ".join(three_lines(err))


def test_context_needs_coordinates(tmp_path: Path, refused: Callable[..., str]) -> None:
    made.cells().drop(columns=["X_um", "Y_um"]).to_csv(tmp_path / "cells.csv", index=False)
    said = refused(f"{RUN} outcome --context 5")
    assert "no coordinates" in said
    assert "--context 5" in said


def test_label_that_varies_within_a_patient(tmp_path: Path, refused: Callable[..., str]) -> None:
    table = made.cells()
    table.assign(status=np.where(table.index % 2, "a", "b")).to_csv(tmp_path / "cells.csv", index=False)
    said = refused("run CELLS --target status --out out")
    assert any(name in said for name in made.PATIENTS), "the error names a patient"


NOTED: dict[str, tuple[Change, str]] = {
    "mixed types in a column": (
        lambda t: t.assign(m1=t["m1"].astype(object).where(t.index != 5, "high")),
        "m1",
    ),
    "infinite values": (lambda t: t.assign(m1=t["m1"].where(t.index != 5, np.inf)), "Infinite"),
    "a patient of one cell": (lambda t: t[(t["patient"] != "P02") | ~t["patient"].duplicated()], "one cell"),
    "doubled ids": (lambda t: t.assign(cell_id=1), "cell id"),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_can_be_used_but_must_be_known_is_noted(
    name: str, tiny: Tables, tmp_path: Path, inside: Inside
) -> None:
    change, word = NOTED[name]
    change(made.cells()).to_csv(tmp_path / "cells.csv", index=False)
    code, out, _ = inside("check", tmp_path / "cells.csv", "--patients", tiny.patients)
    assert code == 0
    assert any(word in line for line in out.splitlines() if line.startswith("Note:"))


def test_a_folder_that_exists_is_refused_at_once(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    assert "exists already" in refused(f"run nowhere.csv --target outcome --out {tmp_path}")
    assert (tmp_path / "kept.txt").read_text() == "mine"


# ---------------------------------------------------------------- the other commands


def test_check_tells_roles_and_facts(tiny: Tables, inside: Inside) -> None:
    code, out, _ = inside("check", tiny.cells, "--patients", tiny.patients)
    assert code == 0
    assert out.startswith("16 patients, 32 regions, 1,280 cells, 5 features")
    roles = {line.split()[0]: line.split()[1] for line in out.splitlines() if line.startswith("  ")}
    assert roles["patient"] == "patient"
    assert roles["X_um"] == "x"
    assert roles["m0"] == "feature"
    assert roles["cell_type"] == "cell_type"


def test_report_of_one_patient(tiny_run: Run, tmp_path: Path, inside: Inside) -> None:
    code, _, _ = inside("report", tiny_run[0], "--out", tmp_path / "r.html", "--patient", "P05")
    assert code == 0
    assert "P05" in (tmp_path / "r.html").read_text(encoding="utf-8")
    code, _, _ = inside(
        "report", tiny_run[0], "--out", tmp_path / "r.pdf", "--paper", "letter", "--patient", "P05"
    )
    assert code == 0
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF-1.")
    code, _, err = inside("report", tiny_run[0], "--out", tmp_path / "s.html", "--patient", "nobody")
    assert code == 2
    assert "nobody" in three_lines(err)[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.pdf"]


def test_sample(tmp_path: Path, inside: Inside) -> None:
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
