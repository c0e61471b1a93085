"""Real cohorts and the sample, end to end. `make accuracy` measures all of them at default settings; these are its
short version: the response of the sample as it is, the others with fewer repeats."""

from __future__ import annotations

import json
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
TOGETHER = pytest.mark.xdist_group("response")  # in one process: they share an analysis
NO_MAP = ("milcore.projection.umap_map", lambda cells, owner, **_: np.zeros((len(owner), 2), np.float32))


@pytest.fixture(autouse=True)
def no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of cells plays no part in any of these figures, and has tests of its own."""
    monkeypatch.setattr(*NO_MAP)


@pytest.mark.cohorts
@pytest.mark.parametrize(
    ("folder", "settings", "drop", "every", "least"),
    [
        ("flowcap_aml_cytodx", Settings(target="Label", positive="aml", effort="quick"), "", 1, 0.95),
        ("schurch_crc_codex", Settings(target="group", effort="quick"), "", 1, 0.68),
        (
            "keren_tnbc_mibi",
            Settings(
                target="tumor_architecture",
                classes=("mixed", "compartmentalized"),
                pooling="neighbourhood",
                effort="quick",
            ),
            ELEMENTAL,
            5,
            0.75,
        ),
    ],
)
def test_real_cohorts_reach_what_is_known_of_them(
    shared_data: Path, tmp_path: Path, folder: str, settings: Settings, drop: str, every: int, least: float
) -> None:
    """By some of the cells, where the graph of all would take long; tests.accuracy takes all."""
    columns = Columns(drop=tuple(name for name in drop.split(",") if name))
    pd.read_parquet(shared_data / folder / "cells.parquet").iloc[::every].to_parquet(
        tmp_path / "cells.parquet"
    )
    patients = shared_data / folder / "patients.csv"
    made = analyse(read_cohort([tmp_path / "cells.parquet"], patients=patients, columns=columns), settings)
    assert made.facts["scores"]["auroc"]["value"] >= least
    assert "cell_type" not in made.cohort.names


def analysed(**settings: object) -> Analysis:
    cells, patients = sample_data.files()
    return analyse(read_cohort([cells], patients=patients), Settings(**settings))


@pytest.fixture(scope="module")
def made() -> Analysis:
    """The sample's response, as a new user trains on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*NO_MAP)
        return analysed(target="response")


@TOGETHER
def test_the_samples_response_is_predicted_and_a_new_user_finds_its_planted_cells(made: Analysis) -> None:
    """Along the screens: the verdict, the waterfall of each responder, its first group's name, the rule to count."""
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


@TOGETHER
def test_the_samples_planted_phenotype_leads_every_table(made: Analysis) -> None:
    table = made.phenotypes.table.set_index("phenotype")
    planted = table["leave_out"].idxmax()
    assert planted.startswith("T cell CD8")
    assert set(planted.split(", ")[1].split()) == {"PD-1+", "Ki67+", "GranzymeB+"}
    assert table["importance"].idxmax() == table["fdr"].idxmin() == planted
    assert table.loc[planted, ["fdr", "leave_out", "stability"]].tolist() == [
        pytest.approx(0, abs=1e-4),
        pytest.approx(0.45, abs=0.15),
        pytest.approx(1, abs=0.1),
    ]
    assert (table["fdr"].drop(planted) > 0.05).all()
    rows = made.phenotypes.patients.merge(made.predictions[["patient", "label", "score"]], on="patient")
    called = rows[(rows["label"] == "responder") & (rows["score"] > 0)]
    top = called.loc[called.groupby("patient")["contribution"].idxmax(), "phenotype"]
    assert (top == planted).mean() > 0.9
    json.dumps(made.facts, allow_nan=False)


@TOGETHER
def test_the_samples_rule_names_the_planted_markers_and_holds_out_of_fold(made: Analysis) -> None:
    found, truth = made.facts["gating"], pd.read_parquet(sample_data.TRUTH)["driver"].to_numpy()
    assert found["auroc"]["value"] >= 0.85
    named = [{term["feature"] for term in found["rules"][0]["terms"]}]
    named += [{word for word in words.split() if word[0].isupper()} for (words,) in found["folds"]]
    for features in named:
        assert len(features & {"PD-1", "Ki67", "GranzymeB"}) >= 2
    order = made.predictions.merge(made.gating, on="patient")
    share = truth[made.cohort.order].astype(float)
    planted = np.add.reduceat(share, made.cohort.offsets[:-1]) / np.diff(made.cohort.offsets)
    assert order["share_out_of_fold"].corr(pd.Series(planted), method="spearman") > 0.8


@TOGETHER
def test_phenotypes_are_kept_in_the_folder(made: Analysis, tmp_path: Path) -> None:
    again = made.save(tmp_path / "analysis")
    for name in ("table", "patients"):
        one, other = (getattr(each.phenotypes, name) for each in (made, again))
        pd.testing.assert_frame_equal(one, other, check_dtype=False)
    pd.testing.assert_frame_equal(made.gating, again.gating)
    assert json.loads((tmp_path / "analysis" / "gating.json").read_text()) == again.facts["gating"]
    stored = pd.read_parquet(tmp_path / "analysis" / "cells.parquet")
    truth = pd.read_parquet(sample_data.TRUTH)["driver"].to_numpy()
    inside = stored["phenotype"].astype(str).str.contains("Ki67+ PD-1+", regex=False).to_numpy()
    assert truth[inside].mean() > 0.7, "rows must be in input order"


def test_the_samples_coin_is_not() -> None:
    made = analysed(target="coin", effort="quick")
    auroc = made.facts["scores"]["auroc"]
    assert auroc["low"] < 0.5 < auroc["high"]
    assert made.facts["verdict"]["kind"] == "none"
