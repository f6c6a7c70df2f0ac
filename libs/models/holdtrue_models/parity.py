"""Whether two forms of a model answer alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from holdtrue_models.errors import MalformedModel, ParityError

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Float32s, Floats

    from holdtrue_models.manifest import Manifest
    from holdtrue_models.signature import Signature

TOLERANCE = 1e-5
"""How far an answer may be from the source's, in units of the manifest's scale."""


class Model(Protocol):
    """A loaded model, of whatever kind."""

    @property
    def manifest(self) -> Manifest:
        """Everything that is known about it."""
        ...

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def run(self, x: Float32s) -> Float32s:
        """Return the probabilities [n, K] of the rows x float32 [n, d], or the values [n, 1] of a regression.

        Raises WrongInput if x is not such a matrix, MalformedModel if the model fails on it.
        """
        ...

    def explain(self) -> dict[str, float]:
        """Return the share of each column in what the model goes by. Raises UnsupportedModel if it does not say."""
        ...


def verify(model: Model) -> None:
    """Raise ParityError unless the model answers its check rows within TOLERANCE of what its maker recorded."""
    check = model.manifest.check_rows
    if not check.inputs.rows:
        raise MalformedModel("the manifest has no check rows, so the model cannot be verified")
    expected = check.expected.array()
    answer = model.run(check.inputs.array())
    if answer.shape != expected.shape or not close(answer, expected, model.manifest.scale):
        raise ParityError(
            "the model does not reproduce its check rows: the file, the runtime or the processor is not its maker's"
        )


def close(answer: Float32s, expected: Float32s | Floats, scale: float = 1.0) -> bool:
    """Whether all answers are within TOLERANCE of what is expected; NaN never is."""
    return bool(np.all(np.abs(answer.astype(np.float64) - expected) <= TOLERANCE * scale))
