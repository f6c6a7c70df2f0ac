"""Take over a model that was made elsewhere: ONNX, XGBoost's UBJSON or LightGBM's text. Needs the extra `train`.

A graph whose input and answer have our names and types is served as it came; others get a few nodes around them that
give them those, and are compared with what came. Trees are read and converted by ourselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from holdtrue_models.content import BROUGHT, recognise
from holdtrue_models.errors import MalformedModel, UnsupportedModel
from holdtrue_models.forest_model import READERS, forest_answer
from holdtrue_models.onnx_limits import check_onnx
from holdtrue_models.onnx_runtime import INPUT, load_onnx, open_session, output_name
from holdtrue_models.package import CHECK_ROWS, Package, check_parity, draft, from_source
from holdtrue_models.parity import TOLERANCE
from holdtrue_models.sources import forest_source

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Float32s, Floats

    from holdtrue_models.forest import Forest
    from holdtrue_models.manifest import Kind
    from holdtrue_models.signature import Signature

Untyped = Any  # messages and helpers of onnx

SUM_TOLERANCE = 1e-3
"""How far the probabilities of a row may be from a sum of 1."""
_PREFIX = "given_"
_REALS: dict[int, type[np.float32 | np.float64]] = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64}
_MATRIX = 2
_LABELS = frozenset({"classlabels_ints", "classlabels_int64s", "classlabels_strings"})
_make: Untyped = helper


def adopt(data: bytes, signature: Signature, x: Float32s, seed: int, *, scale: float = 1.0) -> Package:
    """Return the model of a file; the first rows of x float32 [n, d] become its check rows.

    An ONNX graph takes one matrix of the signature's columns in their order, with any number of rows, and answers with
    probabilities: [n, K] in the order of the signature's classes, or of the positive class alone, [n] or [n, 1]; a
    regression with values, [n] or [n, 1]. `scale`: of a regression, the standard deviation of the truth.

    The model runs here: call it in a limited process. Raises UnsafeModel, MalformedModel or UnsupportedModel, which say
    what to change in the export; ParityError if it answers differently once it is served.
    """
    kind = recognise(data)
    if kind in READERS:
        return adopt_forest(kind, data, READERS[kind](data), signature, x, seed, scale=scale)
    if kind not in BROUGHT:
        raise UnsupportedModel(f"the file is {kind}; bring the model along as one of {', '.join(BROUGHT)}")
    check_onnx(data)
    given = _Given(data, signature)
    answers = given(x)
    _check_answers(answers, signature, "Sigmoid" if given.alone else "Softmax")
    _check_rows_alone(given, x, answers)
    served = given.standard()
    model = load_onnx(served, draft("onnx", served, signature, x, answers, scale, {}))
    return Package({"onnx": served}, model, model.manifest.artifact.digest, check_parity(given, model, x))


def adopt_forest(  # noqa: PLR0913, PLR0917 - as `adopt`
    kind: Kind, data: bytes, forest: Forest, signature: Signature, x: Float32s, seed: int, *, scale: float = 1.0
) -> Package:
    """Do what `adopt` does with a file of trees that was read already."""
    source = forest_source(kind, data, forest, forest_answer(forest, signature))
    return from_source(source, signature, x, seed, f"the {kind} file", scale=scale)


class _Given:
    """The graph as it came, between rows float32 [n, d] and answers [n, K], or [n, 1] of a regression."""

    def __init__(self, data: bytes, signature: Signature) -> None:
        self._data = data
        self._signature = signature
        self._model: Untyped = cast("Untyped", onnx).load_from_string(data)
        self._input: Untyped = _input(self._model.graph, len(signature.columns))
        self._output: Untyped = _output(self._model.graph, output_name(signature))
        _check_labels(self._model.graph, signature)
        self._session = open_session(data)
        self._shape: tuple[int, ...] = ()

    def __call__(self, x: Float32s) -> Floats:
        """Run it; a probability of the positive class alone is completed."""
        rows = x.astype(_REALS[_type(self._input)])
        try:
            found = np.asarray(self._session.run([self._output.name], {self._input.name: rows})[0], np.float64)
        except Exception as error:  # the runtime raises a dozen unrelated classes
            raise MalformedModel(
                f"ONNX Runtime cannot run the model on {len(x)} rows; export it with a dynamic number of rows: {error}"
            ) from error
        if found.ndim not in {1, _MATRIX} or len(found) != len(x):
            raise MalformedModel(
                f"the ONNX output {self._output.name!r} has shape {list(found.shape)} for {len(x)} rows; "
                f"expected [n, {max(1, len(self._signature.classes))}]"
            )
        self._shape = found.shape[1:]
        answers = found.reshape(len(x), -1)
        if not self.alone:
            return answers
        pair = (1 - answers, answers) if self._positive_last else (answers, 1 - answers)
        return np.hstack(pair)

    @property
    def alone(self) -> bool:
        """Whether it gives only the probability of the positive class."""
        return self._signature.task == "binary" and self._shape in {(), (1,)}

    @property
    def _positive_last(self) -> bool:
        return self._signature.positive_class == self._signature.classes[-1]

    def standard(self) -> bytes:
        """Return a graph that takes INPUT and gives the answer by the name that is served; the same if it does."""
        answer = output_name(self._signature)
        names = self._input.name, self._output.name
        types = _type(self._input), _type(self._output)
        if names == (INPUT, answer) and types == (TensorProto.FLOAT,) * 2 and len(self._shape) == 1 and not self.alone:
            return self._data
        model: Untyped = cast("Untyped", compose).add_prefix(self._model, _PREFIX)
        graph = model.graph
        taken, given = f"{_PREFIX}{names[0]}", f"{_PREFIX}{names[1]}"
        nodes = [
            _make.make_node("Cast", [INPUT], [taken], to=types[0]),
            *graph.node,
            *self._answer_nodes(given, answer),
        ]
        constants = [
            numpy_helper.from_array(np.array([-1, 1]), "column"),
            numpy_helper.from_array(np.ones(1, np.float32), "one"),
        ]
        del graph.node[:], graph.input[:], graph.output[:]
        graph.node.extend(nodes)
        graph.initializer.extend(constants)
        graph.input.append(_make.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(self._signature.columns)]))
        width = max(1, len(self._signature.classes))
        graph.output.append(_make.make_tensor_value_info(answer, TensorProto.FLOAT, [None, width]))
        return cast("bytes", model.SerializeToString(deterministic=True))

    def _answer_nodes(self, given: str, answer: str) -> list[Untyped]:
        nodes = [_make.make_node("Cast", [given], ["real"], to=TensorProto.FLOAT)]
        if not self.alone and len(self._shape) == 1:
            return [*nodes, _make.make_node("Identity", ["real"], [answer])]
        if not self.alone:
            return [*nodes, _make.make_node("Reshape", ["real", "column"], [answer])]
        pair = ["other", "alone"] if self._positive_last else ["alone", "other"]
        return [
            *nodes,
            _make.make_node("Reshape", ["real", "column"], ["alone"]),
            _make.make_node("Sub", ["one", "alone"], ["other"]),
            _make.make_node("Concat", pair, [answer], axis=1),
        ]


def _input(graph: Untyped, width: int) -> Untyped:
    """Return the one input that is no constant."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = [value.name for value in inputs]
        raise UnsupportedModel(
            f"the ONNX graph takes {len(inputs)} inputs {names}; "
            f"export it with one, a float matrix [n, {width}] of all columns"
        )
    tensor = inputs[0].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if tensor.elem_type not in _REALS or len(dims) != _MATRIX or dims[1] not in {0, width}:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise UnsupportedModel(
            f"the ONNX input {inputs[0].name!r} is {kind} {[dim or 'n' for dim in dims]}; "
            f"expected FLOAT ['n', {width}], the {width} columns of the model in their order"
        )
    return inputs[0]


