"""What a child makes of its inputs; in this process, because it is the same code."""

from __future__ import annotations

import hashlib
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from holdtrue_contracts.columns import unpack
from holdtrue_contracts.trainer.v1.profile_pb2 import ReferenceProfile
from holdtrue_models import Manifest, load_onnx
from holdtrue_stats.histogram import Edges, State
from holdtrue_trainer.child import exchange
from holdtrue_trainer.child.__main__ import attempt, main
from holdtrue_trainer.child.exchange import ColumnNote, Refusal, Success
from holdtrue_trainer.child.train import train
from holdtrue_trainer.domain.recipe import resolve
from holdtrue_trainer.domain.run import Failure
from sklearn.metrics import precision_score

from tests.logistic import logistic

from .conftest import SECOND, Rows, job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdtrue_models.manifest import Role


def run(folder: Path) -> Success:
    result = attempt(folder)
    assert isinstance(result, Success), result
    return result


def refused(folder: Path) -> Refusal:
    result = attempt(folder)
    assert isinstance(result, Refusal), result
    return result


def manifest_of(folder: Path) -> Manifest:
    return Manifest.from_bytes((folder / exchange.MANIFEST).read_bytes())


def test_first_run_makes_a_model_with_all_its_evidence(lay_out: Callable[..., Path]) -> None:
    rows = Rows()
    folder = lay_out(rows, job())
    result = run(folder)
    assert (result.train_rows, result.candidate.n, result.champion, result.cells) == (1_050, 450, None, ())
    assert (result.train_to_ns, result.holdout_from_ns) == (1_049 * SECOND, 1_050 * SECOND)
    manifest = manifest_of(folder)
    for name, digest in (
        (exchange.MODELS["onnx"], manifest.files["onnx"].digest),
        (exchange.MODELS["skops"], manifest.files["skops"].digest),
        (exchange.PROFILE, manifest.reference_profile),
    ):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert result.pins["seed"] == "3"
    assert sum(result.importances.values()) == pytest.approx(1)
    assert result.importances["amount"] > result.importances["foreign"] > result.importances["hour"]
    served = load_onnx((folder / exchange.MODELS["onnx"]).read_bytes(), manifest)
    x = np.column_stack([rows.columns[name] for name in ("amount", "foreign", "hour")])[1_050:]
    flagged = served.run(x)[:, 1] >= np.float32(0.5)
    y = rows.columns["y"][1_050:]
    assert result.candidate.metrics["precision"] == pytest.approx(precision_score(y, flagged), abs=1e-12)


def test_reference_profile_is_the_hold_outs(lay_out: Callable[..., Path]) -> None:
    rows = Rows(n=4_000)
    folder = lay_out(rows, job())
    result = run(folder)
    profile = ReferenceProfile.FromString((folder / exchange.PROFILE).read_bytes())
    assert [column.name for column in profile.columns] == ["amount", "foreign", "hour"]
    assert profile.rows == result.candidate.n == 1_200
    edges, state = Edges.from_bytes(profile.edges), State.from_bytes(profile.state)
    assert edges.features == 3
    np.testing.assert_array_equal(state.hist.sum(1), [1_200] * 3)
    counts = unpack(profile.score_histogram, np.int64, 2)
    assert counts.shape == (2, 1_024)
    assert counts[1].sum() == result.candidate.tp + result.candidate.fp
    assert counts[0, :512].sum() == counts[0].sum()
    probability, blocks = unpack(profile.calibration, np.float64, 1), unpack(profile.calibration_blocks, np.int32, 1)
    assert (np.diff(probability) >= 0).all()
    assert (np.diff(blocks) >= 0).all()
    assert unpack(profile.block_labels, np.int64, 1).sum() == 1_200
    estimated = (counts[1] * probability).sum() / counts[1].sum()
    assert estimated == pytest.approx(profile.precision, abs=0.02)
    assert profile.precision == result.candidate.metrics["precision"]
    assert profile.threshold == 0.5


