"""Sort the records of a batch into those that fit the schema and those that do not, and say why.

Every column is required: null or absent is `MISSING`. Numbers must be finite and representable in the declared type,
coded texts must be among their categories, unknown fields are refused. One bad record refuses itself only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    RECORD_FORMAT_ARROW,
    RECORD_FORMAT_JSON_LINES,
    DatasetSchema,
    RecordFormat,
)

from holdtrue_lake.faults import WHOLE_PAYLOAD, Code, Fault, Refused, shown
from holdtrue_lake.payload import KINDS, Columns, Unreadable, read_arrow, read_json_lines
from holdtrue_lake.schema import arrow_type, row_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec

    from holdtrue_lake.payload import Mask

AHEAD = timedelta(minutes=5)
"""An event may claim to be this much later than its ingestion; what lies beyond is set back to it."""
_TIME_KIND = "seconds since 1970 or an ISO 8601 time"
_LATEST_S = 253_402_300_799  # the last second of the year 9999
_READERS: dict[RecordFormat.ValueType, Callable[[bytes], Columns]] = {
    RECORD_FORMAT_ARROW: read_arrow,
    RECORD_FORMAT_JSON_LINES: read_json_lines,
}


@dataclass(frozen=True)
class Validated:
    """A batch after validation.

    `rows` holds the accepted records: the dataset's columns in declared order and types, `_row` (position in the batch,
    int32) and `_event_time`. Every other record is in `refused`.
    """

    rows: pa.Table
    refused: tuple[Refused, ...]

    @property
    def offered(self) -> int:
        """Records that came; a payload that cannot be read counts as one."""
        return self.rows.num_rows + len(self.refused)


@dataclass(frozen=True)
class _Finding:
    """Rows of one column that break one rule."""

    column: str
    code: Code
    expected: str
    rows: Mask
    secret: bool = False


def validate(
    schema: DatasetSchema, payload: bytes, encoding: RecordFormat.ValueType, now: datetime, time_column: str = ""
) -> Validated:
    """Decode and judge a batch; never raises for what is in it.

    `time_column` overrides the schema's; `now` is the time of ingestion, which is the event's time where there is no
    such column.
    """
    reader = _READERS.get(encoding)
    if reader is None:
        names = ", ".join(RecordFormat.Name(known) for known in _READERS)
        return refused_whole(schema, payload, Code.MALFORMED, f"format {names}", str(encoding))
    try:
        columns = reader(payload)
    except Unreadable as error:
        return refused_whole(schema, payload, error.code, error.expected, error.got)
    return _judge(schema, columns, now, time_column or schema.time)


def refused_whole(schema: DatasetSchema, raw: bytes, code: Code, expected: str, got: str) -> Validated:
    """Return the result for a payload that is refused as a whole, with its bytes."""
    nothing = _with_lake(row_schema(schema).empty_table(), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Validated(nothing, (Refused(WHOLE_PAYLOAD, raw, (Fault(WHOLE_PAYLOAD, code, "", expected, got),)),))


def _judge(schema: DatasetSchema, columns: Columns, now: datetime, time_column: str) -> Validated:
    arrays: list[pa.Array] = []
    findings = list(_unknown(schema, columns, time_column))
    for column in schema.columns:
        array, found = _check_column(schema, column, columns)
        arrays.append(array)
        findings += found
    times, found = _event_times(columns, time_column, now)
    if not any(f.column == time_column and f.rows.any() for f in findings):  # the column's own rules say it better
        findings += found
    broken = np.zeros(columns.rows, np.bool_)
    broken[[fault.row for fault in columns.faults]] = True
    bad = np.logical_or.reduce([broken, *(finding.rows for finding in findings)])
    good = np.flatnonzero(~bad)
    table = pa.Table.from_arrays(arrays, schema=row_schema(schema)).take(pa.array(good))
    refused = tuple(_refused(int(row), columns, findings) for row in np.flatnonzero(bad))
    return Validated(_with_lake(table, good, times[good]), refused)


def _with_lake(table: pa.Table, rows: np.ndarray, times: np.ndarray) -> pa.Table:
    table = table.append_column("_row", pa.array(rows, pa.int32()))
    return table.append_column("_event_time", pa.array(times, pa.timestamp("us", "UTC")))


def _refused(row: int, columns: Columns, findings: list[_Finding]) -> Refused:
    """Name everything that is wrong with a record; a record that could not be decoded has no columns to judge."""
    faults = [fault for fault in columns.faults if fault.row == row] or [
        Fault(row, f.code, f.column, f.expected, shown(columns.original(f.column, row), secret=f.secret))
        for f in findings
        if f.rows[row]
    ]
    return Refused(row, columns.raw(row), tuple(faults))


def _unknown(schema: DatasetSchema, columns: Columns, time_column: str) -> Iterator[_Finding]:
    known = {column.name for column in schema.columns} | {time_column}
    expected = "one of the dataset's columns: " + ", ".join(sorted(known - {""})[:20])
    for name in sorted(columns.names - known):
        yield _Finding(name, Code.UNKNOWN_FIELD, expected, columns.present(name))


def _check_column(schema: DatasetSchema, column: ColumnSpec, columns: Columns) -> tuple[pa.Array, list[_Finding]]:
    kind = KINDS[column.dtype]
    target = arrow_type(schema, column)
    if column.name not in columns.names:
        missing = np.ones(columns.rows, np.bool_)
        return pa.nulls(columns.rows, target), [_Finding(column.name, Code.MISSING, kind, missing)]
    array, wrong = columns.typed(column.name, column.dtype)
    missing = ~_true(array.is_valid()) & ~wrong
    findings = [
        _Finding(column.name, Code.WRONG_TYPE, kind, wrong, column.pii),
        _Finding(column.name, Code.MISSING, kind, missing, column.pii),
    ]
    array = pc.cast(array, target, safe=False)
    if pa.types.is_floating(target):
        endless = _true(pc.invert(pc.is_finite(array)))
        findings.append(_Finding(column.name, Code.OUT_OF_RANGE, f"a finite {column.dtype}", endless, column.pii))
    if column.categories:
        findings.append(_not_allowed(column, array))
    return array, findings


def _not_allowed(column: ColumnSpec, array: pa.Array) -> _Finding:
    allowed = pc.is_in(array, value_set=pa.array(list(column.categories), pa.string()))
    foreign = ~_true(allowed) & _true(array.is_valid())
    expected = "one of " + ", ".join(repr(category) for category in column.categories[:20])
    return _Finding(column.name, Code.NOT_ALLOWED, expected, foreign, column.pii)


def _event_times(columns: Columns, name: str, now: datetime) -> tuple[np.ndarray, list[_Finding]]:
    """Microseconds since the epoch for each record."""
    latest = _micros(now + AHEAD)
    if not name:
        return np.full(columns.rows, _micros(now)), []
    if name not in columns.names:
        everywhere = np.ones(columns.rows, np.bool_)
        return np.zeros(columns.rows, np.int64), [_Finding(name, Code.MISSING, _TIME_KIND, everywhere)]
    values = _plain_values(columns, name)
    times = [_time(value) for value in values]
    missing = np.fromiter((value is None for value in values), np.bool_, columns.rows)
    wrong = np.fromiter((time is None for time in times), np.bool_, columns.rows) & ~missing
    found = [_Finding(name, Code.MISSING, _TIME_KIND, missing), _Finding(name, Code.WRONG_TYPE, _TIME_KIND, wrong)]
    micros = np.fromiter((0 if time is None else time for time in times), np.int64, columns.rows)
    return np.minimum(micros, latest), found


def _plain_values(columns: Columns, name: str) -> list[Any]:
    plain = columns.plain(name)
    return plain if isinstance(plain, list) else plain.to_pylist()


def _time(value: object) -> int | None:
    """Microseconds of a time in any accepted form; None if it is none."""
    if isinstance(value, datetime):
        return _micros(value)
    if isinstance(value, str):
        try:
            return _micros(datetime.fromisoformat(value))
        except ValueError:
            return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LATEST_S:
        return round(value * 1e6) if isinstance(value, float) else value * 1_000_000
    return None


def _micros(time: datetime) -> int:
    """Microseconds since the epoch; a time without zone is UTC."""
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _true(array: pa.Array) -> Mask:
    """Mask of what is true; null is not."""
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)
