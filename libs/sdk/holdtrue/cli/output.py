"""What commands print: rows as a table for people, or as JSON, NDJSON, CSV or names for programs."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Format = Literal["table", "json", "ndjson", "csv", "name"]
Output = Annotated[Format, Parameter(name=["--output", "-o"], help="How to print: table, json, ndjson, csv or name.")]

StreamFormat = Literal["table", "json", "ndjson", "name"]
StreamOutput = Annotated[
    StreamFormat, Parameter(name=["--output", "-o"], help="How to print: table, json or ndjson (a line each), or name.")
]

Row = dict[str, Any]
_NOTHING: tuple[object, ...] = (None, "", [], {})


def show(rows: Iterable[Row], columns: Sequence[str], form: Format, *, name: str = "name", empty: str = "") -> None:
    """Print rows: the `columns` as table and CSV, everything as JSON, the value of `name` alone as names.

    In the place of a table without rows people are told `empty`.
    """
    if form == "json":
        sys.stdout.write(json.dumps(list(rows), indent=2, ensure_ascii=False) + "\n")
    elif form == "table":
        _table(list(rows), columns, empty)
    elif form == "csv":
        _csv(rows, columns)
    else:
        for row in rows:
            show_one(row, form, name=name)


def show_one(row: Row, form: Format, *, name: str = "name") -> None:
    """Print one row of a stream at once, as a line."""
    line = str(row[name]) if form == "name" else json.dumps(row, ensure_ascii=False)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def details(row: Row, columns: Sequence[str], form: Format, *, name: str = "name") -> None:
    """Print one thing: those of the `columns` that hold something, one a line, or as the other formats do."""
    if form == "table":
        shown = [column for column in columns if row.get(column) not in _NOTHING]
        cells = [(column.replace("_", " "), _cell(row[column])) for column in shown]
        width = max(len(head) for head, _ in cells)
        sys.stdout.writelines(f"{head:<{width}}  {text}\n" for head, text in cells)
    elif form == "json":
        sys.stdout.write(json.dumps(row, indent=2, ensure_ascii=False) + "\n")
    else:
        show([row], list(row), form, name=name)


def suggest(command: str, form: Format) -> None:
    """Tell people what usually comes next."""
    if form == "table":
        sys.stderr.write(f"→ next: {command}\n")


def _table(rows: Sequence[Row], columns: Sequence[str], empty: str) -> None:
    if not rows and empty:
        sys.stderr.write(f"{empty}\n")
        return
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    heads = [column.upper().replace("_", " ") for column in columns]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(columns))]
    for line in [heads, *cells]:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(text.rstrip() + "\n")


def _csv(rows: Iterable[Row], columns: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_inert(_cell(row.get(column))) for column in columns] for row in rows)


def _inert(cell: str) -> str:
    """Keep spreadsheets from reading a text as a formula."""
    return f"'{cell}" if cell[:1] in "=+@\t\r" and cell else cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
