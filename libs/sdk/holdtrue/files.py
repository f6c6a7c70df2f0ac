"""Files of other forms than CSV as Arrow tables: JSON lines and Parquet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import json as arrow_json
from pyarrow import parquet

from holdtrue.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_BLOCK_BYTES = 64 << 20
_ROW = re.compile(r"(?:JSON parse error: )?(.*?)(?: in row (\d+))?$", re.DOTALL)


def read_json_lines(path: Path) -> pa.Table:
    """Return the objects of a file with one JSON object a line. Raises OSError, InvalidArgument."""
    try:
        return arrow_json.read_json(path, arrow_json.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES))
    except pa.ArrowInvalid as error:
        raise InvalidArgument(f"{path}{_located(path, str(error))}") from error


def read_parquet(path: Path) -> pa.Table:
    """Return the rows of a Parquet file. Raises OSError, InvalidArgument."""
    try:
        return parquet.read_table(path, use_threads=False)
    except pa.ArrowException as error:
        raise InvalidArgument(f"{path}: expected a Parquet file: {error}") from error


READERS: Mapping[str, Callable[[Path], pa.Table]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
    ".parquet": read_parquet,
}
"""How a file is read, by the end of its name; every other file is CSV."""


def _located(path: Path, message: str) -> str:
    """Return Arrow's message with the line in the file instead of its own row number."""
    match = _ROW.match(message)
    if match is None or match[2] is None:
        return f": expected one JSON object a line: {message}"
    return f", line {_line(path, int(match[2]))}: expected one JSON object a line, with values of one type: {match[1]}"


def _line(path: Path, row: int) -> int:
    """Return the line of a row; rows count from 0, empty lines do not count."""
    seen = -1
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            seen += bool(line.strip())
            if seen == row:
                return number
    return row + 1
