from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.preprocess import moments, named, preparation
from milcore.surroundings import nearby


def cohort(x: np.ndarray) -> Cohort:
    return Cohort.of(x.astype(np.float32), np.repeat(["a", "b"], len(x) // 2))


def prepared(cohort: Cohort, transform: str, **more) -> np.ndarray:
    return preparation(cohort, transform=transform, **more).apply(cohort)


def test_automatic_transform_compresses_skewed_features_only() -> None:
    draw = np.random.default_rng(0)
    x = np.stack([draw.lognormal(3, 1.5, 1000), draw.normal(size=1000)], 1)
    out = prepared(cohort(x), "auto")
    np.testing.assert_allclose(out[:, 0], np.arcsinh(x[:, 0] / x[:, 0].mean()), rtol=1e-4)
    np.testing.assert_allclose(out[:, 1], x[:, 1], rtol=1e-5)
    told = preparation(cohort(x), transform="auto").told(("count", "level"))
    assert told == {"transform": "auto", "centre": "none", "context": 0, "arcsinh": told["arcsinh"]}
    assert told["arcsinh"] == {"count": pytest.approx(x[:, 0].mean(), rel=1e-3)}


def test_named_transforms() -> None:
    x = np.array([[-3.0], [0.0], [4.0], [9.0]])
    np.testing.assert_allclose(
        prepared(cohort(x), "log1p")[:, 0], [-np.log(4), 0, np.log(5), np.log(10)], rtol=1e-6
    )
    np.testing.assert_allclose(prepared(cohort(x), "arcsinh:5"), np.arcsinh(x / 5), rtol=1e-6)
    np.testing.assert_array_equal(prepared(cohort(x), "none"), x)


@pytest.mark.parametrize("name", ["arcsinh", "arcsinh:", "arcsinh:-1", "arcsinh:nan", "sqrt", ""])
def test_unknown_transforms_are_refused_by_name(name: str) -> None:
    with pytest.raises(MilError) as caught:
        prepared(cohort(np.ones((4, 1))), name)
    assert f"'{name}'" in caught.value.problem


def test_scale_is_that_of_the_training_patients_cells() -> None:
    x = np.random.default_rng(0).normal(3, 2, (90, 3)).astype(np.float32)
    x[5, 0] = np.nan
    measured = moments(x, np.array([0, 20, 50, 90]))
    mean, sd = measured.scale(np.array([[True, False, True]]))
    inside = np.r_[x[:20], x[50:]]
    np.testing.assert_allclose(mean[0], np.nanmean(inside, 0), rtol=1e-5)
    np.testing.assert_allclose(sd[0], np.nanstd(inside, 0), rtol=1e-5)


def test_each_region_is_centred_by_its_own_median() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 2))
    x[100:200] += 5  # a region that was stained more strongly
    x[7, 0] = np.nan
    x[200:300, 1] = np.nan  # and one where a marker is missing
    place = pd.DataFrame({"region": np.repeat(["A", "B", "A", None], 100)})
    made = Cohort.of(x.astype(np.float32), np.repeat(["a", "b"], 200), cells=place)
    out = prepared(made, transform="none", centre="region")
    for rows in np.split(out, 4):  # region A is another one in each patient, and no region is one too
        np.testing.assert_allclose(np.nanmedian(rows[:, 0]), 0, atol=1e-6)
    assert np.isnan(out[200:300, 1]).all()
    np.testing.assert_allclose(out[:100, 1] - out[0, 1], x[:100, 1] - x[0, 1], atol=1e-5)
    np.testing.assert_allclose(np.nanmedian(prepared(made, transform="none")[100:200], 0), 5, atol=0.3)


def test_without_regions_the_patient_is_one() -> None:
    x = np.random.default_rng(0).normal(size=(100, 1)) + np.repeat([0.0, 9.0], 50)[:, None]
    out = prepared(cohort(x), transform="none", centre="region")
    np.testing.assert_allclose(np.median(out.reshape(2, 50), axis=1), 0, atol=1e-6)


def test_context_doubles_the_features() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(100, 3))
    place = pd.DataFrame(draw.uniform(0, 9, (100, 2)), columns=["x", "y"])
    made = Cohort.of(x.astype(np.float32), np.repeat(["a", "b"], 50), cells=place)
    plain, out = (prepared(made, transform="none", context=k) for k in (0, 4))
    np.testing.assert_array_equal(out[:, :3], plain)
    np.testing.assert_allclose(out[:, 3:], nearby(plain, made, 4))
    assert out.dtype == np.float32
    assert named(made) == made.names
    assert named(made, context=4)[3:] == ("feature 1 nearby", "feature 2 nearby", "feature 3 nearby")


@pytest.mark.parametrize(("cells", "wild"), [(200, 1), (500, 4), (5000, 4)])
@pytest.mark.parametrize("transform", ["none", "auto"])
def test_in_a_small_cohort_too_wild_values_leave_the_others_their_scale(
    cells: int, wild: int, transform: str
) -> None:
    x = np.random.default_rng(0).lognormal(0, 0.5, (cells, 1))
    x[:wild] = 1e6
    out = prepared(cohort(x), transform=transform)
    assert out[wild:].std() > 0.2 * out.std()


def test_a_few_wild_values_do_not_set_the_scale_and_a_rare_group_stays_as_it_is() -> None:
    x = np.random.default_rng(0).normal(size=(10_000, 3))
    x[:5, 0] = 1e9
    x[:20, 1] = 12.0  # a rare group: far, not wild
    x[:, 2] = 0
    x[:4, 2] = 1.0  # what hardly any cell has
    out = prepared(cohort(x), transform="none")
    assert out[:5, 0].max() < 40
    np.testing.assert_array_equal(out[5:], x[5:].astype(np.float32))
    np.testing.assert_array_equal(out[:, 1:], x[:, 1:].astype(np.float32))
