"""Further maps of an analysis' cells: made, kept, shown, and what was picked on each of them."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from dashboard import layouts, picks, worker
from dashboard.planes import umap_plane
from dashboard.workspace import Workspace
from milcore import chain
from milcore.analysis import Analysis
from milcore.errors import MilError
from milcore.folder import faults
from milcore.progress import Progress
from milcore.projection import Layout

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once


def elsewhere(analysis: Analysis) -> np.ndarray:
    """Another map of its cells."""
    return np.random.default_rng(3).normal(size=(analysis.cohort.N, 2)).astype(np.float32)


def test_a_map_is_made_once_and_kept_with_the_analysis(
    tiny_home: Path, tmp_path: Path, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, asked = Workspace(tmp_path / "home"), []

    def made(graph, owner, *, seed, share, layout):  # type: ignore[no-untyped-def]
        asked.append((layout, seed, graph.points.shape[1]))
        return elsewhere(analysis)

    monkeypatch.setattr(chain, "umap_map", made)
    shutil.copytree(tiny_home, home.root)
    key = next((home.root / "analyses").iterdir()).name
    layout = Layout(30, 0.4, ("m0", "m2"), full=True)
    request = {"analysis": key, "layout": asdict(layout)}
    name = worker.lay_out(request, home, Progress())
    assert worker.lay_out(request, home, Progress()) == name
    assert asked == [(layout, 0, 2)]
    assert layouts.saved(home, key) == {name: layout}
    assert (layouts.places(home, key, name) == elsewhere(analysis)).all()
    assert faults(home.analysis(key)) == [], "the analysis itself is as it was"
    (home.analysis(key) / "maps" / f"{name}.json").write_text('{"neighbours": 30}')
    assert layouts.saved(home, key) == {}
    with pytest.raises(MilError, match="map"):
        worker.lay_out({"analysis": key, "layout": {"neighbours": 3, "features": None}}, home, Progress())


def test_what_was_picked_on_a_map_stays_picked_on_another(analysis: Analysis) -> None:
    places = elsewhere(analysis)
    own, other = (analysis.laid_out({"0badcafe": places}, shown) for shown in ("", "0badcafe"))
    planes = umap_plane(own), umap_plane(other)
    assert [plane.id for plane in planes] == ["u", "u0badcafe"]
    assert np.allclose(other.cells[["umap_1", "umap_2"]], places, equal_nan=True)
    for plane in planes:
        middle = np.median(plane.places[:, 0])
        text = picks.stroke(plane, [0, 0, middle, 0, middle, 65_535, 0, 65_535])
        assert picks.trusted(text) == text
        chosen = [picks.members(one, text) for one in (own, other)]
        assert (chosen[0] == chosen[1]).all()
        assert 0.3 < chosen[0].mean() < 0.7
    assert not picks.members(analysis, text).any(), "of a map that is gone"
    again = other.laid_out({"00000000": places + 1}, "")
    assert (again.cells["umap_1"] == analysis.cells["umap_1"]).all()
