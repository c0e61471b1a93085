"""What `neighbourhood` owes to held-out patients' cells in its graph: beside the usual graph of all cells, whose labels
are never seen, a strictly inductive one. `python -m tests.inductive` rewrites tests/accuracy/inductive.md.

Strictly: transform, scale and graph of the training patients alone; a held-out cell gets the mean evidence of the
training cells nearest to it, as a new patient's would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import sample_data
from milcore.case import Case, case_of
from milcore.cohort import Cohort
from milcore.neighbourhood import abundance, cross_fit, everywhere
from milcore.neighbours import graph, interpolated
from milcore.preprocess import moments, preparation
from milcore.readers import Columns, read_cohort
from milcore.training import Settings
from tests.accuracy import DATA, ELEMENTAL
from tests.planted import composition, rare

PAGE = Path(__file__).parent / "accuracy" / "inductive.md"
REPEATS = 2
HEAD = """# The neighbour graph with and without held-out patients

AUROC of `neighbourhood` alone, within folds, mean of two repeats: on the graph of all cells, as Milscope uses it
(labels never seen, marker distributions shared), and on a graph of the training patients alone, to which held-out cells
are attached by their nearest neighbours. Made anew by `python -m tests.inductive`.

| cohort | graph of all cells | training patients alone |
|---|---|---|"""


def usual(case: Case) -> np.ndarray:
    """(R, B, K) out-of-fold scores on the graph of all cells."""
    cohort, dealt = case.cohort, case.plan
    cells = graph(cohort, preparation(cohort, transform="auto").apply(cohort), "auto")
    around = abundance(cells, cohort.offsets, case.kept, _quiet)
    models, *_ = cross_fit(around.kernels, dealt, case.task, _quiet)
    patients = np.arange(cohort.B)
    return np.stack([m.scores(around.kernels)[dealt.fold[r], patients] for r, m in enumerate(models)])


def strict(case: Case) -> np.ndarray:
    """(R, B, K) scores of each fold by models whose graph holds none of its cells."""
    out = np.full((case.plan.repeats, case.cohort.B, case.task.outputs), np.nan)
    for r in range(case.plan.repeats):
        for f in range(case.plan.folds):
            held = case.kept & (case.plan.fold[r] == f)
            out[r, held] = _as_new(_part(case.cohort, case.plan.training(r, (f,))), held, case)
    return out


def _as_new(taught: Cohort, held: np.ndarray, case: Case) -> np.ndarray:
    """(held, K) mean over models that saw only the cohort `taught`."""
    inside = case_of(taught, case.settings)
    ready = preparation(taught, transform="auto")
    x = ready.apply(taught)
    cells = graph(taught, x, "auto")
    around = abundance(cells, taught.offsets, inside.kept, _quiet)
    models, _, pairs = cross_fit(around.kernels, inside.plan, inside.task, _quiet)
    evidence = everywhere(around, models, pairs, inside.kept)[0].mean((1, 2))  # (M, K)
    mean, sd = moments(x, taught.offsets).scale(np.ones((1, taught.B), bool))
    new = _part(case.cohort, held)
    placed = interpolated(cells.points, evidence, np.nan_to_num((ready.apply(new) - mean) / sd))
    return np.add.reduceat(placed, new.offsets[:-1]) / np.diff(new.offsets)[:, None]


def _part(cohort: Cohort, bags: np.ndarray) -> Cohort:
    """The cohort of some bags (B,) bool, in the same order."""
    rows = bags[cohort.owner]
    names = cohort.patients["patient"].to_numpy()
    return Cohort.of(
        np.asarray(cohort.features[rows]), names[cohort.owner[rows]], patients=cohort.patients[bags]
    )


def _quiet(share: float) -> None:
    """Nobody watches."""


def cohorts() -> Iterator[tuple[str, Callable[[], Cohort], Settings]]:
    """Name, cohort and settings of each row."""
    asked = {"pooling": "neighbourhood", "repeats": REPEATS}
    musk, keren = DATA / "mil_benchmarks", DATA / "keren_tnbc_mibi"
    bags = Columns(patient="bag_id", cell="instance_id")
    yield (
        "MUSK1",
        lambda: read_cohort([musk / "musk1.parquet"], patients=musk / "musk1_labels.csv", columns=bags),
        Settings(target="label", **asked),
    )
    yield (
        "Breast cancer MIBI (Keren), architecture",
        lambda: read_cohort(
            [keren / "cells.parquet"],
            patients=keren / "patients.csv",
            columns=Columns(drop=tuple(ELEMENTAL.split(","))),
        ),
        Settings(target="tumor_architecture", classes=("mixed", "compartmentalized"), **asked),
    )
    cells, patients = sample_data.files()
    response = Settings(target="response", **asked)
    yield "sample, response", lambda: read_cohort([cells], patients=patients), response
    yield "planted, rare 1 %, seed 0", lambda: _planted(rare(0, 0.01)), response
    yield "planted, composition, seed 0", lambda: _planted(composition(0)), response


def _planted(study) -> Cohort:  # type: ignore[no-untyped-def]
    features = study.cells.drop(columns="patient")
    names = study.cells["patient"].to_numpy()
    return Cohort.of(features.to_numpy(), names, names=list(features), patients=study.patients)


def main() -> None:
    lines = HEAD.splitlines()
    for name, cohort, settings in cohorts():
        case = case_of(cohort(), settings)
        known = case.task.labelled
        reached = [
            case.task.ranked(score[:, known], case.task.y[known][None], case.plan.fold[:, known]).mean()
            for score in (usual(case), strict(case))
        ]
        lines.append(f"| {name} | {reached[0]:.2f} | {reached[1]:.2f} |")
        print(lines[-1], flush=True)
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
