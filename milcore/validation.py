"""How far a score can be believed: scores with intervals, what is said beside them, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import brentq

from milcore.folds import Plan
from milcore.measures import log_rank
from milcore.names import short
from milcore.permutation import within
from milcore.tasks import MIN_PATIENTS, Binary, Multiclass, Regression, Survival, Task

__all__ = [
    "CHANCE",
    "FEW",
    "FEW_VALUES",
    "NAMES",
    "RESAMPLES",
    "WIDENED",
    "at_higher_risk",
    "by_patient",
    "confusion",
    "difference",
    "figure",
    "leading",
    "resampled",
    "roc",
    "scores",
    "survival_groups",
    "too_few",
    "verdict",
    "widening",
]

CHANCE = {"auroc": 0.5, "auroc_macro": 0.5, "spearman": 0.0, "c_index": 0.5}  # leading scores without signal
NAMES = {"auroc": "AUROC", "auroc_macro": "mean AUROC", "spearman": "rank correlation", "c_index": "C-index"}
FEW = 10  # patients in the smaller class, or events, below which nothing is claimed
FEW_VALUES = 20  # the same for patients with a number
RARE = 0.02  # share of the cells up to which a group is called rare
RESAMPLES = 1000
AT_ONCE = 1 << 20  # scores of patients ranked at a time: bounds memory
Z95 = 1.959964
WIDENED = 2.0  # of an interval without a null: typical of those with one
LEAST_DRAWS = 50  # draws a null needs to widen an interval


def scores(
    level: np.ndarray, plan: Plan, task: Task, *, threshold: np.ndarray, widening: float, seed: int
) -> dict[str, dict[str, Any]]:
    """Scores (R, B, K) of every patient out of fold -> name -> {value, low, high, spread}: the leading one first.

    The others are those of the mean score; their bootstrap over patients takes the scores as given, so their intervals
    are narrower; where no draw of perfect scores differs, Wilson's interval of the smaller class. `spread` is the range
    over repeats: how much retraining alone moves the value, not an interval.
    """
    known = task.labelled
    y, each, cut = task.y[known], level[:, known], threshold[known]
    mean, draws, plain = each.mean(0), resampled(plan.groups[known], seed), np.ones((1, known.sum()))
    out = {task.main: leading(level, plan, task, widening=widening, seed=seed)}
    for name, measure in MEASURES[task.name].items():
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = measure(task, mean, y, cut, draws)
        drawn = drawn[np.isfinite(drawn)]  # draws without one of the classes say nothing
        low, high = (float(np.quantile(drawn, at)) for at in (0.025, 0.975))
        if low == high == 1:  # nobody is mistaken, so no draw is: this says how few they are
            few = min(plan.patients(task.y == k) for k in range(len(task.classes)))
            low = few / (few + Z95**2)
        spread = np.array([measure(task, s, y, cut, plain)[0] for s in each])
        out[name] = _with_spread(float(measure(task, mean, y, cut, plain)[0]), (low, high), spread)
    return out


def leading(level: np.ndarray, plan: Plan, task: Task, *, widening: float, seed: int) -> dict[str, Any]:
    """{value, low, high, spread} of the leading score, the mean over repeats, with a 95 % interval for what this
    procedure reaches on cohorts of this size: its variance times `widening`, taken where the bound is, not where the
    value is (AUROC of two classes: Newcombe's method 5, Stat Med 2006)."""
    known = task.labelled
    ranked = task.ranked(level[:, known], task.y[known][None], plan.fold[:, known])
    value = float(ranked.mean())
    if isinstance(task, Binary):
        interval = _auroc_interval(value, *_patients(plan, task), widening)
    else:
        interval = _ranked_interval(
            value, task, widening * _fixed_variance(level[:, known], plan, task, seed)
        )
    return _with_spread(value, interval, ranked)


def by_patient(
    level: np.ndarray, plan: Plan, task: Task, *, widening: float, seed: int
) -> dict[str, dict[str, Any]]:
    """{leading score} of the patients whose regions have one label, each by the mean of their scores; empty where bags
    are patients, or where too few patients have one label."""
    if plan.one_bag_each:
        return {}
    known = np.flatnonzero(task.labelled)
    _, first, group = np.unique(plan.groups[known], return_index=True, return_inverse=True)
    share = (group == np.arange(len(first))[:, None]).astype(float)
    share /= share.sum(1, keepdims=True)
    y = np.array(task.y[known[first]])
    mixed = [len(np.unique(task.y[known[group == g]], axis=0)) > 1 for g in range(len(first))]
    y[mixed] = np.nan
    whole: Task = replace(task, y=y)  # type: ignore[type-var]
    alone = Plan(plan.fold[:, known[first]], plan.folds, whole.labelled, np.arange(len(first)))
    if any((y == k).sum() < MIN_PATIENTS for k in range(len(task.classes))) or not whole.labelled.any():
        return {}
    means = np.einsum("gb,rbk->rgk", share, level[:, known])
    return {task.main: leading(means, alone, whole, widening=widening, seed=seed)}


def difference(
    level: np.ndarray, other: np.ndarray, plan: Plan, task: Task, *, other_plan: Plan | None = None
) -> dict[str, float]:
    """{value, se} of the leading score of `level` less that of `other` (R, B, K), on the same patients; and on the same
    folds, unless `other` was dealt its own.

    The standard error is the jackknife's over patients (Efron & Stein, Ann Stat 1981): both models are taken as given.
    """
    known = task.labelled
    groups = plan.groups[known]
    out = np.unique(groups)[:, None] == groups  # (G, T) who is missing; nobody at last
    out = np.vstack([out, np.zeros_like(out[:1])])
    pairs = [(level, plan.fold[:, known]), (other, (other_plan or plan).fold[:, known])]
    some = range(0, len(out), max(1, AT_ONCE // level[:, known].size))
    ours, theirs = (
        np.concatenate([_missing(one[:, known], task, fold, out[i : i + some.step]) for i in some])
        for one, fold in pairs
    )
    *without, value = ours - theirs
    n = len(without)
    se = np.sqrt((n - 1) / n * ((without - np.mean(without)) ** 2).sum())
    return {"value": float(value), "se": float(se)}


def _missing(level: np.ndarray, task: Task, fold: np.ndarray, out: np.ndarray) -> np.ndarray:
    """(G,) the leading score of levels (R, T, K) without the patients out (G, T)."""
    alone = -np.cumsum(out, 1)[:, None]  # each in a fold of its own has no part in any pair
    fold = np.where(out[:, None], alone, fold)  # (G, R, T)
    level = np.broadcast_to(level, (len(out), *level.shape))
    return task.ranked(level, task.y[task.labelled][None, None], fold).mean(1)


def widening(chance: dict[str, Any] | None, plan: Plan, task: Task) -> float:
    """How much more a score out of fold varies between cohorts than one of a fixed model would: the variance of the
    null chain against that of a fixed score without signal, at least 1; WIDENED without a null."""
    if chance is None or len(chance["values"]) < LEAST_DRAWS:
        return WIDENED
    two = isinstance(task, Binary)
    fixed = _variance(0.5, *_patients(plan, task)) if two else _fixed_variance(None, plan, task, 0)
    return max(1.0, float(np.var(chance["values"])) / max(fixed, 1e-12))


def _fixed_variance(each: np.ndarray | None, plan: Plan, task: Task, seed: int) -> float:
    """Variance of the leading score of fixed scores that know nothing: those of one repeat dealt out anew, within
    folds (random numbers without any)."""
    known = task.labelled
    draw, fold, y = np.random.default_rng([seed, 4]), plan.fold[0, known], task.y[known]
    first = draw.normal(size=(len(y), task.outputs)) if each is None else each[0]
    order = within(fold, FIXED, draw)
    return float(np.var(task.ranked(first[order.T], y[None], fold)))


def _ranked_interval(value: float, task: Task, variance: float) -> tuple[float, float]:
    """Where the distance to the value is 1.96 standard errors at the bound itself; at chance their square is
    `variance`, and it shrinks to nothing where all pairs are in order, as that of a share does."""
    ends = (-1.0, 1.0) if task.main == "spearman" else (0.0, 1.0)
    middle, half = sum(ends) / 2, (ends[1] - ends[0]) / 2

    def excess(bound: float) -> float:
        return abs(bound - value) - Z95 * np.sqrt(variance * max(1 - ((bound - middle) / half) ** 2, 0))

    tiny = 1e-9
    low = ends[0] if value <= ends[0] + tiny else brentq(excess, ends[0] + tiny, min(value, ends[1] - tiny))
    high = ends[1] if value >= ends[1] - tiny else brentq(excess, max(value, ends[0] + tiny), ends[1] - tiny)
    return float(low), float(high)


def _patients(plan: Plan, task: Task) -> tuple[int, int]:
    """Positive and negative patients; regions of one patient are not independent and count once."""
    return plan.patients(task.y == 1), plan.patients(task.y == 0)


def too_few(plan: Plan, task: Task) -> str:
    """In words what there is too little of to claim anything; empty where there is enough."""
    if isinstance(task, Survival):
        n, what, least = int(np.nansum(task.y[:, 1])), "events", FEW
    elif isinstance(task, Regression):
        n, what, least = plan.patients(task.labelled), "patients with a value", FEW_VALUES
    else:
        n = min(plan.patients(task.y == k) for k in range(len(task.classes)))
        what, least = f"patients in the small{'er' if len(task.classes) == 2 else 'est'} class", FEW
    return f"{n} {what}; below {least}" if n < least else ""


def resampled(groups: np.ndarray, seed: int) -> np.ndarray:
    """(draws, n) how often each bag is drawn when its patients are drawn with replacement."""
    _, group = np.unique(groups, return_inverse=True)
    n = group.max() + 1
    return np.random.default_rng([seed, 2]).multinomial(n, np.full(n, 1 / n), RESAMPLES)[:, group]


def roc(level: np.ndarray, plan: Plan, task: Task) -> dict[str, Any]:
    """{fpr, tpr}: the ROC curve that goes with the AUROC: the mean of the curves of all folds and repeats, weighted by
    their pairs of patients; of several classes, class -> its curve against the rest; empty where there are none."""
    if isinstance(task, Binary):
        return _curve(level[..., 0], task.y, plan, task)
    if isinstance(task, Multiclass):
        hot = {c: np.where(task.labelled, task.y == k, np.nan) for k, c in enumerate(task.classes)}
        return {c: _curve(level[..., k], hot[c], plan, task) for k, c in enumerate(task.classes)}
    return {}


def _curve(score: np.ndarray, positive: np.ndarray, plan: Plan, task: Task) -> dict[str, list[float]]:
    known = task.labelled
    grid, tpr, pairs = np.linspace(0, 1, 101), np.zeros(101), 0
    for s, fold in zip(score[:, known], plan.fold[:, known], strict=True):
        for f in range(plan.folds):
            y, here = positive[known][fold == f], s[fold == f]
            weight = int(y.sum() * (1 - y).sum())
            if weight:
                order = np.argsort(-here)
                up, along = np.cumsum(y[order]) / y.sum(), np.cumsum(1 - y[order]) / (1 - y).sum()
                tpr += weight * np.append(0, up)[np.searchsorted(np.append(0, along), grid, side="right") - 1]
                pairs += weight
    return {"fpr": grid.round(4).tolist(), "tpr": (tpr / max(pairs, 1)).round(4).tolist()}


def confusion(level: np.ndarray, task: Multiclass) -> dict[str, Any]:
    """{classes, counts}: patients of each class (rows) by the class predicted from their mean score (columns)."""
    known = task.labelled
    called = level.mean(0)[known].argmax(1)
    counts = np.zeros((task.outputs, task.outputs), int)
    np.add.at(counts, (task.y[known].astype(int), called), 1)
    return {"classes": list(task.classes), "counts": counts.tolist()}


def at_higher_risk(level: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """(B,) whose scores (R, B, 1) lie above their cuts (R, B), mean over repeats."""
    return np.asarray((level[..., 0] - cuts).mean(0) > 0)


def survival_groups(
    level: np.ndarray, cuts: np.ndarray, task: Survival, chance: dict[str, Any] | None
) -> dict[str, Any]:
    """Kaplan-Meier curves, with 95 % bands, of patients at higher and lower risk out of fold, cut at `cuts` (R, B), the
    inner median of each one's training patients: {groups, log_rank, cut}.

    The log-rank statistic of these groups has no p of its own, because cross-validated groups are not independent
    (Simon et al., Brief Bioinform 2011): p belongs to the null's chain on true and permuted labels.
    """
    from lifelines import KaplanMeierFitter

    known = task.labelled
    y, higher = task.y[known], at_higher_risk(level, cuts)[known]
    groups = []
    for name, here in (("higher risk", higher), ("lower risk", ~higher)):
        group = {"name": name, "patients": int(here.sum()), "events": int(y[here, 1].sum())}
        if here.any():
            fitted = KaplanMeierFitter().fit(y[here, 0], y[here, 1])
            low, high = fitted.confidence_interval_survival_function_.to_numpy().T
            curve = {
                "time": fitted.survival_function_.index.to_numpy(float),
                "survival": fitted.survival_function_.to_numpy()[:, 0],
                "low": low,
                "high": high,
                "at_risk": fitted.event_table["at_risk"].to_numpy(),
            }
            group |= {
                part: np.nan_to_num(values, nan=1.0).round(4).tolist() for part, values in curve.items()
            }
        groups.append(group)
    tested = {} if chance is None else {"p": chance["log_rank_p"], "permutations": chance["permutations"]}
    return {
        "groups": groups,
        "log_rank": {"statistic": log_rank(y, higher)} | tested,
        "cut": "the median score, held out inside, of the patients each model learnt from",
    }


def verdict(
    measured: dict[str, Any], chance: dict[str, Any] | None, plan: Plan, task: Task
) -> dict[str, str]:
    """{kind: signal | none | unclear, words}: what may be said of this cohort, in plain words. A signal needs both an
    interval beyond chance and a null that was passed; and enough patients (see too_few). Where there is none, a group
    of cells may still stand out by itself (see associations): a global score can miss a rare one."""
    value = measured[task.main]
    figures = figure(task.main, value)
    if chance:
        figures += f"; permuted labels, neighbourhoods alone: p = {_p(chance['p'])}"
    does, whether, fails = _told(task)
    above, tested = value["low"] > CHANCE[task.main], chance is not None
    beats, group = chance is not None and chance["p"] < 0.05, _standing_out(chance)
    if few := too_few(plan, task):
        kind, words = "unclear", f"Exploratory, {few.split(';')[0]} cannot carry a claim"
    elif above and beats:
        kind, words = "signal", f"The model {does} better than chance"
    elif above and not tested:
        kind, words = "unclear", f"The model seems to {whether}, but was not tested against permuted labels"
    elif above or beats:
        kind, words = "unclear", f"Unclear whether the cells {whether}; interval and test disagree"
    elif group:
        kind, words = "unclear", f"Patients' scores do not {fails} better than chance, but {group}"
    else:
        kind, words = "none", f"No signal found: the cells do not {fails} better than chance"
    return {"kind": kind, "words": f"{words}{';' if ':' in words else ':'} {figures}."}


def figure(name: str, score: dict[str, Any]) -> str:
    """A score with its name and interval: 'AUROC 0.81 (0.64 to 0.93)'."""
    return f"{NAMES[name]} {score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"


def _standing_out(chance: dict[str, Any] | None) -> str:
    """In words which cells stand out by the permuted labels; empty where none do."""
    cells = (chance or {}).get("cells")
    if not cells or not cells["found"] or cells["p"] >= 0.05:
        return ""
    size = "one rare group of cells stands out" if cells["share"] < RARE else "some cells stand out"
    rate = f"false discovery rate {cells['level']:.0%}"
    return f"{size} ({cells['found']:,} cells whose abundance goes with the label, {rate})"


def _told(task: Task) -> tuple[str, str, str]:
    """What a model does, for "The model ...", "whether the cells ..." and "the cells do not ..."."""
    if isinstance(task, (Binary, Multiclass)):
        *others, last = [short(name, 60) for name in task.classes]
        pair = f"{others[0]} from {last}"
        rest = pair if isinstance(task, Binary) else f"{', '.join(others)} and {last} apart"
    else:
        target = short(getattr(task, "target", ""), 60)
        what = target if isinstance(task, Regression) else f"the time until {target}"
        return f"predicts {what}", f"predict {what}", f"predict {what}"
    return f"tells {rest}", f"tell {rest}", f"tell {rest}"


def _p(value: float) -> str:
    return f"{value:.1g}" if value < 0.1 else f"{value:.2f}"


def _with_spread(value: float, interval: tuple[float, float], spread: np.ndarray) -> dict[str, Any]:
    return {
        "value": value,
        "low": interval[0],
        "high": interval[1],
        "spread": [float(spread.min()), float(spread.max())],
    }


def _auroc_interval(
    value: float, positives: int, negatives: int, widened: float = 1.0
) -> tuple[float, float]:
    """Newcombe 2006, method 5: where the distance to the value is 1.96 standard errors at the bound itself."""

    def excess(theta: float) -> float:
        return abs(theta - value) - Z95 * np.sqrt(widened * _variance(theta, positives, negatives))

    tiny = 1e-9
    low = 0.0 if value <= tiny else brentq(excess, tiny, min(value, 1 - tiny))
    high = 1.0 if value >= 1 - tiny else brentq(excess, max(value, tiny), 1 - tiny)
    return float(low), float(high)


def _variance(theta: float, positives: int, negatives: int) -> float:
    """Of the AUROC of a fixed model whose true AUROC is theta (Hanley & McNeil 1982, as modified by Newcombe)."""
    half = (positives + negatives) / 2 - 1
    pairs = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
    return theta * (1 - theta) * pairs / (positives * negatives)


def _average_precision(
    task: Task, score: np.ndarray, y: np.ndarray, cut: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    order = np.argsort(-score[:, 0], kind="stable")
    hits = weight[:, order] * y[order]
    precision = np.cumsum(hits, 1) / np.maximum(np.cumsum(weight[:, order], 1), 1e-12)
    return (hits * precision).sum(1) / hits.sum(1)


def _brier(task: Task, score: np.ndarray, y: np.ndarray, cut: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Squared distance of the probabilities from the label; of several classes, summed over them (Brier 1950)."""
    p = task.link(score)
    miss = (p - task.linear(y)) ** 2
    return weight @ miss.sum(1) / weight.sum(1)


def _balanced_accuracy(
    task: Task, score: np.ndarray, y: np.ndarray, cut: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    right = (score[:, 0] > cut) == y if task.outputs == 1 else score.argmax(1) == y
    kinds = np.arange(len(task.classes))
    return np.mean([(weight @ (right & (y == k))) / (weight @ (y == k)) for k in kinds], axis=0)


def _r2(task: Task, score: np.ndarray, y: np.ndarray, cut: np.ndarray, weight: np.ndarray) -> np.ndarray:
    n = weight.sum(1)
    mean = weight @ y / n
    return 1 - (weight @ (y - score[:, 0]) ** 2) / (weight @ y**2 - n * mean**2)


FIXED = 400  # draws of scores that know nothing
# Each takes the task, scores (n, K), y (n,), thresholds (n,) and weights of patients (draws, n); returns (draws,).
MEASURES: dict[str, dict[str, Callable[..., np.ndarray]]] = {
    "binary": {
        "average_precision": _average_precision,
        "brier": _brier,
        "balanced_accuracy": _balanced_accuracy,
    },
    "multiclass": {"brier": _brier, "balanced_accuracy": _balanced_accuracy},
    "regression": {"r2": _r2},
    "survival": {},
}
