"""What NannyML, Evidently and river say. Runs in their environment: peers.py TASK INPUTS.npz → one line of JSON."""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")
Inputs = dict[str, np.ndarray]
CBPE_METRICS = ["roc_auc", "f1", "precision", "recall", "specificity", "accuracy", "average_precision"]


def cbpe(inputs: Inputs) -> dict[str, Any]:
    """Estimated performance; `calibrated` says whether the peer decided to calibrate."""
    estimator = _fitted(inputs)
    return _estimates(estimator, inputs) | {"calibrated": bool(estimator.needs_calibration)}


def time_cbpe(inputs: Inputs) -> dict[str, Any]:
    """Seconds of the best of three estimates; the fit is not counted."""
    estimator = _fitted(inputs)
    return {"seconds": min(_timed(lambda: _estimates(estimator, inputs)) for _ in range(3))}


def _fitted(inputs: Inputs) -> Any:
    from nannyml import CBPE

    estimator = CBPE(
        y_pred_proba="score",
        y_pred="flagged",
        y_true="y",
        problem_type="classification_binary",
        metrics=CBPE_METRICS,
        chunk_number=1,
    )
    columns = {"score": inputs["reference"], "flagged": inputs["reference_flagged"].astype(int), "y": inputs["y"]}
    return estimator.fit(pd.DataFrame(columns | {"y": inputs["y"].astype(int)}))


def _estimates(estimator: Any, inputs: Inputs) -> dict[str, float]:
    frame = pd.DataFrame({"score": inputs["score"], "flagged": inputs["flagged"].astype(int)})
    found = estimator.estimate(frame).filter(period="analysis").to_df()
    return {name: float(found[(name, "value")].iloc[0]) for name in CBPE_METRICS}


def calibration(inputs: Inputs) -> dict[str, Any]:
    """NannyML's expected calibration error of `score` over 15 bins of equal mass."""
    from nannyml.calibration import _calculate_expected_calibration_error, _get_bin_index_edges

    edges = _get_bin_index_edges(len(inputs["score"]), 15)
    return {"ece": float(_calculate_expected_calibration_error(inputs["y"].astype(int), inputs["score"], edges))}


def univariate(inputs: Inputs) -> dict[str, Any]:
    """Distances between `reference` and `current` whole numbers, as numbers and as categories, by both peers."""
    return {"nannyml": _nannyml_distances(inputs), "evidently": _evidently_distances(inputs)}


def _nannyml_distances(inputs: Inputs) -> dict[str, float]:
    from nannyml import UnivariateDriftCalculator

    sides = [
        pd.DataFrame({"number": inputs[side].astype(float), "category": inputs[side].astype(int).astype(str)})
        for side in ("reference", "current")
    ]
    calculator = UnivariateDriftCalculator(
        column_names=["number", "category"],
        continuous_methods=["kolmogorov_smirnov", "wasserstein"],
        categorical_methods=["jensen_shannon", "hellinger", "l_infinity", "chi2"],
        chunk_number=1,
    )
    found = calculator.fit(sides[0]).calculate(sides[1]).filter(period="analysis").to_df()
    wanted = {
        "ks": ("number", "kolmogorov_smirnov"),
        "wasserstein": ("number", "wasserstein"),
        "js": ("category", "jensen_shannon"),
        "hellinger": ("category", "hellinger"),
        "linf": ("category", "l_infinity"),
        "chi2": ("category", "chi2"),
    }
    return {name: float(found[(*path, "value")].iloc[0]) for name, path in wanted.items()}


def _evidently_distances(inputs: Inputs) -> dict[str, float]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    columns = {"js": "jensenshannon", "hellinger": "hellinger", "ks_p": "ks", "wasserstein_per_std": "wasserstein"}
    numeric = ["ks_p", "wasserstein_per_std"]
    definition = DataDefinition(
        numerical_columns=numeric, categorical_columns=[name for name in columns if name not in numeric]
    )
    sides = []
    for side in ("reference", "current"):
        values = inputs[side]
        frame = {name: values.astype(float if name in numeric else int) for name in columns}
        frame = {name: v if name in numeric else v.astype(str) for name, v in frame.items()}
        sides.append(Dataset.from_pandas(pd.DataFrame(frame), data_definition=definition))
    report = Report([ValueDrift(column=name, method=method) for name, method in columns.items()])
    found = report.run(sides[1], sides[0]).dict()["metrics"]
    return {name: float(metric["value"]) for name, metric in zip(columns, found, strict=True)}


def river(inputs: Inputs) -> dict[str, Any]:
    """Running mean, variance and decisions' measures."""
    from river import metrics, stats

    mean, variance = stats.Mean(), stats.Var(ddof=0)
    for value in inputs["current"].tolist():
        mean.update(value)
        variance.update(value)
    measures = {"precision": metrics.Precision(), "recall": metrics.Recall(), "f1": metrics.F1()}
    for y, flagged in zip(inputs["y"].astype(bool).tolist(), inputs["flagged"].astype(bool).tolist(), strict=True):
        for measure in measures.values():
            measure.update(y, flagged)
    return {"mean": mean.get(), "variance": variance.get()} | {name: m.get() for name, m in measures.items()}


def time_river(inputs: Inputs) -> dict[str, Any]:
    """Rows per second of a Mean and a Var object for each feature of `x`."""
    from river import stats

    rows = inputs["x"].astype(float).tolist()

    def fold() -> None:
        objects = [(stats.Mean(), stats.Var()) for _ in rows[0]]
        for row in rows:
            for (mean, variance), value in zip(objects, row, strict=True):
                mean.update(value)
                variance.update(value)

    return {"rows_per_second": len(rows) / min(_timed(fold) for _ in range(3))}


def time_evidently(inputs: Inputs) -> dict[str, Any]:
    """Rows of `x` per second of a report with the preset for data drift, on as many reference rows, with its plots."""
    from evidently import Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [f"c{i}" for i in range(inputs["x"].shape[1])]
    sides = [Dataset.from_pandas(pd.DataFrame(inputs[side], columns=names)) for side in ("x", "reference")]

    def judge() -> None:
        Report([DataDriftPreset()]).run(*sides).dict()

    return {"rows_per_second": len(inputs["x"]) / min(_timed(judge) for _ in range(2))}


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


TASKS = {f.__name__: f for f in (cbpe, time_cbpe, calibration, univariate, river, time_river, time_evidently)}

if __name__ == "__main__":
    with np.load(sys.argv[2]) as file:
        answer = TASKS[sys.argv[1]](dict(file))
    sys.stdout.write(json.dumps(answer) + "\n")
