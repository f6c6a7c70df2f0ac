"""Models of XGBoost: kept as UBJSON, served as ONNX or by their own trees, and equal; hostile files are refused."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xgboost
from holdtrue_models import (
    Column,
    MalformedModel,
    Manifest,
    ModelError,
    ParityError,
    Signature,
    UnsafeModel,
    UnsupportedModel,
    load,
)
from holdtrue_models.canonical import canonical_digest
from holdtrue_models.content import recognise
from holdtrue_models.forest_model import check_answer
from holdtrue_models.package import export
from holdtrue_models.ubjson import read_ubjson
from holdtrue_models.worker import Worker, try_out
from holdtrue_models.xgboost_file import read_xgboost
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sklearn.datasets import load_diabetes, load_wine
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from .test_kinds import complete
from .ubjson_writer import edited, length, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_models.manifest import Kind
    from holdtrue_models.package import Package

    from .conftest import Cancer, Divided

Untyped = Any  # XGBoost and scikit-learn carry no types, and hostile things have none

SMALL: dict[str, Untyped] = {"n_estimators": 6, "max_depth": 3, "n_jobs": 1}
KINDS: tuple[Kind, ...] = ("onnx", "ubj")


def numbered(count: int) -> tuple[Column, ...]:
    return tuple(Column(name=f"c{i}") for i in range(count))


def served_again(package: Package, kind: Kind, x: Untyped) -> Untyped:
    """What the model answers after its bytes and its manifest have been somewhere else."""
    assert (package.model.manifest.kind, package.parity.rows >= 1_000) == (kind, True)
    return load(package.files[kind], Manifest.from_bytes(complete(package).to_bytes())).run(x)


BINARY: dict[str, dict[str, Untyped]] = {
    "trees": {},
    "dart": {"booster": "dart", "rate_drop": 0.5},
    "forest": {"num_parallel_tree": 2, "subsample": 0.5},
    "only roots": {"gamma": 1e9},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_classifiers_with_missing_values(cancer: Cancer, name: str, kind: Kind) -> None:
    x, later = cancer.x.copy(), cancer.x_later.copy()
    x[::3, 7] = later[::3, 7] = np.nan
    fitted = xgboost.XGBClassifier(**SMALL, **BINARY[name]).fit(x, cancer.y)
    package = export(fitted, cancer.signature, later, 1, serve=kind)
    np.testing.assert_allclose(served_again(package, kind, later), fitted.predict_proba(later), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_classifiers_of_three_classes(kind: Kind) -> None:
    data: Untyped = load_wine()
    x = data.data.astype(np.float32)
    fitted = xgboost.XGBClassifier(**SMALL).fit(x, data.target)
    package = export(fitted, Signature.multiclass(numbered(13), ("a", "b", "c")), x, 1, serve=kind)
    np.testing.assert_allclose(served_again(package, kind, x), fitted.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", ["reg:squarederror", "reg:absoluteerror", "count:poisson", "reg:tweedie"])
def test_regressions(objective: str, kind: Kind) -> None:
    data: Untyped = load_diabetes()
    x, y = data.data.astype(np.float32), data.target
    fitted = xgboost.XGBRegressor(**SMALL, objective=objective).fit(x, y)
    package = export(fitted, Signature.regression(numbered(10)), x, 1, scale=float(y.std()), serve=kind)
    np.testing.assert_allclose(served_again(package, kind, x)[:, 0], fitted.predict(x), atol=1e-5 * y.std())


@pytest.mark.parametrize("kind", KINDS)
def test_sets_of_categories(xgboost_sets: Divided, kind: Kind) -> None:
    assert (read_xgboost(xgboost_sets.source("ubj")).subset >= 0).sum() > 3
    package, x = xgboost_sets.served(kind), xgboost_sets.x
    np.testing.assert_allclose(served_again(package, kind, x), xgboost_sets.fitted.predict_proba(x), atol=1e-5)


def test_early_stopping_keeps_the_trees_that_answer(cancer: Cancer) -> None:
    fitted = xgboost.XGBClassifier(**{**SMALL, "n_estimators": 50, "learning_rate": 1}, early_stopping_rounds=2)
    fitted.fit(cancer.x[:60], cancer.y[:60], eval_set=[(cancer.x_later, cancer.y_later)], verbose=False)
    package = export(fitted, cancer.signature, cancer.x_later, 1)
    assert (
        len(read_xgboost(package.files["ubj"]).trees)
        == fitted.best_iteration + 1
        < fitted.get_booster().num_boosted_rounds()
    )


@pytest.fixture(scope="module")
def package(cancer: Cancer) -> Package:
    return export(
        xgboost.XGBClassifier(**SMALL).fit(cancer.x, cancer.y), cancer.signature, cancer.x_later, 1, serve="ubj"
    )


@pytest.fixture(scope="module")
def source(package: Package) -> bytes:
    return package.files["ubj"]


def test_source_answers_from_the_limited_process(package: Package, source: bytes, cancer: Cancer) -> None:
    with Worker(source, complete(package)) as worker:
        np.testing.assert_array_equal(worker.run(cancer.x_later), package.model.run(cancer.x_later))


def test_digest_survives_a_refit_and_tells_other_models_apart(cancer: Cancer, package: Package) -> None:
    def digest(**changes: Untyped) -> str:
        fitted = xgboost.XGBClassifier(**SMALL | changes).fit(cancer.x, cancer.y)
        return canonical_digest(bytes(fitted.get_booster().save_raw("ubj")))

    assert package.canonical_digest == digest() == digest(n_jobs=2)
    assert len({digest(), digest(max_depth=2), digest(base_score=0.4)}) == 3


def test_pipelines_and_other_kinds_are_refused_with_a_reason(cancer: Cancer) -> None:
    steps: Untyped = make_pipeline(SimpleImputer(), xgboost.XGBClassifier(**SMALL)).fit(cancer.x, cancer.y)
    with pytest.raises(UnsupportedModel, match="without the steps before it"):
        export(steps, cancer.signature, cancer.x_later, 1)
    alone: Untyped = make_pipeline(xgboost.XGBClassifier(**SMALL)).fit(cancer.x, cancer.y)
    assert export(alone, cancer.signature, cancer.x_later, 1).model.manifest.kind == "onnx"
    with pytest.raises(UnsupportedModel, match="cannot be served as skops"):
        export(alone, cancer.signature, cancer.x_later, 1, serve="skops")
    linear = xgboost.XGBClassifier(booster="gblinear").fit(cancer.x, cancer.y)
    with pytest.raises(UnsupportedModel, match="gblinear"):
        export(linear, cancer.signature, cancer.x_later, 1)
    ranked = xgboost.XGBRegressor(**SMALL, objective="binary:hinge").fit(cancer.x, cancer.y)
    with pytest.raises(UnsupportedModel, match="binary:hinge"):
        export(ranked, Signature.regression(numbered(30)), cancer.x_later, 1)


def trees_of(document: Untyped) -> Untyped:
    return document["learner"]["gradient_booster"]["model"]["trees"]


def number(name: str, place: int, value: float, tree: int = 0) -> Callable[[Untyped], None]:
    def edit(document: Untyped) -> None:
        trees_of(document)[tree][name][place] = value

    return edit


def chain(levels: int) -> Callable[[Untyped], None]:
    """Make the first tree a list: each node has a leaf on its left."""
    count = 2 * levels + 1

    def edit(document: Untyped) -> None:
        tree = trees_of(document)[0]
        for name, value in tree.items():
            if isinstance(value, np.ndarray) and not name.startswith("categories"):
                tree[name] = np.zeros(count, value.dtype)
        own = np.arange(0, 2 * levels, 2, dtype=np.int32)
        tree["left_children"] = np.insert(np.full(levels + 1, -1, np.int32), range(levels), own + 1)
        tree["right_children"] = np.insert(np.full(levels + 1, -1, np.int32), range(levels), own + 2)
        tree["tree_param"]["num_nodes"] = str(count)

    return edit


def parameter(name: str, value: Untyped) -> Callable[[Untyped], None]:
    return lambda document: document["learner"]["learner_model_param"].update({name: value})


def of_tree(name: str, value: Untyped) -> Callable[[Untyped], None]:
    return lambda document: trees_of(document)[0].update({name: value})


HOSTILE: dict[str, tuple[Callable[[Untyped], object], str]] = {
    "child out of range": (number("left_children", 0, 10**6), "child index"),
    "child in the next tree": (number("right_children", 0, 40), "child index"),
    "child out of range in the last tree": (number("left_children", 0, 10**6, -1), "child index"),
    "negative child": (number("left_children", 0, -7), "child index"),
    "one child": (number("left_children", 0, -1), "one child"),
    "cycle to itself": (number("left_children", 0, 0), "two roots or none|cycle"),
    "cycle": (number("left_children", 1, 0), "two parents|two roots or none|cycle"),
    "two parents": (number("right_children", 0, 1), "two parents"),
    "feature out of range": (number("split_indices", 0, 30), "feature"),
    "negative feature": (number("split_indices", 0, -1), "feature"),
    "huge feature": (number("split_indices", 0, 2**31 - 1), "feature"),
    "leaf": (number("split_conditions", -1, np.inf), "not finite"),
    "threshold": (number("split_conditions", 0, np.nan), "not finite"),
    "output out of range": (
        lambda d: d["learner"]["gradient_booster"]["model"].update(tree_info=[0] * 5 + [7]),
        "output that the model does not have",
    ),
    "deep": (chain(20_000), "more than 1000 levels"),
    "set of categories": (number("split_type", 0, 1), "categories"),
    "other kind of division": (number("split_type", 0, 9), "categories"),
    "shorter": (of_tree("default_left", np.zeros(3, np.uint8)), "another number of 'default_left'"),
    "numbers of another kind": (of_tree("split_indices", np.zeros(3, np.int64)), "right kind in 'split_indices'"),
    "text for numbers": (of_tree("left_children", "x"), "right kind in 'left_children'"),
    "no nodes": (lambda d: trees_of(d)[0]["tree_param"].update(num_nodes="0"), "no nodes"),
    "huge count": (
        lambda d: trees_of(d)[0]["tree_param"].update(num_nodes="999999999"),
        "another number of 'left_child",
    ),
    "count beyond numbers": (lambda d: trees_of(d)[0]["tree_param"].update(num_nodes="9" * 5_000), "num_nodes"),
    "no trees": (lambda d: trees_of(d).clear(), "0 trees"),
    "tree that is none": (lambda d: d["learner"]["gradient_booster"]["model"].update(trees=[1]), "no object 'tree'"),
    "tree that adds to nothing": (lambda d: d["learner"]["gradient_booster"]["model"].update(tree_info=[]), "adds to"),
    "many outputs": (parameter("num_class", "999999999"), "several numbers"),
    "many targets": (parameter("num_target", "2"), "several numbers"),
    "base score": (parameter("base_score", "[1E0]"), "base score"),
    "base score that is not finite": (parameter("base_score", "nan"), "not finite"),
    "base scores": (parameter("base_score", "[5E-1,5E-1]"), "2 base scores"),
    "objective": (lambda d: d["learner"]["objective"].update(name="rank:ndcg"), "rank:ndcg"),
    "no learner": (lambda d: d.clear(), "no object 'learner'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_trees_are_refused(source: bytes, name: str) -> None:
    edit, words = HOSTILE[name]
    with pytest.raises(ModelError, match=words):
        read_xgboost(edited(source, edit))


@pytest.mark.parametrize(
    ("name", "value"),
    [("categories_segments", 10**9), ("categories_segments", -1), ("categories_sizes", 10**9), ("categories", -1)],
)
def test_hostile_sets_of_categories_are_refused(xgboost_sets: Divided, name: str, value: int) -> None:
    data = xgboost_sets.source("ubj")
    with pytest.raises(UnsafeModel, match="categories"):
        read_xgboost(edited(data, number(name, 0, value)))
    with pytest.raises(UnsafeModel, match="sets of categories"):
        read_xgboost(edited(data, number("categories", 0, 2**31 - 1)))


@pytest.mark.parametrize(
    "signature",
    [Signature.multiclass(numbered(30), (0, 1, 2)), Signature.binary(numbered(29), (0, 1), 0.5)],
    ids=["classes", "columns"],
)
def test_trees_of_other_columns_or_classes_than_the_signature_are_refused(source: bytes, signature: Signature) -> None:
    check_answer(read_xgboost(source), Signature.binary(numbered(30), (0, 1), 0.5))
    with pytest.raises(MalformedModel, match="the trees take 30 columns and give 1 numbers by sigmoid"):
        check_answer(read_xgboost(source), signature)


def test_other_answers_than_recorded_are_refused(package: Package, source: bytes) -> None:
    data = edited(source, number("split_conditions", -1, 5.0))
    file = replace(package.model.manifest.files["ubj"], digest=hashlib.sha256(data).hexdigest())
    with pytest.raises(ParityError, match="check rows"):
        load(data, replace(complete(package), files={"ubj": file}))


def test_hostile_file_is_refused_by_the_limited_process(package: Package, source: bytes) -> None:
    data = edited(source, chain(20_000))
    file = replace(package.model.manifest.files["ubj"], digest=hashlib.sha256(data).hexdigest())
    with pytest.raises(UnsafeModel, match="more than 1000 levels"):
        try_out(data, replace(complete(package), files={"ubj": file}))


def test_bytes_that_are_not_the_ones_named_are_refused(package: Package, source: bytes) -> None:
    with pytest.raises(UnsafeModel, match="sha256"):
        load(source + b"x", complete(package))


def test_what_is_a_pickle_is_refused_whatever_its_name_says(package: Package) -> None:
    data = pickle.dumps({"learner": 1})
    file = replace(package.model.manifest.files["ubj"], digest=hashlib.sha256(data).hexdigest())
    with pytest.raises(MalformedModel, match="pickle"):
        load(data, replace(complete(package), files={"ubj": file}))


UBJSON: dict[str, tuple[bytes, str]] = {
    "behind its end": (written({"a": 1}) + b"x", "behind its end"),
    "twice": (b"{" + 2 * written({"a": 1})[1:-1] + b"}", "'a' twice"),
    "nested": (b"[#" + length(1) + b"".join(b"[#" + length(1) for _ in range(100)) + b"i\1", "nested deeper"),
    "endless nesting": ((b"[#" + length(1)) * 100_000, "nested deeper"),
    "long array": (b"[#" + length(1 << 60), "a length of"),
    "negative array": (b"[#" + length(-1), "a length of -1"),
    "long numbers": (b"[$d#" + length(1 << 40), "a length of"),
    "more numbers than bytes": (b"[$D#" + length(5) + bytes(8), "cut off"),
    "long key": (b"{" + length(1 << 62), "a length of"),
    "array without length": (b"[i\1]", "without a length"),
    "array of texts": (b"[$S#" + length(0), "array of"),
    "foreign marker": (b"C", "the marker"),
    "short length": (b"[#i\1i\1", "64 bits"),
    "no text": (b"S" + length(1) + b"\xff", "UTF-8"),
    "nothing": (b"", "cut off"),
}


@pytest.mark.parametrize("name", UBJSON)
def test_ubjson_that_xgboost_does_not_write_is_refused(name: str) -> None:
    data, words = UBJSON[name]
    with pytest.raises(ModelError, match=words):
        read_ubjson(data)


def test_parts_are_counted() -> None:
    with pytest.raises(UnsafeModel, match="more parts"):
        read_ubjson(written([1] * 50), parts=50)
    assert read_ubjson(written([1] * 50), parts=51) == [1] * 50


def test_cut_off_files_are_refused(source: bytes) -> None:
    assert recognise(source) == "ubj"
    for size in range(0, len(source), 97):
        with pytest.raises(ModelError):
            read_xgboost(source[:size])


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_xgboost(b"{L" + data)
