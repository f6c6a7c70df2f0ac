"""Models of LightGBM: kept as its text, served as ONNX or by their own trees, and equal; hostile files are refused."""

from __future__ import annotations

import hashlib
import pickle
import re
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pytest
from holdtrue_models import MalformedModel, ModelError, ParityError, Signature, UnsafeModel, UnsupportedModel, load
from holdtrue_models.canonical import canonical_digest
from holdtrue_models.content import recognise
from holdtrue_models.lightgbm_file import read_lightgbm
from holdtrue_models.package import export
from holdtrue_models.worker import Worker
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sklearn.datasets import load_diabetes, load_wine

from .test_kinds import complete
from .test_xgboost import numbered, served_again

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_models.manifest import Kind
    from holdtrue_models.package import Package

    from .conftest import Cancer, Divided

Untyped = Any  # what LightGBM says about its types is not what it takes

lgbm: Untyped = lightgbm

SMALL: dict[str, Untyped] = {"n_estimators": 6, "num_leaves": 6, "n_jobs": 1, "verbose": -1}
KINDS: tuple[Kind, ...] = ("onnx", "lightgbm")
BINARY: dict[str, dict[str, Untyped]] = {
    "trees": {},
    "dart": {"boosting_type": "dart", "drop_rate": 0.5},
    "forest": {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1},
    "only roots": {"min_child_samples": 1_000},
    "missing as zero": {"use_missing": False},
    "steep": {"sigmoid": 2.0},
    "cross entropy": {"objective": "cross_entropy"},
}


