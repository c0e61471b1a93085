"""Real cohorts and the sample, end to end. `make accuracy` measures all of them at default settings; these are its
short version: the response of the sample and the smallest cohort as they are, the others with fewer repeats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

import sample_data
from dashboard import why
from milcore.analysis import Analysis
from milcore.chain import analyse
from milcore.readers import Columns, read_cohort
from milcore.training import Settings
from tests.accuracy import ELEMENTAL

PLANTED = {"PD-1", "Ki67", "GranzymeB"}


@pytest.fixture(autouse=True)
def no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of cells plays no part in any of these figures, and has tests of its own."""
    monkeypatch.setattr(
        "milcore.projection.umap_map", lambda cells, owner, **_: np.zeros((len(owner), 2), np.float32)
    )


@pytest.mark.cohorts
@pytest.mark.parametrize(
    ("folder", "settings", "drop", "least"),
    [
        ("flowcap_aml_cytodx", Settings(target="Label", positive="aml"), "", 0.95),
        ("schurch_crc_codex", Settings(target="group", effort="quick"), "", 0.68),
        (
            "keren_tnbc_mibi",
            Settings(
                target="tumor_architecture",
                classes=("mixed", "compartmentalized"),
                pooling="neighbourhood",
                effort="quick",
            ),
            ELEMENTAL,
            0.75,
        ),
    ],
)
def test_real_cohorts_reach_what_is_known_of_them(
    shared_data: Path, folder: str, settings: Settings, drop: str, least: float
) -> None:
    columns = Columns(drop=tuple(name for name in drop.split(",") if name))
    cells, patients = shared_data / folder / "cells.parquet", shared_data / folder / "patients.csv"
    made = analyse(read_cohort([cells], patients=patients, columns=columns), settings)
    assert made.facts["scores"]["auroc"]["value"] >= least
    assert "cell_type" not in made.cohort.names


def sample(**settings: object) -> Analysis:
    cells, patients = sample_data.files()
    return analyse(read_cohort([cells], patients=patients), Settings(**settings))


def test_the_samples_response_is_predicted_and_a_new_user_finds_its_planted_cells() -> None:
    """Along the screens: the verdict, the waterfall of each responder, its first group's name, the rule to count."""
    made = sample(target="response")
    assert made.facts["scores"]["auroc"]["value"] >= 0.9
    assert made.facts["verdict"]["kind"] == "signal"
    driver = pd.read_parquet(sample_data.TRUTH)["driver"].to_numpy()[made.cohort.order]
    assert average_precision_score(driver, made.cells["importance"]) >= 0.9
    responders = made.predictions.query("label == 'responder'")["patient"]
    first = Counter(why.without_groups(made, name)["group"].iloc[0] for name in responders)
    ((group, often),) = first.most_common(1)
    assert often >= 0.8 * len(responders)
    assert group.startswith("T cell CD8")
    assert sum(f"{marker}+" in group for marker in PLANTED) >= 2
    inside = made.cells["phenotype"].astype(str).to_numpy() == group
    assert driver[inside].mean() >= 0.5
    assert made.facts["gating"]["auroc"]["value"] >= 0.85
    assert {term["feature"] for rule in made.facts["gating"]["rules"] for term in rule["terms"]} <= PLANTED


def test_the_samples_coin_is_not() -> None:
    made = sample(target="coin", effort="quick")
    auroc = made.facts["scores"]["auroc"]
    assert auroc["low"] < 0.5 < auroc["high"]
    assert made.facts["verdict"]["kind"] == "none"
