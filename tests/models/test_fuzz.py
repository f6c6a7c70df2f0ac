"""Files with wrong bytes, of every kind: refused or sound, and never more than a process that is there for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import psutil
import pytest
import xgboost
from holdtrue_models.package import export
from holdtrue_models.worker.process import LIMITS
from msgspec.json import encode
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from .test_kinds import complete

if TYPE_CHECKING:
    from holdtrue_models.manifest import Kind
    from holdtrue_models.package import Package

    from .conftest import Cancer, Divided

Untyped = Any  # none of the libraries says what it takes

PROGRAM = Path(__file__).parent / "fuzz.py"
LAUNCH = (sys.executable, "-I", "-B", "-m", "holdtrue_models.worker.launch")
GROWTH = 16 << 20


@pytest.fixture
def corpus(cancer: Cancer, tmp_path: Path, xgboost_sets: Divided, lightgbm_sets: Divided) -> Path:
    """One honest file of every kind, small, so that most changes meet something that matters."""
    x, y = np.ascontiguousarray(cancer.x[:, :4]), cancer.y
    signature = cancer.signature.binary(cancer.signature.columns[:4], (0, 1), 0.5)
    tree: Untyped = make_pipeline(SimpleImputer(), DecisionTreeClassifier(max_depth=3, random_state=0))
    boosted: Untyped = xgboost.XGBClassifier(n_estimators=2, max_depth=2, n_jobs=1)
    light: Untyped = lightgbm.LGBMClassifier(n_estimators=2, num_leaves=4, n_jobs=1, verbose=-1)
    fitted: dict[Kind, Untyped] = {"onnx": tree, "skops": tree, "ubj": boosted, "lightgbm": light}
    packages: dict[str, Package] = {
        kind: export(estimator.fit(x, y), signature, x, 1, serve=kind) for kind, estimator in fitted.items()
    }
    packages |= {"adopted": packages["onnx"], "ubj sets": xgboost_sets.served("ubj")}
    packages |= {"lightgbm sets": lightgbm_sets.served("lightgbm")}
    for name, package in packages.items():
        manifest = complete(package)
        (tmp_path / f"{name}.model").write_bytes(package.files[manifest.kind])
        (tmp_path / f"{name}.json").write_bytes(manifest.to_bytes())
    return tmp_path


def fuzzed(corpus: Path, first: int, count: int) -> dict[str, dict[str, int]]:
    """Try that many files in a limited process; its death is a failure that names the file."""
    limits = encode(LIMITS).decode()
    words = [*LAUNCH, limits, str(os.getpid()), sys.executable, "-I", "-B", PROGRAM, corpus, str(first), str(count)]
    before = psutil.Process().memory_info().rss
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env={"OMP_NUM_THREADS": "1"})
    lines = ended.stdout.splitlines()
    tried = [line for line in lines if line.isdigit()]  # between what ONNX Runtime has to say
    assert ended.returncode == 0, f"one of {tried[-1:]} ended the process: {ended.returncode}\n{ended.stderr[-2000:]}"
    assert len(tried) == count
    assert psutil.Process().memory_info().rss - before < GROWTH
    return json.loads(lines[-1])


def test_500_mutated_files_of_every_kind_are_refused_or_sound(corpus: Path) -> None:
    found = fuzzed(corpus, 0, 500)
    assert len(found) == 7
    for kind, ends in found.items():
        assert sum(ends.values()) - ends.get("loaded", 0) > 20, f"hardly any wrong file of {kind} was refused: {ends}"
        assert ends.keys() <= {"loaded", "MalformedModel", "UnsafeModel", "UnsupportedModel", "ParityError"}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_30000_mutated_files_of_every_kind_are_refused_or_sound(corpus: Path) -> None:
    for first in range(1_000, 31_000, 5_000):
        fuzzed(corpus, first, 5_000)
