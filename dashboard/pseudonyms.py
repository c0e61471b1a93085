"""An analysis whose patients, regions, cells and files go by other names, and the key that leads back."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from milcore.analysis import Analysis

__all__ = ["Masked", "masked"]

QUOTING = frozenset(
    ["forgiving_match", "unmatched_patients", "patients_without_cells", "target_in_both", "mixed_types"]
)  # kinds of warnings that list ids, also of people who are not in the cohort
LIST = re.compile(r"(: (?=')| \(first: ).*$")


@dataclass(frozen=True, eq=False)
class Masked:
    """`analysis` names nobody; `key` has a row for every patient and region: pseudonym, region_pseudonym, patient,
    region; `names` leads from patients to pseudonyms."""

    analysis: Analysis
    key: pd.DataFrame
    names: dict[str, str]


def masked(analysis: Analysis) -> Masked:
    """The same analysis under pseudonyms: 'Patient 07', 'region 2', in an order that tells nothing.

    The same cohort gets the same ones each time. Labels, cell types and names of columns stay.
    """
    cohort = analysis.cohort
    people = [str(name) for name in pd.unique(cohort.patients["patient"])]
    hidden = hashlib.blake2b(
        f"pseudonyms {cohort.fingerprint}".encode()
    ).digest()  # reports show only its start
    order = np.random.default_rng(list(hidden)).permutation(len(people))
    wide = len(str(len(people)))
    names = {name: f"Patient {place + 1:0{wide}d}" for name, place in zip(people, order, strict=True)}
    owner = cohort.patients["patient"].astype(str).to_numpy()[cohort.owner]
    places = pd.DataFrame({"patient": owner, "region": cohort.cells["region"].astype("object").to_numpy()})
    key = places.drop_duplicates().dropna(subset=["region"]).astype(str)
    key["region_pseudonym"] = "region " + (key.groupby("patient").cumcount() + 1).astype(str)
    regions = {(row.patient, row.region): row.region_pseudonym for row in key.itertuples()}

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        new = {"patient": table["patient"].astype(str).map(names)}
        if "region" in table:
            pairs = zip(table["patient"].astype(str), table["region"].astype(str), strict=True)
            new["region"] = [regions.get(pair, "") for pair in pairs]
        return table.assign(**new)

    new = pd.Series([regions.get(pair) for pair in places.itertuples(index=False, name=None)])
    cells = cohort.cells.assign(region=new.astype("category"), cell_id=np.arange(1, cohort.N + 1))
    n = len(cohort.source.get("files", []))
    source = cohort.source | {"files": [f"{n} file{'' if n == 1 else 's'}"] if n else []}
    other = replace(cohort, patients=renamed(cohort.patients), cells=cells, source=source)
    facts = analysis.facts | {"warnings": [_silent(w, names) for w in analysis.facts["warnings"]]}
    result = replace(analysis, cohort=other, facts=facts, predictions=renamed(analysis.predictions))
    alone = pd.DataFrame(
        {"patient": sorted(set(people) - set(key["patient"])), "region": "", "region_pseudonym": ""}
    )
    key = pd.concat([key, alone], ignore_index=True)
    key.insert(0, "pseudonym", key["patient"].map(names))
    columns = ["pseudonym", "region_pseudonym", "patient", "region"]
    return Masked(result, key.sort_values(columns[:2], ignore_index=True)[columns], names)


def _silent(warning: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The warning without lists of ids, and with pseudonyms where it names a patient of the cohort."""
    words = warning["words"]
    if warning["kind"] in QUOTING:
        words = LIST.sub(".", words)
    for name, other in names.items():
        words = words.replace(f"'{name}'", f"'{other}'")
    return warning | {"words": words}
