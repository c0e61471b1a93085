"""Every view in every state: nothing yet, working, done, failed. And what a URL or a table may try."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import frame, kept, picks, state, theme, worth
from dashboard.jobs import Job, Jobs
from dashboard.targets import targets
from dashboard.workspace import Workspace
from dashboard.worth import reach
from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.progress import Progress

HOSTILE = "<img src=x onerror=alert(1)> **bold** $x$ :red[r] `c` =1+1"
VIEWS = tuple(frame.VIEWS)
SCRIPT = """
from dashboard import frame, state, theme
state.arrive()
frame.navigation()
frame.top()
frame.VIEWS["{view}"][1]()
state.write_url()
"""


def tiny(seed: int = 0) -> Cohort:
    """24 patients with 40 cells of 4 features in two regions; one marker tells the labels apart."""
    rng = np.random.default_rng(seed)
    label = np.tile(["no", "yes"], 12)
    owner = np.repeat(np.arange(24), 40)
    features = rng.normal(size=(960, 4)).astype(np.float32)
    features[:, 0] += 2.0 * (label[owner] == "yes") * (rng.random(960) < 0.3)
    ids = np.array([HOSTILE if b == 5 else f"P{b:02d}" for b in range(24)])
    three = pd.Series(["low", "mid", HOSTILE] * 8)
    patients = pd.DataFrame(
        {"patient": ids, "response": label, "grade": three, "site": ["A"] * 12 + ["B"] * 12}
    )
    cells = pd.DataFrame(
        {
            "region": pd.Categorical([f"{p}-r{i % 2}" for i, p in enumerate(ids[owner])]),
            "x": rng.uniform(0, 300, 960).astype(np.float32),
            "y": rng.uniform(0, 300, 960).astype(np.float32),
            "cell_type": pd.Categorical(rng.choice(["T", "B", HOSTILE], 960)),
        }
    )
    return Cohort.of(
        features, ids[owner], names=("PD-1", "CD8", "CD3", HOSTILE), patients=patients, cells=cells
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one cohort and one analysis."""
    from milcore import chain
    from milcore.training import Settings

    home = Workspace(tmp_path_factory.mktemp("workspace"))
    cohort = tiny()
    cohort = cohort.save(home.cohort(cohort.fingerprint[:16]))
    settings = Settings(target="response", pooling="neighbourhood", effort="quick", permutations=20)
    with pytest.MonkeyPatch.context() as patch:  # UMAP takes a minute to compile and has its own tests
        places = np.random.default_rng(1).normal(size=(cohort.N, 2)).astype(np.float32)
        patch.setattr("milcore.projection.umap_map", lambda *args, **kwargs: places)
        chain.analyse(cohort, settings).save(home.analysis("20260101-120000-abcdef"))
    return home.root


