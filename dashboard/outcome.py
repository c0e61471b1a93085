"""What differs by kind of label on a screen or a page: how a prediction is shown, and how patients are grouped.

Plain text throughout: names of a table are shortened here, and escaped by whoever shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import theme

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = [
    "about",
    "axis",
    "counted",
    "decision",
    "early",
    "fitted",
    "groups",
    "headline",
    "how",
    "listed",
    "main",
    "order",
    "patients",
    "said",
    "score",
    "target",
    "towards",
    "truth",
    "unit",
]

EVENT, CENSORED = "event", "no event so far"
FITS = {
    "binary": "How well the order fits",
    "multiclass": "How well each class is told",
    "regression": "Predicted against measured",
    "survival": "What became of higher and lower risk",
}


def target(facts: Mapping[str, Any]) -> str:
    """The column that is predicted, short."""
    return theme.short(facts["settings"]["target"], 30)


def towards(facts: Mapping[str, Any]) -> str:
    """What positive evidence argues for, short."""
    return theme.short(facts["towards"], 36)


def main(facts: Mapping[str, Any]) -> str:
    """The name of the leading score, as readers know it."""
    return theme.score_name(facts["main"])


def score(facts: Mapping[str, Any]) -> str:
    """The leading score with its interval: 'AUROC 0.81 (0.64 to 0.93)'; empty where new patients have no labels."""
    found = facts.get("scores", {}).get(facts["main"])
    return f"{main(facts)} {theme.interval(found)}" if found else ""


def fitted(facts: Mapping[str, Any]) -> bool:
    """Whether there is something to draw that shows how well predictions fit; new patients may have no labels."""
    return bool({"roc", "survival"} & facts.keys()) or (facts["task"] == "regression" and score(facts) != "")


def how(facts: Mapping[str, Any]) -> str:
    """By which models patients were scored: those that were trained without them, or, new ones, all together."""
    return "by all models together" if facts.get("new") else "out of fold"


def unit(facts: Mapping[str, Any]) -> str:
    """What scores, evidence and contributions are measured in."""
    kind = facts["task"]
    if kind == "regression":
        return f"units of {target(facts)}"
    return {"multiclass": "log-odds against the mean of the classes", "survival": "log-risk"}.get(
        kind, "log-odds"
    )


def about(facts: Mapping[str, Any]) -> str:
    """What the colours of cells mean, in one or two sentences."""
    words = f"Orange cells argue for {towards(facts)}, blue ones against it."
    if facts["task"] in ("regression", "survival"):
        words += f" 0 is the average training patient; values are {unit(facts)}."
    return words


def said(facts: Mapping[str, Any], value: float) -> str:
    """A prediction in words: '72 %', '61.3', '1.8 times'."""
    if not np.isfinite(value):
        return "n/a"
    if facts["task"] == "regression":
        return f"{value:.3g}"
    return f"{value:.2g} times" if facts["task"] == "survival" else theme.percent(value)


def axis(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The axis of predictions for Plotly: title, ticks and range."""
    kind = facts["task"]
    if kind == "regression":
        return {"title": f"Predicted {theme.escape(target(facts))}"}
    if kind == "survival":
        ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
        words = [f"{tick:g}×" for tick in ticks]
        return {
            "title": "Risk against the average patient",
            "type": "log",
            "tickvals": ticks,
            "ticktext": words,
        }
    title = (
        "Probability of the predicted class"
        if kind == "multiclass"
        else f"Predicted {theme.quoted(facts['towards'])}"
    )
    return {"title": title, "tickformat": ".0%", "range": [-0.03, 1.03]}


def order(facts: Mapping[str, Any]) -> str:
    """How a row of patients is sorted."""
    return "by predicted class" if facts["task"] == "multiclass" else "lowest to highest"