def test_champion_is_judged_on_the_same_rows(lay_out: Callable[..., Path]) -> None:
    champion = lay_out(Rows(flipped=True), job())
    run(champion)
    result = run(lay_out(Rows(seed=6), job(champion_version=4), champion))
    assert result.champion is not None
    assert (result.champion.model_version, result.champion.n) == (4, 450)
    assert result.champion.metrics["auc"] < 0.2
    assert result.candidate.metrics["auc"] > 0.8
    cells = np.array(result.cells).reshape(2, 2, 2)
    assert (cells[1, :, 1].sum(), cells[1, :, 0].sum()) == (result.champion.tp, result.champion.fp)
    assert (cells[:, 1, 1].sum(), cells[:, 1, 0].sum()) == (result.candidate.tp, result.candidate.fp)


def test_rows_that_the_champion_has_seen_do_not_judge(lay_out: Callable[..., Path]) -> None:
    champion = lay_out(Rows(), job())
    run(champion)
    seen = job(champion_version=1, champion_seen_ns=1_199 * SECOND)
    result = run(lay_out(Rows(), seen, champion))
    assert (result.candidate.n, result.holdout_from_ns) == (300, 1_200 * SECOND)
    all_seen = job(champion_version=1, champion_seen_ns=1_500 * SECOND)
    refusal = refused(lay_out(Rows(), all_seen, champion))
    assert refusal.failure is Failure.DATA
    assert "0 for the hold-out that the champion was not trained on" in refusal.message


def test_champion_that_cannot_be_compared_decides_nothing(lay_out: Callable[..., Path]) -> None:
    champion = lay_out(Rows(), job())
    run(champion)
    narrow = job(champion_version=1, recipe="estimator: GaussianNB\ncolumns: [amount]")
    result = run(lay_out(Rows(), narrow, champion))
    assert result.champion is not None
    assert (result.champion.n, sum(result.cells), len(result.cells)) == (0, 0, 8)
    without_file = run(lay_out(Rows(), job(champion_version=1)))
    assert (sum(without_file.cells), len(without_file.cells)) == (0, 8)


def test_only_the_window_is_used(lay_out: Callable[..., Path]) -> None:
    result = run(lay_out(Rows(), job(from_ns=500 * SECOND)))
    assert (result.train_from_ns, result.holdout_to_ns) == (500 * SECOND, 1_499 * SECOND)
    assert run(lay_out(Rows(), job(last_rows=400))).train_from_ns == 1_100 * SECOND


def test_without_times_the_rows_are_split_by_content(lay_out: Callable[..., Path]) -> None:
    result = run(lay_out(Rows(), job(ordered=False)))
    assert 0.25 < result.candidate.n / 1_500 < 0.35
    assert result.train_from_ns < result.holdout_from_ns < result.train_to_ns


def test_same_inputs_give_the_same_model(lay_out: Callable[..., Path]) -> None:
    forest = job(recipe="estimator: RandomForestClassifier\nparameters: {n_estimators: 10}")
    folders = [lay_out(Rows(), forest) for _ in range(2)]
    first, second = (run(folder) for folder in folders)
    assert first == second
    assert len({(folder / exchange.MODELS["onnx"]).read_bytes() for folder in folders}) == 1
    assert len({(folder / exchange.PROFILE).read_bytes() for folder in folders}) == 1
    other = run(lay_out(Rows(), job(recipe=forest.recipe, seed=4)))
    assert other.canonical_digest != first.canonical_digest


def test_threshold_is_chosen_for_a_precision_on_validation_rows(lay_out: Callable[..., Path]) -> None:
    demanding = "estimator: LogisticRegression\nthreshold: {precision: 0.97}"
    folder = lay_out(Rows(n=4_000), job(recipe=demanding))
    result = run(folder)
    assert result.threshold > 0.6
    assert manifest_of(folder).signature.threshold == result.threshold
    assert result.candidate.metrics["precision"] > 0.93
    impossible = job(recipe="estimator: GaussianNB\nthreshold: {precision: 1}")
    noise = {"y": np.random.default_rng(1).integers(0, 2, 1_500)}
    refusal = refused(lay_out(Rows(columns=noise), impossible))
    assert "no threshold reaches a precision of 1" in refusal.message


