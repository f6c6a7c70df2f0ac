from __future__ import annotations

import pytest
from holdtrue_trainer.domain.recipe import NAMED, PrecisionRule, RecipeError, parse, resolve


@pytest.mark.parametrize("name", NAMED)
def test_named_recipes_are_recipes(name: str) -> None:
    assert parse(resolve(f" {name}\n")).threshold == 0.5


def test_recipe_as_yaml_says_all() -> None:
    recipe = parse(
        resolve(
            """
            estimator: RandomForestClassifier
            parameters: {n_estimators: 50, max_features: 0.5, class_weight: balanced}
            preprocessing: [impute, scale]
            columns: [amount, hour]
            positive_class: fraud
            threshold: {precision: 0.9}
            holdout: {share: 0.25}
            seed: 7
            """
        )
    )
    assert recipe.parameters == {"n_estimators": 50, "max_features": 0.5, "class_weight": "balanced"}
    assert recipe.threshold == PrecisionRule(0.9)
    assert (recipe.module, recipe.holdout.share, recipe.seed) == ("sklearn.ensemble", 0.25, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gradient_bosting", "no recipe named 'gradient_bosting'; built in are gradient_boosting"),
        ("estimator: Perceptron", "'Perceptron' is not one that can be trained and served; choose one of"),
        ("estimator: os.system", "'os.system' is not one"),
        ("estimator: GaussianNB\ntreshold: 0.5", "unknown field `treshold`"),
        ("estimator: GaussianNB\nthreshold: 1.5", "threshold: Expected `float` <= 1.0"),
        ("estimator: GaussianNB\nthreshold: high", "threshold: Expected `float \\| object`"),
        ("estimator: GaussianNB\nholdout: {share: 0.99}", "holdout.share: Expected `float` <= 0.9"),
        ("estimator: GaussianNB\npreprocessing: [whiten]", r"preprocessing\[0\]: Invalid enum value 'whiten'"),
        ("estimator: GaussianNB\nparameters: {n_jobs: 2}", "n_jobs: set by the trainer"),
        ("estimator: GaussianNB\nparameters: {priors: {a: 1}}", "parameters"),
        ("estimator: GaussianNB\nestimator: GaussianNB", "'estimator' twice"),
        ("estimator: &a GaussianNB\nseed: *a", "alias"),
        ("estimator: !!python/object/apply:os.system [id]", "not YAML"),
        ("estimator: [", "not YAML"),
        ("seed: 1", "estimator: is missing; choose one of DecisionTreeClassifier, .*or give an `artifact`"),
        (
            "estimator: XGBClassifier\npreprocessing: [scale]",
            "preprocessing: XGBClassifier takes the rows as they come",
        ),
        ("estimator: XGBClassifier\nparameters: {missing: 0}", "missing: set by the trainer"),
        (f"artifact: {'a' * 64}\npreprocessing: [scale]", "preprocessing: a model that is brought along"),
        ("artifact: model.onnx", "artifact: 'model.onnx' is no sha256"),
        (f"artifact: {'a' * 64}\nestimator: GaussianNB", "estimator: a model that is brought along is not trained"),
        (f"artifact: {'a' * 64}\nparameters: {{n: 1}}", "parameters: a model that is brought along"),
        ("- a: 1", "Expected `object`, got `array`"),
        ("? [a]\n: 1", "the recipe"),
        ("estimator: " + "x" * 70_000, "at most 65536 are read"),
        ("a: " + "[" * 5_000, "the recipe"),
    ],
)
def test_wrong_recipes_say_what_and_where(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse(resolve(text))
