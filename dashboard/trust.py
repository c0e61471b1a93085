"""Whether an analysis can be believed, in sentences made from its numbers alone: for the screen and for the report.

Plain text throughout: names of a table are shortened here, and escaped by whoever shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milcore.analysis import Analysis

TENTH = 0.1  # share of the cells whose removal is put into words
NOT_PROOF = "Faithful to the model, not proof of biology."
HOW = (
    "Important cells are those that argue for the class predicted; the score is the support for that class, mean over "
    "patients. The order comes from one retrained model and the score from another."
)


def attends(facts: Mapping[str, Any]) -> bool:
    """Whether attention differs between cells: without a model that attends its order says nothing."""
    return "attention" in facts["pooling"]["members"]


def tenth(found: Mapping[str, Any]) -> int:
    """The place among the steps of facts["faithfulness"] where a tenth of the cells is gone."""
    return min(range(len(found["steps"])), key=lambda k: abs(found["steps"][k] - TENTH))


def faithful(analysis: Analysis) -> str:
    """One sentence: what taking away the most important tenth of the cells does, beside chance and attention."""
    found = analysis.facts.get("faithfulness")
    if not found:
        return "Not assessed: needs at least two repeats."
    at = tenth(found)
    mine, low, high = (
        found["importance"]["curve"][at],
        found["random"]["low"][at],
        found["random"]["high"][at],
    )
    verdict = "more than" if mine > high else "less than" if mine < low else "no more than"
    words = (
        f"Taking away the most important tenth of the cells {_moves(mine)} the score by {_amount(abs(mine))} "
        f"(log-odds), {verdict} a random tenth would ({_amount(low)} to {_amount(high)})"
    )
    return words + (f"; {_beside(mine, found['attention']['curve'][at])}" if attends(analysis.facts) else ".")


def _moves(change: float) -> str:
    return "raises" if change < 0 else "lowers"


def _beside(mine: float, attention: float) -> str:
    """The rest of the sentence: how the tenth with the most attention compares."""
    words = f"the tenth with the most attention {_moves(attention)} it by {_amount(abs(attention))}"
    if _amount(mine) == _amount(attention):
        return f"{words} too."
    return f"{words}, which is {'less' if attention < mine else 'more'}."


def _amount(value: float) -> str:
    """Log-odds with two significant digits and at most two decimals."""
    size = abs(value)
    digits = 2 if size < 1 else 1 if size < 10 else 0
    return f"{round(value, digits) + 0.0:.{digits}f}"
