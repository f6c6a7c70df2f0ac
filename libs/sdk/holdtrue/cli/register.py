"""`holdtrue models register`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  cyclopts reads the annotations
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from holdtrue.cli.arguments import Selector, seconds
from holdtrue.cli.output import Output  # noqa: TC001  cyclopts reads the annotations
from holdtrue.cli.progress import progress
from holdtrue.cli.train import show_trained
from holdtrue.client import connect


def register(
    model: str,
    file: Path,
    /,
    *,
    data: str,
    column: Annotated[list[str] | None, Parameter(negative=())] = None,
    positive_class: str | None = None,
    threshold: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.5,
    min_precision: float = 0.0,
    timeout: str = "1h",
    output: Output = "table",
) -> None:
    """Bring a model from elsewhere, judge it on a dataset, and show the version that came of it.

    An ONNX model takes one float matrix of the columns and answers with probabilities. It is tried in a process of its
    own, held against the champion on rows that neither should have been trained on, and goes through the gate.

    Examples:
        holdtrue models register fraud-check model.onnx --data payments
        holdtrue models register fraud-check model.onnx --data payments@3 --column amount --column hour --threshold 0.7

    Args:
        model: Name of the model; one that does not exist yet is made.
        file: ONNX, for example of torch.onnx.export with a dynamic number of rows, XGBoost's UBJSON or LightGBM's text.
        data: Dataset to judge it on, as NAME for the newest version, or NAME@VERSION.
        column: Column that the model takes, in the order of its input; by default all but label and time.
        positive_class: Value of the label that the model's last probability is about; default 1 or true.
        threshold: Score from which a row is flagged.
        min_precision: Precision that every version of a new model must reach.
        timeout: How long to wait, for example 10m; the run itself goes on.
    """
    chosen, limit = Selector.parse(data), seconds(timeout)
    with connect() as client, progress(model) as say:
        run = client.runs.judge(
            model,
            file,
            chosen.name,
            dataset_version=chosen.dataset_version(),
            columns=column or (),
            positive_class=_label(positive_class),
            threshold=threshold,
            min_precision=min_precision,
            progress=say,
        )
        trained = client.runs.wait(run.spec.run_id, timeout=limit, progress=say)
        show_trained(client, trained, output)


def _label(text: str | None) -> int | str | None:
    """Return a whole number as one: labels are whole numbers, truth values or text."""
    return int(text) if text is not None and text.lstrip("-").isdecimal() else text
