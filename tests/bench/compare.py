"""Milscope beside its peers, speed and accuracy in one table: `make bench`, or `python -m tests.bench.compare`.

Every measurement is a process of its own with one thread; methods take turns, each turn has a seed of its own, and the
table shows medians. Four matters: training on a cohort of real tissue (Keren, from ../shared), a step of it, the
`neighbourhood` pooling, and maps of cells. What each method may choose, and by what, is fixed beforehand (see peers).
Rewrites compare.md and compare.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch

from milcore import neighbourhood
from milcore.case import Case, case_of
from milcore.cohort import Cohort
from milcore.evidence import member_scores
from milcore.learning import CELLS, PATIENTS, Descent, pooled
from milcore.models import GATE, HIDDEN, Networks
from milcore.neighbours import Graph, graph, nearest
from milcore.permutation import null
from milcore.preprocess import Moments, moments, preparation
from milcore.projection import Layout, umap_map
from milcore.readers import Columns, read_cohort
from milcore.stacking import best
from milcore.training import EPOCHS, Settings, cross_fit
from tests.bench.peers import bag_loop, cross_fitted, torchmil_trainer

HERE = Path(__file__).parent
KEREN = HERE.parents[2] / "shared" / "data" / "keren_tnbc_mibi"
ELEMENTAL = ("Au", "Background", "Ca", "Fe", "Na", "P", "Si", "Ta", "Celltype_code")
LIBRARIES = ("milscope", "torch", "torchmil", "umap-learn", "openTSNE", "faiss-cpu", "numpy", "scipy")
JUDGED, NEAR = 2000, 15  # cells that a map is judged by, and their neighbours
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
USUAL = 200_000  # cells
QUALITY = ("AUROC", "trustworthiness", "neighbours kept")

Facts = dict[str, float]
Near = tuple[np.ndarray, np.ndarray]


# ---------------------------------------------------------------- training


def keren(seed: int) -> tuple[Case, np.ndarray, Moments]:
    """Two architectures of breast cancer, one repeat of the folds; prepared features and their moments."""
    columns = Columns(drop=ELEMENTAL, labels=("tumor_architecture",))
    cohort = read_cohort([KEREN / "cells.parquet"], patients=KEREN / "patients.csv", columns=columns)
    two = ("mixed", "compartmentalized")
    case = case_of(cohort, Settings(target="tumor_architecture", classes=two, repeats=1, seed=seed))
    x = preparation(cohort, transform="auto").apply(cohort)
    return case, x, moments(x, cohort.offsets)


def reached(case: Case, score: np.ndarray) -> Facts:
    """AUROC within folds of scores (1, B, 1)."""
    known = case.task.labelled
    auroc = case.task.ranked(score[:, known], case.task.y[known][None], case.plan.fold[:, known])
    return {"AUROC": float(auroc.mean())}


def ours(seed: int) -> Callable[[], Facts]:
    """Attention, the stack of outer and pair models, of two lengths, as an analysis trains it."""
    case, x, measured = keren(seed)
    offsets, plan, task = case.cohort.offsets, case.plan, case.task

    def run() -> Facts:
        how: dict[str, Any] = {"pooling": "attention", "seed": seed, "share": quiet, "epochs": EPOCHS}
        candidates = cross_fit(x, offsets, measured, plan, task, **how)
        return reached(case, member_scores(best(candidates, offsets, plan, task), offsets))

    return run


def peer(learn: Any, seed: int) -> Callable[[], Facts]:
    """A peer under the same folds."""
    case, x, measured = keren(seed)
    return lambda: reached(case, cross_fitted(learn, case, x, measured))


STEPS, STACK, FEATURES = 500, 15, 36  # of training; models side by side, as five folds and their pairs are


def stepped() -> Callable[[], Facts]:
    """Steps of attention as an analysis takes them: scaling, forward, loss, backward, and the optimiser's."""
    draw = torch.Generator().manual_seed(0)
    scale = torch.zeros(STACK, FEATURES), torch.ones(STACK, FEATURES)
    networks = Networks.drawn(*scale, draw, attends=True, outputs=1)
    x = torch.randn(STACK, PATIENTS * CELLS, FEATURES, generator=draw)
    descent, drawn = Descent(networks.learnt, STEPS + 1), torch.Size((STACK, PATIENTS, CELLS))

    def step() -> None:
        networks.backward(x, lambda evidence, logit: pooled(None, drawn, evidence, logit).square().sum())
        descent.step(networks.slope)

    return repeated(step)


