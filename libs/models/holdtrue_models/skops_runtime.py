"""Write and load skops files. Load them only in the limited process; skops and scikit-learn are imported here."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import skops.io

from holdtrue_models.content import verified
from holdtrue_models.errors import MalformedModel, ModelError, UnsafeModel
from holdtrue_models.skops_limits import check_skops
from holdtrue_models.trees import attributes, check_trees, parts

Estimator = Any  # scikit-learn carries no types

_TRUSTED = """
functools.partial
numpy.dtype
sklearn._loss.loss.HalfTweedieLoss
sklearn._loss.loss.HalfTweedieLossIdentity
sklearn.calibration._CalibratedClassifier
sklearn.calibration._SigmoidCalibration
sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor
sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace
sklearn.gaussian_process.kernels.ConstantKernel
sklearn.gaussian_process.kernels.DotProduct
sklearn.gaussian_process.kernels.Matern
sklearn.gaussian_process.kernels.Product
sklearn.gaussian_process.kernels.RBF
sklearn.gaussian_process.kernels.RationalQuadratic
sklearn.gaussian_process.kernels.Sum
sklearn.gaussian_process.kernels.WhiteKernel
sklearn.neural_network._stochastic_optimizers.AdamOptimizer
sklearn.neural_network._stochastic_optimizers.SGDOptimizer
sklearn.tree._tree.Tree
sklearn.utils._bunch.Bunch
sklearn.utils.validation.check_array
"""
TRUSTED = frozenset(_TRUSTED.split())
"""Types beyond skops's own list: plain Python, or native code whose indices `check_trees` has looked at."""


def load_skops(data: bytes, digest: str) -> Estimator:
    """Return the estimator of these bytes, whose trees are now known to be sound.

    Raises UnsafeModel or MalformedModel. What scikit-learn does with it afterwards may still end the process.
    """
    check_skops(verified(data, digest, "skops"))
    try:
        with warnings.catch_warnings(action="error"):  # another version of scikit-learn is no detail
            _check_types(data)
            estimator = skops.io.loads(data, trusted=sorted(TRUSTED))
        check_trees(estimator)
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # skops, numpy and scikit-learn raise whatever their code meets
        raise MalformedModel(f"the skops file cannot be loaded: {type(error).__name__}: {error}") from error
    return estimator


def _check_types(data: bytes) -> None:
    foreign = set(skops.io.get_untrusted_types(data=data)) - TRUSTED
    if foreign:
        raise UnsafeModel(f"the skops file holds the types {sorted(foreign)}, which are not on the list of safe ones")


def dump_skops(estimator: Estimator) -> bytes:
    """Return a fitted estimator as a skops file, without its random generators, which predict nothing."""
    bare = copy.deepcopy(estimator)
    for part in parts(bare):
        fields = attributes(part)
        for name, value in fields.items():
            if isinstance(value, np.random.RandomState | np.random.Generator):
                fields[name] = None
    return skops.io.dumps(bare)
