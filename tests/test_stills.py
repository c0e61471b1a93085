"""Pictures of cells made by the server: what lies where, what lies on top, and the lines drawn on them."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from dashboard.planes import likeness, tissue
from dashboard.shades import shades
from dashboard.stills import outline, still
from milcore.analysis import Analysis

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once


def pixels(figure: go.Figure, layer: int) -> np.ndarray:
    """(h, w, 4) of one of the figure's pictures."""
    raw = base64.b64decode(figure.layout.images[layer].source.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA"))


def test_a_still_has_every_cell_where_it_is(analysis: Analysis) -> None:
    shown = tissue(analysis, "P01", "R1", colour="cell_type", height=400)
    colours = shades(analysis, "cell_type")
    figure = still(shown, colours, only=None, lit=None, dark=False)
    (image,) = figure.layout.images
    picture, low = pixels(figure, 0), (image.x, image.y)
    step = image.sizex / picture.shape[1]
    palette = colours.palette(dark=False)
    for (x, y), row in zip(shown.plane.places, shown.plane.rows, strict=True):
        found = picture[round((y - low[1]) / step - 0.49), round((x - low[0]) / step - 0.49)]
        hues = {palette[code] for code in np.unique(colours.codes[shown.plane.rows])}
        assert "#" + "".join(f"{part:02x}" for part in found[:3]) + "d9" in hues, row
        assert found[3] == 255
    assert (picture[..., 3] == 0).mean() > 0.3
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1], "y runs downwards"
    assert any("µm" in note.text for note in figure.layout.annotations)


def test_selected_cells_are_a_layer_on_top(analysis: Analysis) -> None:
    shown = likeness(analysis, colour="importance", height=400)
    lit = np.zeros(analysis.cohort.N, bool)
    lit[[5, 700]] = True
    figure = still(shown, shades(analysis, "importance"), only=None, lit=lit, dark=True)
    faint, bright = figure.layout.images
    assert faint.opacity < 0.3 < bright.opacity == 1
    drawn = [(pixels(figure, layer)[..., 3] > 0).sum() for layer in (0, 1)]
    assert 0 < drawn[1] < drawn[0] / 20
    alone = still(shown, shades(analysis, "importance"), only=lit, lit=~lit, dark=True)
    assert len(alone.layout.images) == 1


def test_an_empty_selection_and_one_cell(analysis: Analysis) -> None:
    shown = likeness(analysis, colour="m0", height=400)
    nobody = np.zeros(analysis.cohort.N, bool)
    assert len(still(shown, shades(analysis, "m0"), only=nobody, lit=nobody, dark=False).layout.images) == 1
    plane = replace(shown.plane, places=shown.plane.places[:1], rows=shown.plane.rows[:1])
    one = still(replace(shown, plane=plane), shades(analysis, "m0"), only=None, lit=None, dark=False)
    assert len(one.layout.images) == 1


def test_lines_of_plotly_are_polygons() -> None:
    assert outline({"lasso": [{"x": [1, 2, 3], "y": [4, 5, 6]}], "box": []}) == [1, 4, 2, 5, 3, 6]
    assert outline({"box": [{"x": [1, 2], "y": [4, 5]}]}) == [1, 4, 2, 4, 2, 5, 1, 5]
    assert outline({"box": [], "lasso": []}) == []
