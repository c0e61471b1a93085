from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from milcore.errors import MilError
from milcore.tasks import as_text, binary


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (["responder", "non-responder"], "responder"),
        (["Responder", "Nonresponder"], "Responder"),
        (["NR", "R"], "R"),
        (["no", "yes"], "yes"),
        ([0, 1], "1"),
        (["control", "case"], "case"),
        (["alive_5y", "dead_5y"], "dead_5y"),
        (["not mutated", "mutated"], "mutated"),
        (["heads", "tails"], "tails"),
    ],
)
def test_the_positive_class_is_named_by_words_then_by_order(labels: list, positive: str) -> None:
    assert binary(pd.Series(labels * 4), target="t").positive == positive


def test_the_rarer_label_is_positive_when_no_word_tells() -> None:
    assert binary(pd.Series(["CLR"] * 3 + ["DII"] * 5), target="t").positive == "CLR"


def test_missing_labels_are_no_labels() -> None:
    task = binary(pd.Series(["a", "b", None, " ", "a", "b", "a", "b"]), target="t")
    assert task.labelled.tolist() == [True, True, False, False, True, True, True, True]
    assert task.words().tolist() == ["a", "b", "", "", "a", "b", "a", "b"]
    assert task.strata.min() == -1


def test_numbers_as_labels_read_as_written() -> None:
    assert as_text(pd.Series([1.0, np.nan, 2.0])).tolist() == ["1", "", "2"]
    assert as_text(pd.Series([1.5, 2.0])).tolist() == ["1.5", "2.0"]


@pytest.mark.parametrize(
    ("labels", "positive", "says"),
    [
        (["a"] * 6, None, "one class only"),
        (["a", "b", "c"] * 3, None, "3 different labels"),
        (["a"] * 6 + ["b"] * 2, None, "Class 'b'"),
        (["a", "b"] * 3, "z", "'z' is not a label"),
        ([None] * 4, None, "no labels"),
    ],
)
def test_labels_no_model_can_use(labels: list, positive: str | None, says: str) -> None:
    with pytest.raises(MilError, match=says) as caught:
        binary(pd.Series(labels), target="outcome", positive=positive)
    assert caught.value.where
    assert caught.value.fix


def test_three_regions_of_one_patient_are_one_patient() -> None:
    labels = pd.Series(["yes"] * 3 + ["no"] * 9)
    with pytest.raises(MilError, match="Class 'yes' of 't' has 1 patient"):
        binary(labels, target="t", groups=np.repeat([0, 1, 2, 3], 3))


def test_infinite_labels_are_no_labels() -> None:
    task = binary(pd.Series([1, 0, 1, 0, 1, 0, np.inf]), target="t")
    assert task.words().tolist() == ["1", "0", "1", "0", "1", "0", ""]
