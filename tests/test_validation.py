from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index
from scipy.optimize import brentq
from scipy.stats import kstest, spearmanr
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, roc_auc_score

from milcore import permutation, validation
from milcore.baselines import baseline
from milcore.folds import plan
from milcore.measures import auroc, concordance, log_rank, rank_correlation
from milcore.neighbourhood import cross_fit
from milcore.tasks import Binary, Multiclass, Regression, Survival, Task


def drawn(seed: int, strength: float, patients: int = 60):
    draw = np.random.default_rng(seed)
    y = (draw.random(patients) < 0.4).astype(float)
    task = Binary(("a", "b"), y)
    dealt = plan(task.strata, np.arange(patients), repeats=3, seed=0)
    return strength * y + draw.normal(size=(3, patients)), dealt, task


def test_within_one_fold_auroc_is_the_usual_one_ties_included() -> None:
    score, _, task = drawn(0, 1.0)
    ties = score[0].round(1)
    assert auroc(ties, task.y, np.zeros(60)) == pytest.approx(roc_auc_score(task.y, ties))


def test_auroc_counts_pairs_of_one_fold_only() -> None:
    score, dealt, task = drawn(1, 1.0)
    fold = dealt.fold[0]
    right = pairs = 0.0
    for p in np.flatnonzero(task.y == 1):
        for n in np.flatnonzero((task.y == 0) & (fold == fold[p])):
            right, pairs = right + (score[0, p] > score[0, n]), pairs + 1
    assert auroc(score[0], task.y, fold) == pytest.approx(right / pairs)


def test_the_roc_curve_goes_with_the_auroc() -> None:
    score, dealt, task = drawn(2, 1.0)
    curve = validation.roc(score[..., None], dealt, task)
    area = np.trapezoid(curve["tpr"], curve["fpr"])
    assert area == pytest.approx(auroc(score, task.y[None], dealt.fold).mean(), abs=0.02)


