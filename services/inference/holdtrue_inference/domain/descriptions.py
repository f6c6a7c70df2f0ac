"""What clients are told about models, in the protocol's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.oip import SIGNATURE_PARAMETER
from holdtrue_contracts.oip.inference_pb2 import (
    DataType,
    ModelConfigResponse,
    ModelInput,
    ModelMetadataResponse,
    ModelOutput,
)

from holdtrue_inference.domain.inputs import MATRIX, MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_models.signature import Signature

PLATFORMS = {
    "onnx": "onnxruntime_onnx",
    "skops": "sklearn_skops",
    "ubj": "xgboost_ubj",
    "lightgbm": "lightgbm_text",
}
_DATATYPES = {"float32": "FP32", "int64": "INT64", "string": "BYTES", "bool": "BOOL"}
_CONFIG_TYPES = {
    "FP32": DataType.TYPE_FP32,
    "INT64": DataType.TYPE_INT64,
    "BYTES": DataType.TYPE_STRING,
    "BOOL": DataType.TYPE_BOOL,
}

Tensors = list[tuple[str, str, list[int]]]
"""Name, datatype, and shape without the rows."""


def inputs(signature: Signature) -> Tensors:
    """The inputs as they are best sent: one matrix where all columns are numbers, else one tensor a column."""
    if signature.numeric:
        return [(MATRIX, "FP32", [len(signature.columns)])]
    return [(column.name, _DATATYPES[column.dtype], []) for column in signature.columns]


def metadata(name: str, versions: Sequence[str], signature: Signature, kind: str = "onnx") -> ModelMetadataResponse:
    """What a model takes and gives; -1 stands for the rows."""
    response = ModelMetadataResponse(name=name, versions=versions, platform=PLATFORMS[kind])
    for tensor, datatype, shape in inputs(signature):
        response.inputs.add(name=tensor, datatype=datatype, shape=[-1, *shape])
    for output in signature.outputs:
        response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    return response


def config(name: str, signature: Signature, kind: str = "onnx") -> ModelConfigResponse:
    """How a model is set up, with the whole signature as a parameter."""
    response = ModelConfigResponse()
    described = response.config
    described.name, described.platform, described.max_batch_size = name, PLATFORMS[kind], MAX_ROWS
    described.input.extend(
        ModelInput(name=tensor, data_type=_CONFIG_TYPES[datatype], dims=shape or [1])
        for tensor, datatype, shape in inputs(signature)
    )
    described.output.extend(
        ModelOutput(name=o.name, data_type=_CONFIG_TYPES[o.datatype], dims=o.shape[1:] or [1])
        for o in signature.outputs
    )
    described.parameters[SIGNATURE_PARAMETER].string_value = signature.to_json().decode()
    return response