def products() -> Callable[[], Facts]:
    """The matrix products of such a step, forward and backward, in the same shapes, and nothing else."""
    draw, n = torch.Generator().manual_seed(0), PATIENTS * CELLS
    shapes = [(FEATURES, HIDDEN), (HIDDEN, 1), (HIDDEN, GATE), (HIDDEN, GATE), (GATE, 1)]
    layers = [
        tuple(torch.randn(STACK, *size, generator=draw) for size in ((n, a), (a, b), (n, b)))
        for a, b in shapes
    ]

    def step() -> None:
        for place, (x, w, above) in enumerate(layers):
            torch.bmm(x, w), torch.bmm(x.mT, above)
            if place:  # nobody asks how the features should change
                torch.bmm(above, w.mT)

    return repeated(step)


def repeated(step: Callable[[], None]) -> Callable[[], Facts]:
    """Takes it many times, warm."""
    step()

    def run() -> Facts:
        begun = time.process_time()
        for _ in range(STEPS):
            step()
        return {"a step, CPU ms": 1000 * (time.process_time() - begun) / STEPS}

    return run


# ---------------------------------------------------------------- neighbourhood


def made_up(cells: int, patients: int = 50, features: int = 40) -> Cohort:
    """Cells of ten kinds; half of the patients have 1 % of cells with four shifted features."""
    draw, B = np.random.default_rng(0), patients
    owner = np.arange(cells) * B // cells
    x = draw.standard_normal((cells, features), np.float32)
    x += (draw.normal(size=(10, features)) * 1.5)[draw.integers(0, 10, cells)].astype(np.float32)
    x[np.ix_((owner % 2 == 1) & (draw.random(cells) < 0.01), np.arange(4))] += 3
    labels = np.array(["no", "yes"])[np.arange(B) % 2]
    known = pd.DataFrame({"patient": np.arange(B).astype(str), "response": labels})
    return Cohort.of(x, owner.astype(str), patients=known)


def neighbourhoods(cells: int, seed: int) -> Callable[[], Facts]:
    """Graph, five scales, all folds of ten repeats, evidence of every cell, 1,000 permutations."""
    cohort = made_up(cells)
    case = case_of(cohort, Settings(target="response", repeats=10, seed=seed))

    def run() -> Facts:
        steps: Facts = {}
        begun = time.process_time()

        def took(name: str) -> None:
            nonlocal begun
            steps[name], begun = time.process_time() - begun, time.process_time()

        found = graph(cohort, preparation(cohort, transform="auto").apply(cohort), "auto")
        took("graph, CPU s")
        around = neighbourhood.abundance(found, cohort.offsets, case.kept, quiet)
        took("diffusion, CPU s")
        models, _, pairs = neighbourhood.cross_fit(around.kernels, case.plan, case.task, quiet)
        took("models, CPU s")
        neighbourhood.everywhere(around, models, pairs, case.kept)
        took("evidence, CPU s")
        null(around.kernels, case.plan, case.task, permutations=1000, seed=seed, share=quiet)
        took("permutations, CPU s")
        own = models[0].scores(around.kernels)[case.plan.fold[0], np.arange(cohort.B)][None]
        first = replace(case, plan=replace(case.plan, fold=case.plan.fold[:1]))
        return reached(first, own) | steps

    return run


# ---------------------------------------------------------------- maps


def points(cells: int) -> np.ndarray:
    """(cells, 40) standardised features of ten kinds of cells, each a stretched cloud."""
    draw = np.random.default_rng(1)
    kind = draw.integers(0, 10, cells)
    spread = draw.normal(size=(10, 6, 40))
    x = (draw.normal(size=(10, 40)) * 3)[kind] + 0.5 * draw.normal(size=(cells, 40))
    x += np.einsum("nd,ndf->nf", draw.normal(size=(cells, 6)), spread[kind])
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def laid_out(cells: int, lay: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Facts]:
    """A map of the same cells by `lay`, warm: a small map first, so that nothing is compiled while it is timed."""
    x = points(cells)
    lay(x[:3000])
    return lambda: judged(x, lay(x))


