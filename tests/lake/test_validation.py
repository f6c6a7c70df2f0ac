"""One bad record refuses itself only, and says everything that is wrong with it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    RECORD_FORMAT_ARROW,
    RECORD_FORMAT_JSON_LINES,
    RECORD_FORMAT_UNSPECIFIED,
    DatasetSchema,
)
from holdtrue_lake import payload
from holdtrue_lake.faults import WHOLE_PAYLOAD, Code
from holdtrue_lake.rules_yaml import RulesInvalid, load
from holdtrue_lake.validation import Validated, compile_for, validate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOOD: dict[str, Any] = {"amount": 12.5, "country": "DE", "known": True, "fraud": 1, "at": 1_700_000_000}


def lines(*records: object) -> bytes:
    return b"\n".join(json.dumps(record).encode() for record in records)


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def faults(validated: Validated) -> list[tuple[int, str, str]]:
    return [(fault.row, str(fault.code), fault.column) for refused in validated.refused for fault in refused.faults]


@pytest.mark.parametrize(
    ("change", "code", "column"),
    [
        ({"amount": "12.5"}, Code.WRONG_TYPE, "amount"),
        ({"amount": True}, Code.WRONG_TYPE, "amount"),
        ({"amount": 10**400}, Code.WRONG_TYPE, "amount"),
        ({"amount": None}, Code.MISSING, "amount"),
        ({"amount": 1e39}, Code.OUT_OF_RANGE, "amount"),
        ({"amount": [1]}, Code.WRONG_TYPE, "amount"),
        ({"country": "XX"}, Code.NOT_ALLOWED, "country"),
        ({"country": 3}, Code.WRONG_TYPE, "country"),
        ({"known": 1}, Code.WRONG_TYPE, "known"),
        ({"fraud": 1.5}, Code.WRONG_TYPE, "fraud"),
        ({"fraud": 2**63}, Code.WRONG_TYPE, "fraud"),
        ({"fraud": True}, Code.WRONG_TYPE, "fraud"),
        ({"at": "yesterday"}, Code.WRONG_TYPE, "at"),
        ({"at": None}, Code.MISSING, "at"),
        ({"at": -1}, Code.WRONG_TYPE, "at"),
        ({"at": 1e18}, Code.WRONG_TYPE, "at"),
        ({"colour": "red"}, Code.UNKNOWN_FIELD, "colour"),
    ],
)
def test_one_wrong_value_refuses_its_record_with_the_reason(
    schema: DatasetSchema, now: datetime, change: dict[str, Any], code: Code, column: str
) -> None:
    payload = lines(GOOD, GOOD | change, GOOD)

    validated = validate(schema, payload, RECORD_FORMAT_JSON_LINES, now)

    assert validated.rows.column("_row").to_pylist() == [0, 2]
    assert faults(validated) == [(1, code, column)]
    assert validated.refused[0].raw == payload.split(b"\n")[1]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"3", b'{"amount": NaN}', b"\xff\xfe", b"[" * 5000])
def test_a_broken_line_refuses_itself_only(schema: DatasetSchema, now: datetime, line: bytes) -> None:
    validated = validate(schema, b"\n".join([lines(GOOD), line, lines(GOOD)]), RECORD_FORMAT_JSON_LINES, now)

    assert validated.rows.num_rows == 2
    assert faults(validated) == [(1, Code.MALFORMED, "")]
    assert validated.refused[0].raw == line


def test_a_record_names_everything_that_is_wrong_with_it(schema: DatasetSchema, now: datetime) -> None:
    validated = validate(schema, lines({"amount": "x", "country": "XX"}), RECORD_FORMAT_JSON_LINES, now)

    assert faults(validated) == [
        (0, Code.WRONG_TYPE, "amount"),
        (0, Code.NOT_ALLOWED, "country"),
        (0, Code.MISSING, "known"),
        (0, Code.MISSING, "fraud"),
        (0, Code.MISSING, "at"),
    ]
    assert str(validated.refused[0].faults[0]) == "row 0, column 'amount': expected a number, got 'x' (WRONG_TYPE)"


def test_arrow_columns_are_judged_by_value(schema: DatasetSchema, now: datetime) -> None:
    table = pa.table(
        {
            "fraud": pa.array([1.0, 0.0, 2.5, None]),
            "amount": pa.array([1, 2, 3, 4], pa.int32()),
            "country": pa.array(["DE", "XX", "FR", "DE"]).dictionary_encode(),
            "known": pa.array([True, True, True, False]),
            "at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 4, pa.timestamp("ns", "UTC")),
        }
    )

    validated = validate(schema, arrow(table), RECORD_FORMAT_ARROW, now)

    assert validated.rows.to_pylist() == [
        {
            "amount": 1.0,
            "country": "DE",
            "known": True,
            "fraud": 1,
            "_row": 0,
            "_event_time": datetime(2026, 1, 1, tzinfo=UTC),
        }
    ]
    assert faults(validated) == [
        (1, Code.NOT_ALLOWED, "country"),
        (2, Code.WRONG_TYPE, "fraud"),
        (3, Code.MISSING, "fraud"),
    ]
    with pa.ipc.open_stream(validated.refused[1].raw) as reader:
        assert reader.read_all() == table.slice(2, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_a_number_that_float32_cannot_hold_is_out_of_range(schema: DatasetSchema, now: datetime, value: float) -> None:
    table = pa.Table.from_pylist([GOOD | {"amount": value}])

    assert faults(validate(schema, arrow(table), RECORD_FORMAT_ARROW, now)) == [(0, Code.OUT_OF_RANGE, "amount")]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"not arrow at all", Code.MALFORMED),
        (b"", Code.MALFORMED),
        (arrow(pa.Table.from_pylist([GOOD]))[:-300], Code.MALFORMED),
        (arrow(pa.Table.from_arrays([[1], [2]], names=["amount", "amount"])), Code.MALFORMED),
    ],
)
def test_an_unreadable_payload_is_kept_whole(schema: DatasetSchema, now: datetime, content: bytes, code: Code) -> None:
    validated = validate(schema, content, RECORD_FORMAT_ARROW, now)

    assert (validated.rows.num_rows, validated.offered) == (0, 1)
    assert faults(validated) == [(WHOLE_PAYLOAD, code, "")]
    assert validated.refused[0].raw == content


def test_every_changed_byte_of_an_arrow_payload_is_survived(schema: DatasetSchema, now: datetime) -> None:
    content = arrow(pa.Table.from_pylist([GOOD, GOOD]))
    for position in range(0, len(content), 3):
        for change in (0x01, 0x80, 0xFF):
            broken = bytearray(content)
            broken[position] ^= change
            assert validate(schema, bytes(broken), RECORD_FORMAT_ARROW, now).offered >= 0


def test_too_many_rows_are_refused_before_they_are_read(
    schema: DatasetSchema, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "MOST_ROWS", 2)

    for content, encoding in (
        (lines(GOOD, GOOD, GOOD), RECORD_FORMAT_JSON_LINES),
        (arrow(pa.Table.from_pylist([GOOD] * 3)), RECORD_FORMAT_ARROW),
    ):
        assert faults(validate(schema, content, encoding, now)) == [(WHOLE_PAYLOAD, Code.TOO_LARGE, "")]


def test_an_unknown_encoding_names_the_known_ones(schema: DatasetSchema, now: datetime) -> None:
    validated = validate(schema, b"x", RECORD_FORMAT_UNSPECIFIED, now)

    assert "RECORD_FORMAT_ARROW, RECORD_FORMAT_JSON_LINES" in str(validated.refused[0].faults[0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_767_225_600, datetime(2026, 1, 1, tzinfo=UTC)),
        (1_767_225_600.25, datetime(2026, 1, 1, 0, 0, 0, 250_000, UTC)),
        ("2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2126-01-01T00:00:00Z", datetime(2026, 3, 1, 12, 5, tzinfo=UTC)),
    ],
)
def test_event_times_in_every_accepted_form(
    schema: DatasetSchema, now: datetime, value: object, expected: datetime
) -> None:
    validated = validate(schema, lines(GOOD | {"at": value}), RECORD_FORMAT_JSON_LINES, now)

    assert validated.rows.column("_event_time").to_pylist() == [expected]


def test_without_a_time_column_the_event_happened_when_it_came(schema: DatasetSchema, now: datetime) -> None:
    schema.time = ""
    record = {name: value for name, value in GOOD.items() if name != "at"}

    validated = validate(schema, lines(record), RECORD_FORMAT_JSON_LINES, now)

    assert validated.rows.column("_event_time").to_pylist() == [now]


def test_a_whole_number_that_float64_rounds_is_a_number(schema: DatasetSchema, now: datetime) -> None:
    validated = validate(schema, lines(GOOD | {"amount": 2**53 + 1}), RECORD_FORMAT_JSON_LINES, now)

    assert validated.rows.column("amount").to_pylist() == [2.0**53]


def test_a_declared_time_column_keeps_its_seconds(schema: DatasetSchema, now: datetime) -> None:
    schema.columns.append(ColumnSpec(name="at", dtype="float32"))

    validated = validate(schema, lines(GOOD | {"at": 1_767_225_601.5}), RECORD_FORMAT_JSON_LINES, now)

    assert validated.rows.column("at").to_pylist() == [1_767_225_601.5]


def test_personal_values_stay_out_of_messages(schema: DatasetSchema, now: datetime) -> None:
    schema.columns[1].pii = True

    validated = validate(schema, lines(GOOD | {"country": "Secretland"}), RECORD_FORMAT_JSON_LINES, now)

    assert "Secretland" not in str(validated.refused[0].faults[0])


RULES = """
version: 1
columns:
  amount: {min: 0, max: 0.1, nullable: true, unique: true}
  country: {regex: "[A-Z]+", pii: true}
  known: {required: false}
  fraud: {type: int64, one_of: [0, 1]}
