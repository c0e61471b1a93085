"""What is picked, as text and as cells; places and colours as the maps draw them; what the pointer says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from dashboard import picks, theme
from dashboard.colouring import choices, classes, colouring, names_of, numbers
from dashboard.hover import hover
from dashboard.planes import LOW, SPAN, tissue_plane, umap_plane
from dashboard.shades import shades
from milcore.analysis import Analysis
from tests.tiny import NASTY, PATIENTS

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def test_enclosed() -> None:
    places = np.array([[1.0, 2.0], [3.0, 1.0], [9.0, 1.0]])
    assert picks.enclosed(places, np.array([[0, 0], [5, 0], [5, 5.0]])).tolist() == [False, True, False]
    notched = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4.0]])
    assert picks.enclosed(np.array([[2.0, 2.0], [0.5, 2.0]]), notched).tolist() == [False, True]
    assert not picks.enclosed(places, np.empty((0, 2))).any()


def test_places_keep_shapes_and_leave_room_for_a_lasso(analysis: Analysis) -> None:
    plane = umap_plane(analysis)
    xy = analysis.cells[["umap_1", "umap_2"]].to_numpy(float)[plane.rows]
    low, high = plane.places.min(axis=0), plane.places.max(axis=0)
    assert low.tolist() == [LOW, LOW]
    assert high.max() == LOW + SPAN
    back = xy.min(axis=0) + (plane.places - float(LOW)) * plane.step
    assert np.abs(back - xy).max() <= 0.51 * plane.step


def test_steps_add_and_take_away(analysis: Analysis) -> None:
    plane = umap_plane(analysis)
    middle = np.median(plane.places, axis=0)
    whole = picks.stroke(plane, box(0, 0, 65_535, 65_535))
    left = picks.stroke(plane, box(0, 0, middle[0], 65_535))
    assert picks.members(analysis, whole).sum() == len(plane.rows)
    some = picks.members(analysis, left)
    assert 0 < some.sum() < len(plane.rows)
    rest = picks.members(analysis, f"{whole}.s{left[1:]}")
    assert (rest == ~some).all()
    assert picks.members(analysis, f"{whole}.s{left[1:]}.a{left[1:]}").all()
    assert (picks.members(analysis, f"{whole}.{left}") == some).all()
    assert not picks.members(analysis, "").any()


def test_a_stroke_in_tissue_is_of_one_region(analysis: Analysis) -> None:
    plane = tissue_plane(analysis, "P01", "R1")
    chosen = picks.members(analysis, picks.stroke(plane, box(0, 0, 65_535, 65_535)))
    cells = analysis.cohort.cells
    assert (np.flatnonzero(chosen) == plane.rows).all()
    assert set(cells["region"][chosen]) == {"R1"}
    assert set(analysis.cohort.patients["patient"].to_numpy()[analysis.cohort.owner[chosen]]) == {"P01"}


def test_classes_are_picked_by_name(analysis: Analysis) -> None:
    assert "cell_type" in classes(analysis)
    assert set(names_of(analysis, "cell_type")) == {"driver", "other <i>"}
    for name in names_of(analysis, "cell_type"):
        text = picks.of_class("cell_type", name)
        assert picks.trusted(text) == text
        assert (picks.members(analysis, text) == (analysis.cohort.cells["cell_type"] == name)).all()
    nasty = picks.of_class("patient", NASTY)
    assert picks.members(analysis, picks.trusted(nasty)).sum() == 80
    assert not picks.members(analysis, picks.of_class("patient", "nobody")).any()
    assert not picks.members(analysis, picks.of_class("no such", "nobody")).any()


def test_ranges_are_picked_as_they_are_coloured(analysis: Analysis) -> None:
    assert set(numbers(analysis)).isdisjoint(classes(analysis))
    value = analysis.cohort.features[:, 0]
    for ends, truth in (("0.5:2", (value >= 0.5) & (value <= 2)), ("1:", value >= 1), (":-1", value <= -1)):
        text = picks.of_range("m0", ends)
        assert picks.trusted(text) == text
        assert (picks.members(analysis, text) == truth).all()
    assert picks.members(analysis, picks.of_range("m0", ":")).all()
    assert not picks.members(analysis, picks.of_range("label", ":")).any()
    assert picks.span(picks.spanned(-1.25, np.inf)) == (-1.25, np.inf)
    for nonsense in ("", "a:b", "1", "1e:", "nan:", "P01"):
        assert picks.span(nonsense) == (-np.inf, np.inf)


def test_folds_and_stability_are_colours(analysis: Analysis) -> None:
    rows = np.arange(analysis.cohort.N)
    folds = colouring(analysis, "fold", rows)
    dealt = [each[0] for each in analysis.facts["dealt"]["fold"]]
    assert folds.names == tuple(f"{k + 1} of repeat 1" for k in range(analysis.facts["folds"]))
    for patient, fold in zip(analysis.predictions["patient"], dealt, strict=True):
        mine = folds.values[analysis.cohort.rows(analysis.cohort.position(patient))]
        assert (mine == fold).all()
    assert "same_sign" not in choices(analysis), "two repeats do not say how steady a cell is"
    steady = replace(analysis, cells=analysis.cells.assign(same_sign=np.linspace(0.25, 1, len(rows))))
    shown = shades(steady, "same_sign")
    assert shown.rank[255] > shown.rank[1], "the steady lie on top"
    assert shown.legend(dark=True)["low"] == 0.5


def test_a_group_of_drivers_is_picked(analysis: Analysis) -> None:
    chosen = picks.members(analysis, picks.trusted(picks.of_group(PATIENTS[1], "driver")))
    truth = (analysis.cohort.cells["cell_type"] == "driver").to_numpy()
    rows = analysis.cohort.rows(analysis.cohort.patients["patient"].tolist().index(PATIENTS[1]))
    assert chosen.sum() == truth[rows].sum() > 0


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "nu~<script>",
        "qu~AAAA",
        "nt~AAAA",
        "nu~AAAA..nu~AAAA",
        "np~a",
        "nu~" + "A" * picks.LONGEST,
        None,
        3,
    ],
)
def test_a_text_from_outside_is_not_trusted(text: object) -> None:
    assert picks.trusted(text) == ""
    assert picks.aimed(text) == ""


def test_damaged_polygons_pick_nothing(analysis: Analysis) -> None:
    for text in ("nu~A", "nu~AAAAAAA", "ntzzzzzzz~AAAAAAAAAAAA", "nu~" + "-_" * 30):
        assert picks.trusted(text) == text
        assert not picks.members(analysis, text).all()


# ---------------------------------------------------------------- colours


def test_every_choice_has_shades(analysis: Analysis) -> None:
    rows = np.arange(analysis.cohort.N)
    for key in choices(analysis):
        found, shown = shades(analysis, key), colouring(analysis, key, rows)
        for dark in (False, True):
            palette = found.palette(dark=dark)
            assert len(palette) == 256
            assert all(len(colour) == 9 and colour.startswith("#") for colour in palette)
        assert ((found.codes == 0) == ~np.isfinite(shown.values)).all()
        assert found.legend(dark=False)["title"] == shown.title


def test_the_palette_is_that_of_the_reports(analysis: Analysis) -> None:
    found = shades(analysis, "importance")
    stops = [colour for _, colour in theme.ramp("signed")]
    palette = found.palette(dark=False)
    assert [palette[1][:7], palette[128][:7], palette[255][:7]] == [stops[0], stops[3], stops[6]]
    value = analysis.cells["importance"].to_numpy()
    back = found.colouring.low + (found.codes[:] - 1.0) / 254 * (found.colouring.high - found.colouring.low)
    inside = np.abs(value) < found.colouring.high
    assert np.abs(back - value)[inside].max() <= 0.51 * (found.colouring.high - found.colouring.low) / 254


def test_the_strong_and_the_rare_lie_on_top(analysis: Analysis) -> None:
    signed = shades(analysis, "importance").rank
    assert signed[1] > signed[64] > signed[127]
    assert signed[255] > signed[192] > signed[129]
    kinds = shades(analysis, "cell_type")
    often = np.bincount(kinds.codes, minlength=256)[1:3]
    assert (kinds.rank[1] > kinds.rank[2]) == (often[0] < often[1])


def test_the_pointer_tells_the_highest_features(analysis: Analysis) -> None:
    told, arrays = hover(analysis)
    cohort = analysis.cohort
    z = (cohort.features - cohort.features.mean(0)) / cohort.features.std(0)
    assert (arrays["top"][:, 0] == z.argmax(1)).all()
    assert np.abs(arrays["height"][:, 0] / 10 - np.clip(z.max(1), -12.7, 12.7)).max() < 0.11
    value = analysis.cells["importance"].to_numpy()
    assert np.abs(arrays["importance"] * told["scale"] - value).max() <= 1.01 * told["scale"]
    starts, letters = arrays["starts"], arrays["letters"].tobytes()
    names = [letters[a:b].decode() for a, b in pairwise(starts[:6])]
    assert names == cohort.cells["cell_id"].astype(str).tolist()[:5]
