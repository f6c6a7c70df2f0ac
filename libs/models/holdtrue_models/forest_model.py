"""A model of XGBoost or LightGBM that answers without either of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from holdtrue_models.coding import check_rows
from holdtrue_models.content import verified
from holdtrue_models.errors import MalformedModel
from holdtrue_models.explain import shares
from holdtrue_models.forest import Runner, answers, check_forest
from holdtrue_models.lightgbm_file import read_lightgbm
from holdtrue_models.parity import verify
from holdtrue_models.xgboost_file import read_xgboost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdtrue_stats.arrays import Float32s, Floats

    from holdtrue_models.content import Format
    from holdtrue_models.forest import Forest
    from holdtrue_models.manifest import Manifest
    from holdtrue_models.signature import Signature

READERS: Mapping[Format, Callable[[bytes], Forest]] = {"ubj": read_xgboost, "lightgbm": read_lightgbm}


class ForestModel:
    """Trees on one thread. Safe to share between threads."""

    def __init__(self, forest: Forest, manifest: Manifest) -> None:
        """Wrap trees. Raises UnsafeModel, or MalformedModel unless they give what the signature says."""
        self.manifest = manifest
        self._gains = forest.gains
        self._answer = forest_answer(forest, manifest.signature)

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.manifest.signature

    def run(self, x: Float32s) -> Float32s:
        """Return the probabilities [n, K] of the rows x float32 [n, d], or the values [n, 1] of a regression.

        Raises WrongInput if x is not such a matrix.
        """
        return self._answer(x).astype(np.float32)

    def explain(self) -> dict[str, float]:
        """Return the share of each column in the gain of all divisions. Raises UnsupportedModel."""
        return shares(self.signature.names, self._gains)


def load_forest(data: bytes, manifest: Manifest) -> ForestModel:
    """Return the model of these bytes after it has reproduced its check rows. Raises as `models.load` does."""
    model = open_forest(data, manifest)
    verify(model)
    return model


def open_forest(data: bytes, manifest: Manifest) -> ForestModel:
    """Return the model without a look at its check rows, for its maker, who compares it with the source."""
    kind: Format = manifest.kind
    return ForestModel(READERS[kind](verified(data, manifest.require(manifest.kind).digest, kind)), manifest)


def forest_answer(forest: Forest, signature: Signature) -> Callable[[Float32s], Floats]:
    """Return what answers rows float32 [n, d] with probabilities [n, K], or values [n, 1] of a regression.

    Raises UnsafeModel, or MalformedModel unless the trees give what the signature says.
    """
    check_answer(forest, signature)
    runner = Runner(forest, check_forest(forest))
    pair = signature.task == "binary" and forest.outputs == 1

    def answer(x: Float32s) -> Floats:
        check_rows(x, forest.width)
        given = answers(runner.sums(x), forest.link, forest.slope)
        return np.concatenate([1 - given, given], 1) if pair else given

    return answer


def check_answer(forest: Forest, signature: Signature) -> None:
    """Raise MalformedModel unless the trees take and give what the signature says."""
    given = (forest.outputs, forest.link)
    probabilities = {"sigmoid", "softmax"}
    if signature.task == "regression":
        fits = forest.outputs == 1 and forest.link != "softmax"
    elif signature.task == "binary":
        fits = given in {(1, "sigmoid"), (2, "softmax")}
    else:
        fits = forest.outputs == len(signature.classes) and forest.link in probabilities
    if not fits or forest.width != len(signature.columns):
        raise MalformedModel(
            f"the trees take {forest.width} columns and give {forest.outputs} numbers by {forest.link}; "
            f"the signature is {signature.task} of {len(signature.columns)} columns, {len(signature.classes)} classes"
        )
