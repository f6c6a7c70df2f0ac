"""Serve an ONNX model: load it safely, see that it answers as its maker recorded, run it."""

from __future__ import annotations

import hashlib
import importlib
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from holdtrue_models.errors import MalformedModel, ParityError, UnsafeModel, UnsupportedModel, WrongInput
from holdtrue_models.onnx_limits import STANDARD, OnnxLimits, check_onnx

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Float32s

    from holdtrue_models.manifest import Manifest
    from holdtrue_models.signature import Signature

INPUT = "X"
PROBABILITIES = "probabilities"
TOLERANCE = 1e-5
"""How far a probability may be from the source's, absolute."""


class Session(Protocol):
    """What is used of a session of ONNX Runtime."""

    def run(self, outputs: list[str], inputs: dict[str, Float32s], /) -> list[Float32s]:
        """Return the named outputs for the named inputs."""
        ...


class OnnxModel:
    """A loaded ONNX classifier on one thread. Safe to share between threads."""

    def __init__(self, session: Session, manifest: Manifest) -> None:
        """Wrap a session that `load_onnx` has checked."""
        self._session = session
        self._shape = (len(manifest.signature.columns),)
        self.manifest = manifest

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.manifest.signature

    def run(self, x: Float32s) -> Float32s:
        """Return the probabilities [n, K] of the rows x [n, d], classes in the signature's order.

        Raises WrongInput if x is not a float32 matrix of the right width with at least one row, MalformedModel if the
        model fails on it.
        """
        if x.dtype != np.float32 or x.shape[1:] != self._shape or not x.size:
            raise WrongInput(
                f"the model takes float32 rows of shape [n, {self._shape[0]}], got {x.dtype} {list(x.shape)}"
            )
        try:
            return self._session.run([PROBABILITIES], {INPUT: x})[0]
        except Exception as error:  # as in loading; a model whose inner indices are wrong fails only here
            raise MalformedModel(f"ONNX Runtime cannot run the model: {error}") from error


def load_onnx(data: bytes, manifest: Manifest, limits: OnnxLimits = STANDARD) -> OnnxModel:
    """Return the model of these bytes, ready to run.

    Raises UnsupportedModel if the manifest describes no numeric classifier, UnsafeModel or MalformedModel if the bytes
    are not those of the manifest or break a limit of safe loading, ParityError if the check rows come out differently.
    """
    model = open_onnx(data, manifest, limits)
    verify(model)
    return model


def open_onnx(data: bytes, manifest: Manifest, limits: OnnxLimits = STANDARD) -> OnnxModel:
    """Return the model without a look at its check rows, for its maker, who compares it with the source."""
    _check_supported(manifest)
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest.files["onnx"].digest:
        raise UnsafeModel(f"the ONNX file has sha256 {digest}, its manifest says {manifest.files['onnx'].digest}")
    check_onnx(data, limits)
    return OnnxModel(_session(data, manifest.signature), manifest)


def verify(model: OnnxModel) -> None:
    """Raise ParityError unless the model answers its check rows within TOLERANCE of what its maker recorded."""
    check = model.manifest.check_rows
    if not check.inputs.rows:
        raise MalformedModel("the manifest has no check rows, so the model cannot be verified")
    expected = check.expected.array()
    answer = model.run(check.inputs.array())
    if answer.shape != expected.shape or not _close(answer, expected):
        raise ParityError(
            "the model does not reproduce its check rows: the file, the runtime or the processor is not its maker's"
        )


def _check_supported(manifest: Manifest) -> None:
    signature = manifest.signature
    if "onnx" not in manifest.files:
        raise UnsupportedModel(f"the model has no ONNX file, only {sorted(manifest.files)}")
    if signature.task == "regression" or not signature.numeric:
        raise UnsupportedModel(
            f"only classifiers with numeric columns are served; this is a {signature.task} model with the text columns "
            f"{[column.name for column in signature.columns if column.dtype == 'string']}"
        )


def _session(data: bytes, signature: Signature) -> Session:
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong comes as an exception
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises a dozen unrelated classes for bad models
        raise MalformedModel(f"ONNX Runtime cannot load the model: {error}") from error
    _check_tensors(
        {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()},
        {o.name: o.type for o in session.get_outputs()},
        signature,
    )
    return session


@cache
def _runtime() -> Any:  # noqa: ANN401 - it carries no types
    """ONNX Runtime; by default its import writes a device id and sends telemetry to its maker."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("onnxruntime")


def _check_tensors(
    inputs: dict[str, tuple[str, list[int | str]]], outputs: dict[str, str], signature: Signature
) -> None:
    expected = {INPUT: ("tensor(float)", [len(signature.columns)])}
    if inputs != expected or outputs.get(PROBABILITIES) != "tensor(float)":
        raise MalformedModel(
            f"the ONNX graph must take {INPUT!r} float [n, {len(signature.columns)}] and give {PROBABILITIES!r} float "
            f"[n, {len(signature.classes)}]; it takes {inputs} and gives {outputs}"
        )


def _close(answer: Float32s, expected: Float32s) -> bool:
    return bool(np.all(np.abs(answer.astype(np.float64) - expected) <= TOLERANCE))
