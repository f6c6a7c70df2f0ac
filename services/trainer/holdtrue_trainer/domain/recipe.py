"""Recipes: how a model is made, as YAML that is kept with every run.

estimator: GradientBoostingClassifier   # of scikit-learn, XGBoost or LightGBM, from the list below
parameters: {n_estimators: 200}
preprocessing: [impute, scale]          # applied to all columns, in this order; none for XGBoost and LightGBM
columns: [amount, hour]                 # default: all but the label and the time
positive_class: 1                       # default: 1 or true
threshold: 0.5                          # or {precision: 0.9}: the lowest score that reaches it on validation rows
holdout: {share: 0.3}                   # of the rows, the last ones by time, are kept for the evaluation
seed: 7                                 # default: made from the run's id

Instead of `estimator` and `parameters`: `artifact`, the sha256 of an uploaded model file, which is judged as it is.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
import yaml

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

MAX_BYTES = 64 << 10

ESTIMATORS: Mapping[str, str] = MappingProxyType(
    {
        "DecisionTreeClassifier": "sklearn.tree",
        "ExtraTreesClassifier": "sklearn.ensemble",
        "GaussianNB": "sklearn.naive_bayes",
        "GradientBoostingClassifier": "sklearn.ensemble",
        "HistGradientBoostingClassifier": "sklearn.ensemble",
        "LGBMClassifier": "lightgbm",
        "LogisticRegression": "sklearn.linear_model",
        "MLPClassifier": "sklearn.neural_network",
        "RandomForestClassifier": "sklearn.ensemble",
        "XGBClassifier": "xgboost",
    }
)
"""Estimators that may be trained, and their modules, of which xgboost and lightgbm may be missing here.

What ONNX cannot say is served by a process of its own.
"""

RESERVED = frozenset({"missing", "n_jobs", "random_state", "verbose", "verbosity", "warm_start"})
"""Parameters that the trainer sets; missing values are NaN."""
BARE = frozenset({"lightgbm", "xgboost"})
"""Modules whose estimators are kept without steps before them."""

NAMED: Mapping[str, str] = MappingProxyType(
    {
        "logistic": (
            "estimator: LogisticRegression\nparameters: {max_iter: 2000}\n"
            "preprocessing: [impute, scale]\nthreshold: 0.5\n"
        ),
        "gradient_boosting": "estimator: GradientBoostingClassifier\npreprocessing: [impute]\nthreshold: 0.5\n",
        "lightgbm": "estimator: LGBMClassifier\nthreshold: 0.5\n",
        "random_forest": (
            "estimator: RandomForestClassifier\nparameters: {n_estimators: 200, min_samples_leaf: 2}\n"
            "preprocessing: [impute]\nthreshold: 0.5\n"
        ),
        "xgboost": "estimator: XGBClassifier\nthreshold: 0.5\n",
    }
)
"""Built-in recipes by name."""

Scalar = bool | int | float | str | None
Share = Annotated[float, msgspec.Meta(ge=0.05, le=0.9)]
Probability = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class RecipeError(ValueError):
    """The recipe is wrong; the text says where and what to do."""


class PrecisionRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Choose the lowest threshold that reaches this precision on validation rows."""

    precision: Probability


class Holdout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of the rows that is kept for the evaluation."""

    share: Share = 0.3


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is made; see the module."""

    estimator: str = ""
    artifact: str = ""
    parameters: dict[str, Scalar | list[Scalar]] = {}
    preprocessing: tuple[Literal["impute", "scale"], ...] | None = None
    columns: tuple[str, ...] = ()
    positive_class: int | str | None = None
    threshold: Probability | PrecisionRule = 0.5
    holdout: Holdout = Holdout()
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)] = 0

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done to all columns before the estimator sees them; by default, missing values are imputed.

        Trees of XGBoost and LightGBM need no steps, and are kept without.
        """
        default = () if self.module in BARE else ("impute",)
        return default if self.preprocessing is None else self.preprocessing

    @property
    def module(self) -> str:
        """The module that holds the estimator."""
        return ESTIMATORS[self.estimator]


def resolve(recipe: str) -> str:
    """Return the YAML of a recipe given by name or as YAML. Raises RecipeError."""
    text = NAMED.get(recipe.strip(), recipe)
    if ":" not in text:
        raise RecipeError(
            f"there is no recipe named {recipe.strip()[:80]!r}; built in are {', '.join(sorted(NAMED))}; "
            f"or give a recipe of your own as YAML"
        )
    return text


def parse(text: str) -> Recipe:
    """Read a recipe in YAML. Raises RecipeError."""
    if len(text.encode()) > MAX_BYTES:
        raise RecipeError(f"the recipe has {len(text.encode())} bytes; at most {MAX_BYTES} are read")
    try:
        recipe = msgspec.convert(yaml.load(text, _Loader), Recipe)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"the recipe is not YAML: {' '.join(str(error).split())}") from error
    except (msgspec.ValidationError, RecursionError) as error:
        raise RecipeError(_place_first(str(error))) from error
    if recipe.artifact:
        _check_artifact(recipe)
    else:
        _check_estimator(recipe)
    return recipe


def _place_first(text: str) -> str:
    """Turn "what - at `$.where`" into "where: what"."""
    what, _, where = text.partition(" - at `$")
    return f"{where.strip('.`') or 'the recipe'}: {what}"


def _check_artifact(recipe: Recipe) -> None:
    if not re.fullmatch("[0-9a-f]{64}", recipe.artifact):
        raise RecipeError(f"artifact: {recipe.artifact[:80]!r} is no sha256; give 64 lower-case hexadecimal digits")
    given = {"estimator": recipe.estimator, "parameters": recipe.parameters, "preprocessing": recipe.preprocessing}
    if superfluous := [name for name, value in given.items() if value]:
        raise RecipeError(f"{superfluous[0]}: a model that is brought along is not trained; leave it out")


def _check_estimator(recipe: Recipe) -> None:
    if not recipe.estimator:
        raise RecipeError(f"estimator: is missing; choose one of {', '.join(ESTIMATORS)}, or give an `artifact`")
    if recipe.estimator not in ESTIMATORS:
        raise RecipeError(
            f"estimator: {recipe.estimator!r} is not one that can be trained and served; "
            f"choose one of {', '.join(ESTIMATORS)}"
        )
    if recipe.module in BARE and recipe.preprocessing:
        raise RecipeError(
            f"preprocessing: {recipe.estimator} takes the rows as they come, missing values too; leave it out"
        )
    reserved = RESERVED & recipe.parameters.keys()
    if reserved:
        raise RecipeError(f"parameters: {', '.join(sorted(reserved))}: set by the trainer; leave out (see `seed`)")


class _Loader(yaml.SafeLoader):
    """YAML without aliases, which can make a small text huge, and without repeated keys, where one would be ignored."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise RecipeError("the recipe uses a YAML alias (*name); write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        keys = [cast("str", key.value) for key, _ in node.value]
        repeated = next((key for key in keys if keys.count(key) > 1), None)
        if repeated is not None:
            raise RecipeError(f"the recipe says {repeated!r} twice; keep one of them")
        return super().construct_mapping(node, deep)
