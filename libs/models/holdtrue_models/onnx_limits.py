"""What an ONNX file may contain before it is given to a runtime.

The file is read with a skeleton of the public ONNX format that knows only the fields that the limits look at: neither
the runtime nor the onnx package sees the bytes before they have passed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from holdtrue_models.errors import MalformedModel, UnsafeModel
from holdtrue_models.onnx_trees import check_onnx_trees

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Skeleton = Any  # a message of the pool below, whose classes exist only at run time

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_OPERATORS = """
Abs Add And ArgMax ArgMin Cast Clip Concat Constant Div Dropout Equal Exp Flatten Floor Gather Gemm Greater
GreaterOrEqual Identity IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max Mean Min Mul Neg Not Or Pow
Reciprocal ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape Selu Shape Sigmoid
Sign Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where Xor
ArrayFeatureExtractor Binarizer Imputer LabelEncoder LinearClassifier LinearRegressor Normalizer
OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsembleClassifier TreeEnsembleRegressor
"""
OPERATORS = frozenset(_OPERATORS.split())
"""Operators of tabular models. None loops, branches, or makes a tensor whose size is a value in the data."""

_INSTEAD = {"ZipMap": "; convert a classifier of scikit-learn with the option zipmap=False"}


@dataclass(frozen=True, slots=True)
class OnnxLimits:
    """Sizes that are accepted: bytes of the file, nodes of the graph, elements of all tensors together or of one shape.

    `depth` is how many levels a tree may have; ONNX Runtime loads it by recursion.
    """

    file_bytes: int = 512 << 20
    nodes: int = 20_000
    elements: int = 100_000_000
    depth: int = 1_000


STANDARD = OnnxLimits()


def check_onnx(data: bytes, limits: OnnxLimits = STANDARD) -> None:
    """Raise MalformedModel or UnsafeModel unless the bytes are an ONNX model within the limits."""
    if len(data) > limits.file_bytes:
        raise UnsafeModel(f"the ONNX file has {len(data)} bytes, at most {limits.file_bytes} are loaded")
    model = parse_onnx(data)
    if model.functions or model.training_info:
        raise UnsafeModel("the ONNX model defines functions or training steps; export it for inference only")
    _check_domains({opset.domain for opset in model.opset_import})
    graph = model.graph
    if not 1 <= len(graph.node) <= limits.nodes:
        raise UnsafeModel(f"the ONNX graph has {len(graph.node)} nodes; 1 to {limits.nodes} are loaded")
    for node in graph.node:
        _check_node(node)
        check_onnx_trees(node, limits.depth)
    if graph.sparse_initializer:
        raise UnsafeModel("the ONNX graph has sparse initializers; store them dense")
    stored = 0
    for tensor in _tensors(graph):
        stored += _check_tensor(tensor, limits)
    if stored > limits.elements:
        raise UnsafeModel(f"the ONNX tensors have {stored} elements together; at most {limits.elements} are loaded")
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_size((dim.dim_value for dim in value.type.tensor_type.shape.dim), f"value {value.name!r}", limits)


def parse_onnx(data: bytes) -> Skeleton:
    """Return what the limits look at of an ONNX file, which `check_onnx` has let pass. Raises MalformedModel."""
    if not data.startswith(b"\x08"):  # field 1, ir_version
        raise MalformedModel(f"this is not an ONNX file: it begins with {data[:4].hex(' ') or 'nothing'}")
    model = _skeleton()()
    try:
        model.ParseFromString(data)
    except message.DecodeError as error:
        raise MalformedModel(f"this is not an ONNX file, or it is cut off: {error}") from error
    return model


def _check_domains(domains: set[str]) -> None:
    foreign = domains - DOMAINS
    if foreign:
        raise UnsafeModel(
            f"the ONNX model uses the operator domains {sorted(foreign)}; only the standard ones are loaded"
        )


def _check_node(node: Skeleton) -> None:
    _check_domains({node.domain})
    if node.op_type not in OPERATORS:
        raise UnsafeModel(
            f"the ONNX node {node.name!r} uses the operator {node.op_type!r}, which is not on the list of safe ones"
            f"{_INSTEAD.get(node.op_type, '')}"
        )
    for attribute in node.attribute:
        if (
            attribute.HasField("g")
            or attribute.graphs
            or attribute.HasField("sparse_tensor")
            or attribute.sparse_tensors
        ):
            raise UnsafeModel(f"the ONNX node {node.name!r} holds a subgraph or a sparse tensor in {attribute.name!r}")


def _tensors(graph: Skeleton) -> Iterator[Skeleton]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _check_tensor(tensor: Skeleton, limits: OnnxLimits) -> int:
    if tensor.external_data or tensor.data_location:
        raise UnsafeModel(f"the ONNX tensor {tensor.name!r} lies outside the file; save the model in one file")
    return _check_size(tensor.dims, f"tensor {tensor.name!r}", limits)


def _check_size(dims: Iterable[int], what: str, limits: OnnxLimits) -> int:
    dims = list(dims)
    elements = math.prod(max(dim, 1) for dim in dims)
    if min(dims, default=0) < 0 or elements > limits.elements:
        raise UnsafeModel(f"the ONNX {what} has shape {dims}; at most {limits.elements} elements are loaded")
    return elements


_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Opset": {"domain": (1, "string")},
    "Dim": {"dim_value": (1, "int64")},
    "Shape": {"dim": (1, "*Dim")},
    "TensorType": {"shape": (2, "Shape")},
    "Type": {"tensor_type": (1, "TensorType")},
    "Value": {"name": (1, "string"), "type": (2, "Type")},
    "Anything": {},
    "Tensor": {
        "dims": (1, "*int64"),
        "name": (8, "string"),
        "external_data": (13, "*Anything"),
        "data_location": (14, "int32"),
    },
    "Attribute": {
        "name": (1, "string"),
        "t": (5, "Tensor"),
        "g": (6, "Anything"),
        "ints": (8, "*int64"),
        "strings": (9, "*bytes"),
        "tensors": (10, "*Tensor"),
        "graphs": (11, "*Anything"),
        "sparse_tensor": (22, "Anything"),
        "sparse_tensors": (23, "*Anything"),
    },
    "Node": {"name": (3, "string"), "op_type": (4, "string"), "attribute": (5, "*Attribute"), "domain": (7, "string")},
    "Graph": {
        "node": (1, "*Node"),
        "initializer": (5, "*Tensor"),
        "input": (11, "*Value"),
        "output": (12, "*Value"),
        "value_info": (13, "*Value"),
        "sparse_initializer": (15, "*Anything"),
    },
    "Model": {
        "graph": (7, "Graph"),
        "opset_import": (8, "*Opset"),
        "training_info": (20, "*Anything"),
        "functions": (25, "*Anything"),
    },
}
"""Message → field → (number, type); * = repeated. All other fields of the format are skipped."""


@cache
def _skeleton() -> type[Skeleton]:
    """Build the class of a model in a pool of its own, where it cannot meet the real ONNX messages."""
    file = descriptor_pb2.FileDescriptorProto(name="skeleton.proto", package="skeleton", syntax="proto2")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            described.field.append(_field(field, number, kind))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # pyright: ignore[reportUnknownMemberType] - untyped in the stubs
    return cast("type[Skeleton]", message_factory.GetMessageClass(pool.FindMessageTypeByName("skeleton.Model")))


def _field(name: str, number: int, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    types = descriptor_pb2.FieldDescriptorProto.Type
    scalar = {
        "string": types.TYPE_STRING,
        "bytes": types.TYPE_BYTES,
        "int64": types.TYPE_INT64,
        "int32": types.TYPE_INT32,
    }
    bare = kind.removeprefix("*")
    labels = descriptor_pb2.FieldDescriptorProto.Label
    return descriptor_pb2.FieldDescriptorProto(
        name=name,
        number=number,
        type=scalar.get(bare, types.TYPE_MESSAGE),
        type_name=None if bare in scalar else f".skeleton.{bare}",
        label=labels.LABEL_REPEATED if kind != bare else labels.LABEL_OPTIONAL,
    )
