"""What a cohort of some size can show at all, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from milcore.validation import CHANCE, WIDENED

__all__ = ["Reach", "reach"]

Z95 = 1.959964
EXAMPLE = {
    "auroc": 0.8,
    "auroc_macro": 0.8,
    "spearman": 0.5,
    "c_index": 0.7,
}  # a good result, for its interval
MEASURES = {"binary": "auroc", "multiclass": "auroc_macro", "regression": "spearman", "survival": "c_index"}


@dataclass(frozen=True)
class Reach:
    """`lucky`: the leading score (`measure`) that a model which knows nothing exceeds in one cohort of 40; `half`: half
    the 95 % interval around `example`; `times`: how many times the patients halve that."""

    measure: str
    lucky: float
    example: float
    half: float
    times: float


def reach(kind: str, counts: Sequence[int]) -> Reach:
    """For a kind of label and the number of patients of each class, with a value, or with an event.

    Variances are those of a fixed model, as much wider as cross-validation usually makes them.
    """
    measure = MEASURES[kind]
    example = EXAMPLE[measure]
    lucky = CHANCE[measure] + Z95 * sqrt(WIDENED * _variance(kind, counts, CHANCE[measure]))
    half = Z95 * sqrt(WIDENED * _variance(kind, counts, example))
    return Reach(measure, lucky, example, half, _times(kind, counts, example))


def _variance(kind: str, counts: Sequence[float], value: float) -> float:
    """Two classes: Hanley and McNeil 1982, by chance Mann and Whitney's; several: the mean over each against the rest,
    as if these were one. Numbers: Spearman's by Fisher's transform. Survival: Kendall's over the events, since censored
    patients add little."""
    if kind in ("binary", "multiclass"):
        pairs = [(n, sum(counts) - n) for n in counts]
        return sum(_auroc(m, n, value) for m, n in pairs) / len(pairs)
    n = counts[0]
    if kind == "regression":
        return (1 - value**2) ** 2 / max(n - 3, 1)
    kendall = (2 * n + 5) / (18 * n * max(n - 1, 1))
    return kendall * (1 - (2 * value - 1) ** 2)


def _auroc(m: float, n: float, value: float) -> float:
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (m - 1) * (q1 - value**2) + (n - 1) * (q2 - value**2)
    return spread / (m * n)


def _times(kind: str, counts: Sequence[int], value: float) -> float:
    """By how much all counts must grow for a quarter of the variance."""
    low, high = 1.0, 8.0
    goal = _variance(kind, counts, value) / 4
    for _ in range(30):
        middle = (low + high) / 2
        enough = _variance(kind, [middle * n for n in counts], value) <= goal
        low, high = (low, middle) if enough else (middle, high)
    return high
