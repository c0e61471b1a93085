"""The numbers behind a chart, and what a spreadsheet makes of them."""

from __future__ import annotations

import io

import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard import chartdata, figures
from milcore.analysis import Analysis

pytestmark = pytest.mark.xdist_group("tiny")  # one process trains the tiny cohort, once


def test_every_patient_with_whiskers(analysis: Analysis) -> None:
    table = pd.read_csv(io.StringIO(chartdata.csv(figures.ranking(analysis))))
    predictions = analysis.predictions.assign(patient=analysis.predictions["patient"].astype(str))
    both = table.merge(predictions, left_on="of", right_on="patient")
    assert len(both) == len(predictions)
    (value,) = [name for name in table if name.startswith("Predicted") and not name.endswith(("low", "high"))]
    assert both[value].to_numpy() == pytest.approx(both["prediction"].to_numpy())
    assert both[f"{value} low"].to_numpy() == pytest.approx(both["low"].to_numpy(), abs=1e-9)


@pytest.mark.parametrize("name", ["roc", "null", "baselines", "faithfulness", "confounders", "fit"])
def test_every_chart_has_numbers(name: str, analysis: Analysis) -> None:
    assert len(chartdata.table(getattr(figures, name)(analysis))) > 1


def test_groups_are_named_by_their_ticks(analysis: Analysis) -> None:
    table = chartdata.table(figures.waterfall(analysis, "P01"))
    assert any("driver" in name for name in table["y (name)"])


def test_a_grid_a_legend_and_too_many_points() -> None:
    figure = go.Figure([go.Heatmap(z=[[1, 2], [3, 4]], x=["a", "b"], y=["c", "d"])])
    assert chartdata.table(figure)["value"].tolist() == [1, 2, 3, 4]
    assert chartdata.table(figure)["x"].tolist() == ["a", "b", "a", "b"]
    assert chartdata.table(go.Figure([go.Scatter(x=[None], y=[None])])).empty
    assert chartdata.table(go.Figure([go.Scatter(y=list(range(chartdata.KEPT + 1)))])).empty


def test_no_formula_runs_and_markup_is_text() -> None:
    figure = go.Figure([go.Bar(x=["=1+1", "&lt;b&gt;"], y=[-1, 2], name="@x")])
    text = chartdata.csv(figure)
    assert "'=1+1" in text
    assert "'@x" in text
    assert "-1" in text
    assert "'-1" not in text
