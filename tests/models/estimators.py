"""How each estimator of scikit-learn, XGBoost and LightGBM is served.

Written into docs/models.md by `python -m tests.models.estimators`.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import xgboost
from holdtrue_models import Column, Signature
from holdtrue_models.package import export
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils import all_estimators

if TYPE_CHECKING:
    from collections.abc import Iterator

Untyped = Any  # scikit-learn carries no types

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
_WIDTH = 5


def table() -> str:
    lines = [f"| {name} | {served} |" for name, served in rows()]
    return "\n".join(["| estimator | served as |", "|---|---|", *lines, ""])


def rows() -> Iterator[tuple[str, str]]:
    """Every classifier and regressor with its fate, in the order of their names."""
    data: Untyped = load_breast_cancer()
    x = data.data[:240, :_WIDTH].astype(np.float32)
    y = data.target[:240]
    for kind, task in (("classifier", "binary"), ("regressor", "regression")):
        truth = y if task == "binary" else (x @ np.arange(1, _WIDTH + 1) / 100 + 1).astype(np.float64)
        for name, cls in [*all_estimators(type_filter=kind), *_boosted(kind)]:
            with warnings.catch_warnings(action="ignore"):
                yield name, _fate(cls, task, x, truth)


def _boosted(kind: str) -> list[tuple[str, Untyped]]:
    """The estimators of XGBoost and LightGBM."""
    modules: list[Untyped] = [lightgbm, xgboost]
    names = [f"{library}{kind.capitalize()}" for library in ("LGBM", "XGB", "XGBRF")]
    return [(name, getattr(module, name)) for name in names for module in modules if hasattr(module, name)]


def _fate(cls: Untyped, task: str, x: Untyped, y: Untyped) -> str:
    try:
        fitted = _made(cls, task).fit(x[:200], y[:200])
        if np.ndim(fitted.predict(x[:2])) > 1:
            return "refused: answers with several numbers"
    except Exception as error:  # noqa: BLE001 - each refuses ordinary rows in its own way
        return f"refused: does not learn from ordinary rows ({type(error).__name__})"
    columns = tuple(Column(name=f"c{i}") for i in range(_WIDTH))
    signature = Signature.binary(columns, (0, 1), 0.5) if task == "binary" else Signature.regression(columns)
    try:
        package = export(fitted, signature, x[200:], 0, scale=1.0 if task == "binary" else float(y.std()))
    except Exception as error:  # noqa: BLE001 - as above
        return f"refused: {_reason(error)}"
    return "ONNX" if package.model.manifest.kind == "onnx" else f"skops: {_why(package.reason)}"


def _made(cls: Untyped, task: str) -> Untyped:
    inner = LogisticRegression() if task == "binary" else Ridge()
    wanted = inspect.signature(cls).parameters
    given: dict[str, Untyped] = {}
    if "estimator" in wanted:
        given["estimator"] = inner
    if "estimators" in wanted:
        given["estimators"] = [("a", inner)]
    if "random_state" in wanted or cls.__module__.startswith("xgboost"):
        given["random_state"] = 0
    if cls.__module__.startswith("lightgbm"):
        given["verbose"] = -1  # it has much to say, on standard output
    return cls(**given)


def _reason(error: Exception) -> str:
    text = str(error)
    if "not on the list" in text:
        return "holds types or loaders that are not on the list of safe ones"
    return "gives no probabilities" if "predict_proba" in text else f"fails on ordinary rows ({type(error).__name__})"


def _why(reason: str) -> str:
    if "answers differently" in reason:
        return "ONNX would answer differently"
    return "ONNX would need an operator that is not safe" if "not on the list" in reason else "no converter"


def written(page: str, content: str) -> str:
    head, _, rest = page.partition(BEGIN)
    return head + BEGIN + content + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), table()))
