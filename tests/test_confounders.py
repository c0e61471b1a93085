"""Labels that are something else in disguise get the warning of their kind, in whole analyses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from milcore.chain import analyse
from milcore.cohort import Cohort
from milcore.training import Settings

PATIENTS = 24


@pytest.fixture(autouse=True)
def no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = "milcore.projection.umap_map"
    monkeypatch.setattr(flat, lambda cells, owner, **_: np.zeros((len(owner), 2), np.float32))


def cohort(counts: np.ndarray, **columns: object) -> Cohort:
    """Cells without any signal."""
    names = np.array([f"P{b:02d}" for b in range(PATIENTS)])
    owner = np.repeat(np.arange(PATIENTS), counts)
    x = np.random.default_rng(0).normal(size=(len(owner), 4)).astype(np.float32)
    return Cohort.of(x, names[owner], patients=pd.DataFrame({"patient": names} | columns))


def warned(made: Cohort) -> dict[str, str]:
    settings = Settings(target="outcome", pooling="neighbourhood", effort="quick", permutations=0)
    return {one["kind"]: one["words"] for one in analyse(made, settings).facts["warnings"]}


def test_a_label_that_is_the_number_of_cells() -> None:
    counts = np.random.default_rng(1).integers(15, 60, PATIENTS)
    label = np.where(counts > np.median(counts), "yes", "no")
    found = warned(cohort(counts, outcome=label))
    assert "The number of cells alone predicts the label" in found["cells_predict_label"]
    assert "batch_predicts_label" not in found


def test_a_label_that_is_the_batch() -> None:
    label = np.where(np.arange(PATIENTS) % 2, "yes", "no")
    batch = np.where(np.arange(PATIENTS) % 2, "TMA1", "TMA2")
    found = warned(
        cohort(
            np.full(PATIENTS, 30),
            outcome=label,
            batch=batch,
            site=[f"S{k // 2 % 3}" for k in range(PATIENTS)],
        )
    )
    assert "'batch' alone predicts the label" in found["batch_predicts_label"]
    assert "cells_predict_label" not in found


def test_neither_is_warned_of_without_reason() -> None:
    label = np.where(np.arange(PATIENTS) % 2, "yes", "no")
    counts = 30 + np.arange(PATIENTS) // 2 % 3
    found = warned(cohort(counts, outcome=label, batch=[f"T{k // 2 % 3}" for k in range(PATIENTS)]))
    assert not set(found) & {"batch_predicts_label", "cells_predict_label", "suspected_leak", "region_shift"}
