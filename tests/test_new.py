"""New patients in the dashboard: uploaded, scored as a job, shown in every view, and never taken for out of fold."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import frame, report, state, worker
from dashboard.comparing import same_cohort
from dashboard.jobs import Job, Jobs
from dashboard.workspace import Workspace
from milcore.analysis import Analysis
from milcore.progress import Progress
from tests.test_views import SCRIPT, button, finding, words
from tests.tiny import PATIENTS, cells, patients

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once
TRAINED, NEW, BARE = "20260101-120000-abcdef", "20260102-120000-abcdef", "20260103-120000-abcdef"
NAMES = dict(zip(PATIENTS, [f"N{k:02d}" for k in range(16)], strict=True))


def score(home: Workspace, job: str, folder: Path, *, labels: bool) -> str:
    """The job that scores half of the patients, under other names."""
    table, people = (each.assign(patient=each["patient"].map(NAMES)) for each in (cells(), patients()))
    table[table["patient"].isin(people["patient"][:12])].to_csv(folder / "new.csv", index=False)
    people.to_csv(folder / "people.csv", index=False)
    request = {"analysis": TRAINED, "cells": [str(folder / "new.csv")], "job": job}
    given = str(folder / "people.csv") if labels else ""
    return worker.predict(request | {"patients": given}, home, Progress())


def scored(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    """The job as a test has it: its result is there already."""
    return NEW


@pytest.fixture(scope="module")
def home(tiny_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with the tiny cohort, its analysis, and new patients with and without labels."""
    root = tmp_path_factory.mktemp("new") / "workspace"
    shutil.copytree(tiny_home, root)
    made = Workspace(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILSCOPE_WORKSPACE", str(root))
        jobs = Jobs(made, kinds={"predict": scored}, warm=None)
        jobs.submit("predict", {})  # a worker that starts beside an AppTest would run its script
        finished(jobs)
        patch.setattr(state, "_jobs", lambda _: jobs)
        assert score(made, NEW, root.parent, labels=True) == NEW
        assert score(made, BARE, root.parent, labels=False) == BARE
        yield made
        jobs.close()


def finished(jobs: Jobs) -> Job:
    """The newest job, once it is over."""
    for _ in range(2400):
        if (job := jobs.every()[0]).over:
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def page(home: Workspace, view: str, analysis: str) -> AppTest:
    facts = json.loads((home.analysis(analysis) / "analysis.json").read_text())
    at = AppTest.from_string(SCRIPT.format(view=view), default_timeout=120)
    at.query_params["cohort"] = facts["cohort"]["fingerprint"][:16]
    at.query_params["analysis"] = analysis
    return at.run()


@pytest.mark.parametrize("analysis", [NEW, BARE])
@pytest.mark.parametrize("view", frame.VIEWS)
def test_every_view_marks_them(home: Workspace, view: str, analysis: str) -> None:
    at = page(home, view, analysis)
    assert not at.exception
    assert "<b>New patients</b>" in words(at)
    said = words(at).replace("in training, out of fold", "").replace("not out of fold", "").casefold()
    assert "out of fold" not in said


def test_their_page_says_how_well_and_how_far(home: Workspace) -> None:
    at = page(home, "predictions", NEW)
    assert "12 new patients, scored by all 10 models together" in finding(at)
    assert "Exploratory" in finding(at)
    table = at.dataframe[0].value
    assert list(table.columns) == ["Score", "These new patients", "Training, out of fold"]
    assert "farther from the training cells" in words(at)
    bare = page(home, "predictions", BARE)
    assert "too few of them have a label to say how well" in finding(bare)
    assert "Score" not in bare.dataframe[0].value.columns, "nothing is judged without labels"


def test_they_are_kept_apart(home: Workspace) -> None:
    new, trained = (Analysis.open(home.analysis(key)) for key in (NEW, TRAINED))
    assert [key for key, _ in home.analyses(trained.facts["cohort"]["fingerprint"])] == [TRAINED]
    assert not same_cohort(new, new)
    assert same_cohort(trained, trained)
    assert "Analyses of this cohort" not in [each.value for each in page(home, "train", NEW).subheader]


def test_an_upload_becomes_a_job_and_its_result_is_opened(home: Workspace, tmp_path: Path) -> None:
    at = page(home, "predictions", TRAINED)
    table = cells().head(5).to_csv(index=False).encode()
    at.file_uploader(key="new-cells").set_value([("mine.csv", table, "text/csv")])
    button(at, "Score the upload").click().run()
    assert not at.exception
    request = finished(state.jobs()).request
    assert (request["analysis"], request["patients"]) == (TRAINED, "")
    assert Path(request["cells"][0]).read_bytes() == table
    assert "12 new patients" in finding(at.run())


def test_the_report_of_new_patients(home: Workspace) -> None:
    for key in (NEW, BARE):
        text = report.describe(Analysis.open(home.analysis(key))).text
        assert "New patients, scored by all models together: not out of fold." in text
        assert "nan" not in text.casefold().split()
    assert "milscope predict ANALYSIS" in text
    assert "cross-validation only" not in text
