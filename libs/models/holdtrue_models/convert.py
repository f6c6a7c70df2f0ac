"""From a fitted scikit-learn estimator to ONNX. Needs the extra `train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import onnx
import skl2onnx
from skl2onnx.common.data_types import FloatTensorType

from holdtrue_models.errors import UnsupportedModel
from holdtrue_models.onnx_runtime import INPUT

if TYPE_CHECKING:
    from holdtrue_models.signature import Signature

OPSETS = {"": 18, "ai.onnx.ml": 3}
MAX_REASON = 200


def to_onnx(estimator: object, signature: Signature) -> bytes:
    """Return the estimator as an ONNX file that takes float32 rows. Raises UnsupportedModel if that cannot be done.

    Never with float64 rows: a forest converted so answers wrongly by 0.03, without a word (measured).
    """
    classifier = signature.task != "regression"
    try:
        converted = cast("Any", skl2onnx).to_onnx(
            estimator,
            initial_types=[(INPUT, FloatTensorType([None, len(signature.columns)]))],
            options={id(estimator): {"zipmap": False}} if classifier else None,
            target_opset=OPSETS,
        )
        data = cast("bytes", converted.SerializeToString())
        cast("Any", onnx).checker.check_model(data, full_check=True)
    except Exception as error:  # converters raise whatever their numpy code raises, and the checker classes of its own
        raise UnsupportedModel(f"{name_of(estimator)} cannot be converted to ONNX: {_short(error)}") from error
    return data


def name_of(estimator: object) -> str:
    """Return the class of an estimator, or of the last step of a pipeline."""
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][1] if steps else estimator).__name__


def _short(error: Exception) -> str:
    """The converters' texts can hold whole trees."""
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]} ..."
