"""Who trains which model, and which patients each model may score.

In each repeat patients are dealt to folds. The *outer* model of fold f learns without f and scores it: these are the
scores a user sees. The *pair* model of folds f and g learns without both; it scores g for the outer model of f (and f
for that of g): these *inner held-out scores* decide everything that combines, calibrates or chooses for f. The *triple*
models choose in the same way for the pairs. No model scores a patient it has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from milcore.tasks import MIN_PATIENTS

__all__ = ["FOLDS", "Plan", "plan"]

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Plan:
    """`fold` (R, B): the fold of every bag in every repeat; `folds`: their number; `labelled` (B,); `groups` (B,): the
    patient of every bag."""

    fold: np.ndarray
    folds: int
    labelled: np.ndarray
    groups: np.ndarray

    @property
    def repeats(self) -> int:
        return len(self.fold)

    @property
    def one_bag_each(self) -> bool:
        """Whether every bag is another patient."""
        return len(np.unique(self.groups)) == len(self.groups)

    def patients(self, bags: np.ndarray) -> int:
        """Number of different patients among some bags (B,) bool."""
        return len(np.unique(self.groups[bags]))

    def without(self, left_out: int) -> list[tuple[int, ...]]:
        """Which folds each model of one repeat leaves out: singles are outer models, pairs and triples inner ones."""
        return list(combinations(range(self.folds), left_out))

    def training(self, repeat: int, left_out: tuple[int, ...]) -> np.ndarray:
        """(B,) the patients a model may learn from: labelled and in none of the folds it leaves out."""
        return self.labelled & ~np.isin(self.fold[repeat], left_out)


def plan(strata: np.ndarray, groups: np.ndarray, *, repeats: int, seed: int) -> Plan:
    """Deals patients to folds, balanced over `strata` (B,), keeping bags of one group (B,) (one patient) together.

    5 folds, or as many as the smallest class has patients. Patients without a label (stratum -1) are dealt like
    everyone else; they are scored by the outer model of their fold.
    """
    kinds = strata[strata >= 0]
    smallest = min(len(np.unique(groups[strata == kind])) for kind in np.unique(kinds))
    folds = max(MIN_PATIENTS, min(FOLDS, smallest))
    draws = np.random.default_rng([seed, 1]).spawn(repeats)
    fold = np.stack([_deal(strata, groups, folds, draw) for draw in draws])
    return Plan(fold, folds, strata >= 0, groups)


def _deal(strata: np.ndarray, groups: np.ndarray, folds: int, draw: np.random.Generator) -> np.ndarray:
    """One random deal: groups with a bag of the rarest class first, each to the fold that has fewest of this class."""
    _, group = np.unique(groups, return_inverse=True)
    has = np.zeros(
        (group.max() + 1, strata.max() + 2), bool
    )  # which strata a group has bags of; the first is "no label"
    has[group, strata + 1] = True
    rarity = has.sum(0) + len(has) * (np.arange(has.shape[1]) == 0)  # patients without a label come last
    rarest = np.where(has, rarity, np.inf).argmin(1)
    dealt, held = np.empty(len(has), int), np.zeros((folds, has.shape[1]))
    for g in np.lexsort((draw.random(len(has)), rarity[rarest])):
        fold = np.lexsort((draw.random(folds), held.sum(1), held[:, rarest[g]]))[0]
        dealt[g] = fold
        held[fold] += has[g]
    return dealt[group]
