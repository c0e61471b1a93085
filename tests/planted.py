"""Cohorts with a known truth, for tests and for the accuracy table.

`planted` is small and quick. The others imitate a real study: patients differ in staining and in the shares of their
cell types, and a group of cells that only some patients have is a shift of one of the types in four of 24 features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from milcore.cohort import Cohort
from milcore.neighbours import Graph, graph
from milcore.preprocess import preparation
from milcore.tasks import Binary

FEATURES, TYPES = 24, 6
SHIFT = 3.0  # of a planted group, in each of four features, in standard deviations within a type


def graph_of(cohort: Cohort, transform: str = "auto") -> Graph:
    """The neighbour graph of a cohort's transformed features."""
    return graph(cohort, preparation(cohort, transform=transform).apply(cohort), transform)


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
    prefix: str = "P",
) -> Planted:
    """Half the patients are "yes", with `share` of their cells moved by `shift` in two features (0 plants nothing).
    Their names begin with `prefix`."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(cells // 2, cells * 3 // 2, patients)
    owner = np.repeat(np.arange(patients), counts)
    y = (np.arange(patients) % 2).astype(float)
    drivers = (y[owner] == 1) & (draw.random(len(owner)) < share)
    x = draw.normal(size=(len(owner), features)) + 0.3 * draw.normal(size=(patients, features))[owner]
    x[drivers, :2] += shift
    names = [f"{prefix}{b + 1:02d}" for b in range(patients)]
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


# ---------------------------------------------------------------- studies


class Study(NamedTuple):
    """Cell table and patients table as a lab would have them, and the `truth` (N,) of each cell, which neither holds:
    the number of the planted group, 0 for the others."""

    cells: pd.DataFrame
    patients: pd.DataFrame
    truth: np.ndarray

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Both tables as files."""
        cells, patients = folder / "cells.parquet", folder / "patients.csv"
        self.cells.to_parquet(cells)
        self.patients.to_csv(patients, index=False)
        return cells, patients


def _study(
    draw: np.random.Generator,
    patients: pd.DataFrame,
    groups: np.ndarray,
    types: np.ndarray | None = None,
    *,
    shift: float = SHIFT,
) -> Study:
    """Cells of the patients: `groups` (B, G) share of each planted group, `types` (B, TYPES) of the others."""
    B, (low, high) = len(patients), (1200, 2800)
    owner = np.repeat(np.arange(B), draw.integers(low, high, B))
    shares = draw.dirichlet(np.full(TYPES, 6.0), B) if types is None else types
    kind = _drawn(draw, shares[owner])
    truth = _drawn(draw, np.hstack([1 - groups.sum(1, keepdims=True), groups])[owner])
    kind[truth > 0] = truth[truth > 0] % TYPES  # a group is a shift of one type
    if types is not None:
        truth = (kind == 0).astype(int)
    centres = draw.normal(size=(TYPES, FEATURES)) * 2
    x = centres[kind] + draw.normal(size=(len(owner), FEATURES))
    x += (0.3 * draw.normal(size=(B, FEATURES)))[owner]  # staining
    for g in range(1, groups.shape[1] + 1):
        x[np.ix_(truth == g, np.arange(4 * (g - 1), 4 * g))] += shift
    cells = pd.DataFrame(x.astype(np.float32), columns=[f"m{j + 1:02d}" for j in range(FEATURES)])
    names = np.array([f"P{b + 1:03d}" for b in range(B)])
    cells.insert(0, "patient", names[owner])
    patients.insert(0, "patient", names)
    return Study(cells, patients, truth)


def _drawn(draw: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """(n,) one of the columns of shares (n, k) for each row."""
    return (draw.random(len(shares))[:, None] > np.cumsum(shares, 1)[:, :-1]).sum(1)


def _half(draw: np.random.Generator) -> tuple[np.ndarray, pd.DataFrame]:
    B = int(draw.integers(60, 81)) // 2 * 2
    y = draw.permutation(np.arange(B) % 2)
    return y, pd.DataFrame({"response": np.where(y == 1, "yes", "no")})


def rare(seed: int, share: float, *, shift: float = SHIFT) -> Study:
    """A group that is `share` of the cells of patients labelled yes, and of nobody else's."""
    draw = np.random.default_rng([seed, 11])
    y, patients = _half(draw)
    return _study(draw, patients, share * y[:, None], shift=shift)


def two_sided(seed: int) -> Study:
    """Group 1 is 3 % of the cells of patients labelled yes, group 2 of those labelled no."""
    draw = np.random.default_rng([seed, 12])
    y, patients = _half(draw)
    return _study(draw, patients, 0.03 * np.stack([y, 1 - y], 1))


def composition(seed: int) -> Study:
    """One type is about 12 % of the cells of patients labelled yes and 6 % of the others'; its cells are group 1."""
    draw = np.random.default_rng([seed, 13])
    y, patients = _half(draw)
    first = draw.beta(200 * np.where(y == 1, 0.12, 0.06), 200 * np.where(y == 1, 0.88, 0.94))
    rest = draw.dirichlet(np.full(TYPES - 1, 6.0), len(y)) * (1 - first)[:, None]
    return _study(draw, patients, first[:, None] * 0, np.hstack([first[:, None], rest]))


def three(seed: int) -> Study:
    """Three classes; of two of them 3 % of the cells are a group of their own."""
    draw = np.random.default_rng([seed, 14])
    y = draw.permutation(np.arange(72) % 3)
    groups = 0.03 * (y[:, None] == [1, 2])
    return _study(draw, pd.DataFrame({"diagnosis": np.array(["none", "one", "two"])[y]}), groups)


def graded(seed: int) -> Study:
    """A number that rises with the share of a group of up to 10 % of the cells; noise is a third of its spread."""
    draw = np.random.default_rng([seed, 15])
    share = draw.uniform(0, 0.1, 70)
    value = 50 + 200 * share + draw.normal(size=70) * 2
    return _study(draw, pd.DataFrame({"score": value.round(2)}), share[:, None])


def hazard(seed: int) -> Study:
    """Survival: from no to 10 % of a group of cells the hazard rises twelvefold; some 40 % are censored."""
    draw = np.random.default_rng([seed, 16])
    share = draw.uniform(0, 0.1, 80)
    time = draw.exponential(np.exp(-25 * (share - 0.05))) * 365
    censored = draw.exponential(1.6, 80) * 365
    seen = pd.DataFrame({"dead": (time <= censored).astype(int), "days": np.minimum(time, censored).round(1)})
    return _study(draw, seen, share[:, None])


STUDIES: dict[str, tuple[Callable[[int], Study], list[str]]] = {
    "rare 1 %": (lambda seed: rare(seed, 0.01), ["--target", "response"]),
    "rare .5 %": (lambda seed: rare(seed, 0.005), ["--target", "response"]),
    "rare .1 %": (lambda seed: rare(seed, 0.001), ["--target", "response"]),
    "rare .1 %, distinct": (lambda seed: rare(seed, 0.001, shift=4.0), ["--target", "response"]),
    "two-sided": (two_sided, ["--target", "response"]),
    "composition": (composition, ["--target", "response"]),
    "three classes": (three, ["--target", "diagnosis"]),
    "graded": (graded, ["--target", "score"]),
    "hazard": (hazard, ["--target", "dead", "--time", "days"]),
}
