"""Reading rows, whatever form they have, part by part, with progress, and on from where somebody stopped.

Parts are always cut at the same rows: whoever makes a batch's id of its content offers the same batches again when it
reads a source a second time, and none of their rows is ingested twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.faults import shown
from holdtrue_lake.forms import tables
from holdtrue_lake.forms.bad_input import MOST_NAMED, Bad, BadInput, Place, some
from holdtrue_lake.forms.cells import time_as
from holdtrue_lake.forms.form import TIME
from holdtrue_lake.forms.text_files import JsonLines, SeparatedValues, TextFile
from holdtrue_lake.payload import KINDS
from holdtrue_lake.schema import arrow_type, row_schema
from holdtrue_lake.times import TIME_KIND
from holdtrue_lake.views import one_array, true

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema

    from holdtrue_lake.forms.dialect import Dialect
    from holdtrue_lake.forms.form import Form
    from holdtrue_lake.payload import Columns, Mask

MOST_CELLS = 2_000_000
MOST_ROWS = 65_536
"""Rows of a part, at most; fewer where there are many columns."""


@dataclass(frozen=True, slots=True)
class Position:
    """How many rows have been read of a source; `of` recognises a file that has changed since."""

    rows: int
    of: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows in the dataset's types, where to read on after them, and bytes read of `size` (0: unknown).

    The event's time follows as a further column of that name, if it is none of the dataset's.
    """

    rows: pa.RecordBatch
    position: Position
    done: int
    size: int


def read_parts(
    source: Any,  # noqa: ANN401  a path, or an object of many libraries
    schema: DatasetSchema,
    dialect: Dialect | None = None,
    after: Position | None = None,
    most_rows: int = 0,
) -> Iterator[Part]:
    """Yield the rows of a file or a table in memory; missing values are null.

    The form of a file is told by its content: Parquet, Arrow, numpy, JSON lines, or separated values in `dialect`,
    which is found out if not given; text may be packed by gzip, zstd or bzip2. Raises BadInput for the first part with
    something that is not of the dataset's types, with up to 20 faults of it, each with line (or row), column, what was
    expected and what is there.
    """
    mark = _mark(source)
    if after and after.of != mark:
        raise BadInput.one(Place(str(source)), "the file of which a part was read", "one that has changed since")
    names = _wanted(schema)
    form = _form(source, dialect, names)
    _refuse_names(form, schema)
    rows = after.rows if after else 0
    step = most_rows or max(1, min(MOST_ROWS, MOST_CELLS // len(names)))
    for columns in form.chunks(rows, step):
        batch = _typed(schema, columns, form, rows)
        rows += columns.rows
        yield Part(batch, Position(rows, mark), form.done(), form.size)


def read_sample(source: Any, dialect: Dialect | None = None, rows: int = 10_000) -> pa.Table:  # noqa: ANN401  see above
    """First rows of a source, for `infer`: columns of text and of JSON get the narrowest type that all values fit.

    Raises BadInput.
    """
    _mark(source)
    form = _form(source, dialect, [])
    columns = next(form.chunks(0, rows), None)
    if columns is None or columns.faults:
        fault = columns.faults[0] if columns else None
        place = form.place(fault.row) if fault else Place(form.source)
        raise BadInput.one(place, fault.expected if fault else "rows", fault.got if fault else "none")
    names = form.names or sorted(columns.names)
    return pa.table([_narrowest(form, columns, name) for name in names], names=names)


def _narrowest(form: Form, columns: Columns, name: str) -> pa.Array | pa.ChunkedArray:
    came = columns.plain(name)
    if isinstance(came, pa.ChunkedArray) and not pa.types.is_string(came.type):
        return came
    for dtype in ("int64", "float32", "bool"):
        array, wrong = columns.typed(name, dtype)
        if array.null_count < len(array) and not wrong.any():
            return array
    array, wrong = columns.typed(name, "string")
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise BadInput.one(form.place(row, name), "values of one type", shown(columns.original(name, row)))
    return array


def _wanted(schema: DatasetSchema) -> list[str]:
    own = [column.name for column in schema.columns]
    return [*own, *([schema.time] if schema.time and schema.time not in own else [])]


def _mark(source: object) -> str:
    """What tells a file from itself after a change; empty for what is no file."""
    if not isinstance(source, (str, Path)):
        return ""
    try:
        status = Path(source).stat()
    except OSError as error:
        raise BadInput.one(Place(str(source)), "a file that can be read", error.strerror or str(error)) from error
    return hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]


def _form(source: Any, dialect: Dialect | None, names: list[str]) -> Form:  # noqa: ANN401  see read_parts
    if not isinstance(source, (str, Path)):
        return tables.of_memory(source, names)
    path = Path(source)
    if not path.is_file():
        raise BadInput.one(Place(str(path)), "a file", "a folder" if path.is_dir() else "something else")
    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"PAR1"):
        return tables.parquet(path)
    if magic.startswith(b"ARROW1"):
        return tables.arrow_file(path)
    if magic.startswith(b"\xff\xff\xff\xff"):
        return tables.arrow_stream(path)
    if magic.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        return tables.numpy_file(path, names)
    beginning = TextFile(path).beginning().lstrip(b"\xef\xbb\xbf \t\r\n")
    is_json = beginning.startswith((b"{", b"[")) and dialect is None
    return JsonLines(path) if is_json else SeparatedValues(path, dialect, names)


