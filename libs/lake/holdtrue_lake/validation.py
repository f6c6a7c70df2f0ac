"""Sort the records of a batch into those that fit schema and rules and those that do not, and say why.

Every column is required, unless a rule says otherwise: null or absent is `MISSING`. Numbers must be finite and
representable in the declared type, coded texts must be among their categories, unknown fields are refused. One bad
record refuses itself only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    RECORD_FORMAT_ARROW,
    RECORD_FORMAT_JSON_LINES,
    DatasetSchema,
    RecordFormat,
)

from holdtrue_lake.checks import Checker, compile_rules
from holdtrue_lake.event_bounds import time_findings
from holdtrue_lake.faults import WHOLE_PAYLOAD, Code, Fault, Outcome, Refused, shown
from holdtrue_lake.payload import KINDS, WORKING, Columns, Unreadable, read_arrow, read_json_lines
from holdtrue_lake.rules import Rules
from holdtrue_lake.rules_yaml import Problem, RulesInvalid
from holdtrue_lake.schema import arrow_type, row_schema
from holdtrue_lake.times import TIME_KIND, event_times, micros_of
from holdtrue_lake.views import Finding, View, true, without_nan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec

    from holdtrue_lake.payload import Mask
    from holdtrue_lake.rules import ColumnRules, EventTime
    from holdtrue_lake.times import Micros

AHEAD = timedelta(minutes=5)
"""An event may claim to be this much later than its ingestion; what lies beyond is set back to it."""
_READERS: dict[RecordFormat.ValueType, Callable[[bytes], Columns]] = {
    RECORD_FORMAT_ARROW: read_arrow,
    RECORD_FORMAT_JSON_LINES: read_json_lines,
}
NO_RULES = Checker(Rules(version=1))


@dataclass(frozen=True)
class Validated:
    """A batch after validation.

    `rows` holds the accepted records: the dataset's columns in declared order and types, `_row` (position in the batch,
    int32) and `_event_time`. Every other record is in `refused`; `outcomes` has each rule that some broke.
    """

    rows: pa.Table
    refused: tuple[Refused, ...]
    outcomes: tuple[Outcome, ...] = ()

    @property
    def offered(self) -> int:
        """Records that came; a payload that cannot be read counts as one."""
        return self.rows.num_rows + len(self.refused)


def compile_for(schema: DatasetSchema, rules: Rules) -> Checker:
    """Compile rules for a dataset. Raises RulesInvalid with everything that does not fit its schema."""
    problems = [
        Problem(0, f"columns.{column.name}.type", f"the dataset has {column.dtype}, got {rule.type}")
        for column in schema.columns
        if (rule := rules.columns.get(column.name)) and rule.type not in {None, column.dtype}
    ]
    types = {column.name: WORKING[column.dtype] for column in schema.columns}
    secret = frozenset(column.name for column in schema.columns if column.pii)
    try:
        checker = compile_rules(rules, types, secret)
    except RulesInvalid as error:
        raise RulesInvalid([*problems, *error.problems]) from error
    if problems:
        raise RulesInvalid(problems)
    return checker


def validate(  # noqa: PLR0913, PLR0917  what it takes to judge a batch
    schema: DatasetSchema,
    payload: bytes,
    encoding: RecordFormat.ValueType,
    now: datetime,
    time_column: str = "",
    checker: Checker = NO_RULES,
) -> Validated:
    """Decode and judge a batch; never raises for what is in it.

    `time_column` overrides the schema's; `now` is the time of ingestion, which is the event's time where there is no
    such column. `checker` holds the rules that the records must keep besides the schema (`compile_for`).
    """
    reader = _READERS.get(encoding)
    if reader is None:
        names = ", ".join(RecordFormat.Name(known) for known in _READERS)
        return refused_whole(schema, payload, Code.MALFORMED, f"format {names}", str(encoding))
    try:
        columns = reader(payload)
    except Unreadable as error:
        return refused_whole(schema, payload, error.code, error.expected, error.got)
    return _judge(schema, columns, now, time_column or schema.time, checker)


def refused_whole(schema: DatasetSchema, raw: bytes, code: Code, expected: str, got: str) -> Validated:
    """Return the result for a payload that is refused as a whole, with its bytes."""
    nothing = _with_lake(row_schema(schema).empty_table(), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Validated(nothing, (Refused(WHOLE_PAYLOAD, raw, (Fault(WHOLE_PAYLOAD, code, "", expected, got),)),))


def _judge(schema: DatasetSchema, columns: Columns, now: datetime, time_column: str, checker: Checker) -> Validated:
    arrays: dict[str, pa.Array] = {}
    findings = list(_unknown(schema, columns, time_column))
    for column in schema.columns:
        target = arrow_type(schema, column)
        arrays[column.name], found = _check_column(column, target, columns, checker.column(column.name))
        findings += found
    times, found = _event_times(columns, time_column, now, checker.rules.event_time)
    if not any(f.column == time_column and f.rows.any() for f in findings):  # the column's own rules say it better
        findings += found
    view = View(columns.rows, arrays.__getitem__)
    view.bad[[fault.row for fault in columns.faults]] = True
    findings += checker.findings(view, arrays.__contains__, findings)
    good = np.flatnonzero(~view.bad)
    typed = [_stored(arrays[column.name], arrow_type(schema, column)) for column in schema.columns]
    table = pa.Table.from_arrays(typed, schema=row_schema(schema)).take(pa.array(good))
    refused = tuple(_refused(int(row), columns, findings) for row in np.flatnonzero(view.bad))
    outcomes = tuple(finding.outcome() for finding in findings if finding.rows.any())
    return Validated(_with_lake(table, good, times[good]), refused, outcomes)


def _stored(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return pc.cast(array, kind, safe=False)


def _with_lake(table: pa.Table, rows: np.ndarray, times: np.ndarray) -> pa.Table:
    table = table.append_column("_row", pa.array(rows, pa.int32()))
    return table.append_column("_event_time", pa.array(times, pa.timestamp("us", "UTC")))


def _refused(row: int, columns: Columns, findings: list[Finding]) -> Refused:
    """Name everything that is wrong with a record; a record that could not be decoded has no columns to judge."""
    faults = [fault for fault in columns.faults if fault.row == row] or [
        Fault(row, f.code, f.column, f.expected, _got(row, columns, f), f.rule) for f in findings if f.rows[row]
    ]
    return Refused(row, columns.raw(row), tuple(faults))


def _got(row: int, columns: Columns, finding: Finding) -> str:
    if finding.column:
        return shown(columns.original(finding.column, row), secret=finding.secret)
    values = (f"{name}={shown(columns.original(name, row), secret=finding.secret)}" for name in finding.columns)
    return ", ".join(values)


def _unknown(schema: DatasetSchema, columns: Columns, time_column: str) -> Iterator[Finding]:
    known = {column.name for column in schema.columns} | {time_column}
    expected = "one of the dataset's columns: " + ", ".join(sorted(known - {""})[:20])
    for name in sorted(columns.names - known):
        yield Finding(name, Code.UNKNOWN_FIELD, expected, columns.present(name), rule=f"{name}.known", columns=(name,))


def _check_column(
    column: ColumnSpec, target: pa.DataType, columns: Columns, rules: ColumnRules
) -> tuple[pa.Array, list[Finding]]:
    name, kind = column.name, KINDS[column.dtype]
    secret = column.pii or rules.pii
    if name not in columns.names:
        missing = np.full(columns.rows, rules.required)
        absent = Finding(name, Code.MISSING, kind, missing, rule=f"{name}.required", columns=(name,))
        return pa.nulls(columns.rows, WORKING[column.dtype]), [absent]
    array, wrong = columns.typed(name, column.dtype)
    if rules.nullable:
        array = without_nan(array)
    findings = [Finding(name, Code.WRONG_TYPE, kind, wrong, secret, f"{name}.type", (name,))]
    findings += _missing(column, true(array.is_null()) & ~wrong, columns, rules)
    if pa.types.is_floating(target):
        endless = true(pc.invert(pc.is_finite(_stored(array, target))))
        rule = f"{name}.finite"
        findings.append(Finding(name, Code.OUT_OF_RANGE, f"a finite {column.dtype}", endless, secret, rule, (name,)))
    if column.categories:
        findings.append(_not_allowed(column, array, secret=secret))
    return array, findings


def _missing(column: ColumnSpec, missing: Mask, columns: Columns, rules: ColumnRules) -> Iterator[Finding]:
    """What is absent breaks `required`, what is null breaks `nullable`."""
    if not missing.any():
        return
    name, kind, secret = column.name, KINDS[column.dtype], column.pii or rules.pii
    present = columns.present(name)
    if rules.required:
        yield Finding(name, Code.MISSING, kind, missing & ~present, secret, f"{name}.required", (name,))
    if not rules.nullable:
        yield Finding(name, Code.MISSING, kind, missing & present, secret, f"{name}.nullable", (name,))


def _not_allowed(column: ColumnSpec, array: pa.Array, *, secret: bool) -> Finding:
    allowed = pc.is_in(array, value_set=pa.array(list(column.categories), pa.string()))
    foreign = ~true(allowed) & true(array.is_valid())
    expected = "one of " + ", ".join(repr(category) for category in column.categories[:20])
    rule = f"{column.name}.categories"
    return Finding(column.name, Code.NOT_ALLOWED, expected, foreign, secret, rule, (column.name,))


def _event_times(columns: Columns, name: str, now: datetime, bounds: EventTime | None) -> tuple[Micros, list[Finding]]:
    """Return the time of each record's event, not later than is plausible."""
    if not name:
        return np.full(columns.rows, micros_of(now)), []
    if name not in columns.names:
        everywhere = np.ones(columns.rows, np.bool_)
        absent = Finding(name, Code.MISSING, TIME_KIND, everywhere, rule=f"{name}.required", columns=(name,))
        return np.zeros(columns.rows, np.int64), [absent]
    micros, missing, wrong = event_times(columns.plain(name))
    found = [
        Finding(name, Code.MISSING, TIME_KIND, missing, rule=f"{name}.required", columns=(name,)),
        Finding(name, Code.WRONG_TYPE, TIME_KIND, wrong, rule=f"{name}.type", columns=(name,)),
    ]
    if bounds is not None:
        found += time_findings(bounds, name, micros, ~(missing | wrong), now)
    return np.minimum(micros, micros_of(now + AHEAD)), found