def with_gaps(cancer: Cancer) -> tuple[Untyped, Untyped]:
    x, later = cancer.x.copy(), cancer.x_later.copy()
    for rows in (x, later):
        rows[::3, 7] = np.nan
        rows[1::3, 20] = 0
    return x, later


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_classifiers_with_missing_values(cancer: Cancer, name: str, kind: Kind) -> None:
    x, later = with_gaps(cancer)
    fitted = lgbm.LGBMClassifier(**SMALL, **BINARY[name]).fit(x, cancer.y)
    package = export(fitted, cancer.signature, later, 1, serve=kind)
    np.testing.assert_allclose(served_again(package, kind, later), fitted.predict_proba(later), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("middle", [-5, 5])
def test_missing_values_that_training_has_not_seen_count_as_zero(middle: int, kind: Kind) -> None:
    x = np.random.default_rng(1).normal(middle, 1, (400, 1)).astype(np.float32)
    fitted = lgbm.LGBMClassifier(**SMALL).fit(x, x[:, 0] > middle)
    rows = np.array([[np.nan], [0], [middle - 1], [middle + 1]], np.float32)
    package = export(fitted, Signature.binary(numbered(1), (0, 1), 0.5), np.vstack([rows, x]), 1, serve=kind)
    served = served_again(package, kind, rows)
    np.testing.assert_allclose(served, fitted.predict_proba(rows), atol=1e-5)
    np.testing.assert_array_equal(served[0], served[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [-1, 1])
def test_zeros_for_missing_values_go_where_training_sent_them(side: int, kind: Kind) -> None:
    x = np.random.default_rng(1).normal(5 * side, 1, (400, 1)).astype(np.float32)
    x[::3] = 0
    y = (x[:, 0] * side > 5) | (x[:, 0] == 0)
    fitted = lgbm.LGBMClassifier(**SMALL, zero_as_missing=True).fit(x, y)
    rows = np.array([[np.nan], [0], [5e-36], [-5e-36], [4 * side], [6 * side]], np.float32)
    package = export(fitted, Signature.binary(numbered(1), (0, 1), 0.5), np.vstack([rows, x]), 1, serve=kind)
    served = served_again(package, kind, rows)
    np.testing.assert_allclose(served, fitted.predict_proba(rows), atol=1e-5)
    np.testing.assert_array_equal(served[:4], np.tile(served[:1], (4, 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
def test_classifiers_of_three_classes(objective: str, kind: Kind) -> None:
    data: Untyped = load_wine()
    x = data.data.astype(np.float32)
    fitted = lgbm.LGBMClassifier(**SMALL, objective=objective).fit(x, data.target)
    package = export(fitted, Signature.multiclass(numbered(13), ("a", "b", "c")), x, 1, serve=kind)
    np.testing.assert_allclose(served_again(package, kind, x), fitted.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "regression"},
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "quantile"},
        {"objective": "poisson"},
        {"objective": "cross_entropy_lambda"},
    ],
    ids=str,
)
def test_regressions(settings: dict[str, Untyped], kind: Kind) -> None:
    data: Untyped = load_diabetes()
    x, y = data.data.astype(np.float32), data.target / 400
    fitted = lgbm.LGBMRegressor(**SMALL, **settings).fit(x, y)
    package = export(fitted, Signature.regression(numbered(10)), x, 1, scale=float(y.std()), serve=kind)
    np.testing.assert_allclose(served_again(package, kind, x)[:, 0], fitted.predict(x), atol=1e-5 * y.std())


@pytest.mark.parametrize("kind", KINDS)
def test_sets_of_categories(lightgbm_sets: Divided, kind: Kind) -> None:
    assert (read_lightgbm(lightgbm_sets.source("lightgbm")).subset >= 0).sum() > 3
    package, x = lightgbm_sets.served(kind), lightgbm_sets.x
    np.testing.assert_allclose(served_again(package, kind, x), lightgbm_sets.fitted.predict_proba(x), atol=1e-5)


def test_early_stopping_keeps_the_trees_that_answer(cancer: Cancer) -> None:
    fitted = lgbm.LGBMClassifier(**{**SMALL, "n_estimators": 50, "learning_rate": 0.9})
    stop = lgbm.early_stopping(2, verbose=False)
    fitted.fit(cancer.x[:80], cancer.y[:80], eval_X=cancer.x_later, eval_y=cancer.y_later, callbacks=[stop])
    package = export(fitted, cancer.signature, cancer.x_later, 1)
    assert len(read_lightgbm(package.files["lightgbm"]).trees) == fitted.best_iteration_ < 40


@pytest.fixture(scope="module")
def package(cancer: Cancer) -> Package:
    fitted = lgbm.LGBMClassifier(**SMALL).fit(cancer.x, cancer.y)
    return export(fitted, cancer.signature, cancer.x_later, 1, serve="lightgbm")


@pytest.fixture(scope="module")
def source(package: Package) -> bytes:
    return package.files["lightgbm"]


def test_source_answers_from_the_limited_process(package: Package, source: bytes, cancer: Cancer) -> None:
    with Worker(source, complete(package)) as worker:
        np.testing.assert_array_equal(worker.run(cancer.x_later), package.model.run(cancer.x_later))


def test_digest_survives_a_refit_and_tells_other_models_apart(cancer: Cancer, package: Package) -> None:
    def digest(**changes: Untyped) -> str:
        fitted = lgbm.LGBMClassifier(**SMALL | changes).fit(cancer.x, cancer.y)
        return canonical_digest(fitted.booster_.model_to_string().encode())

    assert package.canonical_digest == digest() == digest(metric="auc")
    assert len({digest(), digest(num_leaves=5), digest(sigmoid=2.0)}) == 3


def test_linear_trees_and_rankers_are_refused_with_a_reason(cancer: Cancer) -> None:
    linear = lgbm.LGBMClassifier(**SMALL, linear_tree=True).fit(cancer.x, cancer.y)
    with pytest.raises(UnsupportedModel, match="linear"):
        export(linear, cancer.signature, cancer.x_later, 1)
    ranker = lgbm.LGBMRanker(**SMALL).fit(cancer.x, cancer.y.astype(int), group=[len(cancer.y)])
    with pytest.raises(UnsupportedModel, match="lambdarank"):
        export(ranker, Signature.regression(numbered(30)), cancer.x_later, 1)


def put(name: str, place: int, value: object) -> Callable[[str], str]:
    """Change one number of the first tree that has such a line."""

    def edit(text: str) -> str:
        words = _line(text, name).split(" ")
        words[place] = str(value)
        return line(name, " ".join(words))(text)

    return edit


def line(name: str, value: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"(?m)^{name}=.*$", f"{name}={value}", text, count=1)


def _line(text: str, name: str) -> str:
    found = re.search(rf"(?m)^{name}=(.*)$", text)
    assert found
    return found[1]


def chain(levels: int) -> Callable[[str], str]:
    """Make the first tree a list: each division has a leaf on its left."""
    zeros = " ".join(["0"] * levels)
    lines = {
        "num_leaves": str(levels + 1),
        **dict.fromkeys(("split_feature", "split_gain", "threshold", "decision_type"), zeros),
        "left_child": " ".join(str(-1 - i) for i in range(levels)),
        "right_child": " ".join([*map(str, range(1, levels)), str(-1 - levels)]),
        "leaf_value": f"{zeros} 0",
    }

    def edit(text: str) -> str:
        for name, value in lines.items():
            text = line(name, value)(text)
        return text

    return edit


HOSTILE: dict[str, tuple[Callable[[str], str], str]] = {
    "child out of range": (put("left_child", 0, 10**6), "child index"),
    "leaf out of range": (put("right_child", 0, -100), "child index"),
    "cycle to itself": (put("left_child", 0, 0), "two parents|two roots or none|cycle"),
    "cycle": (put("left_child", 1, 0), "two parents|two roots or none|cycle"),
    "two parents": (put("left_child", 0, -1), "two parents|two roots or none"),
    "feature out of range": (put("split_feature", 0, 30), "feature"),
    "negative feature": (put("split_feature", 0, -1), "feature"),
    "huge feature": (put("split_feature", 0, 1 << 60), "out of range in 'split_feature'"),
    "half a feature": (put("split_feature", 0, 0.5), "out of range in 'split_feature'"),
    "leaf that is not finite": (put("leaf_value", 0, "inf"), "not finite"),
    "threshold": (put("threshold", 0, "nan"), "not finite"),
    "deep": (chain(20_000), "more than 1000 levels"),
    "division by categories": (put("decision_type", 0, 1), "set of categories"),
    "more sets than divisions": (line("num_cat", "99"), "more sets"),
    "sets that are not there": (line("num_cat", "1"), "0 numbers in 'cat_boundaries'"),
    "shorter": (line("threshold", "1"), "1 numbers in 'threshold'"),
    "no numbers": (line("threshold", "eval"), "0 numbers in 'threshold'"),
    "numbers that are none": (put("threshold", 0, "1e"), "something else than numbers"),
    "huge count": (line("num_leaves", "999999999"), "999999999 leaves"),
    "count beyond numbers": (line("num_leaves", "9" * 5_000), "as num_leaves"),
    "no leaves": (line("num_leaves", "0"), "0 leaves"),
    "fewer trees than the head says": (line("tree_sizes", " ".join("1" * 9)), "another number of trees"),
    "more trees than the head says": (line("tree_sizes", "1"), "another number of trees"),
    "no trees": (line("tree_sizes", ""), "0 trees"),
    "numbered otherwise": (line("Tree", "7"), "as number 0"),
    "many outputs": (line("num_tree_per_iteration", "7"), "rounds of 7"),
    "no outputs": (line("num_tree_per_iteration", "0"), "rounds of 0"),
    "objective": (line("objective", "lambdarank"), "lambdarank"),
    "slope": (line("objective", "binary sigmoid:0"), "binary sigmoid:0"),
    "slope with two points": (line("objective", "binary sigmoid:1.2.3"), "binary sigmoid:1.2.3"),
    "slope that is none": (line("objective", "binary sigmoid:x"), "binary sigmoid:x"),
    "twice": (lambda text: text.replace("num_cat=0", "num_cat=0\nnum_cat=1", 1), "'num_cat' twice"),
    "many lines": (lambda text: text.replace("num_cat=0", "\n".join(f"a{i}=" for i in range(200)), 1), "too many"),
    "not UTF-8": (lambda text: text.replace("num_cat=0", "num_cat=\udcff", 1), "UTF-8"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_trees_are_refused(source: bytes, name: str) -> None:
    edit, words = HOSTILE[name]
    changed = edit(source.decode()).encode(errors="surrogateescape")
    assert changed != source
    with pytest.raises(ModelError, match=words):
        read_lightgbm(changed)


@pytest.mark.parametrize(
    "edit",
    [
        put("cat_boundaries", 0, 1),
        put("cat_boundaries", 0, 0.5),
        put("cat_boundaries", -1, 10**9),
        put("cat_boundaries", -1, -1),
        put("cat_threshold", 0, -1),
        put("cat_threshold", 0, 1 << 32),
        line("num_cat", "0"),
    ],
)
def test_hostile_sets_of_categories_are_refused(lightgbm_sets: Divided, edit: Callable[[str], str]) -> None:
    text = lightgbm_sets.source("lightgbm").decode()
    begin = text.rindex("Tree=", 0, text.index("cat_boundaries"))
    with pytest.raises(ModelError, match=r"categories|cat_boundaries"):
        read_lightgbm((text[:begin] + edit(text[begin:])).encode())


def test_long_lines_are_refused_before_they_are_taken_apart(source: bytes) -> None:
    with pytest.raises(UnsafeModel, match="a line of more than"):
        read_lightgbm(source.replace(b"split_gain=", b"split_gain=" + b"1 " * (9 << 20), 1))


def test_other_answers_than_recorded_are_refused(package: Package, source: bytes) -> None:
    data = put("leaf_value", 0, 5)(source.decode()).encode()
    file = replace(package.model.manifest.files["lightgbm"], digest=hashlib.sha256(data).hexdigest())
    with pytest.raises(ParityError, match="check rows"):
        load(data, replace(complete(package), files={"lightgbm": file}))


def test_what_is_a_pickle_is_refused_whatever_its_name_says(package: Package) -> None:
    data = pickle.dumps("tree\n")
    file = replace(package.model.manifest.files["lightgbm"], digest=hashlib.sha256(data).hexdigest())
    with pytest.raises(MalformedModel, match="pickle"):
        load(data, replace(complete(package), files={"lightgbm": file}))


def test_cut_off_files_are_refused(source: bytes) -> None:
    assert recognise(source) == "lightgbm"
    for size in range(0, source.index(b"end of trees"), 97):
        with pytest.raises(MalformedModel, match="cut off"):
            read_lightgbm(source[:size])


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_lightgbm(b"tree\n" + data)