def test_missing_values_are_imputed_and_rows_without_label_left_out(lay_out: Callable[..., Path]) -> None:
    rows = Rows()
    rows.columns["amount"][::10] = np.nan
    labels: list[int | None] = list(map(int, rows.columns["y"]))
    labels[:100] = [None] * 100
    rows.columns["y"] = labels
    result = run(lay_out(rows, job()))
    assert result.train_rows + result.candidate.n == 1_400


def test_text_labels_need_a_positive_class(lay_out: Callable[..., Path]) -> None:
    rows = Rows()
    rows.columns["y"] = np.where(rows.columns["y"] == 1, "fraud", "fine")
    refusal = refused(lay_out(rows, job()))
    assert "positive_class: say which of ['fine', 'fraud'] in column 'y'" in refusal.message
    folder = lay_out(rows, job(recipe="estimator: GaussianNB\npositive_class: fraud"))
    run(folder)
    signature = manifest_of(folder).signature
    assert (signature.classes, signature.outputs[0].datatype) == (("fine", "fraud"), "BYTES")


NAIVE = "estimator: GaussianNB"
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], Failure]] = {
    "has 1 different values": ({"y": np.zeros(1_500)}, {}, Failure.DATA),
    "needs exactly two": ({"y": np.arange(1_500)}, {}, Failure.DATA),
    "is a fraction": ({"y": np.arange(1_500) % 2 / 2}, {"recipe": f"{NAIVE}\npositive_class: 0"}, Failure.DATA),
    "no row has a label": ({"y": [None] * 1_500}, {}, Failure.DATA),
    "all have the same label": ({"y": np.arange(1_500) >= 1_050}, {}, Failure.DATA),
    "no column besides the label": ({}, {"columns": ()}, Failure.DATA),
    "no labelled row is late enough": ({}, {"from_ns": 9_999 * SECOND}, Failure.DATA),
    r"\['amount'\] hold text": ({}, {"columns": (ColumnNote("amount", "string"),)}, Failure.USER_ERROR),
    "'price'.* are not inputs": ({}, {"recipe": f"{NAIVE}\ncolumns: [price]"}, Failure.USER_ERROR),
    "positive_class: 2 is not a label": ({}, {"recipe": f"{NAIVE}\npositive_class: 2"}, Failure.USER_ERROR),
    r"GaussianNB has no \['depth'\]": ({}, {"recipe": f"{NAIVE}\nparameters: {{depth: 2}}"}, Failure.USER_ERROR),
    "refused to learn.*'C'": (
        {},
        {"recipe": "estimator: LogisticRegression\nparameters: {C: -1}"},
        Failure.USER_ERROR,
    ),
    "'Nonsense' is not one": ({}, {"recipe": "estimator: Nonsense"}, Failure.USER_ERROR),
    "infinity": (
        {"hour": np.full(1_500, np.inf, np.float32)},
        {"recipe": f"{NAIVE}\npreprocessing: []"},
        Failure.USER_ERROR,
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_trained_is_refused_with_a_reason(lay_out: Callable[..., Path], words: str) -> None:
    columns, changes, failure = REFUSED[words]
    folder = lay_out(Rows(columns=columns), job(**changes))
    refusal = refused(folder)
    assert refusal.failure is failure
    assert re.search(words, refusal.message)
    assert not (folder / exchange.MANIFEST).exists()


def test_lack_of_memory_is_a_result(lay_out: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("holdtrue_trainer.child.train.fit", greedy)
    folder = lay_out(Rows(), job())
    main(folder)
    result = exchange.decode_result((folder / exchange.RESULT).read_bytes())
    assert isinstance(result, Refusal)
    assert result.failure is Failure.OUT_OF_MEMORY


def test_stages_are_announced_in_order(lay_out: Callable[..., Path]) -> None:
    stages: list[str] = []
    train(lay_out(Rows(), job()), stages.append)
    assert stages == ["loading", "training", "evaluating", "packing"]


def test_crowded_scores_get_the_logit_map(lay_out: Callable[..., Path]) -> None:
    rows = Rows(n=6_000)
    rare = rows.columns["amount"] + rows.columns["hour"] > 3.2
    rows.columns["y"] = rare.astype(np.int64)
    folder = lay_out(rows, job(recipe="estimator: LogisticRegression\nparameters: {C: 100}"))
    run(folder)
    assert manifest_of(folder).score_map == "logit"
    usual = lay_out(Rows(), job(recipe="estimator: LogisticRegression\nparameters: {C: 0.01}"))
    run(usual)
    assert manifest_of(usual).score_map == "identity"


@pytest.mark.parametrize(("name", "kind"), [("xgboost", "ubj"), ("lightgbm", "lightgbm")])
def test_boosted_trees_of_others_are_kept_as_theirs_served_as_onnx_and_repeat(
    lay_out: Callable[..., Path], name: str, kind: Role
) -> None:
    folders = [lay_out(Rows(), job(recipe=resolve(name))) for _ in range(2)]
    first, second = map(run, folders)
    assert first.canonical_digest == second.canonical_digest
    manifest = manifest_of(folders[0])
    assert (manifest.kind, sorted(manifest.files)) == ("onnx", sorted([kind, "onnx"]))
    assert (folders[0] / exchange.MODELS[kind]).read_bytes() == (folders[1] / exchange.MODELS[kind]).read_bytes()
    assert first.candidate.metrics["auc"] > 0.9
    assert manifest.pins[name] == sys.modules[name].__version__


def test_an_estimator_whose_package_is_missing_names_it(
    lay_out: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    refusal = refused(lay_out(Rows(), job(recipe=resolve("xgboost"))))
    assert "XGBClassifier needs the package xgboost, which this trainer lacks" in refusal.message


def test_parameters_that_a_library_refuses_are_the_users_error(lay_out: Callable[..., Path]) -> None:
    recipe = "estimator: LGBMClassifier\nparameters: {num_leaves: 1}"
    refusal = refused(lay_out(Rows(), job(recipe=recipe)))
    assert refusal.failure is Failure.USER_ERROR
    assert "LGBMClassifier refused to learn" in refusal.message


BROUGHT_MODEL = logistic([4, 2, 0], bias=-1)
"""Knows how Rows are made."""
BROUGHT = f"artifact: {'a' * 64}\n"


def test_a_model_that_was_brought_along_is_judged_as_it_is(lay_out: Callable[..., Path]) -> None:
    champion = lay_out(Rows(), job())
    run(champion)
    rows = Rows()
    folder = lay_out(rows, job(recipe=BROUGHT, champion_version=1), champion, BROUGHT_MODEL)
    result = run(folder)
    assert (result.train_rows, result.train_from_ns, result.train_to_ns) == (0, 0, 0)
    assert (result.candidate.n, result.threshold, sum(result.cells)) == (450, 0.5, 450)
    x = np.column_stack([rows.columns[name] for name in ("amount", "foreign", "hour")])[1_050:]
    logit = 4 * x[:, 0] + 2 * x[:, 1] - 1
    assert result.candidate.tp == int(((logit >= 0) & (rows.columns["y"][1_050:] == 1)).sum())
    assert result.importances["hour"] == 0
    manifest = manifest_of(folder)
    assert list(manifest.files) == ["onnx"]
    served = load_onnx((folder / exchange.MODELS["onnx"]).read_bytes(), manifest)
    np.testing.assert_allclose(served.run(x)[:, 1], 1 / (1 + np.exp(-logit)), atol=1e-5)


def test_its_threshold_may_be_chosen_on_rows_before_the_hold_out(lay_out: Callable[..., Path]) -> None:
    result = run(lay_out(Rows(), job(recipe=f"{BROUGHT}threshold: {{precision: 0.95}}"), given=BROUGHT_MODEL))
    assert result.threshold > 0.5
    assert result.candidate.metrics["precision"] == pytest.approx(0.95, abs=0.03)


def test_a_brought_model_that_does_not_fit_says_what_to_change(lay_out: Callable[..., Path]) -> None:
    refusal = refused(lay_out(Rows(), job(recipe=f"{BROUGHT}columns: [amount]"), given=BROUGHT_MODEL))
    assert refusal.failure is Failure.USER_ERROR
    assert "expected FLOAT ['n', 1]" in refusal.message
