from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, mannwhitneyu, spearmanr

from dashboard.worth import reach as words
from milcore.reach import reach
from milcore.validation import WIDENED


def test_luck_of_two_classes_is_mann_and_whitneys() -> None:
    draw = np.random.default_rng(0)
    value = [mannwhitneyu(*np.split(draw.normal(size=50), [20])).statistic / 600 for _ in range(800)]
    found = reach("binary", (20, 30))
    assert found.lucky == pytest.approx(0.5 + 1.96 * np.sqrt(WIDENED) * np.std(value), abs=0.02)


def test_luck_of_numbers_and_survival() -> None:
    draw = np.random.default_rng(1)
    pairs = [draw.normal(size=(2, 40)) for _ in range(800)]
    rho = np.std([spearmanr(a, b).statistic for a, b in pairs])
    tau = np.std([kendalltau(a, b).statistic for a, b in pairs]) / 2
    assert reach("regression", (40,)).lucky == pytest.approx(1.96 * np.sqrt(WIDENED) * rho, abs=0.04)
    assert reach("survival", (40,)).lucky == pytest.approx(0.5 + 1.96 * np.sqrt(WIDENED) * tau, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "counts"),
    [("binary", (24, 24)), ("multiclass", (20, 25, 30)), ("regression", (50,)), ("survival", (30,))],
)
def test_so_many_patients_halve_the_interval(kind: str, counts: tuple[int, ...]) -> None:
    found = reach(kind, counts)
    more = reach(kind, [round(n * found.times) for n in counts])
    assert more.half == pytest.approx(found.half / 2, rel=0.03)
    assert 3.3 < found.times < 4.2


def test_one_sentence_for_every_kind() -> None:
    assert words("binary", (24, 24)).startswith(
        "With 24 and 24 patients, a model that knows nothing reaches an AUROC of"
    )
    assert "With 20, 25 and 30 patients" in words("multiclass", (20, 25, 30))
    assert "a rank correlation of 0.50" in words("regression", (50,))
    assert "30 events" in words("survival", (30,))
    assert "halve it" in words("survival", (30,))
    assert words("binary", (6, 30)).endswith("exploratory.")
    assert words("binary", (3, 3)) == "With 3 and 3 patients no AUROC can be told from luck."
