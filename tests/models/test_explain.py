"""How much each column matters, from the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pytest
import xgboost
from holdtrue_models import Column, Signature, UnsupportedModel, load
from holdtrue_models.adopt import adopt
from holdtrue_models.package import export
from holdtrue_models.worker import WorkerModel
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from holdtrue_models.package import Package

Untyped = Any  # none of the libraries says what it takes

COLUMNS = tuple(Column(name=name) for name in ("noise", "strong", "weak"))
NUMBER = Signature.regression(COLUMNS)
X = np.random.default_rng(3).normal(size=(400, 3)).astype(np.float32)
Y = 5 * X[:, 1] - X[:, 2]
QUIET: Untyped = {"n_jobs": 1, "verbose": -1}

SAY: dict[str, Untyped] = {
    "forest": RandomForestRegressor(5, random_state=0),
    "linear": Ridge(),
    "scaled": make_pipeline(SimpleImputer(), StandardScaler(), Ridge()),
    "xgboost": xgboost.XGBRegressor(n_estimators=9, n_jobs=1),
    "lightgbm": lightgbm.LGBMRegressor(n_estimators=9, **QUIET),
}


def exported(estimator: Untyped) -> Package:
    return export(estimator.fit(X, Y), NUMBER, X, 1, scale=float(Y.std()))


def complete(package: Package) -> Untyped:
    return package.manifest(score_map="identity", pins={}, reference_profile="")


@pytest.mark.parametrize("name", SAY)
def test_source_and_served_form_say_what_matters(name: str) -> None:
    package = exported(SAY[name])
    manifest = complete(package)
    says = load(package.files["onnx"], manifest).explain()
    assert says == package.model.explain() == manifest.importances
    assert list(says) == ["noise", "strong", "weak"]
    assert sum(says.values()) == pytest.approx(1)
    assert says["strong"] > 0.6 > says["weak"] > says["noise"] >= 0
    kept: Untyped = next(role for role in package.files if role != "onnx")
    source = export(SAY[name], NUMBER, X, 1, scale=float(Y.std()), serve=kept)
    assert load(source.files[kept], complete(source)).explain() == pytest.approx(says)


def test_gains_are_those_of_the_libraries() -> None:
    boosted = SAY["xgboost"].fit(X, Y)
    gains = boosted.get_booster().get_score(importance_type="total_gain")
    expected = np.array([gains.get(f"f{i}", 0) for i in range(3)])
    np.testing.assert_allclose(list(exported(boosted).model.explain().values()), expected / expected.sum(), rtol=1e-5)
    light = SAY["lightgbm"].fit(X, Y)
    expected = light.booster_.feature_importance("gain")
    np.testing.assert_allclose(list(exported(light).model.explain().values()), expected / expected.sum(), rtol=1e-5)


SILENT: dict[str, tuple[Untyped, str]] = {
    "mixed": (make_pipeline(PCA(), Ridge()), "PCA makes other columns"),
    "histograms": (HistGradientBoostingRegressor(max_iter=3), "HistGradientBoostingRegressor says nothing"),
    "nothing matters": (xgboost.XGBRegressor(n_estimators=1, gamma=1e9, n_jobs=1), "none of them matters"),
}


@pytest.mark.parametrize("name", SILENT)
def test_models_that_say_nothing_are_told_apart(name: str) -> None:
    estimator, words = SILENT[name]
    source: Untyped = next(iter(exported(estimator).files))
    package = export(estimator, NUMBER, X, 1, scale=float(Y.std()), serve=source)
    assert package.model.manifest.importances == {}
    with pytest.raises(UnsupportedModel, match=words):
        package.model.explain()


def test_classes_are_taken_together() -> None:
    labels = np.digitize(Y, [-3, 3])
    fitted = LogisticRegression().fit(X, labels)
    says = export(fitted, Signature.multiclass(COLUMNS, ("a", "b", "c")), X, 1).model.explain()
    weights = np.abs(fitted.coef_).sum(0)
    np.testing.assert_allclose(list(says.values()), weights / weights.sum(), rtol=1e-5)


def test_plain_onnx_says_nothing_unless_it_was_recorded() -> None:
    served = adopt(exported(Ridge()).files["onnx"], NUMBER, X, 1, scale=float(Y.std()))
    with pytest.raises(UnsupportedModel, match="permute the columns of labelled rows"):
        served.model.explain()
    recorded = served.manifest(score_map="identity", importances={"strong": 1.0}, pins={}, reference_profile="")
    model = WorkerModel(served.files["onnx"], recorded)
    assert model.explain() == {"strong": 1.0}
    model.close()
