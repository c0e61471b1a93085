"""Are intervals, p values and false discovery rates what they say? `make validity` rewrites tests/accuracy/validity.*

    python -m tests.validity [coverage | null | chain | members | cells ...]

Simulated cohorts with a known truth, seeded, by the code that users run; some 10 CPU minutes. tests/test_validity.py
is its short version.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp, kstest

from milcore import permutation, projection, validation
from milcore.associations import LEVEL, associations
from milcore.case import case_of
from milcore.chain import analyse
from milcore.cohort import Cohort
from milcore.folds import Plan, plan
from milcore.neighbourhood import Abundance, abundance, cross_fit
from milcore.preprocess import moments, preparation
from milcore.progress import Progress
from milcore.retraining import whole_null
from milcore.tasks import Binary
from milcore.training import RULES, Settings
from tests.planted import Planted, graph_of, planted, rare

RESULTS = Path(__file__).parent / "accuracy"
SIZES = (30, 60, 100)
STRENGTHS = {"none": 0.0, "middling": 1.6}  # shift of a fifth of the cells, in two features
CELLS = 24  # a patient, about
CELL_SHARES = (0.01, 0.005, 0.001)


def quiet(share: float) -> None:
    """Nobody listens."""


def spread(case: Planted, seed: int, *, repeats: int = 1) -> tuple[Abundance, Plan]:
    """Neighbourhoods and folds of a cohort."""
    cohort = case.cohort
    around = abundance(graph_of(cohort), cohort.offsets, np.ones(cohort.B, bool), quiet)
    return around, plan(case.task.strata, cohort.groups, repeats=repeats, seed=seed)


# ---------------------------------------------------------------- 95 % intervals


def interval(case: Planted, seed: int, *, permutations: int = 100) -> dict[str, float]:
    """{value, low, high} of the AUROC of the neighbourhood chain, out of fold."""
    around, dealt = spread(case, seed)
    models, *_ = cross_fit(around.kernels, dealt, case.task, quiet)
    level = models[0].scores(around.kernels)[dealt.fold[0], np.arange(case.cohort.B)][None]
    chance = permutation.null(
        around.kernels, dealt, case.task, permutations=permutations, seed=seed, share=quiet
    )
    wide = validation.widening(chance, dealt, case.task)
    return validation.leading(level, dealt, case.task, widening=wide, seed=0)


def coverage(cohorts: int = 200, sizes: tuple[int, ...] = SIZES) -> list[dict]:
    """Share of intervals that hold the mean of the value over cohorts: what the procedure reaches at this size."""
    rows = []
    for patients in sizes:
        for name, shift in STRENGTHS.items():
            found = [
                interval(planted(seed, patients=patients, cells=CELLS, shift=shift), seed)
                for seed in range(1000, 1000 + cohorts)
            ]
            value, low, high = (np.array([one[k] for one in found]) for k in ("value", "low", "high"))
            reached = value.mean()
            rows.append(
                {
                    "patients": patients,
                    "signal": name,
                    "cohorts": cohorts,
                    "auroc": float(reached),
                    "sd": float(value.std(ddof=1)),
                    "half_width": float((high - low).mean() / 2),
                    "covered": float(((low <= reached) & (reached <= high)).mean()),
                }
            )
            print(rows[-1], flush=True)
    return rows


# ---------------------------------------------------------------- null cohorts


def null_p(cohorts: int = 200, *, permutations: int = 199) -> dict:
    """p of the permutation null and of the best cell, over cohorts without signal: both are uniform if valid."""
    p: dict[str, list[float]] = {"score": [], "cells": []}
    any_cell = 0
    for seed in range(2000, 2000 + cohorts):
        case = planted(seed, patients=30, cells=CELLS, shift=0.0)
        around, dealt = spread(case, seed)
        given = (around.kernels, dealt, case.task)
        p["score"].append(permutation.null(*given, permutations=permutations, seed=seed, share=quiet)["p"])
        cells = associations(
            around, dealt, case.task, cells=case.cohort.N, permutations=permutations, seed=seed
        )
        assert cells is not None
        p["cells"].append(cells.facts["p"])
        any_cell += bool((cells.fdr <= LEVEL).any())
    # The best rate of cells has ties at 1, so its p has a lump there: it must only not be smaller than uniform.
    side = {"score": "two-sided", "cells": "greater"}
    out = {
        name: {
            "ks_p": float(kstest(values, "uniform", alternative=side[name]).pvalue),
            "at_5_percent": float(np.mean(np.array(values) <= 0.05)),
        }
        for name, values in p.items()
    }
    return {"cohorts": cohorts, "permutations": permutations, "any_cell": any_cell / cohorts} | out


def full_chain(cohorts: int = 40, *, permutations: int = 199) -> dict:
    """Verdicts of whole analyses of cohorts without signal, and the members' AUROC out of fold beside what the null's
    chain reaches on permuted labels."""
    projection.umap_map = lambda cells, owner, **_: np.zeros(
        (len(owner), 2), np.float32
    )  # no part in any figure
    kinds: list[str] = []
    reached: dict[str, list[float]] = {}
    shuffled: list[float] = []
    for seed in range(3000, 3000 + cohorts):
        case = planted(seed, patients=24, cells=40, shift=0.0)
        settings = Settings(target="response", effort="quick", permutations=permutations, seed=seed)
        facts = analyse(case.cohort, settings).facts
        kinds.append(facts["verdict"]["kind"])
        shuffled += facts["null"]["values"]
        every = {"default": facts} | facts["pooling"]["members"]
        for name, one in every.items():
            reached.setdefault(name, []).append(one["scores"]["auroc"]["value"])
        print(seed, kinds[-1], flush=True)
    members = {
        name: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1))} for name, v in reached.items()
    }
    verdicts = {kind: kinds.count(kind) for kind in ("signal", "unclear", "none")}
    permuted = {"mean": float(np.mean(shuffled)), "sd": float(np.std(shuffled))}
    return {"cohorts": cohorts, "verdicts": verdicts, "members": members, "permuted": permuted}


def null_members(cohorts: int = 20, members: tuple[str, ...] = RULES[1:]) -> dict:
    """AUROC out of fold of each pooling alone on cohorts without signal, by the labels and by shuffled ones: {mean, sd,
    shuffled_mean, shuffled_sd, ks_p} of each."""
    reached: dict[str, list[tuple[float, float]]] = {name: [] for name in members}
    for seed in range(4000, 4000 + cohorts):
        cohort = planted(seed, patients=24, cells=40, shift=0.0).cohort
        case = case_of(cohort, Settings(target="response", effort="quick", seed=seed))
        x = preparation(cohort, transform="auto").apply(cohort)
        around = abundance(graph_of(cohort), cohort.offsets, case.kept, quiet)
        given = (case, around.kernels, x, moments(x, cohort.offsets))
        for name in members:
            found = whole_null(*given, members=(name,), permutations=1, progress=Progress())
            reached[name].append((found["observed"], found["values"][0]))
    out = {}
    for name, pairs in reached.items():
        own, shuffled = np.array(pairs).T
        out[name] = {
            "mean": float(own.mean()),
            "sd": float(own.std(ddof=1)),
            "shuffled_mean": float(shuffled.mean()),
            "shuffled_sd": float(shuffled.std(ddof=1)),
            "ks_p": float(ks_2samp(own, shuffled).pvalue),
        }
    return {"cohorts": cohorts, "members": out}


# ---------------------------------------------------------------- rare groups


def rare_cells(seeds: tuple[int, ...] = (0, 1, 2)) -> list[dict]:
    """What the false discovery rate finds of planted rare groups, and p of the global test beside it."""
    rows = []
    for share in CELL_SHARES:
        for seed in seeds:
            study = rare(seed, share)
            names, x = study.cells["patient"].to_numpy(), study.cells.drop(columns="patient")
            cohort = Cohort.of(x.to_numpy(np.float32), names, patients=study.patients)
            truth = study.truth[cohort.order] > 0
            task = Binary(("no", "yes"), (cohort.patients["response"] == "yes").to_numpy(float))
            around, dealt = spread(Planted(cohort, task, truth), seed)
            cells = associations(around, dealt, task, cells=cohort.N, permutations=1000, seed=seed)
            assert cells is not None
            here = (cells.fdr <= LEVEL)[around.graph.node]
            chance = permutation.null(around.kernels, dealt, task, permutations=1000, seed=seed, share=quiet)
            rows.append(
                {
                    "share": share,
                    "seed": seed,
                    "planted": int(truth.sum()),
                    "found": int(here.sum()),
                    "true": int((here & truth).sum()),
                    "p_cells": cells.facts["p"],
                    "p_score": chance["p"],
                }
            )
            print(rows[-1], flush=True)
    return rows


# ---------------------------------------------------------------- the page

HEAD = """# Are intervals, p values and false discovery rates what they say?

