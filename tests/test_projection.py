from __future__ import annotations

import numpy as np
import pytest

from milcore import neighbours, phenotypes, projection
from milcore.chain import lay_out, prepare
from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.projection import Layout, umap_map
from milcore.training import Settings
from tests.planted import graph_of


def three_kinds(cells: int = 600) -> tuple[Cohort, np.ndarray]:
    draw = np.random.default_rng(0)
    kind = draw.integers(0, 3, cells)
    x = np.eye(3)[kind] * 8 + draw.normal(size=(cells, 3))
    return Cohort.of(x.astype(np.float32), np.repeat(["a", "b", "c"], cells // 3)), kind


def separation(places: np.ndarray, kind: np.ndarray) -> float:
    """Distance between kinds against the width of one."""
    centres = np.stack([places[kind == k].mean(0) for k in range(3)])
    width = np.mean([places[kind == k].std() for k in range(3)])
    return min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) / width


@pytest.mark.parametrize("landmarks", [10_000, 150])
def test_kinds_of_cells_lie_apart_with_and_without_landmarks(monkeypatch, landmarks: int) -> None:
    monkeypatch.setattr(projection, "LANDMARKS", landmarks)
    cohort, kind = three_kinds()
    places = umap_map(graph_of(cohort, "none"), cohort.owner, seed=0, share=lambda share: None)
    assert places.shape == (600, 2)
    assert np.isfinite(places).all()
    assert separation(places, kind) > 3


def test_a_layout_is_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell is fitted where that is asked for; other neighbours, distances and features move the cells."""
    monkeypatch.setattr(projection, "LANDMARKS", 60)
    cohort, kind = three_kinds(180)

    def made(**asked: object) -> np.ndarray:
        return lay_out(cohort, Settings(target="any"), Layout(**asked))

    usual = made()
    assert (usual == made()).all()
    assert not np.allclose(usual, made(neighbours=5))
    assert not np.allclose(usual, made(distance=0.6))
    first = made(features=(cohort.names[0],))  # which sets one kind apart, not the other two
    assert separation(first, kind) < 1 < 3 < separation(usual, kind)
    monkeypatch.setattr(projection, "placed", None)  # which places cells among landmarks
    assert separation(made(full=True), kind) > 3


def test_a_layout_that_cannot_be() -> None:
    for wrong in ({"neighbours": 1}, {"neighbours": 1000}, {"distance": 1.0}, {"distance": -0.1}):
        with pytest.raises(MilError, match=r"map|distance"):
            Layout(**wrong)
    cohort, _ = three_kinds(60)
    with pytest.raises(MilError, match="no feature 'nothing'"):
        lay_out(cohort, Settings(target="any"), Layout(features=("nothing",)))


def test_a_cell_between_two_groups_is_placed_in_one_of_them() -> None:
    """Landmarks alike in features may lie far apart on the map: nothing is alike half way."""
    draw = np.random.default_rng(0)
    points = draw.normal(size=(400, 5)).astype(np.float32)  # one cloud, which the map tore in two
    torn = draw.normal(size=(400, 2)).astype(np.float32) + np.where(points[:, :1] > 0, 100, -100)
    queries = draw.normal(size=(300, 5)).astype(np.float32) * [0.05, 1, 1, 1, 1]
    places = projection.placed(points, torn, queries)
    assert (np.abs(np.abs(places) - 100) < 6).all()
    np.testing.assert_allclose(projection.placed(points, torn, points), torn, atol=1e-3)


def test_landmarks_are_balanced_over_patients(monkeypatch) -> None:
    monkeypatch.setattr(projection, "LANDMARKS", 90)
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    cohort = Cohort.of(x, np.repeat(["big", "small", "tiny"], [900, 70, 30]))
    made = graph_of(cohort, "none")
    chosen = projection._landmarks(made, cohort.owner, 0)
    owners = cohort.owner[np.argsort(made.node)][chosen]
    assert len(np.unique(chosen)) == 90
    assert np.bincount(owners).tolist() == [30, 30, 30]


def test_a_table_of_cell_types_gets_a_map_without_umap() -> None:
    kind = np.random.default_rng(0).integers(0, 4, 500)
    cohort = Cohort.of(np.eye(4, dtype=np.float32)[kind], np.repeat(["a", "b"], 250))
    places = umap_map(graph_of(cohort, "none"), cohort.owner, seed=0, share=lambda share: None)
    assert len(np.unique(places.round(4), axis=0)) > 400  # cells of one type do not hide each other
    assert np.isfinite(places).all()


def test_one_feature_is_enough() -> None:
    cohort = Cohort.of(np.arange(40, dtype=np.float32)[:, None], np.repeat(["a", "b"], 20))
    assert umap_map(graph_of(cohort, "none"), cohort.owner, seed=0, share=lambda share: None).shape == (40, 2)


def test_what_was_prepared_is_found_and_a_damaged_map_is_made_anew(monkeypatch, tmp_path) -> None:
    cohort, _ = three_kinds(150)
    cohort, asked = cohort.save(tmp_path / "cohort"), []

    def made(graph, owner, *, seed, share):  # type: ignore[no-untyped-def]
        asked.append(seed)
        return np.full((len(owner), 2), seed + 0.5, np.float32)

    monkeypatch.setattr(projection, "umap_map", made)
    prepare(cohort)
    monkeypatch.setattr(neighbours, "_build", None)  # not called again
    monkeypatch.setattr(phenotypes, "_leiden", None)
    prepare(cohort)
    assert asked == [0]
    (file,) = cohort.path.glob("map-*.npy")
    file.write_bytes(b"nonsense")
    prepare(cohort)
    assert asked == [0, 0]
    np.testing.assert_array_equal(np.load(file), np.full((150, 2), 0.5))
