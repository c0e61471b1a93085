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
    """`fold` (R, B): the fold of every patient in every repeat; `folds`: their number; `labelled` (B,)."""

    fold: np.ndarray
    folds: int
    labelled: np.ndarray

    @property
    def repeats(self) -> int:
        return len(self.fold)

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
    return Plan(fold, folds, strata >= 0)


def _deal(strata: np.ndarray, groups: np.ndarray, folds: int, draw: np.random.Generator) -> np.ndarray:
    """One random deal: groups in random order within their kind, dealt in turn, each kind where the last ended."""
    _, group = np.unique(groups, return_inverse=True)
    n = group.max() + 1
    # A group's kind is the mixture of its bags' strata, so that patients with one bag of each class are balanced too.
    kinds = np.zeros((n, strata.max() + 2), int)
    np.add.at(kinds, (group, strata + 1), 1)
    _, kind = np.unique(kinds, axis=0, return_inverse=True)
    order = np.lexsort((draw.random(n), kind.ravel()))
    turn = np.empty(n, int)
    turn[order] = np.arange(n) % folds
    return draw.permutation(folds)[turn][group]
