from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skops.io
from holdtrue_models import ParityError, UnsupportedModel, load_onnx
from holdtrue_models.canonical import canonical_digest
from holdtrue_models.package import check_parity, export, parity_rows
from holdtrue_models.skops_runtime import dump_skops
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdtrue_models.package import Package
    from holdtrue_stats.arrays import Float32s, Floats

    from .conftest import Cancer

Fitted = Any  # scikit-learn carries no types

ESTIMATORS = [
    DecisionTreeClassifier(random_state=0),
    ExtraTreesClassifier(20, random_state=0),
    GaussianNB(),
    LogisticRegression(max_iter=500),
    MLPClassifier(max_iter=200, random_state=0),
    RandomForestClassifier(20, random_state=0),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_served_form_answers_like_scikit_learn(cancer: Cancer, estimator: Fitted) -> None:
    scaled = () if "Tree" in type(estimator).__name__ else (StandardScaler(),)
    fitted: Fitted = make_pipeline(*scaled, estimator).fit(cancer.x, cancer.y)
    package = export(fitted, cancer.signature, cancer.x_later, seed=1)
    assert package.parity.rows >= 1_000
    np.testing.assert_allclose(package.model.run(cancer.x_later), fitted.predict_proba(cancer.x_later), atol=1e-5)


def test_kept_and_served_form_come_back_from_bytes(cancer: Cancer, boosted: Fitted, package: Package) -> None:
    manifest = package.manifest(score_map="logit", importances={}, pins={}, reference_profile="")
    np.testing.assert_array_equal(
        load_onnx(package.files["onnx"], manifest).run(cancer.x_later), package.model.run(cancer.x_later)
    )
    source: Any = skops.io.loads(package.files["skops"], trusted=["sklearn.tree._tree.Tree", "numpy.dtype"])
    np.testing.assert_array_equal(source.predict_proba(cancer.x_later), boosted.predict_proba(cancer.x_later))


def test_estimator_without_converter_is_named_briefly(cancer: Cancer) -> None:
    fitted = HistGradientBoostingClassifier(max_iter=5).fit(cancer.x, cancer.y)
    with pytest.raises(UnsupportedModel, match="HistGradientBoostingClassifier cannot be converted") as caught:
        export(fitted, cancer.signature, cancer.x_later, seed=1, serve="onnx")
    assert len(str(caught.value)) < 500


def test_wrong_conversion_is_caught(cancer: Cancer) -> None:
    fitted: Any = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()).fit(cancer.x, cancer.y)
    with pytest.raises(ParityError, match=r"LinearDiscriminantAnalysis: .* answers differently from its source"):
        export(fitted, cancer.signature, cancer.x_later, seed=1, serve="onnx")


def test_one_row_beyond_the_tolerance_is_enough(cancer: Cancer, boosted: Fitted, package: Package) -> None:
    class Off:
        def predict_proba(self, x: Float32s) -> Floats:
            answer = boosted.predict_proba(x)
            answer[len(x) // 2] += 2e-5
            return answer

    with pytest.raises(ParityError):
        check_parity(Off().predict_proba, package.model, parity_rows(cancer.x_later, 1))


def test_parity_rows_are_filled_with_values_around_splits() -> None:
    x = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, np.nan]], np.float32)
    rows = parity_rows(x, seed=3)
    np.testing.assert_array_equal(rows[:3], x)
    assert len(rows) == 1_000
    assert {1.5, 3.0, np.nextafter(np.float32(1.5), np.float32(9))} <= set(rows[:, 0])
    np.testing.assert_array_equal(rows, parity_rows(x, seed=3))
    many = np.zeros((2_000, 1), np.float32)
    assert parity_rows(many, seed=3) is many


def _forest(seed: int) -> Fitted:
    return RandomForestClassifier(5, random_state=seed)


def _logistic(seed: int) -> Fitted:
    return LogisticRegression(C=1 + seed)


@pytest.mark.parametrize("make", [_forest, _logistic])
def test_canonical_digest_survives_a_second_dump_and_a_refit(cancer: Cancer, make: Callable[[int], Fitted]) -> None:
    def fit(seed: int) -> Fitted:
        return make_pipeline(StandardScaler(), make(seed)).fit(cancer.x, cancer.y)

    fitted = fit(0)
    dumps = [dump_skops(fitted), dump_skops(fitted), dump_skops(fit(0)), skops.io.dumps(fitted)]
    assert len({canonical_digest(data) for data in dumps}) == 1
    assert canonical_digest(skops.io.dumps(fit(1))) != canonical_digest(dumps[0])


def test_onnx_bytes_are_equal_after_a_refit(cancer: Cancer) -> None:
    def served() -> bytes:
        fitted: Any = RandomForestClassifier(5, random_state=0).fit(cancer.x, cancer.y)
        return export(fitted, cancer.signature, cancer.x_later, seed=1).files["onnx"]

    assert served() == served()


def test_serving_needs_neither_scikit_learn_nor_telemetry(package: Package, tmp_path: Path) -> None:
    """In a fresh process: what the server imports, and what ONNX Runtime leaves in the home folder."""
    manifest = package.manifest(score_map="identity", importances={}, pins={}, reference_profile="")
    (tmp_path / "manifest").write_bytes(manifest.to_bytes())
    (tmp_path / "model").write_bytes(package.files["onnx"])
    home = tmp_path / "home"
    home.mkdir()
    program = f"""
import sys, pathlib
from holdtrue_models import Manifest, load_onnx
assert "onnxruntime" not in sys.modules
folder = pathlib.Path({str(tmp_path)!r})
load_onnx((folder / "model").read_bytes(), Manifest.from_bytes((folder / "manifest").read_bytes()))
assert not {{"sklearn", "skops", "skl2onnx", "onnx", "scipy"}} & set(sys.modules)
"""
    environment = {"HOME": str(home), "TMPDIR": str(home)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert list(home.iterdir()) == []
