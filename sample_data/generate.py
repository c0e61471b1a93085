"""Makes the sample cohort, the same on every run: `python -m sample_data.generate`.

What drives what (fixed before any model was trained on it, and not tuned to a model's score):
response   the planted phenotype: CD8+ PD-1+ Ki67+ GranzymeB+ T cells, about 3 % of a responder's cells and
           0.3 % of a non-responder's. They take the place of other CD8 T cells, so shares of the given cell
           types say nothing about response; other CD8 T cells carry one or two of the three markers.
grade      composition: tumour area, fibroblasts, myeloid and lymphoid cells, dividing tumour cells
survival   the planted share in each patient, much noise, and censoring
coin, age, sex, batch   nothing: each is balanced over response by design, as in a matched study;
           batch (the slide) shifts intensities a little
The number of cells is drawn without regard to any label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.stats import norm

SEED = 20
PATIENTS = 48  # 8 for each of 3 batches x 2 responses
BATCHES = 3
CELLS_PER_REGION = (500, 801)  # two regions: 1,000 to 1,600 cells of a patient, small enough to ship

CORE = 300.0  # um, radius of a core: the common 0.6 mm punch, at which 650 cells look like tissue
CANDIDATES = 5000  # places tried per core, of which the cells' places are drawn
WAVES = 12  # cosines in a random field: enough to look irregular
VESSELS, VESSEL_RADIUS, VESSEL_WALL = 3, (16.0, 30.0), 5.0  # per core; um
AGGREGATE_SHARE, AGGREGATE_RADIUS = 0.4, (45.0, 80.0)  # share of cores with a lymphoid aggregate; um
CELL_SPACING = 15.0  # um, nearer centres push each other apart

SHARES = {"responder": (0.03, 0.5), "non-responder": (0.003, 0.8)}  # mean of a patient's share, sd of its log
DRIVER_LIMIT = 0.6  # at most this part of a patient's CD8 T cells
DRIVER_IN_NEST = 1.0  # log odds: activated T cells sit among tumour cells more often

SIGNAL_SD, CELL_SD, BACKGROUND_SD = 0.50, 0.20, 0.30  # sd of logs: stain, whole cell, background
PATIENT_SD, BATCH_SD, REGION_SD = 0.12, 0.12, 0.12  # sd of log gains and (region) of log background
SPILL, SPILL_REACH, SPILL_SD = 0.10, 8.0, 0.5  # part of the signal 10 um away, um, sd of its log
FAILED_MARKERS, FAILED_REGIONS = ["CD163", "CD11c", "IDO1"], 4  # one staining cycle lost in 4 of 96 cores
UNASSIGNED, MISTAKEN = 0.03, 0.02  # cells the lab left untyped, or typed as their nearest neighbour

# marker: background and full signal, in the scanner's units
MARKERS = {
    "DAPI": (200, 4000), "PanCK": (90, 2600), "E-cadherin": (110, 1500), "Vimentin": (120, 1800),
    "SMA": (80, 2400), "CD31": (70, 1200), "CD45": (110, 1500), "CD45RO": (100, 1100),
    "CD3": (80, 1300), "CD4": (100, 900), "CD8": (60, 1500), "FOXP3": (60, 700),
    "CD20": (80, 1700), "CD68": (90, 1300), "CD163": (80, 1200), "CD11c": (100, 1000),
    "HLA-DR": (140, 1600), "CD66b": (60, 1500), "CD56": (90, 800), "Ki67": (50, 450),
    "PD-1": (60, 300), "PD-L1": (90, 700), "GranzymeB": (50, 350), "IDO1": (80, 600),
}  # fmt: skip
COMPARTMENTS = {"nest": 1.0, "stroma": 0.45, "vessel": 2.5, "aggregate": 1.8}  # density of cells, relative


@dataclass(frozen=True)
class CellType:
    """How often a type lives in each compartment, what a higher grade does to it, how it looks."""

    weights: tuple[float, float, float, float]  # in nest, stroma, vessel, aggregate
    grade: float  # change of the log weight per step of grade
    area: float  # um2
    eccentricity: float
    levels: str  # part of the full signal, by marker; unnamed markers have none


TYPES = {
    "Tumor": CellType((78, 1, 0, 0), 0.0, 125, 0.60, "PanCK:1 E-cadherin:.9"),
    "Fibroblast": CellType((1.5, 38, 12, 6), -0.25, 85, 0.86, "Vimentin:1 SMA:.1"),
    "Endothelial": CellType((0.5, 3, 62, 2), 0.0, 75, 0.88, "CD31:1 Vimentin:.7"),
    "T cell CD8": CellType((10, 16, 8, 14), 0.0, 48, 0.50, "CD45:1 CD3:1 CD8:1 CD45RO:.5 Vimentin:.2"),
    "T cell CD4": CellType((3, 14, 6, 26), -0.25, 47, 0.50, "CD45:1 CD3:1 CD4:1 CD45RO:.6 Vimentin:.2"),
    "Treg": CellType((1.2, 4, 1, 4), 0.0, 47, 0.50, "CD45:1 CD3:.9 CD4:.9 FOXP3:1 CD45RO:.7 PD-1:.2"),
    "B cell": CellType((0.3, 4, 1, 38), -0.40, 46, 0.48, "CD45:1 CD20:1 HLA-DR:.7"),
    "Macrophage": CellType((5, 14, 6, 4), 0.35, 110, 0.66, "CD45:.7 CD68:1 HLA-DR:.6 CD4:.2 CD11c:.3"),
    "Dendritic cell": CellType((1, 3, 1, 6), 0.0, 90, 0.70, "CD45:.8 CD11c:1 HLA-DR:1.2 IDO1:.3"),
    "Neutrophil": CellType((1, 3, 3, 0), 0.40, 52, 0.45, "CD45:.6 CD66b:1"),
    "NK cell": CellType((0.8, 2, 1, 1), 0.0, 52, 0.50, "CD45:1 CD56:1 GranzymeB:.8"),
}


@dataclass(frozen=True)
class State:
    """A part of a cell type with levels of its own."""

    type: str
    name: str
    share: float  # of the type's cells; varies between patients
    levels: str
    grade: float = 0.0  # change of the log share per step of grade


STATES = (
    State("Tumor", "dividing", 0.20, "Ki67:1", grade=0.45),
    State("Tumor", "PD-L1+", 0.15, "PD-L1:1"),
    State("Fibroblast", "activated", 0.40, "SMA:1"),
    State("T cell CD8", "exhausted", 0.18, "PD-1:1"),
    State("T cell CD8", "effector", 0.20, "GranzymeB:1"),
    State("T cell CD8", "dividing", 0.07, "Ki67:1"),
    State("T cell CD8", "exhausted effector", 0.04, "PD-1:1 GranzymeB:1"),
    State("T cell CD8", "dividing effector", 0.03, "Ki67:1 GranzymeB:1"),
    State("T cell CD4", "follicular", 0.15, "PD-1:1"),
    State("T cell CD4", "dividing", 0.05, "Ki67:1"),
    State("B cell", "germinal centre", 0.12, "Ki67:1"),
    State("Macrophage", "CD163+", 0.40, "CD163:1"),
    State("Macrophage", "PD-L1+", 0.20, "PD-L1:1 IDO1:1"),
    State("T cell CD8", "driver", 0.0, "PD-1:1 Ki67:1 GranzymeB:1"),  # planted, never drawn
)
DRIVER = len(TYPES) + len(STATES) - 1  # its row among the phenotypes: the plain types, then the states


@dataclass(frozen=True, eq=False)
class Sample:
    """The three tables: N cells, B patients, and the truth of each cell (same rows as `cells`)."""

    cells: pd.DataFrame
    patients: pd.DataFrame
    truth: pd.DataFrame


def generate(seed: int = SEED) -> Sample:
    """The whole cohort; the same seed gives the same tables."""
    rng = np.random.default_rng(seed)
    patients = study(rng)
    region, place, compartment = tissue(rng, patients)
    owner = region // 2
    phenotype = draw_phenotypes(rng, patients, owner, compartment)
    phenotype[drivers(rng, patients, owner, in_nest=compartment == 0, cd8=is_cd8(phenotype))] = DRIVER
    truth_type = type_of_phenotype()[phenotype]
    near, gap = nearest(region, place)
    number = np.arange(len(owner)) - np.searchsorted(owner, owner) + 1  # running within the patient
    ids = {"patient_id": patients["patient_id"].to_numpy()[owner], "cell_id": number.astype(np.int32)}
    cells = pd.DataFrame(ids)
    cells.insert(1, "region", region_names(patients)[region])
    cells[["x_um", "y_um"]] = (place + CORE).round(1).astype(np.float32)  # origin at the core's corner
    cells["cell_type"] = lab_types(rng, truth_type, near)
    signal = stain(rng, phenotype)
    signal += spill_matrix(rng, near, gap) @ signal
    cells = cells.join(scan(rng, patients, region, signal)).join(shapes(rng, truth_type))
    truth = pd.DataFrame({**ids, "driver": phenotype == DRIVER, "true_type": phenotype_names()[phenotype]})
    return Sample(cells, outcomes(rng, patients, truth), truth)


def study(rng: np.random.Generator) -> pd.DataFrame:
    """Patients in random order; response, grade, coin, sex and batch are balanced, and age over response."""
    turn, cell = np.divmod(np.arange(PATIENTS), 2 * BATCHES)  # 8 turns in each of 3 batches x 2 responses
    turns = PATIENTS // (2 * BATCHES)
    age = 63 + 10 * norm.ppf(
        (rng.permuted(np.tile(np.arange(turns), (2 * BATCHES, 1)), axis=1) + 0.5) / turns
    )
    columns = {
        "age": (age[cell, turn] + rng.normal(0, 2, PATIENTS)).round().astype(int),
        "sex": np.array(["female", "male"])[(turn // 2 + cell) % 2],
        "batch": np.array([f"TMA{b + 1}" for b in range(BATCHES)])[cell % BATCHES],
        "response": np.array(["non-responder", "responder"])[cell // BATCHES],
        "grade": np.array(["low", "intermediate", "high"])[(turn + cell) % 3],
        "coin": np.array(["heads", "tails"])[(turn + cell) % 2],
    }
    table = pd.DataFrame(columns).iloc[rng.permutation(PATIENTS)].reset_index(drop=True)
    table.insert(0, "patient_id", [f"P{p + 1:02d}" for p in range(PATIENTS)])
    return table


def grade_step(patients: pd.DataFrame) -> np.ndarray:
    """(B,) -1, 0 or 1 for low, intermediate, high."""
    return patients["grade"].map({"low": -1, "intermediate": 0, "high": 1}).to_numpy()


def region_names(patients: pd.DataFrame) -> np.ndarray:
    """(2B,) core positions on the three slides, a patient's two side by side, such as TMA2-B05."""
    on_slide = 2 * patients.groupby("batch").cumcount().to_numpy()
    place = pd.DataFrame({"slide": patients["batch"].repeat(2), "n": (on_slide[:, None] + [0, 1]).ravel()})
    row = place["n"].floordiv(8).map(dict(enumerate("ABCD")))
    return np.asarray(place["slide"] + "-" + row + (place["n"] % 8 + 1).map("{:02d}".format))


