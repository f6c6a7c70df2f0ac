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
    from holdtrue_models.manifest import Kind, Role
    from holdtrue_models.package import Package
    from holdtrue_stats.arrays import Bools, Float32s


Fitted = Any  # none of the libraries carries types that hold


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


@dataclass(frozen=True)
class Divided:
    """A model that divides a column by sets of its categories, and rows, some missing, some unknown."""

    fitted: Fitted
    signature: Signature
    x: Float32s

    def served(self, kind: Kind | None = None) -> Package:
        from holdtrue_models.package import export

        return export(self.fitted, self.signature, self.x, seed=1, serve=kind)

    def source(self, kind: Role) -> bytes:
        return self.served().files[kind]


def _rows() -> tuple[Signature, Float32s, Bools]:
    dice = np.random.default_rng(1)
    x = dice.normal(size=(600, 5)).astype(np.float32)
    x[:, 0] = dice.integers(-1, 10, 600)
    x[::9, 0] = np.nan
    text = Column(name="k", dtype="string", categories=tuple("abcdefghij"))
    signature = Signature.binary((text, *(Column(name=f"c{i}") for i in range(4))), (0, 1), 0.5)
    return signature, x, np.isin(x[:, 0], [1, 4, 8]) ^ (x[:, 1] > 0)


def _with_unseen(x: Float32s) -> Float32s:
    later = x.copy()
    later[1::20, 0] = 12  # beyond all categories of the training
    return later


@pytest.fixture(scope="session")
def xgboost_sets() -> Divided:
    import xgboost

    signature, x, y = _rows()
    known = x.copy()
    known[known[:, 0] < 0, 0] = np.nan  # XGBoost learns from no negative category
    settings: Fitted = {"enable_categorical": True, "feature_types": ["c", "q", "q", "q", "q"]}
    fitted = xgboost.XGBClassifier(n_estimators=6, max_depth=3, n_jobs=1, **settings).fit(known, y)
    return Divided(fitted, signature, _with_unseen(x))


@pytest.fixture(scope="session")
def lightgbm_sets() -> Divided:
    import lightgbm

    signature, x, y = _rows()
    settings: Fitted = {"min_data_per_group": 1, "cat_smooth": 0, "cat_l2": 0, "max_cat_to_onehot": 1, "verbose": -1}
    untyped: Fitted = lightgbm
    fitted = untyped.LGBMClassifier(n_estimators=6, num_leaves=6, n_jobs=1, **settings)
    return Divided(fitted.fit(x, y, categorical_feature=[0]), signature, _with_unseen(x))