def judged(x: np.ndarray, placed: np.ndarray) -> Facts:
    """Trustworthiness (Venna & Kaski 2001) and the share of neighbours kept, of some cells among all; not timed."""
    spent, begun = time.process_time(), time.perf_counter()
    some = np.random.default_rng(2).choice(len(x), min(JUDGED, len(x)), replace=False)
    there, here = nearest(placed, placed[some], NEAR + 1)[0], nearest(x, x[some], NEAR + 1)[0]
    kept = np.mean([len((set(a) & set(b)) - {i}) / NEAR for a, b, i in zip(there, here, some, strict=True)])
    penalty, length = 0.0, (x**2).sum(1)
    for i, near in zip(some, there, strict=True):
        square = length - 2 * (x @ x[i])  # as far as this tells who is nearer
        rank = np.array([(square < square[j]).sum() for j in near if j != i][:NEAR])
        penalty += float(np.maximum(rank - NEAR, 0).sum())
    N, k = len(x), NEAR
    worst = len(some) * k * (2 * N - 3 * k - 1) / 2
    facts = {"trustworthiness": 1 - penalty / worst, "neighbours kept": float(kept)}
    return facts | {"judging, CPU s": time.process_time() - spent, "judging, s": time.perf_counter() - begun}


def landmarks(x: np.ndarray, seed: int, *, full: bool = False, near: Near | None = None) -> np.ndarray:
    """Our map; `full`: every cell fitted, by neighbours that are known already, or searched."""
    own = np.arange(len(x))
    near = near or (own[:, None], own[:, None])
    plain = Graph(own, np.ones(len(x), int), x, *near, None)  # type: ignore[arg-type]
    return umap_map(plain, own % 50, seed=seed, share=quiet, layout=Layout(full=full))


def on_its_graph(cells: int, seed: int) -> Callable[[], Facts]:
    """Every cell fitted on the neighbours that training has found already, as in an analysis; finding them is not
    timed."""
    x = points(cells)
    landmarks(x[:3000], seed, full=True)
    near = nearest(x, x, NEAR)
    return lambda: judged(x, landmarks(x, seed, full=True, near=near))


def umap_learn(x: np.ndarray, seed: int | None = None) -> np.ndarray:
    import umap

    return umap.UMAP(random_state=seed, n_jobs=1).fit_transform(x)


def open_tsne(x: np.ndarray, seed: int) -> np.ndarray:
    import openTSNE

    return np.asarray(openTSNE.TSNE(n_jobs=1, random_state=seed).fit(x))


def quiet(share: float) -> None:
    """Says nothing."""


# ---------------------------------------------------------------- measuring

MATTERS: dict[str, dict[str, Callable[[int, int], Callable[[], Facts]]]] = {  # by cells and seed
    "training": {
        "milscope, attention": lambda _, seed: ours(seed),
        "bag loop": lambda _, seed: peer(bag_loop, seed),
        "torchmil, Trainer": lambda _, seed: peer(torchmil_trainer, seed),
    },
    "step": {
        "milscope, attention": lambda _, seed: stepped(),
        "its products alone": lambda _, seed: products(),
    },
    "neighbourhood": {"milscope, neighbourhood": neighbourhoods},
    "maps": {
        "milscope, landmarks": lambda cells, seed: laid_out(cells, lambda x: landmarks(x, seed)),
        "milscope, every cell": lambda cells, seed: laid_out(cells, lambda x: landmarks(x, seed, full=True)),
        "milscope, every cell, neighbours known": on_its_graph,
        "umap-learn": lambda cells, _: laid_out(cells, umap_learn),
        "umap-learn, seeded": lambda cells, seed: laid_out(cells, lambda x: umap_learn(x, seed)),
        "openTSNE": lambda cells, seed: laid_out(cells, lambda x: open_tsne(x, seed)),
    },
}