def slow(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    rows = [
        {"patient": f"P{i}", "label": "yes" if i % 2 else "no", "prediction": i / 9, "called": ""}
        for i in range(9)
    ]
    told = {"task": "binary", "towards": "yes", "main": "auroc", "value": 0.8, "member": "neighbourhood"}
    with progress.stage("neighbourhood"):
        progress.early({"predictions": rows} | told)
    for _ in range(1200):
        progress.share(0.5)
        time.sleep(0.05)
    return "never"


def at_once(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    return cohort_key(workspace.root)


def refuse(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    problem = f"Column '{HOSTILE}' is not there."
    raise MilError(problem, "cells.csv", "Choose another.")


def broken(request: dict[str, Any], workspace: Workspace, progress: Progress) -> str:
    raise ZeroDivisionError(HOSTILE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty workspace whose jobs are those of a test."""
    monkeypatch.setenv("MILSCOPE_WORKSPACE", str(tmp_path))
    yield from _with_jobs(tmp_path, monkeypatch)


@pytest.fixture
def loaded(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The workspace with an analysis."""
    monkeypatch.setenv("MILSCOPE_WORKSPACE", str(made))
    yield from _with_jobs(made, monkeypatch)


def _with_jobs(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    jobs = Jobs(Workspace(root), kinds={"read": slow, "analyse": slow, "lay out": slow}, warm=None, grace=0.5)
    monkeypatch.setattr(state, "_jobs", lambda _: jobs)
    yield root
    jobs.close()
    for file in (*(root / "jobs").glob("*"), *(root / "kept").glob("*")):
        file.unlink()


def page(view: str, **url: str) -> AppTest:
    at = AppTest.from_string(SCRIPT.format(view=view), default_timeout=60)
    for key, value in url.items():
        at.query_params[key] = value
    return at.run()


def cohort_key(root: Path) -> str:
    return next((root / "cohorts").iterdir()).name


def words(at: AppTest) -> str:
    """All text of the HTML pieces of a page, in order."""
    return " ".join(piece.body for piece in at.get("html") if "<style>" not in piece.body)


def finding(at: AppTest) -> str:
    found = re.findall(r'class="mil-finding">(.*?)</p>', words(at))
    assert len(found) == 1, found
    return str(found[0])


def button(at: AppTest, label: str) -> Any:
    return next(b for b in at.button if b.label == label)


def working(kind: str, **request: Any) -> Job:
    """A job of the test's queue that runs and has said something."""
    jobs = state.jobs()
    key = jobs.submit(kind, request)
    for _ in range(2400):
        job = jobs.get(key)
        assert job is not None
        if job.early is not None or job.over:
            return job
        time.sleep(0.05)
    raise AssertionError(job)


# ---------------------------------------------------------------- nothing yet


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_yet(home: Path, view: str) -> None:
    at = page(view)
    assert not at.exception
    assert finding(at)
    expected = "Try the sample cohort" if view == "cohort" else "Bring in a cohort"
    assert button(at, expected)


@pytest.mark.parametrize("view", [v for v in VIEWS if v not in ("cohort", "train")])
def test_a_cohort_but_no_analysis(home: Path, view: str) -> None:
    cohort = tiny()
    cohort.save(Workspace(home).cohort(cohort.fingerprint[:16]))
    at = page(view, cohort=cohort_key(home))
    assert not at.exception
    assert button(at, "Choose a target and train")


def test_whole_app_runs(home: Path) -> None:
    at = AppTest.from_file(str(Path(frame.__file__).with_name("app.py")), default_timeout=60).run()
    assert not at.exception
    assert "Bring in a cohort" in finding(at)


# ---------------------------------------------------------------- working


def test_a_job_that_ends_while_the_page_is_drawn_is_not_missed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for what has ended and the view that would follow the job."""
    cohort = tiny()
    cohort.save(Workspace(home).cohort(cohort.fingerprint[:16]))
    jobs, top = Jobs(Workspace(home), kinds={"read": at_once}, warm=None), frame.top

    def late() -> None:
        while not all(job.over for job in jobs.every()):
            time.sleep(0.01)
        top()

    monkeypatch.setattr(state, "_jobs", lambda _: jobs)
    monkeypatch.setattr(frame, "top", late)
    try:
        at = AppTest.from_file(str(Path(frame.__file__).with_name("app.py")), default_timeout=60).run()
        button(at, "Try the sample cohort").click().run()
        assert not at.exception
        assert "24 patients with 960 cells are ready to train on" in finding(at)
    finally:
        jobs.close()


def test_reading(home: Path) -> None:
    working("read", name="x", cells=[], patients="", columns={})
    at = page("cohort")
    assert not at.exception
    assert finding(at) == "Reading the tables."
    button(at, "Cancel").click().run()
    assert "Stopping at the next step" in words(at) or "Bring in a cohort" in words(at)


def test_training(loaded: Path) -> None:
    working(
        "analyse",
        cohort=cohort_key(loaded),
        settings={"target": "grade", "pooling": "auto", "effort": "quick", "positive": "yes"},
    )
    at = page("train", cohort=cohort_key(loaded))
    assert not at.exception
    assert "a first ranking is there" in finding(at)
    assert "AUROC 0.80" in words(at)
    assert len(at.get("plotly_chart")) == 1
    assert button(at, "Cancel")


def test_other_views_while_training(home: Path) -> None:
    cohort = tiny()
    cohort.save(Workspace(home).cohort(cohort.fingerprint[:16]))
    working(
        "analyse",
        cohort=cohort_key(home),
        settings={"target": "grade", "pooling": "auto", "effort": "quick", "positive": "yes"},
    )
    at = page("predictions", cohort=cohort_key(home))
    assert "Training is under way" in finding(at)


# ---------------------------------------------------------------- failed


@pytest.mark.parametrize(("work", "says"), [(refuse, "Choose another."), (broken, "This is a bug")])
@pytest.mark.parametrize(("view", "kind"), [("cohort", "read"), ("train", "analyse")])
def test_failed(
    loaded: Path, monkeypatch: pytest.MonkeyPatch, work: Any, says: str, view: str, kind: str
) -> None:
    jobs = Jobs(Workspace(loaded), kinds={kind: work}, warm=None)
    monkeypatch.setattr(state, "_jobs", lambda _: jobs)
    try:
        key = cohort_key(loaded)
        working(kind, cohort=key)
        at = page(view, cohort=key)
        assert not at.exception
        assert says in words(at)
        assert "&lt;img" in words(at)
        assert "<img" not in words(at)
        assert button(at, "Start again")
        button(at, "Put away").click().run()
        assert says not in words(at)
    finally:
        jobs.close()


def test_a_damaged_analysis_is_a_problem_with_a_fix(home: Path, made: Path) -> None:
    import shutil

    shutil.copytree(made / "cohorts", home / "cohorts")
    shutil.copytree(made / "analyses", home / "analyses")
    next((home / "analyses").iterdir()).joinpath("cells.parquet").write_bytes(b"no")
    at = page("predictions", cohort=cohort_key(home))
    assert not at.exception
    assert "mil-card stop" in words(at)


# ---------------------------------------------------------------- done


@pytest.mark.parametrize("view", ["patient", "cells"])
def test_a_cohort_without_signal_is_told_so_before_its_cells(
    loaded: Path, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    found = state.opened

    def unclaimed() -> Any:
        analysis = found(Workspace(loaded).every_analysis()[0][0])
        return replace(analysis, facts=analysis.facts | {"verdict": {"kind": "none", "words": ""}})

    monkeypatch.setattr(state, "analysis", unclaimed)
    assert "No signal was found in this cohort" in words(page(view, cohort=cohort_key(loaded)))


@pytest.mark.parametrize("view", VIEWS)
def test_done(loaded: Path, view: str) -> None:
    at = page(view, cohort=cohort_key(loaded))
    assert not at.exception
    assert finding(at)
    assert "mil-card stop" not in words(at)
    assert "<img" not in words(at)
    assert at.query_params["analysis"] in ("20260101-120000-abcdef", ["20260101-120000-abcdef"])


def test_results_are_handed_on_in_every_form(loaded: Path) -> None:
    from milcore.export import FORMS

    at = page("report", cohort=cohort_key(loaded))
    keys = {one.proto.id.split("-", 1)[-1] for one in at.get("download_button")}
    for form in set(FORMS) - {"parquet"}:
        assert any(key.endswith(f"form-{form}") for key in keys), form
    assert any(key.endswith("model.safetensors") for key in keys)
    assert "up to 2,000 cells of each training patient" in words(at)
    there = page("patient", cohort=cohort_key(loaded)).get("download_button")
    assert any(one.proto.id.endswith("to-qupath") for one in there)


def test_predictions_say_whether_the_explanation_is_faithful(loaded: Path) -> None:
    at = page("predictions", cohort=cohort_key(loaded))
    folded = next(e for e in at.expander if e.label == "Is the explanation faithful?")
    said = " ".join(piece.body for piece in folded.get("html"))
    assert "Taking away the most important tenth of the cells " in said
    assert "Faithful to the model, not proof of biology." in said
    assert len(folded.get("plotly_chart")) == 1


def test_confounders_are_named_once(loaded: Path) -> None:
    at = page("predictions", cohort=cohort_key(loaded))
    folded = next(e for e in at.expander if e.label.startswith("Confounders"))
    assert "by itself" in folded.get("html")[0].body or "explain the score" in folded.get("html")[0].body
    assert len(folded.get("plotly_chart")) == 1
    facts = json.loads(next((loaded / "analyses").glob("*/analysis.json")).read_text(encoding="utf-8"))
    for warning in facts["warnings"]:
        assert words(at).count(theme.escape(warning["words"])) == 1


def test_predictions_say_how_patients_were_scored(loaded: Path) -> None:
    at = page("predictions", cohort=cohort_key(loaded))
    folded = next(e for e in at.expander if e.label == "Leakage proof")
    assert "24 patients were dealt 2 times into 5 folds" in folded.get("html")[0].body


def test_train_and_predictions_say_what_was_combined_and_how_far_repeats_differ(
    loaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.worth.members", lambda facts: "Combined from two.")
    assert "Combined from two." in words(page("train", cohort=cohort_key(loaded)))
    assert "went from" in words(page("predictions", cohort=cohort_key(loaded)))


def test_known_cells_are_shown_only_where_there_are_any(
    loaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from milcore.analysis import Analysis

    opened = Analysis.open(next((loaded / "analyses").iterdir()))
    value = {"cells": 96, "auroc": 0.9, "average_precision": 0.5}
    knowing = replace(opened, facts=opened.facts | {"known": {HOSTILE: value}})
    for shown, there in ((opened, False), (knowing, True)):
        monkeypatch.setattr(state, "analysis", lambda shown=shown: shown)
        at = page("predictions", cohort=cohort_key(loaded))
        folded = [e for e in at.expander if e.label == "Known cells"]
        assert bool(folded) is there
    assert "&lt;img" in folded[0].get("html")[0].body
    assert folded[0].dataframe[0].value["Cells"].tolist() == ["96 (10 %)"]


def test_every_colour(loaded: Path) -> None:
    at = page("cells", cohort=cohort_key(loaded))
    menu = next(box for box in at.selectbox if box.label == "Colour by")
    for name in ("evidence", "attention", "label", "PD-1", HOSTILE):
        menu.set_value(name).run()
        assert not at.exception
        menu = next(box for box in at.selectbox if box.label == "Colour by")
        assert menu.value == name


def test_patient_steps(loaded: Path) -> None:
    at = page("patient", cohort=cohort_key(loaded), patient="P03")
    assert finding(at).startswith("P03 is predicted ")
    order = next(box for box in at.selectbox if box.label == "In the order of")
    order.set_value("name").run()
    button(at, "Next").click().run()
    assert finding(at).startswith("P04 is predicted ")
    assert at.query_params["patient"] in ("P04", ["P04"])
    button(at, "Previous").click().run()
    assert finding(at).startswith("P03 is predicted ")


def test_a_hostile_patient_is_text(loaded: Path) -> None:
    at = page("patient", cohort=cohort_key(loaded), patient=HOSTILE)
    assert not at.exception
    assert finding(at).startswith("&lt;img")
    assert "<img" not in words(at)


def test_train_offers_targets_in_a_sensible_order(loaded: Path) -> None:
    at = page("train", cohort=cohort_key(loaded))
    menu = next(box for box in at.selectbox if box.label == "Target")
    assert menu.options == ["response", "grade", "site"]
    assert next(box for box in at.selectbox if box.label == "Positive class").value == "yes"
    menu.set_value("grade").run()
    assert not at.exception
    assert not button(at, "Train").disabled  # several classes
    next(box for box in at.selectbox if box.label == "Kind of outcome").set_value("binary").run()
    assert button(at, "Train").disabled
    at.multiselect[0].set_value(["low", "mid"]).run()
    assert not button(at, "Train").disabled
    button(at, "Train").click().run()
    job = state.jobs().every()[0]
    assert job.request["settings"]["classes"] == ["low", "mid"]
    assert job.request["settings"]["target"] == "grade"


def test_every_second_edit_is_kept(loaded: Path) -> None:
    at = page("train", cohort=cohort_key(loaded))
    for value in (1, 2, 3, 4):
        at.number_input[0].set_value(value).run()
        assert at.number_input[0].value == value


@pytest.mark.parametrize("view", ["cohort", "train"])
def test_surroundings_are_offered_where_there_are_coordinates(loaded: Path, view: str) -> None:
    def offered() -> Any:
        return next(box for box in at.selectbox if box.label == "Train with each cell's surroundings")

    at = page(view, cohort=cohort_key(loaded))
    for value in (10, 5):
        offered().set_value(value).run()
        assert offered().value == value


# ---------------------------------------------------------------- chosen cells and phenotypes


def opened(root: Path) -> dict[str, str]:
    return {"cohort": cohort_key(root), "analysis": next((root / "analyses").iterdir()).name}


def phenotype(root: Path, place: int = 0) -> str:
    table = pd.read_csv(next((root / "analyses").iterdir()) / "phenotypes.csv")
    return str(table["phenotype"].iloc[place])


def test_a_phenotype_is_tested_named_and_kept_by_its_name(loaded: Path) -> None:
    own = phenotype(loaded)
    at = page("cells", **opened(loaded), selection=picks.of_class("phenotype", own))
    assert not at.exception
    assert "Formed without labels, so it may be tested" in words(at)
    at.text_input[0].set_value("My <b>T cells</b>").run()
    assert not at.exception
    assert at.query_params["selection"] in (
        [found := picks.of_class("phenotype", "My <b>T cells</b>")],
        found,
    )
    assert at.subheader[0].value == "My <b>T cells</b>"
    assert "My <b>T cells</b>" in list(at.dataframe[-1].value["Phenotype"])
    again = page("patient", **opened(loaded))
    assert any("My <b>T cells</b>" in list(table.value.iloc[:, 0]) for table in again.dataframe)
    at.text_input[0].set_value("").run()
    assert at.subheader[0].value == theme.short(own, 60), "a blank name gives its own back"


def test_a_range_is_shown_and_another_map_asked_for(loaded: Path) -> None:
    at = page("cells", cohort=cohort_key(loaded), only_by=HOSTILE, only="0.5:")
    assert not at.exception
    ends = next(slider for slider in at.slider if isinstance(slider.value, tuple))
    assert ends.value[0] == 0.5
    ends.set_value((0.5, 1.0)).run()
    assert at.query_params["only"] in ("0.5:1", ["0.5:1"])
    make = next(button for button in at.button if button.label == "Make this map")
    assert make.disabled, "the map there is needs no making"
    next(slider for slider in at.slider if slider.label == "Neighbours").set_value(30).run()
    next(choice for choice in at.multiselect if choice.label == "Features").set_value([HOSTILE, "CD8"]).run()
    next(button for button in at.button if button.label == "Make this map").click().run()
    assert not at.exception
    (job,) = state.jobs().every()
    asked = {"neighbours": 30, "distance": 0.1, "features": ["CD8", HOSTILE], "full": False}
    assert job.request["layout"] == asked
    assert "Make this map" not in [button.label for button in at.button], "while one is being made"


def test_a_selection_by_eye_has_no_p_and_is_kept(loaded: Path) -> None:
    text = f"{picks.of_class('patient', 'P01')}.a{picks.of_class('patient', 'P03')[1:]}"
    at = page("cells", **opened(loaded), selection=text)
    assert not at.exception
    assert "Chosen with the outcome in view, so no p value is given" in words(at)
    at.text_input[0].set_value("two patients").run()
    assert not at.exception
    assert kept.kept(Workspace(loaded), "20260101-120000-abcdef").selections == {"two patients": text}
    other = page("cells", **opened(loaded), selection=picks.of_class("phenotype", phenotype(loaded)))
    menu = next(box for box in other.selectbox if box.label == "How they differ from")
    menu.set_value("two patients").run()
    assert not other.exception
    button(other, "two patients").click().run()
    assert other.query_params["selection"] in (text, [text])


def test_the_gating_rule_stands_below_the_phenotypes(loaded: Path) -> None:
    at = page("cells", **opened(loaded))
    facts = json.loads((next((loaded / "analyses").iterdir()) / "analysis.json").read_text())
    rule = facts["gating"]["rules"][0]["words"]
    assert theme.escape(theme.short(rule, 90)) in words(at)
    assert "descriptive" in words(at)


def test_names_are_different_and_damage_is_nothing(tmp_path: Path) -> None:
    every = ["A", "B", "C"]
    one = kept.Kept().called("A", " B ", every)
    assert one.names == {}, "another one has this name"
    one = one.called("A", "T  cells", every)
    assert one.names == {"A": "T cells"}
    assert one.called("B", "T cells", every) == one
    assert one.called("A", "", every).names == {}
    home = Workspace(tmp_path)
    kept.keep(home, "key", one.with_selection("mine", "np~label~yes").with_selection("bad", "drop table"))
    assert kept.kept(home, "key") == kept.Kept({"A": "T cells"}, {"mine": "np~label~yes"})
    (tmp_path / "kept" / "key.json").write_text('{"names": 3, "selections": [')
    assert kept.kept(home, "key") == kept.Kept()


# ---------------------------------------------------------------- what is not trusted, and what is checked by hand


@pytest.mark.parametrize(
    "url", [{"cohort": "../../etc"}, {"analysis": "x"}, {"patient": HOSTILE}, {"colour": "x" * 5000}]
)
def test_a_url_is_not_trusted(loaded: Path, url: dict[str, str]) -> None:
    at = page("cells", **{"cohort": cohort_key(loaded), **url})
    assert not at.exception
    assert "mil-card stop" not in words(at)


def test_only_state_spells_session_state() -> None:
    folder = Path(frame.__file__).parent
    spelled = [p.name for p in folder.rglob("*.py") if "session_state" in p.read_text(encoding="utf-8")]
    assert spelled == ["state.py"]


def test_science_and_figures_know_no_screen() -> None:
    folder = Path(frame.__file__).parent
    no_screen = (
        "jobs",
        "worker",
        "workspace",
        "theme",
        "figures",
        "report",
        "document",
        "webpage",
        "paper",
        "slides",
        "pseudonyms",
        "chartdata",
        "comparing",
        "cli",
        "selection",
        "picks",
        "shades",
        "planes",
        "stills",
        "hover",
        "targets",
        "why",
    )
    for name in no_screen:
        assert "import streamlit" not in (folder / f"{name}.py").read_text(encoding="utf-8")


def test_targets_and_reach() -> None:
    assert [target.name for target in targets(tiny())] == ["response", "grade", "site"]
    assert "0.73 by luck" in reach("binary", (24, 24))
    facts = {"task": "binary", "counts": {"no": 24, "yes": 24, "unlabelled": 3}}
    assert worth.reach_of(facts) == reach("binary", (24, 24))
    late = {"task": "survival", "counts": {"events": 40, "censored": 9, "unlabelled": 0}}
    assert "With 40 events" in worth.reach_of(late)
    assert "exploratory" in reach("binary", (5, 30))
    assert "no AUROC" in reach("binary", (3, 3))


def test_no_thread_is_left() -> None:
    assert threading.active_count() < 30


# ---------------------------------------------------------------- what is kept and taken away

KEY = "20260101-120000-abcdef"


def open_at(loaded: Path, view: str) -> AppTest:
    return page(view, cohort=cohort_key(loaded), analysis=KEY)


def test_the_report_is_made_and_its_choice_remembered(loaded: Path) -> None:
    at = open_at(loaded, "report")
    at = button(at, "Make the report").click().run()
    assert not at.exception
    labels = [each.label for each in at.get("download_button")]
    assert any(label.startswith("Download the report (HTML") for label in labels)
    at.checkbox[0].check().run()
    assert not any(label.startswith("Download the report") for label in _downloads(at)), (
        "another was asked for"
    )
    at = button(at, "Make the report").click().run()
    assert "Download the key to the pseudonyms" in _downloads(at)
    at.multiselect[1].set_value(["P01"]).run()
    at = button(at, "Prepare the slides").click().run()
    assert not at.exception
    assert "Download the slides (HTML)" in _downloads(at)
    assert Workspace(loaded).about(KEY)["slides"] == ["P01"]


def _downloads(at: AppTest) -> list[str]:
    return [each.label for each in at.get("download_button")]


def test_kept_analyses_are_named_repeated_deleted_and_brought_back(
    loaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashboard.views import analyses

    monkeypatch.setattr(analyses, "_table", lambda kept: [0])
    at = open_at(loaded, "analyses")
    assert not at.exception
    at.text_input[0].set_value(HOSTILE)
    at = button(at, "Rename").click().run()
    assert Workspace(loaded).about(KEY)["name"] == HOSTILE
    at = button(at, "Delete").click().run()
    assert not at.exception
    assert not Workspace(loaded).has_analysis(KEY)
    at = button(at, "Undo").click().run()
    assert not at.exception
    assert Workspace(loaded).has_analysis(KEY)
    Workspace(loaded).note(KEY, name="")


def test_a_damaged_analysis_is_not_listed(loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = Workspace(loaded).every_analysis()
    monkeypatch.setattr(Workspace, "every_analysis", lambda self: [("20250101-000000-aaaaaa", {}), *every])
    at = open_at(loaded, "analyses")
    assert not at.exception
    assert "1 analysis is kept" in finding(at)


def test_two_analyses_side_by_side(loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard.views import analyses

    twice = Workspace(loaded).every_analysis() * 2
    monkeypatch.setattr(Workspace, "every_analysis", lambda self: twice)
    monkeypatch.setattr(analyses, "_table", lambda kept: [0, 1])
    monkeypatch.setattr(analyses, "title", lambda key, facts: next(titles))
    titles = iter(f"one {k}" for k in range(100))
    at = open_at(loaded, "analyses")
    assert not at.exception
    assert "+0.00 with a standard error of 0.00, no clear difference" in words(at)
    assert "1.00 in the median" in words(at)


def test_repeating_fills_the_form(loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard.views import analyses

    filled: dict[str, Any] = {}
    monkeypatch.setattr(state, "jump", lambda **changes: filled.update(changes))
    facts = Workspace(loaded).every_analysis()[0][1]
    analyses._fill(facts["settings"], facts)
    assert filled["target"] == "response"
    assert filled["pooling"] == "neighbourhood"
    assert filled["kind"] == "binary"
    assert set(filled) <= set(state.Session.__dataclass_fields__)
