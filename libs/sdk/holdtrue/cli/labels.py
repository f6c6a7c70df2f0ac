"""`holdtrue labels add`."""

from __future__ import annotations

import csv
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import Label

from holdtrue.cli.arguments import MOST_INT
from holdtrue.cli.exits import UsageError
from holdtrue.client import connect
from holdtrue.errors import InvalidArgument
from holdtrue.labels import MOST_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdtrue.labels import Labels

Located = tuple[str, Label]
"""A label, and where it came from, for errors."""

_WORDS = {"true": 1.0, "false": 0.0}
_COLUMNS = ["prediction_id", "label"]
_INDEX = re.compile(r"labels\[(\d+)\]")
_SHOWN = 5


def add(
    what: str,
    value: str = "",
    /,
    *,
    key: Annotated[bool, Parameter(negative=())] = False,
    revision: Annotated[int, Parameter(validator=Number(gte=0, lte=MOST_INT))] = 0,
) -> None:
    """Tell what turned out to be true, of one prediction or of those in a CSV file.

    The monitor judges each label: where one is wrong none is recorded. A label that is told twice counts once.

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
    if value:
        prediction_id, external_id = ("", what) if key else (what, "")
        label = Label(
            prediction_id=prediction_id, external_id=external_id, label=_number(value, "VALUE"), revision=revision
        )
        labels = [("", label)]
    else:
        labels = _read(what, revision)
    with connect() as client:
        for first in range(0, len(labels), MOST_LABELS):
            _record(client.labels, labels[first : first + MOST_LABELS], recorded=first)
    sys.stderr.write(f"{len(labels):,} label{'s' * (len(labels) != 1)} recorded\n")


def _record(door: Labels, labels: Sequence[Located], recorded: int) -> None:
    try:
        door.record([label for _, label in labels])
    except InvalidArgument as error:
        faults = [_located(violation.field, labels) + violation.description for violation in error.violations]
        if len(labels) > 1:
            before = f"; {recorded:,} before them are: correct the file and add it again" if recorded else ""
            faults.insert(0, f"some of {len(labels):,} labels are wrong, none of these was recorded{before}")
        raise InvalidArgument("\n".join(faults[: _SHOWN + 1]) or error.message, violations=error.violations) from error


def _located(field: str, labels: Sequence[Located]) -> str:
    match = _INDEX.match(field)
    return labels[int(match[1])][0] if match else f"{field}: "


def _read(name: str, revision: int) -> list[Located]:
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{name}: no such file; to label one prediction write its id and the VALUE")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            labels = list(_lines(path, file, revision))
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path}: expected CSV text in UTF-8: {error.reason}") from error
    except csv.Error as error:
        raise InvalidArgument(f"{path}: expected CSV: {error}") from error
    if not labels:
        raise InvalidArgument(f"{path}: expected labels after the header, got none")
    return labels


def _lines(path: Path, file: Iterable[str], revision: int) -> Iterator[Located]:
    reader = csv.DictReader(file)
    if not set(_COLUMNS) <= set(reader.fieldnames or ()):
        got = ", ".join(reader.fieldnames or ()) or "an empty file"
        raise InvalidArgument(f"{path}, line 1: expected the columns prediction_id and label, got {got[:200]}")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        value = _number(row["label"] or "", f"{where}, column label")
        yield f"{where}: ", Label(prediction_id=row["prediction_id"] or "", label=value, revision=revision)


def _number(text: str, what: str) -> float:
    try:
        number = _WORDS[text.lower()] if text.lower() in _WORDS else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidArgument(f"{what}: expected a class's index, a number, true or false, got {text!r}")
    return number
