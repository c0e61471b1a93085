from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

import sample_data
from milcore.analysis import Analysis
from milcore.chain import analyse
from milcore.cohort import Cohort
from milcore.errors import MilError
from milcore.prediction import predict, read_new
from milcore.readers import Columns, read_cohort
from milcore.scorer import MODEL, Scorer
from milcore.training import Settings
from tests.planted import planted
from tests.tiny import cells, milscope, patients

CELLS = 250  # of each patient of the sample


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """The sample's patients in two halves with as many responders, a random few of their cells, as files."""
    table, people = pd.read_parquet(sample_data.files()[0]), pd.read_csv(sample_data.files()[1])
    few = table.sample(frac=1, random_state=0).groupby("patient_id").head(CELLS).sort_index()
    second = people.groupby("response").cumcount() % 2 == 1
    folder, out = tmp_path_factory.mktemp("halves"), []
    for name, part in (("first", people[~second]), ("second", people[second])):
        files = folder / f"{name}.parquet", folder / f"{name}.csv"
        few[few["patient_id"].isin(part["patient_id"])].to_parquet(files[0])
        part.to_csv(files[1], index=False)
        out.append(files)
    return out


@pytest.fixture(scope="module")
def trained(
    halves: list[tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Analysis, Path]:
    """The analysis of the first half, and its folder."""
    cohort = read_cohort([halves[0][0]], patients=halves[0][1])
    folder = tmp_path_factory.mktemp("trained") / "analysis"
    return analyse(cohort, Settings(target="response", effort="quick", permutations=0)).save(folder), folder


@pytest.fixture(scope="module")
def scorer(trained: tuple[Analysis, Path]) -> Scorer:
    return Scorer.open(trained[1] / MODEL)


@pytest.fixture(scope="module")
def new(scorer: Scorer, halves: list[tuple[Path, Path]]) -> Cohort:
    """The second half of the sample's patients."""
    return read_new(scorer, [halves[1][0]], patients=halves[1][1])


@pytest.fixture(scope="module")
def found(scorer: Scorer, new: Cohort) -> Analysis:
    return predict(scorer, new)


def with_features(cohort: Cohort, x: np.ndarray, names: list[str]) -> Cohort:
    owner = cohort.patients["patient"].to_numpy()[cohort.owner]
    return Cohort.of(x, owner, names=names, patients=cohort.patients, cells=cohort.cells)


def test_half_of_the_sample_is_predicted_from_the_other(
    trained: tuple[Analysis, Path], found: Analysis, tmp_path: Path
) -> None:
    score, inside = found.facts["scores"]["auroc"]["value"], trained[0].facts["scores"]["auroc"]
    assert inside["low"] <= score <= inside["high"]
    assert score > 0.65
    table = found.predictions
    assert (table["low"] <= table["prediction"]).all()
    assert (table["prediction"] <= table["high"]).all()
    assert np.isfinite(found.cells.select_dtypes("number").drop(columns=["leave_one_out"])).all(axis=None)
    sums = found.cells.groupby("patient", observed=True)["contribution"].sum()
    np.testing.assert_allclose(sums[table["patient"]], table["score"], rtol=1e-5)
    saved = found.save(tmp_path / "new")
    assert saved.facts["new"] is True
    assert set(trained[0].cells) == set(saved.cells)
    pd.testing.assert_frame_equal(saved.predictions, table, check_dtype=False)
    assert saved.without(found.cohort.rows(0).start + np.arange(5))["score_without"].notna().all()
    assert not [w for w in found.facts["warnings"] if w["kind"] in ("shifted_feature", "far_from_training")]


def test_scoring_the_training_patients_is_close_to_their_own_fold(
    trained: tuple[Analysis, Path], scorer: Scorer
) -> None:
    """By all models, most of which saw them: never shown, but the scales must be the same."""
    again = predict(scorer, trained[0].cohort, trained_on=trained[0].predictions["patient"])
    own = trained[0].predictions["score"]
    assert np.corrcoef(again.predictions["score"], own)[0, 1] > 0.5
    assert abs(again.predictions["score"].mean() - own.mean()) < own.std() / 2
    assert "patients_of_training" in [w["kind"] for w in again.facts["warnings"]]


def test_the_order_of_features_and_others_do_not_matter(scorer: Scorer, new: Cohort, found: Analysis) -> None:
    turned = np.hstack([new.features[:, ::-1], np.ones((new.N, 1), np.float32)])
    other = predict(scorer, with_features(new, turned, [*new.names[::-1], "extra"]))
    pd.testing.assert_frame_equal(other.predictions, found.predictions)
    assert ["'extra'" in w["words"] for w in other.facts["warnings"] if w["kind"] == "features_ignored"] == [
        True
    ]


def test_a_doubled_feature_is_called_so(scorer: Scorer, new: Cohort) -> None:
    x = np.array(new.features)
    x[:, new.names.index("CD8")] *= 2
    said = [
        w["words"]
        for w in predict(scorer, with_features(new, x, list(new.names))).facts["warnings"]
        if w["kind"] == "shifted_feature"
    ]
    assert len(said) == 1
    assert said[0].startswith("'CD8' is about 2")
    assert "times as large" in said[0]


def test_strange_cells_lie_far_from_the_training_cells(scorer: Scorer, new: Cohort, found: Analysis) -> None:
    x = np.array(new.features)
    rows = new.rows(3)
    x[rows] = np.random.default_rng(0).permuted(x[rows] * 5, axis=1)
    strange = predict(scorer, with_features(new, x, list(new.names)))
    assert strange.predictions["far"][3] > 0.5
    words = [w["words"] for w in strange.facts["warnings"] if w["kind"] == "far_from_training"]
    assert new.patients["patient"][3] in words[0]
    np.testing.assert_array_equal(
        strange.predictions["far"].drop(index=3), found.predictions["far"].drop(index=3)
    )


def test_a_missing_feature_is_named(scorer: Scorer, new: Cohort) -> None:
    few = with_features(new, np.array(new.features[:, 1:]), list(new.names[1:]))
    with pytest.raises(MilError, match=f"lack 1 of the {len(new.names)} features") as caught:
        predict(scorer, few)
    assert f"'{new.names[0]}'" in caught.value.problem


def test_without_labels_nothing_is_claimed(scorer: Scorer, new: Cohort, found: Analysis) -> None:
    odd = new.patients.assign(response=["maybe", *[None] * (new.B - 1)])
    bare = predict(
        scorer,
        Cohort.of(
            np.array(new.features),
            new.patients["patient"].to_numpy()[new.owner],
            names=new.names,
            patients=odd,
            cells=new.cells,
        ),
    )
    assert "scores" not in bare.facts
    assert (bare.predictions["label"] == "").all()
    assert "'maybe'" in next(w["words"] for w in bare.facts["warnings"] if w["kind"] == "unknown_labels")
    np.testing.assert_array_equal(bare.predictions["score"], found.predictions["score"])


KINDS = {
    "topk of three classes": ("topk", lambda drivers: np.array(["none", "one", "two", "one"])[drivers % 4]),
    "mean of a number": ("mean", lambda drivers: drivers % 2 + drivers / 100),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_poolings_and_labels(name: str, tmp_path: Path) -> None:
    pooling, label = KINDS[name]
    case = planted(3, patients=30, cells=40)
    people = case.cohort.patients.assign(what=label(np.arange(30)))
    owner = people["patient"].to_numpy()[case.cohort.owner]
    made = Cohort.of(np.array(case.cohort.features), owner, patients=people, cells=case.cohort.cells)
    settings = Settings(target="what", pooling=pooling, repeats=1, permutations=0, context=3)
    trained = analyse(made, settings)
    assert trained.scorer is not None
    trained.scorer.save(tmp_path / MODEL)
    found = predict(Scorer.open(tmp_path / MODEL), made)
    assert trained.facts["main"] in found.facts["scores"]
    assert found.cells["umap_1"].isna().all(), (
        "no training cell is kept, so there is no map to place cells in"
    )
    column = "evidence_one" if pooling == "topk" else "evidence"
    assert np.corrcoef(found.cells[column], trained.cells[column])[0, 1] > 0.7


def test_a_table_of_cell_types_lacks_none_that_nobody_has(tmp_path: Path) -> None:
    table, labels = cells().drop(columns=[f"m{j}" for j in range(5)]), patients()
    table.to_csv(tmp_path / "cells.csv", index=False)
    labels.to_csv(tmp_path / "patients.csv", index=False)
    cohort = read_cohort([tmp_path / "cells.csv"], patients=tmp_path / "patients.csv")
    scorer = analyse(cohort, Settings(target="outcome", repeats=1, permutations=0)).scorer
    assert scorer is not None
    table[table["cell_type"] != "driver"].to_csv(tmp_path / "plain.csv", index=False)
    new = read_new(scorer, [tmp_path / "plain.csv"])
    assert new.names == ("cell_type: other <i>",)
    found = predict(scorer, new)
    assert np.ptp(found.predictions["score"]) < 1e-6, "all cells are of one type"


def test_names_of_files_are_taken_apart_as_in_training(tmp_path: Path) -> None:
    """A folder of files `<lab>-<patient>-<core>`: neither patient nor region is a column."""
    rng, scores = np.random.default_rng(4), pd.DataFrame({"patient": [f"{k:02d}" for k in range(12)]})
    for place, first in (("train", 0), ("new", 50)):
        (tmp_path / place).mkdir()
        for k in range(12):
            values = pd.DataFrame(rng.normal(k % 2, 1, (40, 3)), columns=["A", "B", "C"])
            for core in "ab":
                values.to_csv(tmp_path / place / f"lab-{first + k:02d}-{core}.csv", index=False)
    scores.assign(outcome=["no", "yes"] * 6).to_csv(tmp_path / "patients.csv", index=False)
    columns = Columns(pattern="lab-{patient}-{region}.csv")
    cohort = read_cohort(
        sorted((tmp_path / "train").glob("*.csv")), patients=tmp_path / "patients.csv", columns=columns
    )
    settings = Settings(target="outcome", pooling="neighbourhood", repeats=1, permutations=0)
    scorer = analyse(cohort, settings).scorer
    assert scorer is not None
    assert scorer.card["columns"] == {"pattern": "lab-{patient}-{region}"}
    new = read_new(scorer, sorted((tmp_path / "new").glob("*.csv")))
    assert list(new.patients["patient"]) == [str(50 + k) for k in range(12)]
    assert set(new.cells["region"]) == {"a", "b"}
    one = pd.read_csv(tmp_path / "new" / "lab-50-a.csv").assign(patient="X")
    one.to_csv(tmp_path / "others.csv", index=False)
    other = read_new(scorer, [tmp_path / "others.csv"])
    assert list(other.patients["patient"]) == ["X"]
    assert any("do not fit the pattern 'lab-{patient}-{region}'" in note.words for note in other.notes)


def test_predict_on_the_command_line(tiny_run: tuple[Path, str, str], tmp_path: Path) -> None:
    table = (
        cells()
        .rename(columns={"patient": "donor"})
        .assign(m2=1.0, more=np.random.default_rng(0).normal(size=1280))
    )
    table[table.columns[::-1]].to_csv(tmp_path / "cells.csv", index=False)
    done = milscope("predict", tiny_run[0], tmp_path / "cells.csv", "--out", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "16 new patients, scored by all 10 models together; too few" in done.stdout
    assert "ignored (1): 'more'" in done.stdout
    assert "name of a training patient (16)" in done.stdout
    assert "'m2'" in done.stdout, "a constant feature is used, and its shift said"
    assert json.loads((tmp_path / "new" / "analysis.json").read_text())["new"] is True
    stored = pd.read_parquet(tmp_path / "new" / "cells.parquet")
    assert (stored["cell_id"].to_numpy() == table["cell_id"].to_numpy()).all(), "in input order"
    table.drop(columns="m1").to_csv(tmp_path / "less.csv", index=False)
    done = milscope("predict", tiny_run[0], tmp_path / "less.csv", "--out", tmp_path / "less")
    assert done.returncode == 2
    assert "lack 1 of the 5 features of the model: 'm1'" in done.stderr
    assert not (tmp_path / "less").exists()


# ---------------------------------------------------------------- a file from a stranger


def rewritten(change: Callable[[dict, dict], None]) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        raw = file.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        card = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["milscope"])
        tensors = load_file(file)
        change(tensors, card)
        save_file(tensors, file, metadata={"milscope": json.dumps(card)})

    return write


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a renamed pickle": lambda file: file.write_bytes(pickle.dumps({"a": np.ones(3)})),
    "a huge header": lambda file: file.write_bytes((1 << 40).to_bytes(8, "little") + file.read_bytes()[8:]),
    "nothing": lambda file: file.write_bytes(b""),
    "half a file": lambda file: file.write_bytes(file.read_bytes()[:-1000]),
    "a wrong dtype": rewritten(lambda t, c: t.update({"seen/limit": np.ones(2)})),
    "a wrong shape": rewritten(
        lambda t, c: t.update({"attention/embed": t["attention/embed"][:, :, :-1].copy()})
    ),
    "a missing key": rewritten(lambda t, c: t.pop("mixture//a")),
    "one more": rewritten(lambda t, c: t.update({"../../etc/passwd": np.ones(1)})),
    "not finite": rewritten(lambda t, c: t["attention/head"].fill(np.nan)),
    "a pooling with a path": rewritten(lambda t, c: c["pooling"]["members"].update({"../../x": {}})),
    "another version": rewritten(lambda t, c: c.update(version=99)),
    "folds without end": rewritten(lambda t, c: c.update(folds=10**12)),
    "columns that are none": rewritten(lambda t, c: c.update(columns={"trained": True})),
    "a column that is no text": rewritten(lambda t, c: c.update(columns={"patient": {"a": 1}})),
    "columns in a list": rewritten(lambda t, c: c.update(columns=["patient"])),
    "an unknown setting": rewritten(lambda t, c: c["settings"].update(run="rm")),
    "a card that is a list": rewritten(lambda t, c: (c.clear(), t.clear())),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused_in_words(
    name: str, trained: tuple[Analysis, Path], tmp_path: Path
) -> None:
    file = tmp_path / MODEL
    file.write_bytes((trained[1] / MODEL).read_bytes())
    HOSTILE[name](file)
    with pytest.raises(MilError) as caught:
        Scorer.open(file)
    assert caught.value.fix
