"""What a model itself says about how much each column matters; the shares of all columns add up to 1.

Trees say by how much their divisions helped in training (gain, impurity), linear models how large their coefficients
are, in the units of what their last step sees. Others say nothing: permuting columns of labelled rows does, as a run
does before it records the importances in the manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from holdtrue_models.errors import UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_stats.arrays import Floats

    from holdtrue_models.manifest import Manifest

Estimator = Any  # scikit-learn carries no types

_ONE_TO_ONE = frozenset({"MaxAbsScaler", "MinMaxScaler", "RobustScaler", "SimpleImputer", "StandardScaler"})
"""Steps that give as many columns as they take, each made of the one at its place."""


def recorded(manifest: Manifest) -> dict[str, float]:
    """Return the importances that were recorded. Raises UnsupportedModel if none were."""
    if not manifest.importances:
        raise UnsupportedModel(
            f"the manifest records no importances, and its {manifest.kind} file is not asked for them here; "
            f"permute the columns of labelled rows to see what they change"
        )
    return dict(manifest.importances)


def of_estimator(estimator: Estimator, names: Sequence[str]) -> dict[str, float]:
    """Return the importances of a fitted estimator of scikit-learn, or of the last step of a pipeline."""
    *before, last = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    mixing = [type(step).__name__ for step in before if type(step).__name__ not in _ONE_TO_ONE]
    if mixing:
        raise UnsupportedModel(f"{mixing[0]} makes other columns of those it takes; which of them matter is not known")
    for name in ("feature_importances_", "coef_"):
        found = getattr(last, name, None)
        if found is not None:
            return shares(names, np.abs(np.atleast_2d(np.asarray(found, np.float64))).sum(0))
    raise UnsupportedModel(
        f"{type(last).__name__} says nothing about its columns; permute those of labelled rows to see what they change"
    )


def shares(names: Sequence[str], weights: Floats) -> dict[str, float]:
    """Return the share of each column in the weights. Raises UnsupportedModel if nothing matters, or not as many do."""
    total = float(weights.sum())
    if weights.shape != (len(names),) or not 0 < total < np.inf:
        raise UnsupportedModel("the model says nothing about its columns: none of them matters, or there are others")
    return dict(zip(names, cast("list[float]", (weights / total).tolist()), strict=True))