def one(matter: str, method: str, cells: int, seed: int) -> Facts:
    """A measurement in this process: what was reached, CPU and wall seconds without making the data, peak memory."""
    run = MATTERS[matter][method](cells, seed)
    cpu, wall = time.process_time(), time.perf_counter()
    facts = run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    cpu, wall = cpu - facts.pop("judging, CPU s", 0.0), wall - facts.pop("judging, s", 0.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"CPU s": cpu, "wall s": wall, "peak MB": peak} | facts


def measured(matter: str, method: str, given: argparse.Namespace, seed: int) -> Facts | str:
    """The same in a process of its own; the reason in words where it fails."""
    command = [sys.executable, "-m", "tests.bench.compare", "--one", matter, method]
    command += ["--cells", str(given.cells), "--seed", str(seed)]
    threads = dict.fromkeys(THREADS, str(given.threads))
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["killed"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def page(kept: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in kept["versions"].items())
    lines = f"""# Milscope beside its peers

{kept["machine"]}; one thread each, unless said. {versions}.
`make bench` measures anew; medians of as many runs as stand in the last column, each with a seed of its own (of what a
method reached, also the least and the most), methods taking turns. On a busy machine wall seconds mean nothing and CPU
seconds are too many. What has no row was not measured; MixMIL is left out: it did not install beside these (its build
looks for torch before pip has it).
"""
    for matter, about in kept["matters"].items():
        found = {name: runs for name, runs in about["runs"].items() if runs}
        names = list(dict.fromkeys(key for runs in found.values() for run in runs for key in run))
        size = "" if matter in ("training", "step") else f", {about['cells']:,} cells of 40 features"
        busy = f"Load {about['load']:.1f} when begun; threads: {about['threads']}."
        lines += (
            f"\n## {matter.split(',')[0].capitalize()}{size}\n\n{busy}\n\n| | {' | '.join(names)} | runs |\n"
        )
        lines += f"|---{'|---' * (len(names) + 1)}|\n"
        for name, runs in found.items():
            middle = [
                _figure([run[key] for run in runs if key in run], ranged=key in QUALITY) for key in names
            ]
            lines += f"| {name} | {' | '.join(middle)} | {len(runs)} |\n"
        for name, why in about["failed"].items():
            lines += f"\n{name}: fails ({why}).\n"
    return lines


def _figure(values: list[float], *, ranged: bool) -> str:
    """The median; with the least and the most where these are asked for and differ."""
    if not values:
        return "-"
    middle, *ends = (f"{v:.3f}" if v < 2 else f"{v:,.1f}" for v in (median(values), min(values), max(values)))
    return f"{middle} ({' to '.join(ends)})" if ranged and ends[0] != ends[1] else middle


def main() -> None:
    """Measures what is asked for and writes the page; matters not asked for stay as they were."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("matters", nargs="*", choices=[*MATTERS, []], help="all, if none is named")
    asked.add_argument("--times", type=int, default=3)
    asked.add_argument("--cells", type=int, default=USUAL)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--seed", type=int, default=0, help="of the first turn")
    asked.add_argument("--methods", nargs="+", help="only these")
    asked.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.one:
        print(json.dumps(one(*given.one, given.cells, given.seed)))
        return
    file = HERE / "compare.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"matters": {}}
    kept["machine"] = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    kept["versions"] = {name: _version(name) for name in LIBRARIES}
    for matter in given.matters or MATTERS:
        methods = [name for name in MATTERS[matter] if not given.methods or name in given.methods]
        about: dict[str, Any] = {"cells": given.cells, "runs": {name: [] for name in methods}, "failed": {}}
        # Other work inflates CPU seconds too, by what it takes of the caches.
        about |= {"threads": given.threads, "load": os.getloadavg()[0]}
        kept["matters"][matter if given.cells == USUAL else f"{matter}, {given.cells}"] = about
        for turn in range(given.times):
            for name in (name for name in methods if name not in about["failed"]):
                found = measured(matter, name, given, given.seed + turn)
                print(matter, name, found, flush=True)
                if isinstance(found, str):
                    about["failed"][name] = found
                else:
                    about["runs"][name].append(found)
                file.write_text(json.dumps(kept, indent=1) + "\n")
                file.with_suffix(".md").write_text(page(kept))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
