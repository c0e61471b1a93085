"""What the committed accuracy figures must hold, whoever measures them anew (`make accuracy`)."""

from __future__ import annotations

import json

from milcore.validation import CHANCE
from tests import accuracy

ROWS = json.loads((accuracy.RESULTS / "results.json").read_text())
CERTAIN = ("sample, response", "AML, FlowCAP-II")  # whose signal is beyond doubt
NO_DOUBT = 0.95  # of a member's score or average precision, from which it carries the signal


def test_the_page_is_that_of_the_committed_figures() -> None:
    assert accuracy.table(ROWS) == (accuracy.RESULTS / "README.md").read_text()
    assert [row["name"] for row in ROWS] == list(accuracy.GROUPS)


def test_a_signal_is_called_only_where_interval_and_p_say_so() -> None:
    for row in ROWS:
        low = row["scores"][row["main"]]["low"]
        if row["verdict"] == "signal":
            assert low > CHANCE[row["main"]], row["name"]
            assert row["p"] < 0.05, row["name"]
    kinds = {row["name"]: row["verdict"] for row in ROWS}
    assert [kinds[name] for name in CERTAIN] == ["signal"] * len(CERTAIN)
    assert kinds["sample, coin"] != "signal"


def test_the_mixture_does_not_dilute_the_member_that_carries_the_signal() -> None:
    """Its score and the average precision of its importance stay within a few hundredths."""
    for row in ROWS:
        best = max(member["score"]["value"] for member in row["members"].values())
        if best >= NO_DOUBT:
            assert row["scores"][row["main"]]["value"] >= best - 0.03, row["name"]
        for group, found in row.get("cells", {}).items():
            alone = [
                value for name, value in found.items() if name != "importance"
            ]  # not kept of several classes
            if alone and max(alone) >= NO_DOUBT:
                assert found["importance"] >= max(alone) - 0.03, (row["name"], group)
