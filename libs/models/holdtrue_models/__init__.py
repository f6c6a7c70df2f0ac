"""Model formats: safe to load, equal wherever they run.

`holdtrue_models.package` and what it needs (scikit-learn, skops, onnx) is imported only where models are made.
"""

from holdtrue_models.errors import (
    MalformedModel,
    ModelError,
    ParityError,
    UnsafeModel,
    UnsupportedModel,
    WorkerAway,
    WrongInput,
)
from holdtrue_models.manifest import CheckRows, File, Kind, Manifest, Matrix, Role, ScoreMap
from holdtrue_models.models import load
from holdtrue_models.onnx_limits import OnnxLimits, check_onnx
from holdtrue_models.onnx_runtime import OnnxModel, load_onnx
from holdtrue_models.parity import Model, verify
from holdtrue_models.signature import Column, Output, Signature

__all__ = [
    "CheckRows",
    "Column",
    "File",
    "Kind",
    "MalformedModel",
    "Manifest",
    "Matrix",
    "Model",
    "ModelError",
    "OnnxLimits",
    "OnnxModel",
    "Output",
    "ParityError",
    "Role",
    "ScoreMap",
    "Signature",
    "UnsafeModel",
    "UnsupportedModel",
    "WorkerAway",
    "WrongInput",
    "check_onnx",
    "load",
    "load_onnx",
    "verify",
]
