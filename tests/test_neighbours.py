from __future__ import annotations

import numpy as np
import pytest

from milcore import matrix, neighbours
from milcore.cohort import Cohort
from milcore.neighbourhood import abundance
from milcore.neighbours import NEIGHBOURS, nearest, standardised
from tests.planted import graph_of, planted


def test_diffusion_conserves_and_every_cell_is_its_own_first_neighbour() -> None:
    cohort = planted(0).cohort
    made = graph_of(cohort)
    np.testing.assert_allclose(made.step.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(made.neighbours[:, 0], np.arange(len(made.size)))
    assert made.neighbours.shape[1] == NEIGHBOURS + 1


def test_neighbours_are_the_nearest() -> None:
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    found, distance = nearest(x, x, 5)
    every = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.testing.assert_array_equal(found, every.argsort(1)[:, :5])
    np.testing.assert_allclose(distance, np.sort(every, 1)[:, :5], atol=1e-3)


def test_the_coarse_index_finds_most_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32)
    exact, _ = nearest(x, x, 10)
    monkeypatch.setattr(neighbours, "EXACT", 1000**2)
    coarse, _ = nearest(x, x, 10)
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, coarse, strict=True)])
    assert shared > 0.85


def test_equal_cells_are_one_node_and_fill_their_own_lists() -> None:
    types = np.eye(3, dtype=np.float32)[np.random.default_rng(0).integers(0, 3, 600)]
    cohort = Cohort.of(types, np.repeat(["a", "b", "c"], 200))
    made = graph_of(cohort, "none")
    assert len(made.size) == 3
    assert made.size.sum() == 600
    np.testing.assert_allclose(made.step.toarray(), np.eye(3), atol=1e-6)  # 16 places, 200 cells of one's own


def test_a_graph_with_equal_cells_names_each_neighbour_once_and_is_the_same_once_kept(tmp_path) -> None:
    x = np.random.default_rng(0).integers(0, 12, (600, 2)).astype(np.float32)
    cohort = Cohort.of(x, np.repeat(["a", "b", "c"], 200)).save(tmp_path / "cohort")
    made, again = graph_of(cohort, "none"), graph_of(cohort, "none")
    assert (np.diff(np.sort(made.neighbours, 1), axis=1) > 0).all()
    np.testing.assert_array_equal(made.neighbours, again.neighbours)
    np.testing.assert_array_equal(made.step.toarray(), again.step.toarray())


def test_what_lies_on_disk_and_is_made_piece_by_piece_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    case = planted(1)
    everyone, seen, kernels = np.ones(case.cohort.B, bool), [], []
    for least, rows in ((matrix.LARGE, neighbours.ROWS), (1, 100)):
        monkeypatch.setattr(matrix, "LARGE", least)
        monkeypatch.setattr(neighbours, "ROWS", rows)
        made = graph_of(case.cohort)
        around = abundance(made, case.cohort.offsets, everyone, lambda share: None)
        seen.append((made.points, made.neighbours, made.distances, made.step.toarray(), around.mean))
        kernels.append(around.kernels)
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(*kernels, rtol=1e-5, atol=1e-5)


def test_missing_values_stand_at_the_mean() -> None:
    x = np.random.default_rng(0).normal(5, 2, (50, 2)).astype(np.float32)
    x[3, 1] = np.nan
    scaled = standardised(Cohort.of(x, np.repeat(["a", "b"], 25)), x)
    assert scaled[3, 1] == 0
    np.testing.assert_allclose(scaled.mean(0), 0, atol=0.05)


def test_the_graph_is_kept_with_the_cohort_and_a_damaged_one_is_made_anew(tmp_path) -> None:
    cohort = planted(1).cohort.save(tmp_path / "cohort")
    first = graph_of(cohort)
    (file,) = cohort.path.glob("graph-*.npz")
    again = graph_of(cohort)
    np.testing.assert_array_equal(first.neighbours, again.neighbours)
    np.testing.assert_array_equal(first.points, again.points)
    file.write_bytes(b"nonsense")
    np.testing.assert_array_equal(first.neighbours, graph_of(cohort).neighbours)