Simulated, seeded cohorts with a known truth; `make validity` makes this page anew from `validity.json`.
"""


def page(found: dict) -> str:
    """The results in Markdown."""
    parts = [HEAD]
    for name, words in SECTIONS.items():
        if name in found:
            parts.append(words(found[name]))
    return "\n".join(parts).rstrip() + "\n"


def _coverage(rows: list[dict]) -> str:
    lines = [
        "## 95 % intervals of the AUROC, neighbourhood chain, one repeat",
        "",
        "Covered: share of intervals that hold what the procedure reaches on average at this number of patients.",
        "",
        "| patients | signal | cohorts | mean AUROC (sd over cohorts) | mean half-width | covered |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['patients']} | {r['signal']} | {r['cohorts']} | {r['auroc']:.2f} ({r['sd']:.2f}) "
        f"| {r['half_width']:.2f} | {r['covered']:.0%} |"
        for r in rows
    ]
    return "\n".join([*lines, ""])


def _null(found: dict) -> str:
    lines = [
        f"## {found['cohorts']} cohorts without signal, {found['permutations']} permutations, 30 patients",
        "",
        "| p of | Kolmogorov-Smirnov p against uniform (cells: smaller than uniform) | share at or below .05 |",
        "|---|---|---|",
        *(
            f"| {name} | {found[name]['ks_p']:.2g} | {found[name]['at_5_percent']:.1%} |"
            for name in ("score", "cells")
        ),
        "",
        f"Any cell at a false discovery rate of {LEVEL:.0%}: {found['any_cell']:.1%} of the cohorts.",
        "",
    ]
    return "\n".join(lines)


def _chain(found: dict) -> str:
    verdicts = ", ".join(f"{kind} {n}" for kind, n in found["verdicts"].items())
    lines = [
        f"## The whole chain on {found['cohorts']} cohorts without signal (24 patients, quick)",
        "",
        f"Verdicts: {verdicts}.",
        "",
        "| scores of | mean AUROC | sd over cohorts |",
        "|---|---|---|",
        *(f"| {name} | {m['mean']:.2f} | {m['sd']:.2f} |" for name, m in found["members"].items()),
        f"| null's chain, permuted labels | {found['permuted']['mean']:.2f} | {found['permuted']['sd']:.2f} |",
        "",
    ]
    return "\n".join(lines)


def _members(found: dict) -> str:
    lines = [
        f"## Each pooling alone on {found['cohorts']} cohorts without signal (24 patients, one repeat)",
        "",
        "AUROC out of fold: mean (sd over cohorts), by the labels and by labels shuffled within folds.",
        "",
        "| pooling | labels | shuffled | Kolmogorov-Smirnov p of both |",
        "|---|---|---|---|",
        *(
            f"| {name} | {m['mean']:.2f} ({m['sd']:.2f}) | {m['shuffled_mean']:.2f} ({m['shuffled_sd']:.2f}) "
            f"| {m['ks_p']:.2g} |"
            for name, m in found["members"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def _cells(rows: list[dict]) -> str:
    lines = [
        "## Rare groups of cells: what the false discovery rate finds",
        "",
        f"In patients labelled yes only; found at {LEVEL:.0%}, 1,000 permutations at most; p of the score: the null.",
        "",
        "| share | seed | planted | found | of these planted | p, best cell | p, score |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['share']:.1%} | {r['seed']} | {r['planted']} | {r['found']} | {r['true']} | {r['p_cells']:.3f} "
        f"| {r['p_score']:.3f} |"
        for r in rows
    ]
    power = "; ".join(
        f"{share:.1%}: score {_passed(rows, share, 'p_score')}, cells {_passed(rows, share, 'p_cells')}"
        for share in CELL_SHARES
    )
    lines += ["", f"Power, cohorts with p below .05 by the share of the planted cells: {power}."]
    words = (
        "Cells found beyond those planted lie in neighbourhoods whose abundance goes with the label as well: around "
        "the planted ones, or by a chance that many cells share: the rate is a mean over cohorts."
    )
    return "\n".join([*lines, "", words, ""])


def _passed(rows: list[dict], share: float, p: str) -> str:
    """Of the cohorts with such a share, how many have p below .05: '2 of 3'."""
    here = [row[p] < 0.05 for row in rows if row["share"] == share]
    return f"{sum(here)} of {len(here)}"


SECTIONS: dict[str, Callable] = {
    "coverage": _coverage,
    "null": _null,
    "chain": _chain,
    "members": _members,
    "cells": _cells,
}
MEASURED: dict[str, Callable] = {
    "coverage": coverage,
    "null": null_p,
    "chain": full_chain,
    "members": null_members,
    "cells": rare_cells,
}


def main() -> None:
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / "validity.json"
    for name in sys.argv[1:] or ["null", "cells", "chain", "members", "coverage"]:
        made = MEASURED[name]()
        found = json.loads(kept.read_text()) if kept.exists() else {}
        found[name] = made
        kept.write_text(json.dumps(found, indent=1) + "\n")
        (RESULTS / "validity.md").write_text(page(found))


if __name__ == "__main__":
    main()
