"""Small cohorts with a known truth, for tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from milcore.cohort import Cohort
from milcore.neighbours import Graph, graph
from milcore.preprocess import transformed
from milcore.tasks import Binary


def graph_of(cohort: Cohort, transform: str = "auto") -> Graph:
    """The neighbour graph of a cohort's transformed features."""
    return graph(cohort, transformed(cohort, transform), transform)


class Planted(NamedTuple):
    cohort: Cohort
    task: Binary
    drivers: np.ndarray  # (N,) bool: the planted cells, in the cohort's order


def planted(
    seed: int,
    *,
    patients: int = 24,
    cells: int = 60,
    share: float = 0.2,
    shift: float = 3.0,
    features: int = 6,
) -> Planted:
    """Half the patients are "yes", with `share` of their cells moved by `shift` in two features (0 plants nothing)."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(cells // 2, cells * 3 // 2, patients)
    owner = np.repeat(np.arange(patients), counts)
    y = (np.arange(patients) % 2).astype(float)
    drivers = (y[owner] == 1) & (draw.random(len(owner)) < share)
    x = draw.normal(size=(len(owner), features)) + 0.3 * draw.normal(size=(patients, features))[owner]
    x[drivers, :2] += shift
    names = [f"P{b + 1:02d}" for b in range(patients)]
    labels = pd.DataFrame({"patient": names, "response": np.where(y == 1, "yes", "no")})
    types = np.where(x[:, 2] > 0, "B cell", "T cell")
    table = pd.DataFrame(
        {
            "cell_type": types,
            "x": draw.random(len(owner)) * 500,
            "y": draw.random(len(owner)) * 500,
            "region": np.where(draw.random(len(owner)) < 0.5, "A", "B"),
        }
    )
    cohort = Cohort.of(x.astype(np.float32), np.array(names)[owner], patients=labels, cells=table)
    return Planted(cohort, Binary(("no", "yes"), y), drivers)
