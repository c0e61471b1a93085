from __future__ import annotations

import numpy as np
import pytest

from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.preprocess import moments, transformed


def cohort(x: np.ndarray) -> Cohort:
    return Cohort.of(x.astype(np.float32), np.repeat(["a", "b"], len(x) // 2))


def test_automatic_transform_compresses_skewed_features_only() -> None:
    draw = np.random.default_rng(0)
    x = np.stack([draw.lognormal(3, 1.5, 1000), draw.normal(size=1000)], 1)
    out = transformed(cohort(x), "auto")
    np.testing.assert_allclose(out[:, 0], np.arcsinh(x[:, 0] / x[:, 0].mean()), rtol=1e-4)
    np.testing.assert_allclose(out[:, 1], x[:, 1], rtol=1e-5)


def test_named_transforms() -> None:
    x = np.array([[-3.0], [0.0], [4.0], [9.0]])
    np.testing.assert_allclose(
        transformed(cohort(x), "log1p")[:, 0], [-np.log(4), 0, np.log(5), np.log(10)], rtol=1e-6
    )
    np.testing.assert_allclose(transformed(cohort(x), "arcsinh:5"), np.arcsinh(x / 5), rtol=1e-6)
    np.testing.assert_array_equal(transformed(cohort(x), "none"), x)


@pytest.mark.parametrize("name", ["arcsinh", "arcsinh:", "arcsinh:-1", "arcsinh:nan", "sqrt", ""])
def test_unknown_transforms_are_refused_by_name(name: str) -> None:
    with pytest.raises(MilError) as caught:
        transformed(cohort(np.ones((4, 1))), name)
    assert f"'{name}'" in caught.value.problem


def test_scale_is_that_of_the_training_patients_cells() -> None:
    x = np.random.default_rng(0).normal(3, 2, (90, 3)).astype(np.float32)
    x[5, 0] = np.nan
    measured = moments(x, np.array([0, 20, 50, 90]))
    mean, sd = measured.scale(np.array([[True, False, True]]))
    inside = np.r_[x[:20], x[50:]]
    np.testing.assert_allclose(mean[0], np.nanmean(inside, 0), rtol=1e-5)
    np.testing.assert_allclose(sd[0], np.nanstd(inside, 0), rtol=1e-5)