def truth(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """What is known of a patient, short: the class, the number, or when the event came; empty without a label."""
    if facts["task"] != "survival" or not row["label"]:
        return theme.short(row["label"], 60)
    return f"{'event at' if row['event'] == 1 else 'no event until'} {row['time']:g}"


def counted(facts: Mapping[str, Any]) -> list[str]:
    """How many patients have which label: 'yes 24', '31 events'."""
    kinds = {name: n for name, n in facts["counts"].items() if name != "unlabelled"}
    if facts["classes"]:
        return [f"{theme.short(name, 30)} {n}" for name, n in kinds.items()]
    return [f"{n} {name}" for name, n in kinds.items()]


def groups(facts: Mapping[str, Any]) -> list[str]:
    """What patients are coloured and compared by: classes, halves of a number, or whether the event came."""
    kind = facts["task"]
    if kind == "regression":
        return [f"lower {target(facts)}", f"higher {target(facts)}"]
    return [EVENT, CENSORED] if kind == "survival" else list(facts["classes"])


def patients(analysis: Analysis) -> pd.DataFrame:
    """`Analysis.judged` with `group` (one of `groups`, "" without a label), `value`, `low`, `high` (numbers to draw),
    `said` and `range` (in words), `called_as` (the class, where there is one) and `error` (distance from the label)."""
    facts, frame = analysis.facts, analysis.judged()
    kind, known = facts["task"], frame["label"] != ""
    frame["called_as"] = ""
    if kind == "multiclass":
        p = frame[[f"p_{name}" for name in facts["classes"]]].to_numpy(float)
        frame["value"], frame["called_as"] = p.max(1), frame["prediction"]
        true = pd.Categorical(frame["label"], categories=facts["classes"]).codes
        frame["error"] = np.where(known, 1 - p[np.arange(len(p)), true], np.nan)
    else:
        frame["value"] = frame["prediction"].astype(float)
    if kind == "binary":
        frame["error"] = (frame["value"] - (frame["label"] == facts["positive"])).abs().where(known)
    if kind == "regression":
        frame["error"] = (frame["value"] - pd.to_numeric(frame["label"])).abs().where(known)
    if kind == "survival":
        frame["error"] = np.nan
    frame["group"] = _group(frame, facts)
    frame["said"] = [said(facts, value) for value in frame["value"]]
    ends = frame[["low", "high"]].to_numpy(float)
    frame["range"] = [f"{said(facts, low)} to {said(facts, high)}" for low, high in ends]
    return frame


def _group(frame: pd.DataFrame, facts: Mapping[str, Any]) -> pd.Series:
    if facts["task"] == "survival":
        return frame["label"].where(frame["label"] == "", np.where(frame["event"] == 1, EVENT, CENSORED))
    if facts["task"] == "regression":
        number = pd.to_numeric(frame["label"])
        low, high = groups(facts)
        return frame["label"].where(frame["label"] == "", np.where(number > number.median(), high, low))
    return frame["label"]


def early(found: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Facts and rows, as `patients` has them, of the result of a first member while training still runs."""
    frame = pd.DataFrame(found["predictions"])
    labels = sorted(set(frame["label"]) - {""})
    facts = {
        "task": found["task"],
        "towards": found["towards"],
        "settings": dict(settings),
        "classes": labels,
    }
    frame["group"] = frame["label"]
    if found["task"] == "survival":
        event = np.where(frame["label"].str.endswith("+"), CENSORED, EVENT)
        frame["group"] = frame["label"].where(frame["label"] == "", event)
    if found["task"] == "regression":
        frame["group"] = _group(frame, facts)
    frame["value"], frame["called_as"] = frame["prediction"].astype(float), frame["called"]
    return facts, frame.assign(said=[said(facts, value) for value in frame["value"]])


def headline(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """What is predicted of a patient, to follow its name: 'is predicted responder: 72 % for responder'."""
    value = row["said"]
    if facts["task"] == "regression":
        return f"is predicted {target(facts)} {value}"
    if facts["task"] == "survival":
        return f"has {value} the risk of the average patient"
    if facts["task"] == "multiclass":
        return f"is predicted {theme.short(row['called_as'], 30)}: {value}"
    side = facts["positive"] if row["called"] else facts["classes"][0]
    return f"is predicted {theme.short(side, 30)}: {value} for {towards(facts)}"


def listed(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The prediction in a table."""
    return (
        f"{theme.short(row['called_as'], 24)}, {row['said']}"
        if facts["task"] == "multiclass"
        else row["said"]
    )


def decision(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """On which side the patient lies, if the range over retrained models lies there with it; empty where there are no
    sides."""
    if facts["task"] == "multiclass":
        return "Not decided: another class is within the range." if row["open"] else ""
    if facts["task"] != "binary":
        return ""
    limit = theme.percent(facts["threshold"])
    if row["open"]:
        return f"Not decided: the range crosses the threshold of {limit}."
    return f"{'Above' if row['called'] else 'Below'} the threshold of {limit}."
