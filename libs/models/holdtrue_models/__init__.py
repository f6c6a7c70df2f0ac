"""Model formats: safe to load, equal wherever they run.

`holdtrue_models.package` and what it needs (scikit-learn, skops, onnx) is imported only where models are made.
"""

from holdtrue_models.errors import (
    MalformedModel,
    ModelError,
    ParityError,
    UnsafeModel,
    UnsupportedModel,
    WrongInput,
)
from holdtrue_models.manifest import CheckRows, File, Kind, Manifest, Matrix, ScoreMap
from holdtrue_models.onnx_limits import OnnxLimits, check_onnx
from holdtrue_models.onnx_runtime import OnnxModel, load_onnx
from holdtrue_models.signature import Column, Output, Signature

__all__ = [
    "CheckRows",
    "Column",
    "File",
    "Kind",
    "MalformedModel",
    "Manifest",
    "Matrix",
    "ModelError",
    "OnnxLimits",
    "OnnxModel",
    "Output",
    "ParityError",
    "ScoreMap",
    "Signature",
    "UnsafeModel",
    "UnsupportedModel",
    "WrongInput",
    "check_onnx",
    "load_onnx",
]
