"""`holdtrue predict`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from holdtrue.cli.arguments import seconds
from holdtrue.cli.output import Output, show
from holdtrue.client import connect
from holdtrue.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BATCH = 1000
_LONGEST_LINE = 1 << 20


def predict(
    model: str,
    /,
    *,
    file: Annotated[str, Parameter(name=["--file", "-f"])] = "-",
    deadline: str = "1s",
    output: Output = "table",
) -> None:
    """Ask a deployed model about rows, one JSON object a line, and print one prediction a line.

    Examples:
        holdtrue predict tumour-check -f rows.jsonl
        echo '{"amount": 42.0, "country": "DE"}' | holdtrue predict fraud-check -o ndjson

    Args:
        model: Name of the deployment.
        file: File with the rows; - reads standard input.
        deadline: How long one call may take.
    """
    limit = seconds(deadline)
    with connect() as client, client.model(model) as asked:
        rows = _rows(file)
        answers = (
            asdict(prediction)
            for batch in iter(lambda: list(islice(rows, _BATCH)), [])
            for prediction in asked.predict(batch, deadline=limit)
        )
        show(answers, ["id", "version", "label", "score"], output, name="id")


def _rows(file: str) -> Iterator[dict[str, Any]]:
    if file == "-":
        yield from _parsed("standard input", sys.stdin)
        return
    try:
        with Path(file).open(encoding="utf-8") as lines:
            yield from _parsed(file, lines)
    except OSError as error:
        raise InvalidArgument(f"{file}: {error.strerror}") from error


def _parsed(source: str, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: object = json.loads(line[:_LONGEST_LINE])
        except ValueError as error:
            raise InvalidArgument(
                f"{source}, line {number}: expected one JSON object, got {line[:80]!r}: {error}"
            ) from error
        if not isinstance(row, dict):
            raise InvalidArgument(f"{source}, line {number}: expected one JSON object, got {line.strip()[:80]!r}")
        yield cast("dict[str, Any]", row)
