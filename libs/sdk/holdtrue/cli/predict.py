"""`holdtrue predict`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from holdtrue.cli.arguments import Selector, seconds
from holdtrue.cli.exits import UsageError
from holdtrue.cli.output import Output, show
from holdtrue.client import connect
from holdtrue.errors import InvalidArgument, with_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdtrue.model import Model
    from holdtrue.prediction import Prediction

Row = dict[str, Any]
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
        model: Name of the deployment; NAME@VERSION asks that version, whatever share of the traffic it has.
        file: File with the rows; - reads standard input.
        deadline: How long one call may take.
    """
    chosen, limit = Selector.parse(model), seconds(deadline)
    if chosen.version == "latest" or chosen.version == "champion":  # noqa: PLR1714  the type checker understands this
        raise UsageError(f"{model}: write a version number after @, or {chosen.name} alone for what serves")
    with connect() as client, client.model(chosen.name) as asked:
        answers = _answers(asked, file, limit, chosen.version or 0)
        show(map(asdict, answers), ["id", "version", "label", "score"], output, name="id")


def _answers(model: Model, file: str, limit: float, version: int) -> Iterator[Prediction]:
    """Yield the answers to a file's rows; an error names the file and the line."""
    source = "standard input" if file == "-" else file
    rows = _rows(file, source)
    while batch := list(islice(rows, _BATCH)):
        try:
            yield from model.predict([row for _, row in batch], deadline=limit, version=version)
        except InvalidArgument as error:
            raise with_row(error, lambda row: (row, f"{source}, line {batch[row][0]}")) from error


def _rows(file: str, source: str) -> Iterator[tuple[int, Row]]:
    """Yield (line, row), at least one."""
    found = False
    try:
        with sys.stdin if file == "-" else Path(file).open(encoding="utf-8") as lines:
            for numbered in _parsed(source, lines):
                found = True
                yield numbered
    except OSError as error:
        raise InvalidArgument(f"{source}: {error.strerror}; give a file with one JSON object a line") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{source}: expected text in UTF-8, one JSON object a line: {error.reason}") from error
    if not found:
        raise InvalidArgument(f"{source}: expected at least one row, one JSON object a line, got none")


def _parsed(source: str, lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{source}, line {number}"
        if len(line) > _LONGEST_LINE:
            raise InvalidArgument(f"{where}: expected at most {_LONGEST_LINE:,} characters, got {len(line):,}")
        try:
            row: object = json.loads(line)
        except ValueError as error:
            raise InvalidArgument(f"{where}: expected one JSON object, got {line.strip()[:80]!r}: {error}") from error
        if not isinstance(row, dict):
            raise InvalidArgument(f"{where}: expected one JSON object, got {line.strip()[:80]!r}")
        yield number, cast("Row", row)
