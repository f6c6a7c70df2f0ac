"""Small fitted models, and what is served of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from holdtrue_models import Column, Signature
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

if TYPE_CHECKING:
    from holdtrue_models.package import Package
    from holdtrue_stats.arrays import Bools, Float32s


Fitted = Any  # scikit-learn carries no types


@dataclass(frozen=True)
class Cancer:
    """The breast cancer data: rows to train on and rows to judge on."""

    x: Float32s
    y: Bools
    x_later: Float32s
    y_later: Bools
    signature: Signature


@pytest.fixture(scope="session")
def cancer() -> Cancer:
    data: Any = load_breast_cancer()
    x, y = data.data, data.target
    columns = tuple(Column(name=f"column {i}") for i in range(x.shape[1]))
    x32 = x.astype(np.float32)
    return Cancer(x32[:400], y[:400] == 1, x32[400:], y[400:] == 1, Signature.binary(columns, (0, 1), 0.5))


@pytest.fixture(scope="session")
def boosted(cancer: Cancer) -> Fitted:
    estimator = GradientBoostingClassifier(n_estimators=20, random_state=0)
    return make_pipeline(SimpleImputer(strategy="median"), estimator).fit(cancer.x, cancer.y)


@pytest.fixture(scope="session")
def package(cancer: Cancer, boosted: Fitted) -> Package:
    from holdtrue_models.package import export

    return export(boosted, cancer.signature, cancer.x_later, seed=1)