def _refuse_names(form: Form, schema: DatasetSchema) -> None:
    if form.names is None:
        return
    place, wanted = Place(form.source), _wanted(schema)
    twice = sorted({name for name in form.names if form.names.count(name) > 1})
    if twice or "" in form.names:
        got = f"several called {some(twice)}" if twice else "one without"
        raise BadInput.one(place, "every column to have a name of its own", got)
    missing = [name for name in wanted if name not in form.names]
    unknown = [name for name in form.names if name not in wanted]
    if missing or unknown:
        faults = {"missing": missing, "unknown": unknown}
        told = "; ".join(f"{word} {some(names)}" for word, names in faults.items() if names)
        raise BadInput.one(place, f"the columns {some(wanted)}", told)


def _typed(schema: DatasetSchema, columns: Columns, form: Form, before: int) -> pa.RecordBatch:
    """Rows in the dataset's types; raises BadInput with everything that is wrong with them."""
    fields, arrays = list(row_schema(schema)), list[pa.Array]()
    wrongs = list(_foreign(columns, _wanted(schema)))
    for spec in schema.columns:
        array, wrong, expected = _column(schema, spec, columns)
        arrays.append(array)
        wrongs.append(_Wrong(spec.name, expected, wrong, spec.pii))
    if schema.time and all(field.name != schema.time for field in fields):
        array, wrong = _event_times(columns, schema.time, form)
        fields, arrays = [*fields, pa.field(schema.time, TIME)], [*arrays, array]
        wrongs.append(_Wrong(schema.time, TIME_KIND, wrong))
    if columns.faults or any(each.rows.any() for each in wrongs):
        raise _bad_input(form, before, columns, wrongs)
    return pa.record_batch(arrays, schema=pa.schema(fields))


@dataclass(frozen=True, slots=True)
class _Wrong:
    """Rows whose value in a column does not fit."""

    column: str
    expected: str
    rows: Mask
    secret: bool = False


def _foreign(columns: Columns, wanted: list[str]) -> Iterator[_Wrong]:
    for name in sorted(columns.names - set(wanted)):
        yield _Wrong(name, f"one of the columns {some(wanted)}", columns.present(name))


def _bad_input(form: Form, before: int, columns: Columns, wrongs: list[_Wrong]) -> BadInput:
    """Name the first of all faults; rows that could not be taken apart have no others."""
    broken = {fault.row for fault in columns.faults}
    found = [(fault.row, "", fault.expected, fault.got) for fault in columns.faults[:MOST_NAMED]]
    count = len(columns.faults)
    for wrong in wrongs:
        rows = [row for row in np.flatnonzero(wrong.rows).tolist() if row not in broken]
        count += len(rows)
        found += [
            (row, wrong.column, wrong.expected, shown(columns.original(wrong.column, row), secret=wrong.secret))
            for row in rows[:MOST_NAMED]
        ]
    first = sorted(found)[:MOST_NAMED]
    return BadInput([Bad(form.place(before + row, name), expected, got) for row, name, expected, got in first], count)


def _column(schema: DatasetSchema, spec: ColumnSpec, columns: Columns) -> tuple[pa.Array, Mask, str]:
    """Return the column in the table's type, the mask of values that do not fit, and what was expected."""
    target, expected = arrow_type(schema, spec), KINDS[spec.dtype]
    if spec.name not in columns.names:
        return pa.nulls(columns.rows, target), np.zeros(columns.rows, np.bool_), expected
    came = columns.plain(spec.name)
    is_time = spec.dtype == "string" or spec.name == schema.time
    if is_time and isinstance(came, pa.ChunkedArray) and pa.types.is_temporal(came.type):
        return pc.cast(time_as(_moments(came), spec.dtype), target), np.zeros(columns.rows, np.bool_), expected
    array, wrong = columns.typed(spec.name, spec.dtype)
    stored = pc.cast(array, target, safe=False)
    if pa.types.is_float32(target):
        endless = true(pc.and_(pc.is_inf(stored), pc.is_finite(array)))
        if endless.any():
            return stored, wrong | endless, f"{expected} that fits into float32"
    return stored, wrong, expected


def _moments(came: pa.ChunkedArray) -> pa.Array:
    column = one_array(came)
    if pa.types.is_timestamp(column.type) and column.type.tz:
        return pc.cast(column, TIME, safe=False)
    return pc.assume_timezone(pc.cast(column, pa.timestamp("us"), safe=False), "UTC")


def _event_times(columns: Columns, name: str, form: Form) -> tuple[pa.Array, Mask]:
    if name not in columns.names:
        return pa.nulls(columns.rows, TIME), np.zeros(columns.rows, np.bool_)
    return form.times(columns, name)
