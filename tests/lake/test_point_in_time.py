from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from holdtrue_lake.point_in_time import join_as_of
from hypothesis import example, given
from hypothesis import strategies as st

START = datetime(2026, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
LABELS = pa.schema([("who", pa.string()), ("shop", pa.int64()), ("_event_time", TIME), ("fraud", pa.bool_())])
FEATURES = pa.schema(
    [
        ("who", pa.string()),
        ("shop", pa.int64()),
        ("_event_time", TIME),
        ("_ingest_time", TIME),
        ("_off", pa.int64()),
        ("_row", pa.int32()),
        ("amount", pa.float32()),
    ]
)

# few values, so that ties, late rows and rows at the very moment of a label are the rule
moments = st.integers(0, 6).map(lambda second: START + timedelta(seconds=second))
people = st.sampled_from(["ada", "bob", "ünal", None])
shops = st.sampled_from([0, 1, -(2**63), 2**63 - 1, None])
label_rows = st.lists(st.tuples(people, shops, moments, st.booleans()), max_size=12)
feature_rows = st.lists(
    st.tuples(people, shops, moments, moments, st.integers(0, 2), st.integers(0, 1), st.floats(width=32) | st.none()),
    max_size=25,
)


def table(rows: list[tuple[Any, ...]], schema: pa.Schema, chunk: int = 4) -> pa.Table:
    """Several chunks, as tables that come from files have."""
    names = [field.name for field in schema]
    parts = [
        pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows[i : i + chunk]], schema)
        for i in range(0, len(rows), chunk)
    ]
    return pa.concat_tables([schema.empty_table(), *parts])


def naive(labels: pa.Table, features: pa.Table, by: list[str], tolerance: timedelta | None, *, late: bool) -> list[Any]:
    found: list[Any] = []
    candidates = [(number, row) for number, row in enumerate(features.to_pylist())]
    for label in labels.to_pylist():
        best = None
        for number, row in candidates:
            known = late or row["_ingest_time"] <= label["_event_time"]
            same = all(row[name] is not None and row[name] == label[name] for name in by)
            if same and known and row["_event_time"] <= label["_event_time"]:
                rank = (row["_event_time"], row["_ingest_time"], row["_off"], row["_row"], number)
                best = rank if best is None else max(best, rank)
        old = best and tolerance is not None and label["_event_time"] - best[0] > tolerance
        found.append(None if best is None or old else best[-1])
    return found


@given(
    label_rows,
    feature_rows,
    st.sampled_from([["who"], ["who", "shop"], ["shop", "who"]]),
    st.none() | st.integers(0, 3).map(lambda seconds: timedelta(seconds=seconds)),
    st.booleans(),
    st.booleans(),
)
@example([("ada", 1, START, True)], [], ["who"], None, False, False)
@example([], [("ada", 1, START, START, 0, 0, 1.0)], ["who"], None, False, False)
def test_the_join_equals_a_loop_over_all_rows(  # noqa: PLR0913, PLR0917
    labels: list[Any],
    features: list[Any],
    by: list[str],
    tolerance: timedelta | None,
    late: bool,  # noqa: FBT001
    coded: bool,  # noqa: FBT001
) -> None:
    left, right = table(labels, LABELS), table(features, FEATURES)
    if coded:
        right = right.set_column(0, "who", right.column("who").dictionary_encode())
    used = set(by) | {"_event_time"}
    own = [name for name in ("who", "shop", "amount") if name not in used]

    joined = join_as_of(
        left,
        right,
        by=by,
        on="_event_time",
        tolerance=tolerance,
        known_at=None if late else "_ingest_time",
        prefix="f_",
        matched="row",
    )

    expected = naive(left, right, by, tolerance, late=late)
    assert joined.column("row").to_pylist() == expected
    assert joined.select(left.column_names).equals(left)
    assert joined.column_names == [*left.column_names, *(f"f_{name}" for name in own), "row"]
    for name in own:
        wanted = right.column(name).take(pa.array(expected, pa.int64()))
        assert str(joined.column(f"f_{name}").to_pylist()) == str(wanted.to_pylist())  # as text: NaN equals NaN
        assert joined.schema.field(f"f_{name}").type == right.schema.field(name).type


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-(2**63), 2**63 - 1)), max_size=8), st.integers(0, 2**64))
def test_whole_numbers_are_times_too_and_never_overflow(rows: list[tuple[int, int]], tolerance: int) -> None:
    names = {"who": [who for who, _ in rows], "t": [time for _, time in rows]}
    labels = pa.table(names, pa.schema([("who", pa.int64()), ("t", pa.int64())]))
    features = labels.append_column("value", labels.column("t"))

    joined = join_as_of(
        labels.slice(0, 4), features.slice(4), by="who", on="t", tolerance=tolerance, known_at=None, ties=()
    )

    for who, time, got in zip(*(joined.column(name).to_pylist() for name in ("who", "t", "value")), strict=True):
        past = [t for w, t in rows[4:] if w == who and t <= time]
        assert got == (max(past) if past and time - max(past) <= tolerance else None)


