"""Phenotypes: groups of alike cells, formed without labels, and their names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from milcore import phenotypes as module
from milcore.cohort import Cohort
from milcore.neighbours import Graph, graph
from milcore.phenotypes import phenotypes
from milcore.preprocess import preparation

NAMES = ["CD3", "CD8", "PD-1", "CD20", "CD68", "area_um2"]
KINDS = {  # share of the cells, and what is high in them
    "CD8": (0.3, [0, 1]),
    "CD8 PD-1": (0.02, [0, 1, 2]),
    "B": (0.3, [3]),
    "myeloid": (0.38, [4, 5]),
}


@pytest.fixture(scope="module")
def mixed() -> tuple[Cohort, Graph, np.ndarray]:
    """Four kinds of cells of 10 patients, with the first two given as one type; the truth (N,)."""
    draw = np.random.default_rng(3)
    truth = draw.choice(4, 6000, p=[share for share, _ in KINDS.values()])
    high = np.zeros((4, len(NAMES)))
    for k, (_, features) in enumerate(KINDS.values()):
        high[k, features] = 6
    x = high[truth] + draw.normal(size=(6000, len(NAMES)))
    types = np.array(["T cell", "T cell", "B cell", "Myeloid"], object)[truth]
    types[:50] = None
    cells = pd.DataFrame({"cell_type": types})
    owner = np.sort(draw.integers(0, 10, 6000))
    cohort = Cohort.of(x, owner, names=NAMES, cells=cells)
    return cohort, graph(cohort, preparation(cohort, transform="none").apply(cohort), "test"), truth


def untyped(cohort: Cohort) -> Cohort:
    return replace(cohort, cells=cohort.cells.drop(columns="cell_type"))


def test_without_types_groups_are_pure_and_named_by_their_markers(
    mixed: tuple[Cohort, Graph, np.ndarray],
) -> None:
    cohort, cells, truth = mixed
    found = phenotypes(untyped(cohort), cells, NAMES, "test", seed=0)
    assert len(set(found.names)) == len(found.names) <= module.MOST
    rare = truth == 1
    best = np.bincount(found.kind[rare]).argmax()
    assert (found.kind[rare] == best).mean() > 0.95
    assert rare[found.kind == best].mean() > 0.95
    assert found.names[best].split()[0] == "PD-1+"
    assert {"CD3+", "CD8+"} <= set(found.names[best].split())
    for k, name in enumerate(found.names):
        if "CD68+" in name:
            assert (truth[found.kind == k] == 3).mean() > 0.95
    assert any("area_um2 high" in name for name in found.names)


def test_a_given_type_is_parted_where_a_marker_sets_a_state_apart(
    mixed: tuple[Cohort, Graph, np.ndarray],
) -> None:
    cohort, cells, truth = mixed
    found = phenotypes(cohort, cells, NAMES, "test", seed=0)
    kind = np.array(found.names)[found.kind]
    assert (kind[:50] == module.UNTYPED).all()
    assert (truth[kind == "T cell, PD-1+"] == 1).mean() > 0.95
    assert (kind[50:][truth[50:] == 1] == "T cell, PD-1+").mean() > 0.95
    given = cohort.cells["cell_type"].astype(str)
    for name in set(kind) - {module.UNTYPED}:
        assert set(given[kind == name]) == {name.split(",")[0]}, "a state must stay within its type"


def test_means_are_of_the_cells_and_frequent_ones_come_first(
    mixed: tuple[Cohort, Graph, np.ndarray],
) -> None:
    cohort, cells, _ = mixed
    found = phenotypes(cohort, cells, NAMES, "test", seed=0)
    assert (np.diff(np.bincount(found.kind)) <= 0).all()
    for k in range(len(found.names)):
        expected = cells.points[cells.node[found.kind == k]].mean(0)
        np.testing.assert_allclose(found.markers[k], expected, atol=1e-4)


def test_the_same_seed_gives_the_same_groups(mixed: tuple[Cohort, Graph, np.ndarray]) -> None:
    cohort, cells, _ = mixed
    one, other = (phenotypes(untyped(cohort), cells, NAMES, "test", seed=5) for _ in range(2))
    assert (one.kind == other.kind).all()
    assert one.names == other.names


def test_landmarks_find_the_same_groups(
    mixed: tuple[Cohort, Graph, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, cells, truth = mixed
    monkeypatch.setattr(module, "WHOLE", 100)
    monkeypatch.setattr(module, "LANDMARKS", 2000)
    found = phenotypes(untyped(cohort), cells, NAMES, "test", seed=0)
    rare = truth == 1
    best = np.bincount(found.kind[rare]).argmax()
    assert (found.kind[rare] == best).mean() > 0.9
    assert rare[found.kind == best].mean() > 0.9


def test_tiny_groups_join_what_they_are_linked_to() -> None:
    near = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4], [3, 4]])
    links = module._links(near)
    group = np.array([0, 0, 0, 1, 1, 1, 2])
    size = np.array([20, 20, 20, 20, 20, 20, 3])
    assert module._without_tiny(group, links, size).tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_names_stay_different() -> None:
    means = np.array([[2.0, 0, 0], [2.1, 0, 0], [0, -2, 0], [0.1, 0, 0]])
    assert module._named(means, ["A", "B", "C"]) == ["A+", "A+ (2)", "B−", "unremarkable"]
