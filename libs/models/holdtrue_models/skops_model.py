"""A scikit-learn model that answers by itself, for what ONNX cannot say. Only in the limited process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from holdtrue_models.coding import check_rows
from holdtrue_models.errors import MalformedModel, UnsupportedModel
from holdtrue_models.explain import of_estimator
from holdtrue_models.parity import verify
from holdtrue_models.skops_runtime import load_skops
from holdtrue_models.trees import attributes, parts

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Float32s

    from holdtrue_models.manifest import Manifest
    from holdtrue_models.signature import Signature

Estimator = Any  # scikit-learn carries no types


class SkopsModel:
    """A loaded estimator on one thread."""

    def __init__(self, estimator: Estimator, manifest: Manifest) -> None:
        """Wrap an estimator. Raises UnsupportedModel if it gives no probabilities where they are needed."""
        self.manifest = manifest
        self._width = len(manifest.signature.columns)
        self._regression = manifest.signature.task == "regression"
        name = "predict" if self._regression else "predict_proba"
        if not hasattr(estimator, name):
            raise UnsupportedModel(f"{type(estimator).__name__} has no {name}; wrap it in CalibratedClassifierCV")
        _on_one_thread(estimator)
        self._estimator = estimator
        self._answer = getattr(estimator, name)

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.manifest.signature

    def run(self, x: Float32s) -> Float32s:
        """Return the probabilities [n, K] of the rows x float32 [n, d], or the values [n, 1] of a regression.

        Raises WrongInput if x is not such a matrix, MalformedModel if the estimator fails on it.
        """
        check_rows(x, self._width)
        try:
            answer = np.asarray(self._answer(x), np.float32)
        except Exception as error:  # scikit-learn raises whatever its numpy code raises
            raise MalformedModel(f"scikit-learn cannot run the model: {type(error).__name__}: {error}") from error
        expected = 1 if self._regression else len(self.signature.classes)
        if answer.size != len(x) * expected:
            raise MalformedModel(f"the model answers {len(x)} rows with a tensor of shape {list(answer.shape)}")
        return answer.reshape(len(x), expected)

    def explain(self) -> dict[str, float]:
        """Return the importances that the estimator has. Raises UnsupportedModel if it has none."""
        return of_estimator(self._estimator, self.signature.names)


def load_model(data: bytes, manifest: Manifest) -> SkopsModel:
    """Return the model of these bytes after it has reproduced its check rows. Raises as `models.load` does."""
    model = SkopsModel(load_skops(data, manifest.require("skops").digest), manifest)
    verify(model)
    return model


def _on_one_thread(estimator: Estimator) -> None:
    """Sums of several threads differ in their last digits from run to run."""
    for part in parts(estimator):
        fields = attributes(part)
        if "n_jobs" in fields:
            fields["n_jobs"] = None
