"""Roles in the Cohort view: what edited ones would make is seen before reading again; a grave check bars training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import state
from dashboard.jobs import Jobs
from dashboard.views import roles
from dashboard.workspace import Workspace
from milcore.cohort import Cohort, Note
from milcore.columns import Columns
from milcore.errors import MilError
from milcore.readers import glimpsed, read_cohort
from tests.test_views import SCRIPT, button, words


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Cohort], AppTest]]:
    """Opens a view on a saved cohort, without a worker."""
    opened: list[Jobs] = []

    def page(view: str, cohort: Cohort) -> AppTest:
        assert cohort.path is not None
        monkeypatch.setenv("MILSCOPE_WORKSPACE", str(cohort.path.parents[1]))
        opened.append(Jobs(Workspace(cohort.path.parents[1]), kinds={}, warm=None))
        monkeypatch.setattr(state, "_jobs", lambda _: opened[-1])
        at = AppTest.from_string(SCRIPT.format(view=view), default_timeout=60)
        at.query_params["cohort"] = cohort.path.name
        return at.run()

    yield page
    for jobs in opened:
        jobs.close()


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Twelve patients of 50 cells in two images each, twice as wide as high, read from a file and opened again."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"who": np.repeat([f"P{i:02d}" for i in range(12)], 50)})
    table = table.assign(image=table["who"] + np.tile(np.repeat(["a", "b"], 25), 12), row=rng.random(600))
    table = table.assign(
        x=rng.uniform(0, 200, 600), y=rng.uniform(0, 100, 600), CD3=rng.random(600), CD8=rng.random(600)
    )
    table["response"] = np.repeat(["yes", "no"] * 6, 50)
    table.to_csv(tmp_path / "cells.csv", index=False)
    read = read_cohort([tmp_path / "cells.csv"], columns=Columns(patient="who"))
    return read.save(Workspace(tmp_path / "home").cohort(read.fingerprint[:16]))


def test_a_few_rows_say_what_other_roles_would_make(cohort: Cohort) -> None:
    asked = Columns(patient="who", region="image", x="y", y="x", features=("CD3",), labels=("response",))
    seen = glimpsed(cohort, asked)
    assert seen is not None
    assert (seen.names, seen.N) == (("CD3",), 25)
    np.testing.assert_array_equal(seen.cells["x"], cohort.cells["y"][:25])
    other = glimpsed(cohort, replace(asked, patient="image", region=None))
    assert other is not None
    assert other.patients["patient"].tolist() == ["P00a"]
    with pytest.raises(MilError, match="no usable feature"):
        glimpsed(cohort, replace(asked, features=("who",), patient="image", region=None))


Open = Callable[[str, Cohort], AppTest]
Edit = Callable[[pd.DataFrame], pd.DataFrame]


def role_of(name: str, role: str) -> Edit:
    return lambda table: table.assign(role=table["role"].where(table["name"] != name, role))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (role_of("CD8", "left out"), "25 cells looked at, 2 features"),
        (role_of("image", "patient"), "2 columns have the role"),
        (
            lambda table: role_of("image", "left out")(role_of("who", "left out")(table)),
            "which patient a cell",
        ),
    ],
    ids=["a feature less", "two patients", "no patient"],
)
def test_the_look_follows_what_is_edited(
    cohort: Cohort, open_page: Open, monkeypatch: pytest.MonkeyPatch, edit: Edit, said: str
) -> None:
    monkeypatch.setattr(roles, "_table", lambda columns, able: edit(pd.DataFrame(columns)))
    at = open_page("cohort", cohort)
    assert not at.exception
    assert said in words(at)


def test_a_grave_check_bars_the_way_to_training_and_says_why(
    cohort: Cohort, open_page: Open, tmp_path: Path
) -> None:
    assert not button(open_page("cohort", cohort), "Choose a target and train").disabled
    assert not button(open_page("train", cohort), "Train").disabled
    why = "The feature 'CD3' says the same as 'response' in every patient, so it is no feature."
    grave = replace(cohort, notes=(Note("label_as_feature", why, "stop", fix="Leave it out."),), path=None)
    barred = grave.save(Workspace(tmp_path / "other").cohort("barred"))
    at = open_page("cohort", barred)
    assert button(at, "Choose a target and train").disabled
    assert "Training would be wrong" in words(at)
    assert "are ready to train on" not in words(at)
    at = open_page("train", barred)
    assert button(at, "Train").disabled
    assert "says the same as" in words(at)


def test_a_feature_that_is_one_label_bars_only_that_target(
    cohort: Cohort, open_page: Open, tmp_path: Path
) -> None:
    why = Note("label_as_feature", "It is 'response'.", "stop", target="response")
    people = cohort.patients.assign(grade=["low", "high"] * 6)
    two = replace(cohort, patients=people, notes=(why,), path=None)
    saved = two.save(Workspace(tmp_path / "other").cohort("two-targets"))
    assert not button(open_page("cohort", saved), "Choose a target and train").disabled
    at = open_page("train", saved)
    for target in ("response", "grade"):
        next(box for box in at.selectbox if box.label == "Target").set_value(target).run()
        assert button(at, "Train").disabled == (target == "response")
        assert ("Training would be wrong" in words(at)) == (target == "response")
