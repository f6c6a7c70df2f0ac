"""`holdtrue labels add`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdtrue.cli.exits import UsageError
from holdtrue.client import connect
from holdtrue.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue.producer import Producer

_WORDS = {"true": 1.0, "false": 0.0}
_COLUMNS = ["prediction_id", "label"]


def add(
    what: str,
    value: str = "",
    /,
    *,
    key: Annotated[bool, Parameter(negative=())] = False,
    revision: int = 0,
) -> None:
    """Tell what turned out to be true, of one prediction or of those in a CSV file.

    Examples:
        holdtrue labels add 01a21057-6d23-765d-867d-6d66a0a452c5/000R02G04032D 1
        holdtrue labels add order-981 true --key
        holdtrue labels add labels.csv

    Args:
        what: A prediction id; or a CSV file with the columns prediction_id and label.
        value: The label of the one prediction: the class's index, a number, true or false.
        key: The first argument is the caller's own id, as it was given with the request.
        revision: Revision of the label, from 0; a higher one replaces.
    """
    with connect() as client, client.producer() as out:
        if value:
            prediction_id, own_key = ("", what) if key else (what, "")
            out.label(prediction_id, _number(value, "VALUE"), key=own_key, revision=revision)
        else:
            _add_file(out, what, revision)
    sys.stderr.write(f"{out.stats.labels} labels told\n")


def _add_file(out: Producer, name: str, revision: int) -> None:
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{name}: no such file; to label one prediction write its id and the VALUE")
    for line, prediction_id, label in _lines(path):
        try:
            out.label(prediction_id, _number(label, "label"), revision=revision)
        except InvalidArgument as error:
            raise InvalidArgument(f"{path}, line {line}: {error.message}") from error


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise InvalidArgument(
                f"{path}, line 1: expected the columns prediction_id and label, got {reader.fieldnames}"
            )
        for row in reader:
            yield reader.line_num, row["prediction_id"] or "", row["label"] or ""


def _number(text: str, what: str) -> float:
    try:
        return _WORDS[text.lower()] if text.lower() in _WORDS else float(text)
    except ValueError:
        raise InvalidArgument(f"{what}: expected a class's index, a number, true or false, got {text!r}") from None
