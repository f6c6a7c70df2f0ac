"""`holdtrue runs list | show`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from holdtrue.cli.arguments import MOST_INT
from holdtrue.cli.messages import plain, time_text
from holdtrue.cli.output import Output, details
from holdtrue.cli.output import show as show_rows
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue_contracts.trainer.v1.trainer_service_pb2 import Run

_COLUMNS = ["run", "model", "state", "data", "trigger", "precision", "requested"]
_RUN = [
    "run", "model", "state", "stage", "data", "recipe", "trigger", "alerts", "precision", "train_rows", "seconds",
    "failure", "message", "requested", "ended",
]  # fmt: skip


def list_(
    *,
    model: str = "",
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=MOST_INT))] = 50,
    output: Output = "table",
) -> None:
    """List training runs, newest first.

    Examples:
        holdtrue runs list
        holdtrue runs list --model fraud-check --limit 5 -o json

    Args:
        model: Only runs of this model.
        limit: At most so many.
    """
    with connect() as client:
        rows = [_row(run) for run in islice(client.runs.list(model), limit)]
    show_rows(rows, _COLUMNS, output, name="run", empty="no runs yet; start one: holdtrue train MODEL --data DATASET")


def show(run: str, /, *, output: Output = "table") -> None:
    """Show a training run.

    Examples:
        holdtrue runs show 019a1b2c

    Args:
        run: Its id, or a beginning of it that no other run has.
    """
    with connect() as client:
        details(_row(client.runs.get(run)), _RUN, output, name="run")


def _row(run: Run) -> dict[str, Any]:
    spec, result = run.spec, run.result
    words = plain(run)
    return {
        "run": spec.run_id,
        "model": spec.model_name,
        "state": words["state"],
        "stage": run.stage,
        "data": f"{spec.dataset_name}@{spec.dataset_version}",
        "recipe": spec.recipe.strip().splitlines()[0] if spec.recipe.strip() else "",
        "trigger": words["spec"]["trigger"],
        "alerts": list(spec.alert_ids),
        "precision": dict(result.candidate.metrics).get("precision"),
        "train_rows": result.train_rows or None,
        "seconds": result.seconds or None,
        "failure": words["failure"] if run.failure else "",
        "message": run.message,
        "requested": time_text(run.requested_at),
        "ended": time_text(run.ended_at),
    }
