"""What every step of an analysis asks for: the cohort, the settings, the task, who takes part, the folds, and who does
the work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from milcore.cohort import Cohort
from milcore.crew import HERE, Crew
from milcore.errors import MilError
from milcore.folds import Plan, plan
from milcore.labels import read_task
from milcore.tasks import Task, as_text
from milcore.training import Settings

__all__ = ["Case", "case_of"]


@dataclass(frozen=True, eq=False)
class Case:
    """`kept` (B,): the patients that take part; labels and folds of the others are never read."""

    cohort: Cohort
    settings: Settings
    task: Task
    kept: np.ndarray
    plan: Plan
    crew: Crew = HERE


def case_of(cohort: Cohort, settings: Settings, crew: Crew = HERE) -> Case:
    """The same for the same cohort and settings, folds too; MilError where the target does not allow an analysis."""
    task, kept = _target(cohort, settings)
    dealt = plan(task.strata, cohort.groups, repeats=settings.rounds, seed=settings.seed)
    return Case(cohort, settings, task, kept, dealt, crew)


def _target(cohort: Cohort, settings: Settings) -> tuple[Task, np.ndarray]:
    """The task, and (B,) which patients take part: with --classes only those of these labels."""
    labels = cohort.label(settings.target)
    kept = np.ones(cohort.B, bool)
    if settings.classes:
        text = as_text(labels)
        for name in settings.classes:
            if not (text == name).any():
                there = ", ".join(f"'{label}'" for label in sorted(set(text) - {""}))
                problem = f"No patient has the label '{name}'."
                raise MilError(
                    problem,
                    f"--classes, column '{settings.target}'",
                    f"Labels: {there}.",
                )
        kept = np.isin(text, settings.classes)
        labels = pd.Series(np.where(kept, text, ""))
    task = read_task(
        labels,
        target=settings.target,
        kind=settings.task,
        positive=settings.positive,
        times=None if settings.time is None else cohort.label(settings.time),
        time=settings.time,
        groups=cohort.groups,
    )
    return task, kept