def test_other_scores_are_the_usual_ones() -> None:
    score, dealt, task = drawn(3, 1.0)
    out = validation.scores(score[..., None], dealt, task, threshold=np.full(60, 0.2), widening=1.0, seed=0)
    mean = score.mean(0)
    assert out["average_precision"]["value"] == pytest.approx(average_precision_score(task.y, mean))
    assert out["brier"]["value"] == pytest.approx(brier_score_loss(task.y, task.link(mean)))
    assert out["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(task.y, mean > 0.2))
    for one in out.values():
        assert one["low"] <= one["value"] <= one["high"]


def test_intervals_of_perfect_separation_are_not_a_point() -> None:
    low, high = validation._auroc_interval(1.0, 10, 10)
    assert (low, high) == (pytest.approx(0.80, abs=0.01), 1.0)
    assert validation._auroc_interval(0.0, 10, 10)[0] == 0.0


def test_intervals_of_a_fixed_model_cover_its_auroc() -> None:
    """The true AUROC of two normals two thirds apart lies in 95 % of intervals, give or take the simulation."""
    draw = np.random.default_rng(0)
    truth, covered = 0.6814, 0  # Phi(2/3 / sqrt 2)
    for _ in range(400):
        p, n = draw.normal(2 / 3, 1, 20), draw.normal(0, 1, 20)
        value = (p[:, None] > n).mean()
        low, high = validation._auroc_interval(float(value), 20, 20)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.985


def test_intervals_of_the_procedure_cover_what_it_reaches_on_average() -> None:
    """Cross-validated AUROC varies more between cohorts than that of a fixed model; the null's spread widens the
    interval by as much. Chance and a weak signal, 30 patients."""
    for effect in (0.0, 1.0):
        values, intervals = [], []
        for seed in range(60):
            kernel, dealt, task = kernels(seed, effect, patients=30)
            models, *_ = cross_fit(kernel, dealt, task, lambda share: None)
            score = models[0].scores(kernel)[dealt.fold[0], np.arange(30)][None]
            chance = permutation.null(
                kernel, dealt, task, permutations=100, seed=seed, share=lambda share: None
            )
            wide = validation.widening(chance, dealt, task)
            out = validation.leading(score, dealt, task, widening=wide, seed=0)
            values.append(out["value"])
            intervals.append((out["low"], out["high"]))
        covered = np.mean([low <= np.mean(values) <= high for low, high in intervals])
        assert covered >= 0.9


def kernels(seed: int, effect: float, patients: int = 40):
    draw = np.random.default_rng(seed)
    y = (np.arange(patients) % 2).astype(float)
    z = draw.normal(size=(patients, 5))
    z[:, 0] += effect * y
    task = Binary(("a", "b"), y)
    return (z @ z.T)[None] / 5, plan(task.strata, np.arange(patients), repeats=1, seed=seed), task


def test_the_null_knows_signal_from_chance() -> None:
    strong = permutation.null(*kernels(0, 3.0), permutations=200, seed=0, share=lambda share: None)
    assert strong["p"] == pytest.approx(1 / 201)
    assert strong["observed"] > 0.9
    assert np.mean(strong["values"]) == pytest.approx(0.5, abs=0.03)


def test_p_is_uniform_where_nothing_is_planted() -> None:
    p = [
        permutation.null(*kernels(seed, 0.0), permutations=99, seed=seed, share=lambda share: None)["p"]
        for seed in range(80)
    ]
    assert kstest(p, "uniform").pvalue > 0.01


def test_baselines_find_a_shift_of_the_mean_and_nothing_in_noise() -> None:
    draw = np.random.default_rng(0)
    _, dealt, task = drawn(4, 0.0)
    noise = draw.normal(size=(60, 4))
    told = noise + 2.5 * task.y[:, None]

    def reached(summary: np.ndarray) -> dict:
        return validation.leading(baseline(summary, dealt, task), dealt, task, widening=1.0, seed=0)

    assert reached(told)["low"] > 0.5
    assert reached(noise)["low"] < 0.5 < reached(noise)["high"]
    assert reached(np.ones((60, 1)))["value"] == 0.5


@pytest.mark.parametrize(
    ("value", "low", "p", "patients", "kind"),
    [
        (0.8, 0.65, 0.001, 60, "signal"),
        (0.5, 0.35, 0.6, 60, "none"),
        (0.66, 0.51, 0.2, 60, "unclear"),
        (0.95, 0.7, 0.001, 12, "unclear"),
    ],
)
def test_the_verdict_claims_no_more_than_the_figures(
    value: float, low: float, p: float, patients: int, kind: str
) -> None:
    task = Binary(("a", "b"), (np.arange(patients) % 2).astype(float))
    dealt = plan(task.strata, np.arange(patients), repeats=1, seed=0)
    said = validation.verdict({"auroc": {"value": value, "low": low, "high": 0.97}}, {"p": p}, dealt, task)
    assert said["kind"] == kind
    assert f"{value:.2f}" in said["words"]
    if patients < 2 * validation.FEW:
        assert said["words"].startswith("Exploratory")


def test_without_a_null_nothing_is_claimed() -> None:
    task = Binary(("a", "b"), (np.arange(60) % 2).astype(float))
    dealt = plan(task.strata, np.arange(60), repeats=1, seed=0)
    said = validation.verdict({"auroc": {"value": 0.9, "low": 0.8, "high": 0.97}}, None, dealt, task)
    assert said["kind"] == "unclear"


def test_regions_of_one_patient_are_not_more_evidence() -> None:
    """Twelve copies of every patient leave the interval as wide as it was."""
    score, dealt, task = drawn(5, 1.0)
    once = validation.scores(score[..., None], dealt, task, threshold=np.zeros(60), widening=1.0, seed=0)
    many = Binary(task.classes, np.repeat(task.y, 12))
    copied = replace(
        dealt,
        fold=np.repeat(dealt.fold, 12, 1),
        labelled=np.repeat(dealt.labelled, 12),
        groups=np.repeat(dealt.groups, 12),
    )
    again = validation.scores(
        np.repeat(score, 12, 1)[..., None], copied, many, threshold=np.zeros(720), widening=1.0, seed=0
    )
    for name in ("auroc", "brier", "balanced_accuracy"):
        assert again[name]["low"] == pytest.approx(once[name]["low"], abs=0.02)
        assert again[name]["high"] == pytest.approx(once[name]["high"], abs=0.02)


def test_perfect_scores_of_few_patients_are_not_certain() -> None:
    _, dealt, task = drawn(5, 1.0)
    out = validation.scores(
        np.tile(4 * task.y - 2, (3, 1))[..., None], dealt, task, threshold=np.zeros(60), widening=1.0, seed=0
    )
    few = min(task.y.sum(), 60 - task.y.sum())
    for name in ("average_precision", "balanced_accuracy"):
        assert out[name]["value"] == out[name]["high"] == 1
        assert out[name]["low"] == pytest.approx(proportion_low(few))


def proportion_low(n: float) -> float:
    """Wilson's lower bound of n of n, by the score test that it inverts: the p0 at which n of n lies 1.96 away."""
    return float(brentq(lambda p: (1 - p) / np.sqrt(p * (1 - p) / n) - 1.959964, 1e-6, 1 - 1e-9))


def test_patients_are_scored_by_the_mean_of_their_regions() -> None:
    score, dealt, task = drawn(5, 1.0)
    apart = np.random.default_rng(1).normal(size=score.shape)
    twice = replace(
        dealt,
        fold=np.repeat(dealt.fold, 2, 1),
        labelled=np.repeat(dealt.labelled, 2),
        groups=np.repeat(dealt.groups, 2),
    )
    regions = np.stack([score + apart, score - apart], 2).reshape(3, 120, 1)
    both = Binary(task.classes, np.repeat(task.y, 2))
    how = {"widening": 1.0, "seed": 0}
    found = validation.by_patient(regions, twice, both, **how)["auroc"]
    assert found == pytest.approx(validation.leading(score[..., None], dealt, task, **how))
    assert validation.leading(regions, twice, both, **how)["value"] < found["value"]
    paired = Binary(task.classes, np.tile([0.0, 1.0], 60))
    assert validation.by_patient(regions, twice, paired, **how) == {}
    assert validation.by_patient(score[..., None], dealt, task, **how) == {}


# ---------------------------------------------------------------- every kind of label


def task_of(kind: str, draw: np.random.Generator, signal: np.ndarray) -> Task:
    """Labels that follow a signal (n,), of which 0 is none."""
    n = len(signal)
    noisy = signal + draw.normal(size=n)
    if kind == "multiclass":
        return Multiclass(("a", "b", "c"), np.argsort(np.argsort(noisy)) // (n / 3) // 1)
    if kind == "regression":
        return Regression("age", 50 + noisy)
    return Survival("dead", np.stack([np.exp(-noisy), draw.random(n) < 0.7], 1).astype(float))


OTHERS = ("multiclass", "regression", "survival")


def made_of(kind: str, seed: int, effect: float, patients: int = 45):
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(patients, 5))
    task = task_of(kind, draw, effect * z[:, 0])
    return (z @ z.T)[None] / 5, plan(task.strata, np.arange(patients), repeats=1, seed=seed), task


def quiet(share: float) -> None:
    """Nobody listens."""


@pytest.mark.parametrize("kind", OTHERS)
def test_the_null_of_every_kind_knows_signal_from_chance(kind: str) -> None:
    strong = permutation.null(*made_of(kind, 0, 2.5), permutations=100, seed=0, share=quiet)
    assert strong["p"] == pytest.approx(1 / 101)
    chance = validation.CHANCE[strong["statistic"]]
    assert np.mean(strong["values"]) == pytest.approx(chance, abs=0.05)
    p = [
        permutation.null(*made_of(kind, seed, 0.0), permutations=39, seed=seed, share=quiet)["p"]
        for seed in range(40)
    ]
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("kind", OTHERS)
def test_intervals_of_every_kind_cover_what_the_procedure_reaches_on_average(kind: str) -> None:
    for effect in (0.0, 1.0):
        values, intervals = [], []
        for seed in range(12):
            kernel, dealt, task = made_of(kind, seed, effect)
            models, *_ = cross_fit(kernel, dealt, task, quiet)
            level = models[0].scores(kernel)[dealt.fold[0], np.arange(45)][None]
            chance = permutation.null(kernel, dealt, task, permutations=60, seed=seed, share=quiet)
            wide = validation.widening(chance, dealt, task)
            one = validation.leading(level, dealt, task, widening=wide, seed=0)
            values.append(one["value"])
            intervals.append((one["low"], one["high"]))
        assert np.mean([low <= np.mean(values) <= high for low, high in intervals]) >= 0.8


def test_measures_are_the_usual_ones_in_one_fold_and_pairs_of_a_fold_in_several() -> None:
    draw = np.random.default_rng(0)
    score, one = draw.normal(size=40).round(1), np.zeros(40)
    time, event = draw.integers(1, 20, 40).astype(float), (draw.random(40) < 0.6).astype(float)
    y = np.stack([time, event], 1)
    assert concordance(score, y, one) == pytest.approx(concordance_index(time, -score, event))
    assert rank_correlation(score, time, one) == pytest.approx(spearmanr(score, time).statistic)
    fold = np.arange(40) % 4
    shifted = score + 100.0 * fold  # a constant of each fold changes no order inside it
    assert concordance(shifted, y, fold) == concordance(score, y, fold)
    assert rank_correlation(shifted, time, fold) == pytest.approx(rank_correlation(score, time, fold))


def test_the_log_rank_statistic_is_the_usual_one() -> None:
    draw = np.random.default_rng(1)
    time, event, high = draw.integers(1, 15, 50).astype(float), draw.random(50) < 0.7, draw.random(50) < 0.4
    peer = logrank_test(time[high], time[~high], event[high], event[~high]).test_statistic
    y = np.stack([time, event], 1).astype(float)
    assert log_rank(y, high) == pytest.approx(peer)


def test_risk_groups_are_cut_where_each_model_says() -> None:
    _, _, task = made_of("survival", 0, 1.0)
    level = np.where(np.arange(45) < 20, 2.0, 0.0)[None, :, None]
    cuts = np.ones((1, 45))
    cuts[0, 44] = -1.0
    found = validation.survival_groups(level, cuts, task, None)
    assert [group["patients"] for group in found["groups"]] == [21, 24]
    assert all(np.diff(group["survival"]).max() <= 0 for group in found["groups"])
    assert "p" not in found["log_rank"]


def test_the_paired_difference_is_surer_than_two_intervals() -> None:
    score, dealt, task = drawn(6, 1.5)
    close = score + 0.2 * np.random.default_rng(0).normal(size=score.shape)
    apart = validation.difference(score[..., None], close[..., None], dealt, task)
    far = validation.difference(score[..., None], -score[..., None], dealt, task)
    assert abs(apart["value"]) < 3 * apart["se"]
    assert apart["se"] < 0.03
    assert far["value"] > 3 * far["se"]


def test_labels_move_with_their_patient_where_bags_are_regions() -> None:
    _, dealt, task = kernels(0, 0.0, patients=20)
    twice = replace(
        dealt,
        fold=np.repeat(dealt.fold, 2, 1),
        labelled=np.ones(40, bool),
        groups=np.repeat(np.arange(20), 2),
    )
    draw = np.random.default_rng(0)
    same = Binary(task.classes, np.repeat(task.y, 2))
    moved = same.y[permutation.permuted(twice, same, 30, draw)]
    np.testing.assert_array_equal(moved[::2], moved[1::2])
    paired = Binary(task.classes, np.tile([0.0, 1.0], 20))
    moved = paired.y[permutation.permuted(twice, paired, 30, draw)]
    np.testing.assert_array_equal(moved[::2] + moved[1::2], 1)
    assert (moved != paired.y[:, None]).any()