def test_a_row_that_arrived_late_is_used_from_its_arrival_on() -> None:
    second = timedelta(seconds=1)
    features = table(
        [
            ("ada", 0, START, START, 0, 0, 1.0),
            ("ada", 0, START + second, START + 9 * second, 1, 0, 2.0),  # happened at 1 s, was known at 9 s
            ("ada", 0, START + 3 * second, START + 3 * second, 2, 0, 3.0),
        ],
        FEATURES,
    )
    labels = table([("ada", 0, START + at * second, True) for at in (0, 2, 3, 10)], LABELS)

    assert join_as_of(labels, features, by="who", on="_event_time", prefix="f_").column("f_amount").to_pylist() == [
        1,
        1,  # the field's plain as-of join says 2: it looks into the future
        3,
        3,  # now known, but no longer the last
    ]
    told = join_as_of(labels, features, by="who", on="_event_time", known_at=None, prefix="f_")
    assert told.column("f_amount").to_pylist() == [1, 2, 3, 3]


def test_ties_are_decided_by_arrival_then_offset_then_row() -> None:
    second = timedelta(seconds=1)
    late = [(0, 9, 9), (1, 0, 9), (1, 2, 0), (1, 1, 9), (1, 2, 1), (1, 2, 0)]  # (arrival, offset, row)
    rows = [("ada", 0, START + second, START + at * second, off, row, 1.0) for at, off, row in late]
    labels = table([("ada", 0, START + second, True)], LABELS)
    for known_at in ("_ingest_time", None):
        for features in (table(rows, FEATURES), table(rows[::-1], FEATURES)):
            joined = join_as_of(
                labels, features, by="who", on="_event_time", known_at=known_at, prefix="f_", matched="row"
            )
            best = features.take(joined.column("row").combine_chunks())
            assert [best.column(name).to_pylist() for name in ("_off", "_row")] == [[2], [1]]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_tolerance_includes_its_end_in_every_unit(unit: str) -> None:
    kind = pa.timestamp(unit, "UTC")
    event = pa.array([START], TIME).cast(kind)
    features = pa.table({"who": ["ada"], "t": event, "amount": [1.0]})
    late = pa.array([START + timedelta(seconds=s) for s in (5, 6)], TIME).cast(kind)
    labels = pa.table({"who": ["ada", "ada"], "t": late})

    joined = join_as_of(labels, features, by="who", on="t", tolerance=timedelta(seconds=5.5), known_at=None, ties=())

    assert joined.column("amount").to_pylist() == [1.0, None]


def _labels(**columns: Any) -> pa.Table:
    base = {"who": pa.array(["ada"]), "_event_time": pa.array([START], TIME)}
    return pa.table(base | columns)


