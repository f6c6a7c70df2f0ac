"""`holdtrue train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from holdtrue.cli.arguments import MOST_INT, Selector, seconds
from holdtrue.cli.exits import UsageError
from holdtrue.cli.models import VERSION, dataset_names, version_row
from holdtrue.cli.output import Output, details, suggest
from holdtrue.cli.progress import progress
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue.client import Client
    from holdtrue.runs import Trained

_MOST_RECIPE_BYTES = 64 << 10


def train(
    model: str,
    /,
    *,
    data: str,
    recipe: str = "gradient_boosting",
    min_precision: float = 0.0,
    seed: Annotated[int, Parameter(validator=Number(gte=-MOST_INT, lte=MOST_INT))] = 0,
    timeout: str = "1h",
    output: Output = "table",
) -> None:
    """Train a model on a dataset, wait for the gate, and show the version that came of it.

    A model that does not exist yet is made. A gate that does not let the version pass ends with exit code 6.

    Examples:
        holdtrue train tumour-check --data tumours
        holdtrue train fraud-check --data payments@3 --recipe recipe.yaml --min-precision 0.9

    Args:
        model: Name of the model.
        data: Dataset as NAME for the newest version, or NAME@VERSION.
        recipe: A built-in recipe (logistic, gradient_boosting, random_forest, xgboost, lightgbm) or a YAML file.
        min_precision: Precision that every version of a new model must reach.
        seed: Seed of everything random; 0 for one that follows from the run.
        timeout: How long to wait, for example 10m; the run itself goes on.
    """
    chosen, limit, text = Selector.parse(data), seconds(timeout), _recipe(recipe)
    with connect() as client, progress(model) as say:
        run = client.runs.submit(
            model,
            chosen.name,
            dataset_version=chosen.dataset_version(),
            recipe=text,
            min_precision=min_precision,
            seed=seed,
        )
        trained = client.runs.wait(run.spec.run_id, timeout=limit, progress=say)
        show_trained(client, trained, output)


def show_trained(client: Client, trained: Trained, output: Output) -> None:
    """Show the version that a run became, and what to do next."""
    row = version_row(trained.version, dataset_names(client)) | {"seconds": trained.run.result.seconds}
    details(row, VERSION, output)
    suggest(f"holdtrue deploy {row['name']} --wait", output)


def _recipe(text: str) -> str:
    """Return a file's content, or the name of a built-in recipe."""
    path = Path(text)
    if path.suffix not in {".yaml", ".yml"}:
        return text
    try:
        if path.stat().st_size > _MOST_RECIPE_BYTES:
            raise UsageError(f"--recipe {text}: a recipe has at most {_MOST_RECIPE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--recipe {text}: {error.strerror}; give a YAML file or a built-in recipe's name") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--recipe {text}: expected YAML in UTF-8: {error}") from error