def _output(graph: Untyped, name: str) -> Untyped:
    """Return the output with the answer: the one of the served name, or the only one of real numbers."""
    reals = [value for value in graph.output if _type(value) in _REALS]
    named = [value for value in reals if value.name == name] or reals
    if len(named) != 1:
        outputs = {value.name: value.type.WhichOneof("value") for value in graph.output}
        raise UnsupportedModel(
            f"the ONNX graph must have one output of real numbers, or one called {name!r}; it has {outputs}"
        )
    return named[0]


def _type(value: Untyped) -> int:
    return cast("int", value.type.tensor_type.elem_type)


def _check_labels(graph: Untyped, signature: Signature) -> None:
    """Raise MalformedModel if a classifier of the graph names the signature's classes in another order."""
    for attribute in (found for node in graph.node for found in node.attribute):
        labels = [*attribute.ints, *(text.decode(errors="replace") for text in attribute.strings)]
        is_labels = attribute.name in _LABELS and set(labels) == set(signature.classes)
        if is_labels and labels != list(signature.classes):
            raise MalformedModel(
                f"the ONNX graph gives the classes in the order {labels}, the model's is {list(signature.classes)}"
            )


def _check_rows_alone(given: _Given, x: Float32s, answers: Floats) -> None:
    """Raise MalformedModel if an answer depends on the rows that come with it."""
    for rows in (1, CHECK_ROWS):
        if not np.allclose(given(x[:rows]), answers[:rows], rtol=0, atol=TOLERANCE * max(1.0, np.abs(answers).max())):
            raise MalformedModel(
                "the ONNX model's answer to a row depends on the rows that come with it, or differs from run to run; "
                "export it for inference, for example after `model.eval()`"
            )


def _check_answers(answers: Floats, signature: Signature, last: str) -> None:
    """Raise MalformedModel for answers that are none of this task."""
    width = max(1, len(signature.classes))
    if answers.shape[1] != width:
        raise MalformedModel(f"the ONNX model answers with {answers.shape[1]} numbers a row; expected {width}")
    if not np.isfinite(answers).all():
        raise MalformedModel(f"the ONNX model answers row {_first(~np.isfinite(answers).all(1))} with NaN or infinity")
    if signature.task == "regression":
        return
    wrong = (answers < -SUM_TOLERANCE).any(1) | (np.abs(answers.sum(1) - 1) > SUM_TOLERANCE)
    if wrong.any():
        row = _first(wrong)
        raise MalformedModel(
            f"the ONNX model answers row {row} with numbers that are no probabilities ({answers[row].tolist()}); "
            f"end its graph with {last}"
        )


def _first(mask: Untyped) -> int:
    return int(np.argmax(mask))
