"""Load a model of any kind that is served."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from holdtrue_models.forest_model import READERS, load_forest
from holdtrue_models.onnx_runtime import load_onnx

if TYPE_CHECKING:
    from holdtrue_models.manifest import Manifest
    from holdtrue_models.parity import Model


def load(data: bytes, manifest: Manifest) -> Model:
    """Return the model of these bytes, the file that the manifest serves, after it has reproduced its check rows.

    Call it only in a limited process, or for ONNX after `worker.try_out` of the same bytes. Raises UnsafeModel,
    MalformedModel, UnsupportedModel or ParityError.
    """
    if manifest.kind == "onnx":
        return load_onnx(data, manifest)
    if manifest.kind in READERS:
        return load_forest(data, manifest)
    skops_model = importlib.import_module("holdtrue_models.skops_model")  # brings scikit-learn along
    return cast("Model", skops_model.load_model(data, manifest))
