"""Fit a recipe with scikit-learn."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from holdtrue_stats.ranking import threshold_for
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from holdtrue_trainer.domain.recipe import PrecisionRule, Recipe, RecipeError
from holdtrue_trainer.domain.split import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_models.package import Classifier
    from holdtrue_stats.arrays import Floats

    from holdtrue_trainer.child.data import Rows

VALIDATION_SHARE = 0.25
"""Share of the training rows, the last ones, on which a threshold is chosen."""

_STEPS = {
    "impute": lambda: SimpleImputer(strategy="median", keep_empty_features=True),
    "scale": StandardScaler,
}

_FIXED: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {"xgboost": {"n_jobs": 1, "verbosity": 0}, "lightgbm": {"n_jobs": 1, "verbose": -1}}
)
"""Parameters by module: on one thread the two repeat, and their talk is no news."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted pipeline and the score from which it flags."""

    classifier: Classifier
    threshold: float


def fit(recipe: Recipe, rows: Rows, seed: int) -> Fitted:
    """Fit on the rows. Raises RecipeError or DataError."""
    threshold = recipe.threshold
    if isinstance(threshold, PrecisionRule):
        threshold = _choose_threshold(recipe, rows, threshold.precision, seed)
    return Fitted(_fit(recipe, rows, seed), float(threshold))


def _choose_threshold(recipe: Recipe, rows: Rows, precision: float, seed: int) -> float:
    """Fit on the earlier rows and choose on the later ones, so that the hold-out stays unseen."""
    border = np.quantile(np.arange(len(rows)), 1 - VALIDATION_SHARE)
    early = np.argsort(np.argsort(rows.times, kind="stable"), kind="stable") < border
    validation = rows.take(~early)
    score = _fit(recipe, rows.take(early), seed).predict_proba(validation.x)[:, 1]
    return threshold_on(validation, score, precision)


def threshold_on(validation: Rows, score: Floats, precision: float) -> float:
    """Return the lowest score [n] of these rows that flags with this precision. Raises DataError if none does."""
    threshold = threshold_for(score, validation.y, precision)
    if threshold is None:
        raise DataError(
            f"no threshold reaches a precision of {precision:g} on the {len(validation)} validation rows; "
            f"ask for less in `threshold`, or train on more rows"
        )
    return threshold


def _fit(recipe: Recipe, rows: Rows, seed: int) -> Classifier:
    if not 0 < rows.y.sum() < len(rows):
        raise DataError(
            f"the {len(rows)} rows to train on all have the same label; more rows, or a smaller hold-out, are needed"
        )
    pipeline: Any = Pipeline([*((name, _STEPS[name]()) for name in recipe.steps), ("model", _estimator(recipe, seed))])
    with warnings.catch_warnings(action="default"):
        try:
            pipeline.fit(rows.x, rows.y.astype(np.int64))
        except MemoryError:
            raise
        except Exception as error:  # each library raises its own
            raise RecipeError(f"{recipe.estimator} refused to learn: {error}") from error
    return cast("Classifier", pipeline)


def _estimator(recipe: Recipe, seed: int) -> object:
    try:
        cls = cast("type[Any]", getattr(importlib.import_module(recipe.module), recipe.estimator))
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"estimator: {recipe.estimator} needs the package {error.name}, which this trainer lacks; "
            f"install holdtrue-models[{recipe.module}] beside it, or choose an estimator of scikit-learn"
        ) from error
    known = cls().get_params()
    unknown = sorted(set(recipe.parameters) - set(known))
    if unknown:
        raise RecipeError(f"parameters: {recipe.estimator} has no {unknown}; it has {sorted(known)}")
    seeded = {"random_state": seed} if "random_state" in known else {}
    return cls(**recipe.parameters, **seeded, **_FIXED.get(recipe.module, {}))
