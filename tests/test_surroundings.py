from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.preprocess import preparation
from milcore.surroundings import nearby, regions


def tissue(n: int = 120, **columns: object) -> Cohort:
    """Two patients with two regions each, all at the same coordinates: only the region parts their cells."""
    draw = np.random.default_rng(0)
    place = {"x": draw.uniform(0, 10, n), "y": draw.uniform(0, 10, n)}
    place |= {"region": np.array(["A", "B"])[np.arange(n) % 2]}
    features = draw.normal(size=(n, 3)).astype(np.float32)
    return Cohort.of(features, np.repeat(["p", "q"], n // 2), cells=pd.DataFrame(place | columns))


def looked_up(cohort: Cohort, x: np.ndarray, around: int) -> np.ndarray:
    """The same by comparing every cell with every other one."""
    xy = cohort.cells[["x", "y"]].to_numpy(float)
    place = list(zip(cohort.owner, cohort.cells["region"].astype(str), strict=True))
    out = np.full(x.shape, np.nan)
    for i in range(len(x)):
        others = np.array([j for j in range(len(x)) if j != i and place[j] == place[i]])
        distance = np.linalg.norm(xy[others] - xy[i], axis=1)
        closest = others[np.argsort(distance, kind="stable")[:around]]
        out[i] = np.nanmean(x[closest], axis=0)
    return out


@pytest.mark.parametrize("around", [1, 5, 500])
def test_it_is_the_mean_of_the_nearest_other_cells_of_the_region(around: int) -> None:
    cohort = tissue()
    x = np.array(cohort.features)
    x[::7, 1] = np.nan  # a missing value is left out of the mean
    x[1::2, 2] = np.nan
    x[0, 2] = 1.0
    found = nearby(x, cohort, around)
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="empty"):
        np.testing.assert_allclose(found, looked_up(cohort, x, around), rtol=1e-5, atol=1e-6)


def test_of_cell_types_it_is_the_composition_of_the_neighbourhood() -> None:
    types = np.eye(3, dtype=np.float32)[np.random.default_rng(1).integers(0, 3, 120)]
    share = nearby(types, tissue(), 8)
    np.testing.assert_allclose(share.sum(1), 1, rtol=1e-6)
    assert set(np.round(share * 8).ravel().astype(int)) <= set(range(9))
    np.testing.assert_allclose(share * 8, np.round(share * 8), atol=1e-5)


def test_cells_in_one_place_do_not_count_themselves() -> None:
    here = {"x": np.zeros(6), "y": np.zeros(6), "region": ["A"] * 6}
    cohort = Cohort.of(np.arange(6.0)[:, None], ["p"] * 3 + ["q"] * 3, cells=pd.DataFrame(here))
    found = nearby(np.array(cohort.features), cohort, 2)[:, 0]
    np.testing.assert_allclose(found, [1.5, 1.0, 0.5, 4.5, 4.0, 3.5])


def test_cells_without_a_place_or_company_have_no_surroundings() -> None:
    place = {"x": [0.0, 1.0, np.nan, 5.0], "y": [0.0, 0.0, 0.0, 5.0], "region": ["A", "A", "A", "B"]}
    cohort = Cohort.of(np.arange(4.0)[:, None], ["p"] * 4, cells=pd.DataFrame(place))
    np.testing.assert_array_equal(
        nearby(np.array(cohort.features), cohort, 3)[:, 0], [1.0, 0.0, np.nan, np.nan]
    )


def test_coordinates_are_needed() -> None:
    bare = Cohort.of(np.ones((4, 1)), list("aabb"))
    ready = preparation(bare, transform="none", context=10)
    with pytest.raises(MilError, match="coordinates") as caught:
        ready.apply(bare)
    assert caught.value.where == "--context 10"
    assert "--x" in caught.value.fix


def test_regions_of_one_name_are_different_places_in_different_patients() -> None:
    number = regions(tissue())
    assert len(np.unique(number)) == 4
    unnamed = regions(Cohort.of(np.ones((6, 1)), list("aabbcc")))
    np.testing.assert_array_equal(unnamed, [0, 0, 1, 1, 2, 2])


def test_it_is_the_same_region_where_regions_are_the_bags() -> None:
    one = tissue()
    cells = one.cells[["region", "x", "y"]]
    two = Cohort.of(np.array(one.features), np.repeat(["p", "q"], 60), cells=cells, bag="region")
    back = np.argsort(two.order)
    found = nearby(np.array(two.features), two, 5)[back]
    np.testing.assert_allclose(found, nearby(np.array(one.features), one, 5), rtol=1e-6)
