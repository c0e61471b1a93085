from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from dashboard import worth
from milcore.chain import WHOLE, analyse
from milcore.cohort import Cohort
from milcore.errors import Cancelled
from milcore.progress import Event, Progress
from milcore.training import Settings
from tests.planted import planted


def no_map(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "milcore.projection.umap_map", lambda cells, owner, **_: np.zeros((len(owner), 2), np.float32)
    )


@pytest.mark.parametrize("pooling", ["neighbourhood", "attention"])
def test_the_whole_chain_on_shuffled_labels(monkeypatch: pytest.MonkeyPatch, pooling: str) -> None:
    no_map(monkeypatch)
    monkeypatch.setitem(WHOLE, "quick", 5)
    case = planted(0, share=0.4, patients=16, cells=30)
    settings = Settings(target="response", pooling=pooling, effort="quick")
    facts = analyse(case.cohort, settings).facts
    whole = facts["null"]["whole"]
    assert whole["permutations"] == len(whole["values"]) == 5
    assert whole["observed"] > max(whole["values"])
    assert whole["p"] == pytest.approx(1 / 6)
    assert facts["null"]["permutations"] == 1000  # the simpler chain's stand apart
    assert (
        "whole"
        not in analyse(case.cohort, Settings(**settings.to_json() | {"permutations": 50})).facts["null"]
    )


def test_whoever_waits_may_call_it_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    no_map(monkeypatch)
    monkeypatch.setitem(WHOLE, "quick", 50)
    heard: list[Event] = []

    def facts(share: float) -> dict[str, Any]:
        heard.clear()
        enough = Progress(
            heard.append, enough=lambda: heard[-1].stage == "whole null" and heard[-1].share >= share
        )
        settings = Settings(target="response", pooling="neighbourhood", effort="quick")
        return analyse(planted(0, patients=16, cells=20).cohort, settings, enough).facts["null"]

    some = facts(0.07)["whole"]
    assert some["permutations"] == len(some["values"]) == 3
    assert some["p"] == (1 + some["as_good"]) / 4
    assert "whole" not in facts(0.0)


def test_risk_groups_are_parted_as_the_analysis_parts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the true labels the whole chain gives the analysis's own figures, and says how far it is."""
    no_map(monkeypatch)
    monkeypatch.setitem(WHOLE, "quick", 4)
    monkeypatch.setattr("milcore.judgement.PERMUTATIONS", 20)
    case, draw = planted(0, share=0.4, patients=20, cells=20), np.random.default_rng(0)
    has = np.arange(20) % 2
    patients = case.cohort.patients.assign(days=draw.exponential(np.exp(-2.0 * has)).round(3) + 0.01, dead=1)
    names = patients["patient"].to_numpy()[case.cohort.owner]
    cohort = Cohort.of(case.cohort.features, names, patients=patients)
    settings = Settings(target="dead", time="days", pooling="neighbourhood", effort="quick", repeats=1)
    heard: list[Event] = []
    facts = analyse(cohort, settings, Progress(heard.append)).facts
    whole, known = facts["null"]["whole"], facts["survival"]["log_rank"]
    assert whole["log_rank"] == pytest.approx(known["statistic"])
    assert whole["observed"] == pytest.approx(facts["scores"]["c_index"]["value"])
    assert whole["log_rank_p"] in np.arange(1, 6) / 5
    assert f"of the whole model (one repeat) is p = {whole['log_rank_p']:.2f}." in worth.log_rank(facts)
    told = [event.words for event in heard if event.stage == "whole null"]
    assert told[0] == ""
    assert re.fullmatch("[0-3] of 3 shuffles so far did as well", told[-1])


def test_it_runs_last_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    no_map(monkeypatch)
    monkeypatch.setitem(WHOLE, "quick", 50)
    heard: list[Event] = []
    progress = Progress(
        heard.append, lambda: bool(heard) and heard[-1].stage == "whole null" and heard[-1].share > 0
    )
    with pytest.raises(Cancelled):
        analyse(
            planted(0, patients=16, cells=20).cohort,
            Settings(target="response", pooling="neighbourhood", effort="quick"),
            progress,
        )
    assert "umap" in [event.stage for event in heard]
