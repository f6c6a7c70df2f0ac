"""What the forms of a model cost: the served one beside scikit-learn's own, the checks beside the load, the worker.

    python benchmarks/models.py [--repeats 5]

Both sides of each ratio in one run, on one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
import tracemalloc
import warnings
import zipfile
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import skops.io
from holdtrue_models import Column, Signature, UnsafeModel
from holdtrue_models.package import export
from holdtrue_models.skops_runtime import TRUSTED, dump_skops
from holdtrue_models.trees import check_trees
from holdtrue_models.worker import Worker
from holdtrue_models.zip_limits import check_zip
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_models.package import Package
    from holdtrue_stats.arrays import Float32s

Untyped = Any  # scikit-learn carries no types


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of which the best counts")
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore")
    data = cast("Untyped", load_breast_cancer())
    x, y = data.data.astype(np.float32), data.target
    signature = Signature.binary(tuple(Column(name=f"c{i}") for i in range(x.shape[1])), (0, 1), 0.5)
    print("| what | measured | goal |\n|---|---|---|", flush=True)
    estimators: list[tuple[str, Untyped, int]] = [
        ("random forest of 100 trees", RandomForestClassifier(100, random_state=0), 300),
        ("gradient boosting of 100 trees", GradientBoostingClassifier(random_state=0), 20),
        ("logistic regression", LogisticRegression(max_iter=200), 40),
        (
            "logistic regression, imputed and scaled",
            Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler()), ("model", LogisticRegression())]),
            40,
        ),
    ]
    for name, estimator, goal in estimators:
        fitted = estimator.fit(x, y)
        served, own = _one_row(fitted, export(fitted, signature, x, 0), x[:1], repeats)
        figures = f"{own * 1e6:,.0f} / {served * 1e6:.1f} µs = {own / served:.0f}×"
        print(f"| one row, {name}: scikit-learn over ONNX | {figures} | ≥ {goal}× |", flush=True)
    forest = estimators[0][1]
    _checks(dump_skops(forest), repeats)
    _worker(forest, export(forest, signature, x, 0, serve="skops"), x[:64], repeats)
    _padded()


def _one_row(fitted: Untyped, package: Package, row: Float32s, repeats: int) -> tuple[float, float]:
    """Return the seconds of the served form and of scikit-learn's own."""
    assert package.model.manifest.kind == "onnx"
    own = _seconds(lambda: fitted.predict_proba(row), repeats, 50)
    return _seconds(lambda: package.model.run(row), repeats, 1000), own


def _checks(data: bytes, repeats: int) -> None:
    loaded = _seconds(lambda: skops.io.loads(data, trusted=sorted(TRUSTED)), repeats, 2)
    model = skops.io.loads(data, trusted=sorted(TRUSTED))
    checked = _seconds(lambda: check_trees(model), repeats, 10)
    figures = f"{checked * 1e3:.1f} / {loaded * 1e3:.0f} ms = {checked / loaded:.3f}"
    print(f"| checks of 100 trees over `skops.io.loads` | {figures} | ≤ 0.2 |", flush=True)


def _worker(fitted: Untyped, package: Package, rows: Float32s, repeats: int) -> None:
    manifest = package.manifest(score_map="identity", importances={}, pins={}, reference_profile="")
    assert manifest.files["skops"].digest == hashlib.sha256(package.files["skops"]).hexdigest()
    with Worker(package.files["skops"], manifest) as worker:
        here, there = (
            _seconds(run, repeats, 20) for run in (lambda: fitted.predict_proba(rows), lambda: worker.run(rows))
        )
    figures = f"{there * 1e3:.2f} / {here * 1e3:.2f} ms = {there / here:.2f}"
    print(f"| 64 rows, forest of 100 trees: worker over in process | {figures} | ≤ 1.5 |", flush=True)


def _padded() -> None:
    schema = json.dumps({"protocol": 2, "padding": [[]] * 3_500_000}).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", schema)
        archive.writestr("fill.npy", np.random.default_rng(0).bytes(190_000))
    data = buffer.getvalue()
    tracemalloc.start()
    try:
        check_zip(data)
    except UnsafeModel:
        grown = tracemalloc.get_traced_memory()[1] / (1 << 20)
        print(f"| a padded file of {len(data) // 1000} KB, memory of the parent | + {grown:.1f} MiB | < 16 MiB |")


def _seconds(call: Callable[[], object], repeats: int, times: int) -> float:
    """Return the best mean of `times` calls."""
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(times):
            call()
        best = min(best, (time.perf_counter() - began) / times)
    return float(best)


if __name__ == "__main__":
    main()
