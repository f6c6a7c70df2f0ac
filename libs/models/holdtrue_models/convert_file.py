"""From a model file to ONNX, without the library that wrote it. Needs the extra `train`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from holdtrue_models.adopt import adopt_forest
from holdtrue_models.content import recognise
from holdtrue_models.errors import UnsupportedModel
from holdtrue_models.forest_model import READERS, forest_answer
from holdtrue_models.package import PARITY_ROWS, Package, export
from holdtrue_models.signature import Column, Signature
from holdtrue_models.skops_runtime import load_skops
from holdtrue_models.sources import answer_of

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Float32s, Floats

    from holdtrue_models.forest import Forest
    from holdtrue_models.manifest import Kind

_PAIR = 2
_NOISE = 1e-6  # float32 sums of equal leaves


def convert_file(data: bytes, rows: Float32s | None = None, seed: int = 0) -> Package:
    """Return the model of a file of skops, XGBoost or LightGBM with its ONNX form, or the reason why there is none.

    Its answers are compared on `rows` float32 [n, d]; for trees, by default, on rows at the values where they divide.
    Columns are called c0, c1 and so on, classes 0, 1 and so on. The file is loaded here: only one that you trust.
    Raises UnsafeModel, MalformedModel, UnsupportedModel, or ParityError.
    """
    kind = recognise(data)
    if kind in READERS:
        return _forest(kind, data, rows, seed)
    if kind != "skops":
        raise UnsupportedModel(f"the file is {kind} already")
    if rows is None:
        raise UnsupportedModel("a skops file says nothing of the values that it takes; give rows to compare answers on")
    return _skops(data, rows, seed)


def _forest(kind: Kind, data: bytes, rows: Float32s | None, seed: int) -> Package:
    forest = READERS[kind](data)
    classes = max(_PAIR, forest.outputs) if forest.link in {"softmax", "sigmoid"} else 0
    signature = _signature(forest.width, classes)
    x = _rows_at_thresholds(forest, seed) if rows is None else rows
    scale = _scale(forest_answer(forest, signature)(x), signature)
    return adopt_forest(kind, data, forest, signature, x, seed, scale=scale)


def _skops(data: bytes, rows: Float32s, seed: int) -> Package:
    estimator: Any = load_skops(data, hashlib.sha256(data).hexdigest())
    width = getattr(estimator, "n_features_in_", rows.shape[1])
    if width != rows.shape[1]:
        raise UnsupportedModel(f"the model takes {width} columns, the rows have {rows.shape[1]}")
    signature = _signature(rows.shape[1], len(getattr(estimator, "classes_", ())))
    scale = 1.0 if signature.classes else _scale(answer_of(estimator, signature)(rows), signature)
    return export(estimator, signature, rows, seed, scale=scale)


def _signature(width: int, classes: int) -> Signature:
    columns = tuple(Column(name=f"c{i}") for i in range(width))
    if not classes:
        return Signature.regression(columns)
    if classes == _PAIR:
        return Signature.binary(columns, (0, 1), 0.5)
    return Signature.multiclass(columns, tuple(range(classes)))


def _scale(answers: Floats, signature: Signature) -> float:
    """What differences are measured in: of a regression the spread of its own answers, for there is no truth here."""
    if signature.classes:
        return 1.0
    spread, size = float(answers.std()), float(np.abs(answers).max())
    return spread if spread > _NOISE * size else size or 1.0


def _rows_at_thresholds(forest: Forest, seed: int) -> Float32s:
    """Rows [2,000, d] of values where trees divide, of their neighbours, and of missing ones."""
    random = np.random.default_rng(seed)
    branch = forest.branch & np.isfinite(forest.threshold)
    columns: list[Float32s] = []
    for feature in range(forest.width):
        values = np.unique(forest.threshold[branch & (forest.feature == feature)])
        sides = [np.nextafter(values, np.float32(side)) for side in (-np.inf, np.inf)]
        choices = np.concatenate([values, *sides, np.array([0, np.nan], np.float32)])
        columns.append(random.choice(choices, 2 * PARITY_ROWS).astype(np.float32))
    return np.column_stack(columns)