event_time: {max_age: 30d}
conditions:
  - {id: known-fraud, condition: known is null or not known or fraud == 1}
"""


def test_rules_are_judged_beside_the_schema_and_all_faults_are_told(schema: DatasetSchema, now: datetime) -> None:
    schema.columns[1].ClearField("categories")
    at = int(now.timestamp())
    good = {"amount": 0.1, "country": "DE", "known": True, "fraud": 1, "at": at}
    absent = {name: value for name, value in good.items() if name != "known"} | {"amount": None}
    bad = {"amount": -1, "country": "secret1", "known": None, "fraud": 2, "at": at - 31 * 86_400}
    unlike = good | {"amount": 0.05, "fraud": 0}
    wrong = good | {"amount": 0.05, "fraud": "0"}

    validated = validate(
        schema,
        lines(good, absent, bad, unlike, good, wrong),
        RECORD_FORMAT_JSON_LINES,
        now,
        checker=compile_for(schema, load(RULES)),
    )

    assert validated.rows.column("_row").to_pylist() == [0, 1]
    assert validated.rows.column("known").to_pylist() == [True, None]
    told = [(f.row, f.rule, str(f.code)) for refused in validated.refused for f in refused.faults]
    assert told == [
        (2, "known.nullable", "MISSING"),
        (2, "event_time.max_age", "TOO_LATE"),
        (2, "amount.min", "OUT_OF_RANGE"),
        (2, "country.regex", "NOT_ALLOWED"),
        (2, "fraud.one_of", "NOT_ALLOWED"),
        (3, "known-fraud", "RULE"),
        (4, "amount.unique", "DUPLICATE"),
        (5, "fraud.type", "WRONG_TYPE"),
    ]
    assert validated.refused[1].faults[0].got == "known=True, fraud=0"
    assert not any("secret1" in str(fault) for fault in validated.refused[0].faults)
    assert {(o.rule, o.count, o.rows) for o in validated.outcomes} >= {("amount.unique", 1, (4,))}
    assert not any(Code(code).retryable for _, _, code in told)
    assert Code.QUOTA.retryable


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_nullable_number_may_be_nan_and_is_stored_as_null(
    schema: DatasetSchema, now: datetime, value: float | None
) -> None:
    table = pa.Table.from_pylist([GOOD | {"amount": value}, GOOD], schema=None)
    checker = compile_for(schema, load("version: 1\ncolumns: {amount: {nullable: true}}"))

    validated = validate(schema, arrow(table), RECORD_FORMAT_ARROW, now, checker=checker)

    assert validated.rows.column("amount").to_pylist() == [None, 12.5]


def test_rules_that_do_not_fit_the_schema_name_every_place(schema: DatasetSchema) -> None:
    rules = load("version: 1\ncolumns: {amount: {type: int64, regex: x}, gone: {}}")

    with pytest.raises(RulesInvalid) as error:
        compile_for(schema, rules)

    assert [problem.key for problem in error.value.problems] == [
        "columns.amount.regex",
        "columns.amount.type",
        "columns.gone",
    ]


@pytest.mark.parametrize("kind", [pa.timestamp("ns", "UTC"), pa.timestamp("ms"), pa.timestamp("s", "Europe/Berlin")])
def test_timestamps_of_every_unit_are_times(schema: DatasetSchema, now: datetime, kind: pa.DataType) -> None:
    table = pa.Table.from_pylist([GOOD, GOOD, GOOD]).drop_columns(["at"])
    values = pa.array([1, None, 1_767_225_600_123_456_789], pa.int64()) if kind.unit == "ns" else pa.array([1, None, 5])

    validated = validate(schema, arrow(table.append_column("at", values.cast(kind))), RECORD_FORMAT_ARROW, now)

    assert faults(validated) == [(1, Code.MISSING, "at")]
    expected = {"ns": [0, 1_767_225_600_123_456], "ms": [1_000, 5_000], "s": [1_000_000, 5_000_000]}
    assert validated.rows.column("_event_time").cast(pa.int64()).to_pylist() == expected[kind.unit]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.sampled_from(["DE", "FR", 0, 1, 1.0]),
)
RECORDS = st.dictionaries(st.sampled_from([*GOOD, "other"]), VALUES)
FLOAT32_MAX = 3.4028235677973366e38  # from here on rounding ends at infinity


def fits(record: dict[str, Any]) -> bool:
    """The rules once more, naively."""
    if set(record) != set(GOOD) or any(value is None for value in record.values()):
        return False
    amount, fraud, at = record["amount"], record["fraud"], record["at"]
    numbers = all(type(value) in (int, float) for value in (amount, fraud, at))
    return (
        numbers
        and (type(amount) is float or -(2**63) <= amount < 2**63)
        and abs(amount) < FLOAT32_MAX
        and record["country"] in ("DE", "FR")
        and type(record["known"]) is bool
        and fraud == math.floor(fraud)
        and -(2**63) <= fraud < 2**63
        and 0 <= at <= 253_402_300_799
    )


@settings(suppress_health_check=[HealthCheck.too_slow])  # the machine is shared
@given(st.lists(RECORDS | RECORDS.map(lambda record: GOOD | record), max_size=8))
def test_accepted_are_exactly_the_records_that_fit(records: list[dict[str, Any]]) -> None:
    schema = DatasetSchema(
        columns=[
            ColumnSpec(name="amount", dtype="float32"),
            ColumnSpec(name="country", dtype="string", categories=["DE", "FR"]),
            ColumnSpec(name="known", dtype="bool"),
            ColumnSpec(name="fraud", dtype="int64"),
        ],
        label="fraud",
        time="at",
    )

    validated = validate(schema, lines(*records), RECORD_FORMAT_JSON_LINES, datetime.now(UTC) + timedelta(days=1))

    assert validated.rows.column("_row").to_pylist() == [row for row, record in enumerate(records) if fits(record)]
    assert validated.offered == len(records)
    assert all(refused.faults for refused in validated.refused)
