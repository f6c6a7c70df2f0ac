"""Rows in files and in memory as Arrow tables, with errors that say where."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
from pyarrow import csv as arrow_csv

from holdtrue.errors import InvalidArgument
from holdtrue.files import READERS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from holdtrue.rules import Roles

MOST_BATCH_BYTES = 900_000
"""Largest payload of one batch of records."""
MOST_SAMPLE_BYTES = 128 << 20
"""Rows from which rules are proposed, at most."""
_MOST_FILE_BYTES = 2 << 30
_BLOCK_BYTES = 64 << 20
_ARROW_ROW = re.compile(r"Row #(\d+): (.*)", re.DOTALL)
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"

Rows: TypeAlias = "pa.Table | Sequence[Mapping[str, Any]] | Path | str"


def read_csv(path: Path, text: Collection[str] = ()) -> pa.Table:
    """Return the rows of a CSV file with a header, columns typed by their values; those in `text` stay as written.

    Raises InvalidArgument that names line, column, expected and got.
    """
    try:
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            arrow_csv.ParseOptions(newlines_in_values=True),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()), strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise InvalidArgument(f"{path}: {_located(path, str(error))}") from error
    _refuse_names(str(path), table)
    for name in table.column_names:
        if name not in text and pa.types.is_string(table.schema.field(name).type):
            _refuse_stray_text(path, name, table.column(name))
    return table


def read_file(path: Path, text: Collection[str] = ()) -> pa.Table:
    """Return the rows of a file by the end of its name: JSON lines, Parquet, otherwise CSV.

    Raises InvalidArgument that names the place, expected and got.
    """
    try:
        _refuse_file(path)
        reader = READERS.get(path.suffix.lower())
        table = reader(path) if reader else read_csv(path, text)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror or error}; give the path of a CSV file") from error
    _refuse_names(str(path), table)
    if not table.num_rows:
        raise InvalidArgument(f"{path}: expected rows{'' if reader else ' after the header'}, got none")
    return _checked(path, table)


def as_table(rows: Rows, text: Collection[str] = ()) -> pa.Table:
    """Return rows as a table: an Arrow table, a list of dicts, or the path of a file. Raises InvalidArgument."""
    if isinstance(rows, str | Path):
        return read_file(Path(rows), text)
    table = rows if isinstance(rows, pa.Table) else _from_dicts(rows)
    if not table.num_rows:
        raise InvalidArgument("rows: expected at least one, got none")
    _refuse_names("rows", table)
    return table


def _separator(names: Sequence[str]) -> str:
    """Say so where what looks like several columns came as one."""
    found = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
    return f": one column, separated by {found!r}? Write it with commas" if found else ""


def infer_schema(table: pa.Table, roles: Roles) -> DatasetSchema:
    """Return the schema that a table's columns suggest; raises InvalidArgument for roles of columns that it lacks."""
    named = (("label", roles.label), ("time", roles.time), ("subject", roles.subject))
    for role, name in (*named, *(("personal", name) for name in sorted(roles.personal))):
        if name not in table.column_names and (name or role == "label"):
            names = table.column_names
            raise InvalidArgument(f"{role}: no column {name!r}; the columns are {_some(names)}{_separator(names)}")
    personal = {*roles.personal, roles.subject}
    columns = [ColumnSpec(name=f.name, dtype=_dtype(f), pii=f.name in personal) for f in table.schema]
    return DatasetSchema(columns=columns, label=roles.label, time=roles.time, subject=roles.subject)


def conform(table: pa.Table, schema: DatasetSchema, name: str) -> pa.Table:
    """Return the table's columns in the order of a dataset's schema; raises InvalidArgument if it has others."""
    wanted = [column.name for column in schema.columns]
    missing = [column for column in wanted if column not in table.column_names]
    extra = [column for column in table.column_names if column not in wanted]
    if missing or extra:
        faults = {"missing": missing, "unknown": extra, "it takes": wanted}
        told = "; ".join(f"{word} {_some(names)}" for word, names in faults.items() if names)
        raise InvalidArgument(f"the columns do not fit dataset {name}: {told}", reason="WRONG_COLUMNS")
    return table.select(wanted)


