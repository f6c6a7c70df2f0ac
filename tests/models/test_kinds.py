"""Every kind of task and preprocessing: kept, served in the fastest correct form, and equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import skl2onnx
from holdtrue_models import Column, MalformedModel, Manifest, Signature, WrongInput, load
from holdtrue_models.coding import encode
from holdtrue_models.onnx_runtime import open_onnx
from holdtrue_models.package import check_parity, export, parity_rows
from msgspec.structs import replace
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from .test_worker import manifest_of

if TYPE_CHECKING:
    from holdtrue_models.package import Package

    from .conftest import Cancer

Untyped = Any  # scikit-learn carries no types


def complete(package: Package) -> Manifest:
    return package.manifest(score_map="identity", importances={"a": 1.0}, pins={}, reference_profile="")


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(10, random_state=0),
        GradientBoostingRegressor(n_estimators=10, random_state=0),
        make_pipeline(StandardScaler(), Ridge()),
        HistGradientBoostingRegressor(max_iter=5, random_state=0),
    ],
    ids=["forest", "boosting", "ridge", "histograms"],
)
def test_regressions_are_equal_relative_to_the_spread_of_the_truth(estimator: Untyped) -> None:
    data: Untyped = load_diabetes()
    x, y = data.data.astype(np.float32), data.target
    fitted = estimator.fit(x[:300], y[:300])
    signature = Signature.regression(tuple(Column(name=f"c{i}") for i in range(x.shape[1])))
    package = export(fitted, signature, x[300:], 1, scale=float(y.std()))
    manifest = complete(package)
    assert manifest.kind == ("skops" if "Hist" in type(fitted).__name__ else "onnx")
    answer = load(package.files[manifest.kind], Manifest.from_bytes(manifest.to_bytes())).run(x[300:])
    np.testing.assert_allclose(answer[:, 0], fitted.predict(x[300:]), atol=1e-5 * y.std())


def three_classes(estimator: Untyped) -> tuple[Package, Untyped, Untyped]:
    data: Untyped = load_wine()
    x, y = data.data.astype(np.float32), data.target
    columns = tuple(Column(name=f"c{i}") for i in range(x.shape[1]))
    fitted = estimator.fit(x, y)
    package = export(fitted, Signature.multiclass(columns, ("a", "b", "c")), x, 1)
    return package, package.model.run(x), fitted.predict_proba(x)


@pytest.mark.parametrize(
    "estimator",
    [RandomForestClassifier(10, random_state=0), make_pipeline(StandardScaler(), LogisticRegression(max_iter=50))],
    ids=["forest", "logistic"],
)
def test_classifiers_of_three_classes(estimator: Untyped) -> None:
    package, served, source = three_classes(estimator)
    assert package.model.manifest.kind == "onnx"
    np.testing.assert_allclose(served, source, atol=1e-5)


def test_scaling_before_trees_moves_rows_over_their_splits_so_that_the_source_is_served() -> None:
    package, served, source = three_classes(make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)))
    assert "RandomForestClassifier: the onnx form of the model answers differently" in package.reason
    np.testing.assert_allclose(served, source, atol=1e-6)


COUNTRIES = Column(name="country", dtype="string", categories=("at", "be", "ch"))
MIXED = Signature.binary((COUNTRIES, Column(name="age"), Column(name="income")), (0, 1), 0.5)


def test_texts_are_coded_at_the_edge_and_preprocessed_in_the_model() -> None:
    dice = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {
        "country": [["at", "be", "ch", "xx", None][i] for i in dice.integers(0, 5, 400)],
        "age": [None if d < 0.1 else float(d) for d in dice.random(400)],
        "income": dice.normal(size=400).tolist(),
    }
    x = encode(MIXED, columns)
    y = (np.nan_to_num(x).sum(1) > 1).astype(int)
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    steps = ColumnTransformer([("words", words, [0]), ("numbers", numbers, [1, 2])])
    fitted: Untyped = make_pipeline(steps, LogisticRegression()).fit(x[:200], y[:200])
    package = export(fitted, MIXED, x[200:], 1)
    assert (package.model.manifest.kind, package.reason) == ("onnx", "")
    again = load(package.files["onnx"], complete(package))
    row = {name: values[:3] for name, values in columns.items()}
    np.testing.assert_allclose(again.run(encode(MIXED, row)), fitted.predict_proba(x[:3]), atol=1e-5)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"country": ["at"], "age": [1]}, r"missing: \['income'\]"),
        ({"country": ["at"], "age": [1], "income": [1], "x": [1]}, r"unknown: \['x'\]"),
        ({"country": ["at", "be"], "age": [1], "income": [1]}, r"\[1, 2\] rows"),
        ({"country": [], "age": [], "income": []}, "at least one"),
        ({"country": [3], "age": [1], "income": [1]}, "row 0, column 'country': expected a text, got 3"),
        ({"country": ["at"], "age": ["old"], "income": [1]}, "column 'age': expected numbers"),
        ({"country": ["at"], "age": [1e300], "income": [1]}, "does not fit float32"),
    ],
)
def test_columns_that_do_not_fit_say_how(columns: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        encode(MIXED, columns)


def test_codes_of_known_unknown_and_missing_texts() -> None:
    rows = encode(MIXED, {"country": ["ch", "xx", None], "age": [1, None, 2], "income": [0, 0, 0]})
    np.testing.assert_array_equal(rows, np.array([[2, 1, 0], [-1, np.nan, 0], [np.nan, 2, 0]], np.float32))


def test_what_does_not_convert_is_served_as_it_is_kept(cancer: Cancer) -> None:
    fitted: Untyped = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(cancer.x, cancer.y)
    package = export(fitted, cancer.signature, cancer.x_later, seed=1)
    assert "cannot be converted" in package.reason
    assert set(package.files) == {"skops"}
    manifest = complete(package)
    np.testing.assert_array_equal(
        load(package.files["skops"], manifest).run(cancer.x_later),
        fitted.predict_proba(cancer.x_later).astype(np.float32),
    )


def test_float64_rows_are_refused_because_a_forest_would_answer_wrongly(cancer: Cancer) -> None:
    fitted: Untyped = RandomForestClassifier(20, random_state=0).fit(cancer.x.astype(np.float64), cancer.y)
    converted: Untyped = cast("Untyped", skl2onnx).to_onnx(
        fitted,
        initial_types=[("X", DoubleTensorType([None, 30]))],
        options={"zipmap": False},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    data = converted.SerializeToString()
    rows = cancer.x_later[:4]
    manifest = manifest_of("onnx", data, cancer.signature, rows, fitted.predict_proba(rows))
    with pytest.raises(MalformedModel, match=r"must take 'X' float"):
        open_onnx(data, manifest)


def test_labels_flip_only_at_the_threshold(package: Package, cancer: Cancer, boosted: Untyped) -> None:
    rows = parity_rows(cancer.x_later, 1)
    assert check_parity(boosted.predict_proba, package.model, rows).flips == 0
    border = float(np.float64(boosted.predict_proba(rows[:1])[0, 1]))
    served = package.model.run(rows[:1])[0, 1]
    assert served != border  # they differ by less than the tolerance, so that this threshold lies between or at them
    threshold = max(border, float(served))
    signature = replace(cancer.signature, threshold=threshold)
    at_border = open_onnx(package.files["onnx"], replace(package.model.manifest, signature=signature))
    parity = check_parity(boosted.predict_proba, at_border, rows)
    assert parity.flips >= 1
    assert parity.largest <= 1e-5