def tissue(rng: np.random.Generator, patients: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Region (N,), place (N, 2) in um from the core's centre, compartment (N,); by region, then downwards."""
    regions = 2 * len(patients)
    radius = CORE * np.sqrt(rng.random((regions, CANDIDATES)))
    angle = rng.uniform(0, 2 * np.pi, (regions, CANDIDATES))
    place = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    area = np.repeat(0.42 + 0.09 * grade_step(patients) + rng.normal(0, 0.06, len(patients)), 2)
    compartment, density = compartments(rng, place, (area + rng.normal(0, 0.05, regions)).clip(0.15, 0.75))
    gumbel = np.log(density) + rng.gumbel(size=density.shape)  # the largest n are a weighted draw of n
    rank = np.argsort(np.argsort(-gumbel, axis=1), axis=1)
    kept = rank < rng.integers(*CELLS_PER_REGION, (regions, 1))
    region = np.nonzero(kept)[0]
    place = relax(region, place[kept])
    order = np.lexsort((place[:, 1].round(1), region))
    return region, place[order], compartment[kept][order]


def compartments(
    rng: np.random.Generator, place: np.ndarray, nest_area: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compartment code and relative density of cells at each candidate place, (R, C) each."""
    nests, gaps = field(rng, place, (200, 420)), field(rng, place, (100, 200))
    code = np.ones(nests.shape, np.int8)
    cut = np.sort(nests, axis=1)[np.arange(len(nests)), ((1 - nest_area) * CANDIDATES).astype(int), None]
    code[nests > cut] = 0
    middle = place[np.arange(len(place)), rng.integers(CANDIDATES, size=len(place)), None]
    has = rng.random((len(place), 1)) < AGGREGATE_SHARE
    reach = rng.uniform(*AGGREGATE_RADIUS, (len(place), 1))
    code[(np.linalg.norm(place - middle, axis=2) < reach) & has & (code == 1)] = 3
    stromal = np.argsort(nests[:, :300], axis=1)[:, : 20 * VESSELS : 20]  # vessels run through stroma
    centres = np.take_along_axis(place, stromal[:, :, None], axis=1)
    distance = np.linalg.norm(place[:, :, None] - centres[:, None], axis=3)
    from_wall = (distance - rng.uniform(*VESSEL_RADIUS, (len(place), 1, VESSELS))).min(axis=2)
    code[abs(from_wall) < VESSEL_WALL] = 2
    density = np.array(list(COMPARTMENTS.values()))[code] * np.where(gaps > 1.5, 0.1, 1.0)  # tears
    return code, np.where(from_wall < -VESSEL_WALL, 1e-6, density)  # a lumen is empty


def field(rng: np.random.Generator, place: np.ndarray, wavelength: tuple[float, float]) -> np.ndarray:
    """A smooth random landscape per region, about standard normal: (R, C, 2) -> (R, C)."""
    shape = (len(place), WAVES)
    turn, phase = rng.uniform(0, 2 * np.pi, (2, *shape))
    pace = 2 * np.pi / rng.uniform(*wavelength, shape)
    waves = np.stack([np.cos(turn), np.sin(turn)], axis=1) * pace[:, None]
    return np.sqrt(2 / WAVES) * np.cos(place @ waves + phase[:, None]).sum(axis=2)


def nearest(region: np.ndarray, place: np.ndarray, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Each cell's nearest cells of its region, (N, count), and how far they are, in um."""
    apart = place + np.column_stack([region * 100.0 * CORE, np.zeros(len(region))])  # no region near another
    distance, index = cKDTree(apart).query(apart, k=count + 1)
    return index[:, 1:], distance[:, 1:]


def relax(region: np.ndarray, place: np.ndarray, steps: int = 12) -> np.ndarray:
    """The places after crowded cells pushed each other apart, still inside the core."""
    for _ in range(steps):
        near, gap = nearest(region, place)
        push = (CELL_SPACING - gap).clip(0) / (2 * gap.clip(0.1))
        place = place + ((place[:, None] - place[near]) * push[:, :, None]).sum(axis=1) / 2
        place *= (CORE / np.linalg.norm(place, axis=1).clip(CORE))[:, None]
    return place


def type_of_phenotype() -> np.ndarray:
    """(P,) the type's position for each phenotype: the plain types, then the states."""
    names = list(TYPES)
    return np.array([*range(len(names)), *(names.index(state.type) for state in STATES)])


def phenotype_names() -> np.ndarray:
    """(P,) the names used in the truth file."""
    return np.array([*TYPES, *(f"{state.type}, {state.name}" for state in STATES)])


def draw_phenotypes(
    rng: np.random.Generator, patients: pd.DataFrame, owner: np.ndarray, compartment: np.ndarray
) -> np.ndarray:
    """(N,) a phenotype for each cell, by its compartment, its patient's own composition and the grade."""
    types, parent, step = list(TYPES.values()), type_of_phenotype(), grade_step(patients)[:, None]
    liking = step * np.array([t.grade for t in types]) + rng.normal(0, 0.3, (len(patients), len(types)))
    change = step * np.array([s.grade for s in STATES])
    states = np.array([s.share for s in STATES]) * np.exp(change + rng.normal(0, 0.3, change.shape))
    plain = 1 - states @ np.eye(len(types))[parent[len(types) :]]
    weights = np.array([t.weights for t in types]).T  # (4, T)
    per_type = weights[:, None] * np.exp(liking)  # (4, B, T)
    per_phenotype = per_type[:, :, parent] * np.hstack([plain.clip(0.05), states])
    steps = per_phenotype.cumsum(axis=2)[compartment, owner]
    return (steps < rng.random((len(owner), 1)) * steps[:, -1:]).sum(axis=1)


def is_cd8(phenotype: np.ndarray) -> np.ndarray:
    """(N,) true for every state of the CD8 T cell."""
    return type_of_phenotype()[phenotype] == list(TYPES).index("T cell CD8")


def driver_share(rng: np.random.Generator, patients: pd.DataFrame) -> np.ndarray:
    """(B,) the driver's part of a patient's cells: log-normal quantiles of the response, in random order."""
    group = patients.assign(luck=rng.random(len(patients))).groupby("response")["luck"]
    quantile = (group.rank() - 0.5) / group.transform("size")
    mean, sd = np.array([SHARES[r] for r in patients["response"]]).T
    return np.exp(np.log(mean) - sd**2 / 2 + sd * norm.ppf(quantile))


def drivers(
    rng: np.random.Generator,
    patients: pd.DataFrame,
    owner: np.ndarray,
    *,
    in_nest: np.ndarray,
    cd8: np.ndarray,
) -> np.ndarray:
    """The cells to turn into drivers: CD8 T cells, as many of each patient's as the response asks for."""
    most = DRIVER_LIMIT * np.bincount(owner, weights=cd8)
    wanted = np.minimum(rng.poisson(driver_share(rng, patients) * np.bincount(owner)), most.astype(int))
    key = np.where(cd8, DRIVER_IN_NEST * in_nest + rng.gumbel(size=len(owner)), -np.inf)
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    return np.lexsort((-key, owner))[rank < wanted[owner]]


def lab_types(rng: np.random.Generator, truth: np.ndarray, near: np.ndarray) -> pd.Categorical:
    """The typing a lab would hand over: some cells untyped, some taken for their neighbour, no states."""
    luck = rng.random(len(truth))
    code = np.where(luck < MISTAKEN, truth[near[:, 0]], truth)
    code[luck > 1 - UNASSIGNED] = len(TYPES)
    return pd.Categorical.from_codes(code, [*TYPES, "Unassigned"])


def levels() -> np.ndarray:
    """(P, M) the part of the full signal each phenotype shows of each marker."""
    texts = [t.levels for t in TYPES.values()] + [f"{TYPES[s.type].levels} {s.levels}" for s in STATES]
    rows = [dict(word.split(":") for word in f"DAPI:1 {text}".split()) for text in texts]
    return pd.DataFrame(rows, columns=list(MARKERS)).astype(float).fillna(0).to_numpy()


def spill_matrix(rng: np.random.Generator, near: np.ndarray, gap: np.ndarray) -> sparse.csr_array:
    """(N, N) the part of each neighbour's signal that lands in a cell."""
    noise = SPILL_SD * rng.normal(size=(len(gap), 1))
    part = SPILL * np.exp(-(gap - 10).clip(0) / SPILL_REACH + noise)
    starts = np.arange(0, near.size + 1, near.shape[1])
    return sparse.csr_array((part.ravel(), near.ravel(), starts), shape=(len(near), len(near)))


def stain(rng: np.random.Generator, phenotype: np.ndarray) -> np.ndarray:
    """(N, M) the signal each cell gives by itself."""
    full = np.array([signal for _, signal in MARKERS.values()], float)
    whole = CELL_SD * rng.normal(size=(len(phenotype), 1))  # a cell cut thin is dim in every marker
    noise = SIGNAL_SD * rng.normal(size=(len(phenotype), len(full)))
    return levels()[phenotype] * full * np.exp(noise + whole)


def scan(
    rng: np.random.Generator, patients: pd.DataFrame, region: np.ndarray, signal: np.ndarray
) -> pd.DataFrame:
    """(N, M) mean intensities: signal under gains, on a background; NaN where a staining cycle failed."""
    shape, regions = (BATCHES, signal.shape[1]), 2 * len(patients)
    background = np.array([low for low, _ in MARKERS.values()], float)
    gain = BATCH_SD * rng.normal(size=shape)[patients["batch"].astype("category").cat.codes]
    gain += PATIENT_SD * rng.normal(size=gain.shape)
    haze = REGION_SD * rng.normal(size=(regions, shape[1]))[region] + BACKGROUND_SD * rng.normal(
        size=signal.shape
    )
    seen = np.exp(gain)[region // 2] * signal + background * np.exp(haze)
    table = pd.DataFrame(seen.round(1).astype(np.float32), columns=list(MARKERS))
    failed = np.isin(region, rng.choice(regions, FAILED_REGIONS, replace=False))
    table.loc[failed, FAILED_MARKERS] = np.nan
    return table


def shapes(rng: np.random.Generator, truth: np.ndarray) -> pd.DataFrame:
    """(N, 3) area in um2, eccentricity and solidity of each cell's outline, by type."""
    area, eccentricity = np.array([(t.area, t.eccentricity) for t in TYPES.values()])[truth].T
    return pd.DataFrame({
        "area_um2": (area * np.exp(rng.normal(0, 0.25, len(truth)))).round(1).astype(np.float32),
        "eccentricity": rng.beta(12 * eccentricity, 12 * (1 - eccentricity)).round(3).astype(np.float32),
        "solidity": rng.beta(45, 3, len(truth)).round(3).astype(np.float32),
    })  # fmt: skip


def outcomes(rng: np.random.Generator, patients: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The patients with survival_days and event (1 = died): the more drivers, the longer the life."""
    share = truth.groupby("patient_id")["driver"].mean().reindex(patients["patient_id"]).to_numpy()
    log_share = np.log(share + 0.001)
    risk = -1.3 * (log_share - log_share.mean()) / log_share.std() + rng.normal(0, 0.4, len(patients))
    death = 900 * (rng.exponential(size=len(patients)) * np.exp(-risk)) ** (1 / 1.3)  # Weibull, days
    end = rng.uniform(300, 1700, len(patients))  # recruited over four years
    days = np.minimum(death, end).clip(14).round().astype(int)
    return patients.assign(survival_days=days, event=(death <= end).astype(int))


def main(folder: Path = Path(__file__).parent) -> None:
    """Rewrite cells.parquet, patients.csv and truth.parquet in `folder`."""
    sample = generate()
    for name, table in {"cells": sample.cells, "truth": sample.truth}.items():
        table.to_parquet(folder / f"{name}.parquet", index=False, compression="zstd", compression_level=19)
    sample.patients.to_csv(folder / "patients.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