def thinned(table: pa.Table, most_bytes: int = MOST_SAMPLE_BYTES) -> pa.Table:
    """Return the table, or every n-th of its rows where it has more bytes."""
    step = -(-table.nbytes // most_bytes)
    return table if step <= 1 else table.take(pa.array(range(0, table.num_rows, step), pa.int64()))


def payloads(table: pa.Table) -> Iterator[tuple[int, bytes]]:
    """Yield (rows, Arrow IPC stream of at most 900 kB) for the table from first to last row."""
    step = max(1, int(table.num_rows * MOST_BATCH_BYTES * 0.8 / max(1, table.nbytes)))
    for first in range(0, table.num_rows, step):
        yield from _fitting(table.slice(first, step))


def _fitting(part: pa.Table) -> Iterator[tuple[int, bytes]]:
    data = _stream(part)
    if len(data) <= MOST_BATCH_BYTES:
        yield part.num_rows, data
        return
    if part.num_rows == 1:
        raise InvalidArgument(f"a row of {len(data)} bytes is larger than a batch may be ({MOST_BATCH_BYTES} bytes)")
    half = part.num_rows // 2
    yield from _fitting(part.slice(0, half))
    yield from _fitting(part.slice(half))


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def _from_dicts(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    try:
        return pa.Table.from_pylist(list(rows))
    except (pa.ArrowException, TypeError, AttributeError) as error:
        raise InvalidArgument(f"rows: expected dicts with one type of value a column: {error}") from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")  # noqa: PLR2004


def _refuse_file(path: Path) -> None:
    """Raise for what is no file, is empty, or is too large."""
    size = path.stat().st_size
    if path.is_dir():
        raise InvalidArgument(f"{path}: expected a CSV file, got a folder")
    if not size:
        raise InvalidArgument(f"{path}: expected a header with the names of the columns, got an empty file")
    if size > _MOST_FILE_BYTES:
        raise InvalidArgument(f"{path}: {size:,} bytes; files of at most {_MOST_FILE_BYTES:,} are read, split it")


def _refuse_names(where: str, table: pa.Table) -> None:
    try:
        names = table.column_names
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{where}: expected the names of the columns in UTF-8: {error.reason}") from error
    for name in names:
        if not name or names.count(name) > 1:
            what = f"the name {name!r} several times" if name else "a column without a name"
            raise InvalidArgument(f"{where}: expected every column to have a name of its own, got {what}")


def _dtype(field: pa.Field) -> str:
    if pa.types.is_boolean(field.type):
        return "bool"
    if pa.types.is_integer(field.type):
        return "int64"
    if pa.types.is_floating(field.type) or pa.types.is_decimal(field.type):
        return "float32"
    if pa.types.is_string(field.type) or pa.types.is_large_string(field.type) or pa.types.is_temporal(field.type):
        return "string"
    raise InvalidArgument(f"column {field.name}: expected numbers, text or truth values, got {field.type}")


def _checked(path: Path, table: pa.Table) -> pa.Table:
    """Return the table with times as text; refuse columns that are empty and numbers that are not finite."""
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_temporal(field.type):
            table = table.set_column(index, field.name, column.cast(pa.string()))
        elif pa.types.is_null(field.type):
            raise InvalidArgument(f"{path}: column {field.name}: expected values, got none in {table.num_rows} rows")
        elif pa.types.is_binary(field.type):
            raise InvalidArgument(f"{path}: column {field.name}: expected UTF-8 text, got other bytes")
        elif pa.types.is_floating(field.type):
            _refuse_first(path, field.name, column, pc.is_finite(column), "a finite number")
    return table


def _refuse_stray_text(path: Path, name: str, column: pa.ChunkedArray) -> None:
    numbers = pc.match_substring_regex(column, _NUMBER)
    if pc.mean(numbers).as_py() > 0.5:  # noqa: PLR2004  most of them
        expected = "a number, as most values of the column are (or name it as text: --text)"
        _refuse_first(path, name, column, numbers, expected)


def _refuse_first(path: Path, name: str, column: pa.ChunkedArray, fits: pa.ChunkedArray, expected: str) -> None:
    """Raise for the first value that does not fit; missing values do."""
    row = pc.index(fits, pa.scalar(False)).as_py()
    if row >= 0:
        place = f"row {row + 1}" if path.suffix.lower() in READERS else f"line {_line(path, row)}"
        raise InvalidArgument(f"{path}, {place}, column {name}: expected {expected}, got {column[row].as_py()!r}")


def _located(path: Path, message: str) -> str:
    """Return Arrow's message with the line in the file instead of its own row number."""
    match = _ARROW_ROW.search(message)
    if match is None:
        return message
    return f"line {_line(path, int(match[1]) - 2)}: {_printable(match[2][:200])}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _line(path: Path, row: int) -> int:
    """Return the line on which a row begins; rows count from 0 after the header, empty lines do not count."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file)
        begin, seen = 1, -2
        for fields in reader:
            seen += bool(fields)
            if fields and seen == row:
                return begin
            begin = reader.line_num + 1
    return begin
