from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from holdtrue_lake.bitemporal import as_known_at
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 1) | st.none(), st.integers(0, 4)), max_size=12
)
Row = tuple[str | None, int | None, int]


def as_table(rows: list[Row]) -> pa.Table:
    return pa.table(
        {
            "who": pa.array([who for who, _, _ in rows], pa.string()),
            "which": pa.array([which for _, which, _ in rows], pa.int64()),
            "_ingest_time": pa.array([NOON + timedelta(hours=h) for _, _, h in rows], pa.timestamp("us", "UTC")),
            "value": pa.array(range(len(rows)), pa.int64()),
        }
    )


def naively(rows: list[Row], entity: list[int], hour: int | None) -> list[int]:
    newest: dict[Any, tuple[int, int]] = {}
    for index, row in enumerate(rows):
        key: Any = tuple(row[column] for column in entity)
        if None in key:
            key = index
        if hour is not None and row[2] > hour:
            continue
        if key not in newest or newest[key][0] <= row[2]:
            newest[key] = (row[2], index)
    return sorted(index for _, index in newest.values())


@given(ROWS, st.sampled_from([["who"], ["who", "which"]]), st.integers(-1, 5) | st.none())
def test_corrections_equal_a_naive_loop(rows: list[Row], entity: list[str], hour: int | None) -> None:
    time = None if hour is None else NOON + timedelta(hours=hour)

    known = as_known_at(as_table(rows), entity, time)

    columns = [["who", "which"].index(name) for name in entity]
    assert known.column("value").to_pylist() == naively(rows, columns, hour)
    assert known.schema == as_table(rows).schema


@pytest.mark.parametrize(
    ("entity", "message"), [([], "name the columns"), (["whom"], "no column 'whom'"), (["score"], "has floats")]
)
def test_entities_that_cannot_be_told_apart_are_refused(entity: list[str], message: str) -> None:
    table = as_table([("a", 1, 0)]).append_column("score", pa.array([0.5]))

    with pytest.raises(ValueError, match=message):
        as_known_at(table, entity)
