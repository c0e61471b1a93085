"""Whether an analysis can be believed, in words: what the sentences say of numbers that are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dashboard import trust


def analysis(**facts: Any) -> Any:
    """An analysis that holds nothing but facts, of two members."""
    pooling = {"members": {"neighbourhood": {}, "attention": {}}}
    return SimpleNamespace(facts={"pooling": pooling} | facts, cohort=SimpleNamespace(bag="patient"))


def deleted(importance: float, attention: float, low: float = -0.069, high: float = 0.041) -> dict[str, Any]:
    """facts["faithfulness"] with these values where a tenth of the cells is gone."""
    return {
        "steps": [0.0, 0.05, 0.1, 0.15],
        "importance": {"curve": [0, 9, importance, 9]},
        "attention": {"curve": [0, 9, attention, 9]},
        "random": {"low": [0, 9, low, 9], "high": [0, 9, high, 9]},
    }


@pytest.mark.parametrize(
    ("importance", "attention", "verdict", "rest"),
    [
        (5.09, 2.87, "lowers the score by 5.1 (log-odds), more than", "lowers it by 2.9, which is less."),
        (0.5, 1.2, "lowers the score by 0.50 (log-odds), more than", "lowers it by 1.2, which is more."),
        (
            0.02,
            -0.3,
            "lowers the score by 0.02 (log-odds), no more than",
            "raises it by 0.30, which is less.",
        ),
        (-12.4, -12.4, "raises the score by 12 (log-odds), less than", "raises it by 12 too."),
    ],
)
def test_faithfulness_beside_chance_and_attention(
    importance: float, attention: float, verdict: str, rest: str
) -> None:
    words = trust.faithful(analysis(faithfulness=deleted(importance, attention)))
    assert f"{verdict} a random tenth would (-0.07 to 0.04); " in words
    assert words.endswith(rest)


def test_attention_is_not_compared_where_nothing_attends() -> None:
    alone = {"members": {"neighbourhood": {}}}
    words = trust.faithful(analysis(pooling=alone, faithfulness=deleted(5.1, 2.9)))
    assert "attention" not in words
    assert words.endswith("0.04).")


def test_old_analyses_and_one_repeat_are_not_assessed() -> None:
    assert trust.faithful(analysis()) == "Not assessed: needs at least two repeats."
