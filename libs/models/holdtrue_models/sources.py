"""What a fitted estimator is kept as, and what it answers. Needs the extra `train`, and `xgboost` or `lightgbm`.

Those two are only met here, as objects that were fitted in this process: no file ever reaches their loaders.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from holdtrue_models.canonical import canonical_digest
from holdtrue_models.convert import to_onnx
from holdtrue_models.errors import UnsupportedModel
from holdtrue_models.explain import of_estimator, shares
from holdtrue_models.forest_model import READERS, load_forest
from holdtrue_models.forest_onnx import forest_to_onnx
from holdtrue_models.skops_model import load_model
from holdtrue_models.skops_runtime import dump_skops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdtrue_stats.arrays import Float32s, Floats

    from holdtrue_models.forest import Forest
    from holdtrue_models.manifest import Manifest, Role
    from holdtrue_models.parity import Model
    from holdtrue_models.signature import Signature

    Answer = Callable[[Float32s], Floats]

Estimator = Any  # none of the libraries carries types


@dataclass(frozen=True, slots=True)
class Source:
    """An estimator as a file: how it answers and explains itself, and how the file is converted and loaded.

    `digest` survives a refit.
    """

    role: Role
    data: bytes
    digest: str
    answer: Answer
    importances: Callable[[Sequence[str]], dict[str, float]]
    to_onnx: Callable[[Signature], bytes]
    load: Callable[[bytes, Manifest], Model]


def source_of(estimator: Estimator, signature: Signature) -> Source:
    """Return what the estimator is kept as. Raises UnsupportedModel."""
    model = _bare(estimator)
    answer = answer_of(model, signature)
    dump = _DUMPS.get(library(model))
    if dump is None:
        data, explain = dump_skops(model), partial(of_estimator, model)
        return Source("skops", data, canonical_digest(data), answer, explain, lambda s: to_onnx(model, s), load_model)
    role, data = dump(model)
    return forest_source(role, data, READERS[role](data), answer)


def forest_source(role: Role, data: bytes, forest: Forest, answer: Answer) -> Source:
    """Return a file of boosted trees and what was read from it as a source; `answer` is what it is held against."""
    explain = partial(shares, weights=forest.gains)
    return Source(role, data, forest.digest, answer, explain, lambda s: forest_to_onnx(forest, s), load_forest)


def library(estimator: Estimator) -> str:
    """Return the name of the package that the estimator's class comes from."""
    return type(estimator).__module__.partition(".")[0]


def answer_of(estimator: Estimator, signature: Signature) -> Answer:
    """Return what gives the source's own answer: probabilities [n, K], or values [n, 1] of a regression."""
    if signature.task == "regression":
        if not hasattr(estimator, "predict"):
            raise UnsupportedModel(f"{type(estimator).__name__} predicts nothing")
        return lambda x: np.asarray(estimator.predict(x)).reshape(-1, 1)
    if not hasattr(estimator, "predict_proba"):
        raise UnsupportedModel(f"{type(estimator).__name__} gives no probabilities; wrap it in CalibratedClassifierCV")
    return cast("Answer", estimator.predict_proba)


def _bare(estimator: Estimator) -> Estimator:
    """Return the estimator of a pipeline of one step. Raises UnsupportedModel for others around boosted trees."""
    steps = [step for _, step in getattr(estimator, "steps", [])]
    if not any(library(step) in _DUMPS for step in steps):
        return estimator
    if len(steps) == 1:
        return steps[0]
    raise UnsupportedModel(
        f"{type(steps[-1]).__name__} is kept without the steps before it; trees need neither scaling nor imputing: "
        f"fit it on the rows as they come"
    )


def _xgboost(model: Estimator) -> tuple[Role, bytes]:
    if model.missing is not None and not np.isnan(model.missing):
        raise UnsupportedModel(
            f"the model takes {model.missing!r} for a missing value, which its file does not say; "
            f"fit it with missing=nan, and give rows with NaN"
        )
    booster = model.get_booster()
    best = booster.attr("best_iteration")
    if best is not None:
        booster = booster[: int(best) + 1]  # what it predicts by, too
    return "ubj", bytes(booster.save_raw("ubj"))


def _lightgbm(model: Estimator) -> tuple[Role, bytes]:
    return "lightgbm", model.booster_.model_to_string().encode()  # up to the best round, if it stopped early


_DUMPS: dict[str, Callable[[Estimator], tuple[Role, bytes]]] = {"lightgbm": _lightgbm, "xgboost": _xgboost}
