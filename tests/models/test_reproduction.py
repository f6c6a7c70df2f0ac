"""Made again: identical, equal, different for a named reason, or impossible."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from holdtrue_models.manifest import CheckRows, Manifest, Matrix
from holdtrue_models.reproduction import ERASURE_EPOCH, Verdict, reproduce
from msgspec.structs import replace

if TYPE_CHECKING:
    from pathlib import Path

    from holdtrue_models.package import Package

PINS = {"numpy": "2.4", "seed": "1"}


@pytest.fixture
def recorded(package: Package) -> Manifest:
    return package.manifest(score_map="identity", importances={}, pins=PINS, reference_profile="")


def shifted(manifest: Manifest, by: float, **changes: Any) -> Manifest:
    expected = manifest.check_rows.expected.array() + np.float32(by)
    rows = CheckRows(manifest.check_rows.inputs, Matrix.of(expected))
    return replace(manifest, check_rows=rows, canonical_digest="other", **changes)


def test_same_digest_is_identical_whatever_else_differs(recorded: Manifest) -> None:
    again = reproduce(recorded, PINS, lambda: replace(recorded, pins={}))
    assert (again.verdict, again.reason) == (Verdict.IDENTICAL, "")


def test_same_answers_are_equal(recorded: Manifest) -> None:
    assert reproduce(recorded, PINS, lambda: shifted(recorded, 0)).verdict is Verdict.EQUAL


@pytest.mark.parametrize(
    ("pins", "words"),
    [
        ({"numpy": "2.5", "seed": "1"}, "numpy was 2.4, now it is 2.5"),
        ({"seed": "1"}, "numpy was 2.4, now it is nothing"),
        ({**PINS, "blas": "x"}, "blas was nothing"),
        (PINS, "does not repeat itself"),
    ],
)
def test_other_answers_are_different_and_the_first_pin_is_named(
    recorded: Manifest, pins: dict[str, str], words: str
) -> None:
    again = reproduce(recorded, PINS, lambda: shifted(recorded, 1e-6, pins=pins))
    assert again.verdict is Verdict.DIFFERENT
    assert words in again.reason


def test_other_check_rows_cannot_be_equal(recorded: Manifest) -> None:
    rows = CheckRows(
        Matrix.of(recorded.check_rows.inputs.array()[1:]), Matrix.of(recorded.check_rows.expected.array()[1:])
    )
    again = reproduce(recorded, PINS, lambda: replace(recorded, check_rows=rows, canonical_digest="other"))
    assert again.verdict is Verdict.DIFFERENT


def test_erased_rows_make_it_impossible_before_anything_is_trained(recorded: Manifest) -> None:
    def never() -> Manifest:
        raise AssertionError("trained on rows that are gone")

    again = reproduce(recorded, {**PINS, ERASURE_EPOCH: "2"}, never)
    assert again.verdict is Verdict.IMPOSSIBLE
    assert "erased" in again.reason


def test_exit_codes_and_words() -> None:
    assert [(str(v), v.exit_code) for v in Verdict] == [
        ("identical", 0),
        ("equal", 0),
        ("different", 1),
        ("impossible", 2),
    ]


PROGRAM = """
import warnings
import lightgbm
import numpy as np
import xgboost
from holdtrue_models import Column, Signature
from holdtrue_models.sources import source_of
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
warnings.simplefilter("ignore")
x, y = load_breast_cancer(return_X_y=True)
x = x.astype(np.float32)
signature = Signature.binary(tuple(Column(name=f"c{i}") for i in range(30)), (0, 1), 0.5)
for estimator in (
    RandomForestClassifier(5, random_state=0),
    LogisticRegression(max_iter=50),
    HistGradientBoostingClassifier(max_iter=5, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    MLPClassifier((4,), max_iter=10, random_state=0),
    xgboost.XGBClassifier(n_estimators=5, subsample=0.5, random_state=0),
    lightgbm.LGBMClassifier(n_estimators=5, subsample=0.5, subsample_freq=1, random_state=0, verbose=-1),
):
    print(type(estimator).__name__, source_of(estimator.fit(x, y), signature).digest)
"""


@pytest.mark.long
def test_digests_are_equal_after_a_refit_in_a_fresh_process(tmp_path: Path) -> None:
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HOME": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, env=environment
        ).stdout
        for _ in range(2)
    )
    assert first == second
    assert len(set(first.split())) == 14
