"""Serve an ONNX model: load it safely, see that it answers as its maker recorded, run it."""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from holdtrue_models.coding import check_rows
from holdtrue_models.content import verified
from holdtrue_models.errors import MalformedModel
from holdtrue_models.explain import recorded
from holdtrue_models.onnx_limits import STANDARD, OnnxLimits, check_onnx
from holdtrue_models.parity import verify

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Float32s

    from holdtrue_models.manifest import Manifest
    from holdtrue_models.signature import Signature

INPUT = "X"
PROBABILITIES = "probabilities"
VALUE = "variable"
"""The output of a regression: [n, 1]."""


class Session(Protocol):
    """What is used of a session of ONNX Runtime."""

    def run(self, outputs: list[str], inputs: dict[str, Float32s], /) -> list[Float32s]:
        """Return the named outputs for the named inputs."""
        ...


class OnnxModel:
    """A loaded ONNX model on one thread. Safe to share between threads."""

    def __init__(self, session: Session, manifest: Manifest) -> None:
        """Wrap a session that `load_onnx` has checked."""
        self._session = session
        self._width = len(manifest.signature.columns)
        self._outputs = [output_name(manifest.signature)]
        self.manifest = manifest

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.manifest.signature

    def run(self, x: Float32s) -> Float32s:
        """Return the probabilities [n, K] of the rows x [n, d], classes in the signature's order, or values [n, 1].

        Raises WrongInput if x is not a float32 matrix of the right width with at least one row, MalformedModel if the
        model fails on it.
        """
        check_rows(x, self._width)
        try:
            return self._session.run(self._outputs, {INPUT: x})[0]
        except Exception as error:  # as in loading; a model whose inner indices are wrong fails only here
            raise MalformedModel(f"ONNX Runtime cannot run the model: {error}") from error

    def explain(self) -> dict[str, float]:
        """Return the importances that were recorded. Raises UnsupportedModel if none were."""
        return recorded(self.manifest)


def load_onnx(data: bytes, manifest: Manifest, limits: OnnxLimits = STANDARD) -> OnnxModel:
    """Return the model of these bytes, ready to run.

    Raises UnsupportedModel if the manifest has no ONNX file, UnsafeModel or MalformedModel if the bytes
    are not those of the manifest or break a limit of safe loading, ParityError if the check rows come out differently.
    """
    model = open_onnx(data, manifest, limits)
    verify(model)
    return model


def open_onnx(data: bytes, manifest: Manifest, limits: OnnxLimits = STANDARD) -> OnnxModel:
    """Return the model without a look at its check rows, for its maker, who compares it with the source."""
    check_onnx(verified(data, manifest.require("onnx").digest, "onnx"), limits)
    session = open_session(data)
    _check_tensors(
        {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()},
        {o.name: o.type for o in session.get_outputs()},
        manifest.signature,
    )
    return OnnxModel(session, manifest)


def output_name(signature: Signature) -> str:
    """Return the name of the output that is the model's answer."""
    return VALUE if signature.task == "regression" else PROBABILITIES


def open_session(data: bytes) -> Any:  # noqa: ANN401 - it carries no types
    """Return a session of ONNX Runtime, on one thread, with bytes that `check_onnx` has let pass.

    Raises MalformedModel.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong comes as an exception
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises a dozen unrelated classes for bad models
        raise MalformedModel(f"ONNX Runtime cannot load the model: {error}") from error


@cache
def _runtime() -> Any:  # noqa: ANN401 - it carries no types
    """ONNX Runtime; by default its import writes a device id and sends telemetry to its maker."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("onnxruntime")


def _check_tensors(
    inputs: dict[str, tuple[str, list[int | str]]], outputs: dict[str, str], signature: Signature
) -> None:
    expected = {INPUT: ("tensor(float)", [len(signature.columns)])}
    output = output_name(signature)
    if inputs != expected or outputs.get(output) != "tensor(float)":
        raise MalformedModel(
            f"the ONNX graph must take {INPUT!r} float [n, {len(signature.columns)}] and give {output!r} float "
            f"[n, {max(1, len(signature.classes))}]; it takes {inputs} and gives {outputs}"
        )