def _features(**columns: Any) -> pa.Table:
    base = {
        "who": pa.array(["ada"]),
        "_event_time": pa.array([START], TIME),
        "_ingest_time": pa.array([START], TIME),
        "_off": pa.array([0]),
        "_row": pa.array([0]),
        "amount": pa.array([1.0]),
    }
    return pa.table({name: value for name, value in (base | columns).items() if value is not None})


TWICE = pa.table([pa.array(["ada"]), pa.array(["bob"])], names=["who", "who"])


@pytest.mark.parametrize(
    ("labels", "features", "options", "said"),
    [
        (_labels(), _features(), {"by": []}, "by: name at least one column"),
        (_labels(), _features(), {"by": ["who", "who"]}, "every column once"),
        (_labels(), _features(), {"by": ["_event_time"]}, "not the time '_event_time'"),
        (_labels(), _features(), {"by": "whom"}, "labels have no column 'whom'; they have who, _event_time"),
        (_labels(whom=["x"]), _features(), {"by": "whom"}, "features have no column 'whom'"),
        (TWICE, _features(), {}, "labels have several columns called who; rename"),
        (_labels(), TWICE, {}, "features have several columns called who; rename"),
        (_labels(), _features(_ingest_time=None), {}, "features have no column '_ingest_time'.*known_at="),
        (_labels(), _features(_off=None), {}, "features have no column '_off'.*ties="),
        (_labels(), _features(who=[1]), {}, "'who' is string in labels and int64 in features; cast"),
        (_labels(who=[1.5]), _features(who=[1.5]), {}, "'who' is double, which cannot be a key; cast"),
        (_labels(who=pa.nulls(1)), _features(who=pa.nulls(1)), {}, "'who' is null, which cannot be a key"),
        (_labels(_event_time=["now"]), _features(_event_time=["now"]), {}, "of labels is string; a time is"),
        (_labels(_event_time=pa.nulls(1, TIME)), _features(), {}, "1 of 1 labels have no '_event_time'.*row 0; leave"),
        (_labels(), _features(_event_time=pa.nulls(1, TIME)), {}, "1 of 1 features have no '_event_time'"),
        (_labels(), _features(_ingest_time=pa.nulls(1, TIME)), {}, "1 of 1 features have no '_ingest_time'"),
        (_labels(), _features(_ingest_time=[0]), {}, "'_ingest_time' of features is int64 and '_event_time' is time"),
        (_labels(), _features(_off=["a"]), {}, "column '_off' is string; rows are ordered by"),
        (_labels(), _features(), {"tolerance": 5}, "tolerance: .* give a timedelta; got 5"),
        (_labels(), _features(), {"tolerance": timedelta(-1)}, "must not be negative, got -1 day"),
        (_labels(_event_time=[0]), _features(_event_time=[0], _ingest_time=[0]), {"tolerance": timedelta(1)}, "whole"),
        (_labels(_event_time=[0]), _features(_event_time=[0], _ingest_time=[0]), {"tolerance": True}, "whole number"),
        (_labels(amount=[2.0]), _features(), {}, "several columns called amount; give a prefix="),
        (_labels(), _features(), {"matched": "amount"}, "several columns called amount"),
    ],
)
def test_wrong_input_is_told_what_where_and_what_to_do(
    labels: pa.Table, features: pa.Table, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        join_as_of(labels, features, **_with_defaults(options))


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {"by": "who", "on": "_event_time"} | options


def test_ten_thousand_keys_of_several_columns_are_told_apart() -> None:
    many = 10_000
    when = pa.array([START] * many, TIME)
    keys = {"a": [i % 100 for i in range(many)], "b": [str(i // 100) for i in range(many)]}
    features = pa.table(keys | {"t": when, "value": list(range(many))})
    labels = pa.table(keys | {"t": when}).take(pa.array(range(many - 1, -1, -1)))

    joined = join_as_of(labels, features, by=["b", "a"], on="t", known_at=None, ties=())

    assert joined.column("value").to_pylist() == list(range(many - 1, -1, -1))
