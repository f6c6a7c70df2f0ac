"""Models that were made elsewhere: whatever their graph calls its input and answer, they answer as before."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, cast

import lightgbm
import numpy as np
import onnx
import pytest
import skl2onnx
import xgboost
from holdtrue_models import MalformedModel, ModelError, UnsafeModel, UnsupportedModel
from holdtrue_models.adopt import adopt
from holdtrue_models.manifest import Manifest
from holdtrue_models.onnx_runtime import load_onnx
from holdtrue_models.package import export
from holdtrue_models.signature import Column, Signature
from onnx import TensorProto, helper, numpy_helper
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_stats.arrays import Float32s, Floats

Untyped = Any
make: Untyped = helper
COLUMNS = tuple(Column(name=name) for name in "abc")
BINARY = Signature.binary(COLUMNS, (0, 1), 0.5)
THREE = Signature.multiclass(COLUMNS, ("x", "y", "z"))
VALUE = Signature.regression(COLUMNS)
random = np.random.default_rng(3)
X = random.normal(size=(200, 3)).astype(np.float32)
W1, W2 = random.normal(size=(3, 8)).astype(np.float32), random.normal(size=(8, 3)).astype(np.float32)


def hidden(x: Float32s) -> Floats:
    return np.maximum(x.astype(np.float64) @ W1, 0)


def sigmoid(z: Floats) -> Floats:
    return 1 / (1 + np.exp(-z))


def softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def network(
    last: list[Untyped], width: int, *, real: int = TensorProto.FLOAT, rows: int | None = None, shape: int = 2
) -> bytes:
    """A network as other frameworks write them: input "features", answer "out"."""
    dtype = np.float32 if real == TensorProto.FLOAT else np.float64
    nodes = [
        make.make_node("MatMul", ["features", "w1"], ["h"]),
        make.make_node("Relu", ["h"], ["r"]),
        make.make_node("MatMul", ["r", "w2"], ["logits"]),
        *last,
    ]
    graph = make.make_graph(
        nodes,
        "network",
        [make.make_tensor_value_info("features", real, [rows, 3])],
        [make.make_tensor_value_info("out", real, [rows, width][:shape])],
        [
            numpy_helper.from_array(W1.astype(dtype), "w1"),
            numpy_helper.from_array(W2[:, :width].astype(dtype), "w2"),
            numpy_helper.from_array(np.array([-1]), "flat"),
        ],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9).SerializeToString()


def node(op: str, *inputs: str, **attributes: int) -> Untyped:
    return make.make_node(op, list(inputs), ["out"], **attributes)


FLAT = [make.make_node("Sigmoid", ["logits"], ["s"]), node("Reshape", "s", "flat")]
NETWORKS: dict[str, tuple[bytes, Signature, Callable[[Float32s], Floats]]] = {
    "one probability": (network([node("Sigmoid", "logits")], 1), BINARY, lambda x: sigmoid(hidden(x) @ W2[:, :1])),
    "a vector": (network(FLAT, 1, shape=1), BINARY, lambda x: sigmoid(hidden(x) @ W2[:, :1])),
    "two": (network([node("Softmax", "logits", axis=1)], 2), BINARY, lambda x: softmax(hidden(x) @ W2[:, :2])),
    "three": (network([node("Softmax", "logits", axis=1)], 3), THREE, lambda x: softmax(hidden(x) @ W2)),
    "doubles": (
        network([node("Softmax", "logits", axis=1)], 3, real=TensorProto.DOUBLE),
        THREE,
        lambda x: softmax(hidden(x) @ W2),
    ),
    "a value": (network([node("Identity", "logits")], 1), VALUE, lambda x: hidden(x) @ W2[:, :1]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_as_its_weights_say(name: str) -> None:
    data, signature, expected = NETWORKS[name]
    package = adopt(data, signature, X, 0)
    answers = expected(X)
    if signature is BINARY and answers.shape[1] == 1:
        answers = np.hstack([1 - answers, answers])
    np.testing.assert_allclose(package.model.run(X), answers, atol=1e-5)
    assert package.parity.largest <= 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_adopted_is_served_by_its_manifest(name: str) -> None:
    data, signature, _ = NETWORKS[name]
    package = adopt(data, signature, X, 0)
    manifest = package.manifest(score_map="identity", importances={}, pins={}, reference_profile="")
    again = load_onnx(package.files["onnx"], Manifest.from_bytes(manifest.to_bytes()))
    np.testing.assert_array_equal(again.run(X), package.model.run(X))
    assert adopt(data, signature, X, 0).files == package.files


def test_the_positive_class_may_come_first() -> None:
    first = Signature(
        columns=COLUMNS, task="binary", classes=(1, 0), positive_class=1, threshold=0.5, outputs=BINARY.outputs
    )
    data, _, expected = NETWORKS["one probability"]
    np.testing.assert_allclose(adopt(data, first, X, 0).model.run(X)[:, :1], expected(X), atol=1e-5)


@pytest.fixture(scope="module")
def forest() -> RandomForestClassifier:
    return RandomForestClassifier(20, random_state=0).fit(X, X[:, 0] > 0)


def converted(forest: RandomForestClassifier, name: str, kind: Untyped, *, zipmap: bool = False) -> bytes:
    options = {id(forest): {"zipmap": zipmap}}
    model: Untyped = cast("Untyped", skl2onnx).to_onnx(forest, initial_types=[(name, kind)], options=options)
    return model.SerializeToString()


def test_a_forest_by_our_names_is_served_as_it_came(forest: RandomForestClassifier) -> None:
    data = converted(forest, "X", FloatTensorType([None, 3]))
    assert adopt(data, BINARY, X, 0).files == {"onnx": data}


def test_a_forest_by_other_names_answers_alike(forest: RandomForestClassifier) -> None:
    package = adopt(converted(forest, "input", FloatTensorType([None, 3])), BINARY, X, 0)
    np.testing.assert_allclose(package.model.run(X), forest.predict_proba(X), atol=1e-5)


def test_doubles_called_as_ours_are_cast() -> None:
    data, signature, expected = NETWORKS["doubles"]
    model: Untyped = onnx.load_from_string(data)
    model.graph.node[0].input[0] = model.graph.input[0].name = "X"
    np.testing.assert_allclose(adopt(model.SerializeToString(), signature, X, 0).model.run(X), expected(X), atol=1e-5)


REFUSED: dict[str, tuple[Callable[[RandomForestClassifier], bytes], Signature, type[ModelError], str]] = {
    "logits": (
        lambda _: network([node("Identity", "logits")], 1), BINARY, MalformedModel, "end its graph with Sigmoid",
    ),
    "logits of three": (
        lambda _: network([node("Identity", "logits")], 3), THREE, MalformedModel, "end its graph with Softmax",
    ),
    "one row at a time": (
        lambda _: network([node("Sigmoid", "logits")], 1, rows=1), BINARY, MalformedModel, "dynamic number of rows",
    ),
    "too few classes": (
        lambda _: network([node("Softmax", "logits", axis=1)], 2), THREE, MalformedModel, "2 numbers a row; expected 3",
    ),
    "not finite": (lambda _: network([node("Log", "logits")], 1), VALUE, MalformedModel, "NaN or infinity"),
    "a map": (
        lambda f: converted(f, "X", FloatTensorType([None, 3]), zipmap=True), BINARY, UnsafeModel, "zipmap=False",
    ),
    "wrong width": (
        lambda f: converted(f, "X", FloatTensorType([None, 3])),
        Signature.binary(COLUMNS[:2], (0, 1), 0.5),
        UnsupportedModel,
        "expected FLOAT ['n', 2]",
    ),
    "two inputs": (
        lambda _: two_inputs(network([node("Sigmoid", "logits")], 1)), BINARY, UnsupportedModel, "takes 2 inputs",
    ),
    "answers that depend on the others": (
        lambda _: network(
            [
                make.make_node("ReduceMax", ["logits"], ["top"]),
                make.make_node("Sub", ["logits", "top"], ["z"]),
                node("Sigmoid", "z"),
            ],
            1,
        ),
        BINARY,
        MalformedModel,
        "depends on the rows that come with it",
    ),
    "as many rows as there are": (
        lambda _: network([node("Sigmoid", "logits")], 1, rows=200), BINARY, MalformedModel, "dynamic number of rows",
    ),
    "classes in another order": (
        lambda f: converted(f, "X", FloatTensorType([None, 3])),
        Signature(
            columns=COLUMNS, task="binary", classes=(1, 0), positive_class=1, threshold=0.5, outputs=BINARY.outputs
        ),
        MalformedModel,
        "in the order [0, 1], the model's is [1, 0]",
    ),
    "a pickle": (pickle.dumps, BINARY, MalformedModel, "a pickle"),
    "a loop": (lambda _: network([node("Loop", "logits")], 1), BINARY, UnsafeModel, "'Loop'"),
    "skops": (lambda _: b"PK\x03\x04", BINARY, UnsupportedModel, "one of onnx, ubj, lightgbm"),
    "half of LightGBM": (lambda _: b"tree\nversion=v4\n", BINARY, ModelError, "LightGBM"),
}  # fmt: skip


def xgboost_file() -> tuple[bytes, Any]:
    model: Untyped = xgboost.XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1)
    model.fit(X, X[:, 0] > 0)
    return bytes(model.get_booster().save_raw("ubj")), model


def lightgbm_file() -> tuple[bytes, Any]:
    model: Untyped = lightgbm.LGBMClassifier(n_estimators=20, max_depth=3, n_jobs=1, verbose=-1)
    model.fit(X, X[:, 0] > 0)
    return model.booster_.model_to_string().encode(), model


def two_inputs(data: bytes) -> bytes:
    model: Untyped = onnx.load_from_string(data)
    model.graph.input.append(make.make_tensor_value_info("more", TensorProto.FLOAT, [None, 1]))
    return model.SerializeToString()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_says_what_to_change(forest: RandomForestClassifier, name: str) -> None:
    data, signature, error, text = REFUSED[name]
    with pytest.raises(error) as caught:
        adopt(data(forest), signature, X, 0)
    assert text in str(caught.value)


BOOSTED: dict[str, Callable[[], tuple[bytes, Any]]] = {"ubj": xgboost_file, "lightgbm": lightgbm_file}


@pytest.mark.parametrize("kind", BOOSTED)
def test_boosted_trees_of_others_are_read_converted_and_answer_alike(kind: str) -> None:
    data, fitted = BOOSTED[kind]()
    package = adopt(data, BINARY, X, 0)
    assert sorted(package.files) == sorted([kind, "onnx"])
    assert package.files[cast("Any", kind)] == data
    np.testing.assert_allclose(package.model.run(X), fitted.predict_proba(X), atol=1e-5)
    assert package.model.explain()["a"] > 0.9
    with pytest.raises(MalformedModel, match="the signature is multiclass"):
        adopt(data, THREE, X, 0)


def stopped_early() -> Untyped:
    model: Untyped = xgboost.XGBClassifier(n_estimators=200, learning_rate=1, n_jobs=1, early_stopping_rounds=3)
    noise = random.random(len(X)) < 0.3
    return model.fit(X[:100], (X[:100, 0] > 0) ^ noise[:100], eval_set=[(X[100:], X[100:, 0] > 0)], verbose=False)


def test_a_file_of_which_early_stopping_chose_a_part_asks_which() -> None:
    booster = stopped_early().get_booster()
    chosen = int(booster.attr("best_iteration")) + 1
    assert chosen < booster.num_boosted_rounds()
    with pytest.raises(UnsupportedModel, match=f"early stopping chose the first {chosen}"):
        adopt(bytes(booster.save_raw("ubj")), BINARY, X, 0)
    model = adopt(bytes(booster[:chosen].save_raw("ubj")), BINARY, X, 0).model
    np.testing.assert_allclose(model.run(X), stopped_early_answers(booster, chosen), atol=1e-5)


def stopped_early_answers(booster: Untyped, chosen: int) -> Floats:
    positive = booster.predict(xgboost.DMatrix(X), iteration_range=(0, chosen))
    return np.column_stack([1 - positive, positive])


def test_what_an_estimator_says_only_outside_its_file_is_refused() -> None:
    model: Untyped = xgboost.XGBClassifier(n_estimators=3, missing=0.0, n_jobs=1).fit(X, X[:, 0] > 0)
    with pytest.raises(UnsupportedModel, match=r"takes 0\.0 for a missing value"):
        export(model, BINARY, X, 0)
