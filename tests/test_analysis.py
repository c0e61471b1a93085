from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from milcore import cellfile
from milcore.analysis import Analysis
from milcore.chain import analyse
from milcore.cohort import Cohort
from milcore.errors import Cancelled, MilError
from milcore.evidence import leave_group_out
from milcore.folds import plan
from milcore.judgement import _known_columns
from milcore.progress import Progress
from milcore.readers import Columns, read_cohort
from milcore.training import Member, Settings
from tests.planted import Planted, planted

SETTINGS = Settings(target="response", effort="quick", permutations=100)


@pytest.fixture(scope="module")
def case() -> Planted:
    return planted(0)


@pytest.fixture(scope="module")
def made(case: Planted) -> Analysis:
    return analyse(case.cohort, SETTINGS)


@pytest.fixture(scope="module")
def saved(made: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return made.save(tmp_path_factory.mktemp("analyses") / "one")


def test_patients_and_planted_cells_are_found(case: Planted, made: Analysis) -> None:
    assert made.facts["scores"]["auroc"]["value"] > 0.9
    assert made.facts["positive"] == "yes"
    assert average_precision_score(case.drivers, made.cells["importance"]) > 0.8


def test_the_identities_hold(case: Planted, made: Analysis) -> None:
    cells, predictions = made.cells, made.predictions
    by_patient = cells.groupby("patient", observed=True, sort=False)
    np.testing.assert_allclose(by_patient["contribution"].sum(), predictions["score"], atol=1e-5)
    np.testing.assert_allclose(by_patient["attention"].sum(), 1, atol=1e-5)
    np.testing.assert_allclose(by_patient["importance"].mean(), predictions["score"], atol=1e-5)
    for name in made.members:
        assert np.isfinite(cells[[f"evidence_{name}", f"importance_{name}"]]).all(axis=None)
    assert ((predictions["low"] <= predictions["high"]) & predictions["prediction"].between(0, 1)).all()


def test_leave_one_out_and_without_are_scoring_again_without_the_cells(case: Planted, made: Analysis) -> None:
    offsets, gone = case.cohort.offsets, np.zeros(case.cohort.N, bool)
    gone[[offsets[3], offsets[3] + 1, offsets[5]]] = True
    table = made.without(gone).set_index("patient")
    assert list(table.index) == ["P04", "P06"]
    for b, name in ((3, "P04"), (5, "P06")):
        rows, mixture = case.cohort.rows(b), made.mixture
        score = 0.0
        for r in range(2):
            score += mixture.a[r, b] / 2
            for m, member in enumerate(made.members.values()):
                left = ~gone[rows]
                w = member.weight[r, rows].astype(float)[left]
                score += mixture.b[m, r, b] * (w / w.sum()) @ member.evidence[r, rows].astype(float)[left] / 2
        assert table.loc[name, "score_without"] == pytest.approx(score, abs=1e-5)
    alone = made.cells["leave_one_out"][offsets[5]]
    assert table.loc["P06", "score"] - table.loc["P06", "score_without"] == pytest.approx(alone, abs=1e-5)


def test_nobody_is_scored_by_a_model_that_saw_them(case: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turning one patient's label round changes nothing about this patient, whatever it does to the others.

    With the same folds, every number shown for the patients of its fold must stay to the last bit: scores, evidence,
    and with them the stacking weights, so the pair and triple models that chose them are covered too.
    """
    dealt = plan(case.task.strata, case.cohort.groups, repeats=1, seed=0)
    monkeypatch.setattr("milcore.case.plan", lambda *args, **kwargs: dealt)
    turned = case.cohort.patients.copy()
    turned.loc[7, "response"] = {"yes": "no", "no": "yes"}[turned.loc[7, "response"]]
    settings = Settings(target="response", positive="yes", repeats=1, permutations=0)
    first = analyse(case.cohort, settings)
    again = analyse(with_patients(case.cohort, turned), settings)
    same = dealt.fold[0] == dealt.fold[0][7]
    np.testing.assert_array_equal(first.predictions["score"][same], again.predictions["score"][same])
    assert (first.predictions["score"][~same] != again.predictions["score"][~same]).all()
    here = same[case.cohort.owner]
    for column in ("evidence", "attention", "importance", "importance_attention", "importance_neighbourhood"):
        np.testing.assert_array_equal(first.cells[column][here], again.cells[column][here])


def test_models_train_on_no_patient_they_score(case: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches the training sets of the whole stack, pair models included, and who is scored by which model."""
    from milcore import training

    trained, scored = {}, []

    def noted(x, stack, tell):
        found = learn(x, stack, tell)
        trained[found["embed"].tobytes()] = stack.train
        return found

    def name_of(networks):
        return networks.parts["embed"].contiguous().numpy().tobytes()

    learn, whole = training.trained, training._whole
    monkeypatch.setattr(training, "trained", noted)

    def watched(networks, cells, top, s, bags):
        scored.append((name_of(networks), s, np.unique(case.cohort.owner[bags[0]])))
        return whole(networks, cells, top, s, bags)

    monkeypatch.setattr(training, "_whole", watched)
    analyse(case.cohort, Settings(target="response", pooling="attention", effort="quick", permutations=0))
    assert [len(train) for train in trained.values()] == [5 + 10] * 2
    assert len(scored) == 2 * (5 + 10)
    for name, s, patients in scored:
        assert not trained[name][s, patients].any()
    shown = np.concatenate([patients for _, s, patients in scored if s < 5])
    assert sorted(shown) == sorted([*range(24)] * 2)


def test_the_same_seed_gives_the_same_numbers(case: Planted, made: Analysis) -> None:
    again = analyse(case.cohort, SETTINGS)
    pd.testing.assert_frame_equal(made.predictions, again.predictions)
    pd.testing.assert_frame_equal(made.cells, again.cells)
    assert made.facts["scores"] == again.facts["scores"]
    assert made.facts["null"] == again.facts["null"]


def test_an_analysis_comes_back_from_its_folder(made: Analysis, saved: Analysis) -> None:
    pd.testing.assert_frame_equal(made.predictions, saved.predictions)
    pd.testing.assert_frame_equal(made.cells, saved.cells, check_dtype=False, check_categorical=False)
    pd.testing.assert_frame_equal(made.without(np.arange(9)), saved.without(np.arange(9)))
    assert json.loads(json.dumps(made.facts)) == saved.facts
    assert saved.settings == SETTINGS
    assert isinstance(saved.members["attention"].weight, np.memmap)


def test_cells_are_written_in_input_order(
    case: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cellfile, "ROWS", 1000)
    mixed = np.random.default_rng(0).permutation(case.cohort.N)
    table = pd.DataFrame({"cell_id": mixed, "x": mixed.astype(np.float32)})
    names = case.cohort.patients["patient"].to_numpy()[case.cohort.owner]
    cohort = Cohort.of(
        case.cohort.features[mixed],
        names[mixed],
        patients=case.cohort.patients,
        cells=table,
        order=np.arange(len(mixed)) + 3,  # the first rows belong to nobody
        inputs=len(mixed) + 3,
    )
    settings = Settings(target="response", pooling="neighbourhood", repeats=1, permutations=0)
    folder = tmp_path / "out"
    made = analyse(cohort, settings)
    made.save(folder)
    written = pd.read_parquet(folder / "cells.parquet")
    assert written[:3].isna().all(axis=None)
    np.testing.assert_array_equal(written["cell_id"][3:], mixed)
    np.testing.assert_array_equal(written["patient"][3:].astype(str), names[mixed])
    assert written["evidence"][3:].notna().all()
    opened = Analysis.open(folder).cells
    pd.testing.assert_frame_equal(
        opened.drop(columns="region"), made.cells.drop(columns="region"), check_dtype=False
    )


def with_patients(cohort: Cohort, patients: pd.DataFrame) -> Cohort:
    names = cohort.patients["patient"].to_numpy()[cohort.owner]
    return Cohort.of(cohort.features, names, patients=patients, cells=cohort.cells)


FAST = {"target": "response", "pooling": "neighbourhood", "repeats": 2, "permutations": 20}


def test_patients_without_a_label_are_predicted_and_marked(case: Planted) -> None:
    some = case.cohort.patients.copy()
    some.loc[[2, 5], "response"] = None
    made = analyse(with_patients(case.cohort, some), Settings(**FAST))
    assert made.predictions["label"][[2, 5]].tolist() == ["", ""]
    assert made.predictions["prediction"].notna().all()
    assert made.facts["counts"]["unlabelled"] == 2
    assert "unlabelled_patients" in {w["kind"] for w in made.facts["warnings"]}


def test_a_label_that_is_missing_takes_no_part(case: Planted) -> None:
    """An unlabelled patient's hidden label could be either: nothing changes."""
    some = case.cohort.patients.copy()
    some["response"] = some["response"].where(np.arange(24) != 5)
    one = analyse(with_patients(case.cohort, some), Settings(**FAST))
    some["other"] = some["response"].fillna(" ")
    two = analyse(with_patients(case.cohort, some), Settings(**FAST | {"target": "other"}))
    np.testing.assert_array_equal(one.predictions["score"], two.predictions["score"])


def test_classes_keep_only_their_patients(case: Planted) -> None:
    three = case.cohort.patients.copy()
    three.loc[:3, "response"] = "maybe"
    cohort = with_patients(case.cohort, three)
    made = analyse(cohort, Settings(**FAST | {"classes": ("yes", "no")}))
    assert list(made.predictions["patient"]) == list(three["patient"][4:])
    left_out = cohort.owner < 4
    assert made.cells["importance"][left_out].isna().all()
    assert made.cells["importance"][~left_out].notna().all()
    assert made.facts["cohort"]["patients"] == 20
    with pytest.raises(MilError, match="'perhaps'"):
        analyse(cohort, Settings(**FAST | {"classes": ("yes", "perhaps")}))
    with pytest.raises(MilError, match="3 different labels"):
        analyse(cohort, Settings(**FAST | {"task": "binary"}))


def test_regions_can_be_the_bags(case: Planted, tmp_path: Path) -> None:
    names = case.cohort.patients["patient"].to_numpy()[case.cohort.owner]
    cohort = Cohort.of(
        case.cohort.features, names, patients=case.cohort.patients, cells=case.cohort.cells, bag="region"
    )
    made = analyse(cohort, Settings(**FAST)).save(tmp_path / "out")
    assert list(made.predictions.columns[:2]) == ["patient", "region"]
    assert 0 < made.facts["null"]["p"] <= 1
    by_patient = pd.read_csv(tmp_path / "out" / "predictions_patient.csv")
    assert len(by_patient) == 24
    assert made.facts["scores_patient"]["auroc"]["value"] > 0.8
    assert made.facts["prepared"]["transform"] == "auto"


def test_a_patient_of_one_cell_has_no_leave_one_out(case: Planted) -> None:
    names = case.cohort.patients["patient"].to_numpy()[case.cohort.owner]
    keep = np.ones(case.cohort.N, bool)
    keep[case.cohort.offsets[0] + 1 : case.cohort.offsets[1]] = False
    cohort = Cohort.of(case.cohort.features[keep], names[keep], patients=case.cohort.patients)
    made = analyse(cohort, Settings(**FAST))
    assert np.isnan(made.cells["leave_one_out"][0])
    assert made.cells["leave_one_out"][1:].notna().all()
    assert np.isnan(made.without(np.array([0]))["score_without"][0])


def test_missing_values_do_not_reach_the_output(case: Planted) -> None:
    names = case.cohort.patients["patient"].to_numpy()[case.cohort.owner]
    x = np.array(case.cohort.features)
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    cohort = Cohort.of(x, names, patients=case.cohort.patients)
    for pooling in ("neighbourhood", "mean"):
        made = analyse(cohort, Settings(**FAST | {"pooling": pooling}))
        assert np.isfinite(made.cells[["evidence", "contribution", "umap_1"]]).all(axis=None)


def test_known_cells_are_reported_and_never_features(tmp_path: Path) -> None:
    case = planted(0)
    table = case.cohort.cells.assign(
        id=case.cohort.patients["patient"].to_numpy()[case.cohort.owner],
        truth=np.where(np.arange(case.cohort.N) % 2, case.drivers, np.nan),  # every other cell is known
        **{f"m{f}": case.cohort.features[:, f] for f in range(case.cohort.F)},
    )
    table.rename(columns={"id": "patient"}).to_csv(tmp_path / "cells.csv", index=False)
    case.cohort.patients.to_csv(tmp_path / "patients.csv", index=False)
    cohort = read_cohort(
        [tmp_path / "cells.csv"], patients=tmp_path / "patients.csv", columns=Columns(known="truth")
    )
    made = analyse(cohort, Settings(**FAST))
    assert "truth" not in cohort.names
    assert set(made.facts["known"]) == {"0", "1"}
    assert made.facts["known"]["1"]["auroc"] > 0.9
    assert made.facts["known"]["1"]["cells"] == case.drivers[1::2].sum()
    importance, known = made.cells["importance"][1::2], case.drivers[1::2]
    expected = average_precision_score(known, importance)  # cells without a value are no others
    assert made.facts["known"]["1"]["average_precision"] == pytest.approx(expected)


def test_numbers_are_no_kinds_of_cells() -> None:
    kinds = {"truth": [0.0, 1.0] * 20, "depth": np.arange(40.0), "type": list("ab") * 20}
    source = {"columns": [{"name": name, "role": "known"} for name in kinds]}
    cohort: Any = SimpleNamespace(source=source, cells=pd.DataFrame(kinds))
    assert _known_columns(cohort) == {"truth": True, "depth": False, "type": True}


def test_faithfulness_and_probes_are_part_of_the_facts(made: Analysis) -> None:
    found = made.facts["faithfulness"]
    assert found["importance"]["all"] > found["random"]["all"][1]
    assert "probes" not in made.facts  # there is no batch column


def test_an_unknown_target_names_close_ones(case: Planted) -> None:
    with pytest.raises(MilError, match="'respons'") as caught:
        analyse(case.cohort, Settings(target="respons"))
    assert "response" in caught.value.fix


def test_what_is_in_the_way_is_never_overwritten(made: Analysis, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MilError, match="exists already"):
        made.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failed_save_leaves_nothing(made: Analysis, tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(MilError, match="disk is full"):
        made.save(tmp_path / "out", also=full)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_named(saved: Analysis, made: Analysis, tmp_path: Path) -> None:
    with pytest.raises(MilError, match="no analysis"):
        Analysis.open(tmp_path / "nowhere")
    folder = tmp_path / "out"
    made.save(folder)
    (folder / "cells.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(MilError, match="damaged"):
        Analysis.open(folder)
    facts = json.loads((folder / "analysis.json").read_text())
    (folder / "analysis.json").write_text(json.dumps(facts | {"version": 99}))
    with pytest.raises(MilError, match="version 99"):
        Analysis.open(folder)
    (folder / "analysis.json").write_text("{")
    with pytest.raises(MilError, match="damaged"):
        Analysis.open(folder)


def test_work_is_stopped_at_the_next_step_and_early_results_come_first(case: Planted) -> None:
    heard = []
    with pytest.raises(Cancelled):
        analyse(
            case.cohort, SETTINGS, Progress(heard.append, lambda: any(e.stage == "attention" for e in heard))
        )
    (early,) = [event.early for event in heard if event.early]
    assert early["member"] == "neighbourhood"
    assert len(early["predictions"]) == 24
    assert heard[-1].stage == "attention"


def test_leaving_everything_out_is_not_a_number() -> None:
    one = Member(np.full((1, 2), 0.5), np.array([[[1.0], [2.0]]]), np.empty(0))
    assert np.isnan(leave_group_out(one, 0, slice(0, 2), np.array([True, True]), 0)).all()


# ---------------------------------------------------------------- every kind of label


def outcomes(case: Planted) -> Cohort:
    """The planted cohort with a diagnosis, a number and a survival that depend on the planted cells, one missing."""
    draw, has = np.random.default_rng(0), np.arange(24) % 2
    time = draw.exponential(100 * np.exp(-2.0 * has)).round(2)
    table = case.cohort.patients.assign(
        diagnosis=np.where(has == 1, "driven", np.where(np.arange(24) // 2 % 2, "one", "other")),
        age=(60 + 10 * has + draw.normal(size=24)).round(2),
        dead=(draw.random(24) < 0.8).astype(float),
        days=time,
    )
    table.loc[4, ["diagnosis", "age", "dead"]] = None
    return with_patients(case.cohort, table)


KINDS = {
    "multiclass": {"target": "diagnosis"},
    "regression": {"target": "age"},
    "survival": {"target": "dead", "time": "days"},
}


@pytest.fixture(scope="module", params=[*((k, "auto") for k in KINDS), ("regression", "topk")], ids="-".join)
def kind(request: pytest.FixtureRequest, case: Planted, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    name, pooling = request.param
    effort = {"effort": "quick"} if pooling == "auto" else {"repeats": 1}
    settings = Settings(pooling=pooling, permutations=30, **effort, **KINDS[name])
    return analyse(outcomes(case), settings).save(tmp_path_factory.mktemp("kinds") / "out")


def test_every_kind_of_label_keeps_the_contract(kind: Analysis) -> None:
    facts, cells, table = kind.facts, kind.cells, kind.predictions
    assert facts["scores"][facts["main"]]["low"] <= facts["scores"][facts["main"]]["value"]
    assert 0 < facts["null"]["p"] <= 1
    assert facts["counts"]["unlabelled"] == 1
    assert table["label"][4] == ""
    assert table["score"].notna().all()
    sums = cells.groupby(kind.cohort.owner)["contribution"].sum().to_numpy()
    np.testing.assert_allclose(sums, table["score"], atol=1e-4)
    sizes = np.diff(kind.cohort.offsets)[kind.cohort.owner]
    np.testing.assert_allclose(cells["importance"], cells["contribution"] * sizes)
    for name, baseline in facts["baselines"].items():
        assert baseline["difference"]["se"] >= 0, name
    if facts["task"] == "multiclass":
        classes = facts["classes"]
        assert set(table["prediction"]) <= set(classes)
        np.testing.assert_allclose(table[[f"p_{c}" for c in classes]].sum(axis=1), 1)
        np.testing.assert_allclose(cells[[f"evidence_{c}" for c in classes]].sum(axis=1), 0, atol=1e-4)
        assert np.sum(facts["confusion"]["counts"]) == 23
    if facts["task"] == "survival":
        assert sum(group["patients"] for group in facts["survival"]["groups"]) == 23
        np.testing.assert_allclose(np.log(table["prediction"]), table["score"], atol=1e-9)


def test_what_if_is_scoring_again_for_every_kind(kind: Analysis) -> None:
    """Without a group of cells, from members and mixture alone, against the score made anew."""
    gone = np.random.default_rng(0).random(kind.cohort.N) < 0.3
    found = kind.without(gone).set_index("patient")
    for b in (0, 5, 11):
        rows, output = kind.cohort.rows(b), kind.outputs[b]
        left, score = ~gone[rows], kind.mixture.a[:, b, output].astype(float)
        for m, name in enumerate(kind.mixture.members):
            member = kind.members[name]
            for r in range(len(score)):
                v = member.evidence[r, rows, output].astype(float)
                if member.rank is None:
                    w = member.weight[r, rows][left].astype(float)
                    mean = w @ v[left] / w.sum()
                else:
                    order = np.argsort(-member.rank[r, rows][left], kind="stable")
                    top = max(1.0, float(member.share[r, b]) * left.sum())
                    counts = np.clip(top - np.arange(left.sum()), 0, 1)
                    mean = counts @ v[left][order] / top
                score[r] += kind.mixture.b[m, r, b] * mean
        name = kind.cohort.patients["patient"][b]
        assert found.loc[name, "score_without"] == pytest.approx(score.mean(), abs=1e-4)
        assert found.loc[name, "score"] == pytest.approx(kind.predictions["score"][b], abs=1e-4)


def test_samples_of_one_patient_under_two_conditions(case: Planted) -> None:
    """The bag is the sample, the patient the group: labels differ within patients, folds never part them."""
    patient = (np.arange(24) // 2)[case.cohort.owner]
    sample = np.array([f"S{k:02d}" for k in range(24)])
    names, condition = (
        np.array([f"P{p:02d}" for p in patient]),
        np.where(np.arange(24) % 2, "treated", "rest"),
    )
    cells = pd.DataFrame({"region": sample[case.cohort.owner]})
    samples = pd.DataFrame({"patient": [f"P{k // 2:02d}" for k in range(24)], "region": sample})
    samples["condition"] = condition
    cohort = Cohort.of(case.cohort.features, names, patients=samples, cells=cells, bag="region")
    made = analyse(cohort, Settings(target="condition", pooling="neighbourhood", repeats=2, permutations=50))
    assert made.facts["cohort"]["patients"] == 12
    assert made.facts["scores"]["auroc"]["value"] > 0.8
    assert made.facts["null"]["p"] < 0.1
