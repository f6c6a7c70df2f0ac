"""Refused records become batches with the same bytes, and the same records always the same batches."""

from __future__ import annotations

import pyarrow as pa
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_ARROW, RECORD_FORMAT_JSON_LINES
from holdtrue_lake import reoffer as module
from holdtrue_lake.faults import WHOLE_PAYLOAD
from holdtrue_lake.reoffer import ERASED, IN_A_BLOB, TOO_LARGE, Original, reoffer

DATASET = "00000000-0000-4000-8000-000000000000"


def json(row: int, raw: bytes) -> Original:
    return Original((1, 0, 7, row), raw)


def arrow(row: int, **values: object) -> Original:
    table = pa.Table.from_pylist([values])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Original((1, 0, 8, row), sink.getvalue().to_pybytes())


def test_lines_stay_as_they_came() -> None:
    lines = [b'{"a": 1}', b"{broken", b"\xff\xff\xff\xff no stream", b" {} "]
    records = [json(row, line) for row, line in enumerate(lines)]

    [(batch, places)] = reoffer(DATASET, reversed(records)).batches

    assert (batch.format, batch.rows, batch.inline.split(b"\n")) == (RECORD_FORMAT_JSON_LINES, 4, lines)
    assert places == [record.place for record in records]


def test_records_of_arrow_are_joined_by_their_columns() -> None:
    records = [arrow(0, a=1), arrow(1, b="x"), arrow(2, a=3)]

    found = reoffer(DATASET, records).batches

    tables = [pa.ipc.open_stream(batch.inline).read_all().to_pylist() for batch, _ in found]
    assert sorted(tables, key=len) == [[{"b": "x"}], [{"a": 1}, {"a": 3}]]
    assert {batch.format for batch, _ in found} == {RECORD_FORMAT_ARROW}
    assert sorted(place for _, places in found for place in places) == [record.place for record in records]


def test_the_same_records_are_the_same_batches() -> None:
    records = [json(row, b"{}") for row in range(3)]

    ids = [reoffer(DATASET, chosen).batches[0][0].batch_id for chosen in (records, records[::-1], records[:2])]

    assert ids[0] == ids[1] != ids[2]


def test_batches_are_not_larger_than_they_may_be() -> None:
    records = [json(row, b"x" * 400_000) for row in range(5)] + [json(9, b"x" * (module.MOST_BYTES + 1))]

    found = reoffer(DATASET, records)

    assert [batch.rows for batch, _ in found.batches] == [2, 2, 1]
    assert all(len(batch.inline) <= module.MOST_BYTES for batch, _ in found.batches)
    assert found.skipped == {TOO_LARGE: 1}
    many = reoffer(DATASET, [json(row, b"{}") for row in range(module.MOST_ROWS + 1)])
    assert [batch.rows for batch, _ in many.batches] == [module.MOST_ROWS, 1]


def test_whole_payloads_stay_apart_and_what_cannot_be_offered_is_counted() -> None:
    stream = arrow(0, a=1).raw[:-20]
    records = [
        Original((1, 0, 1, WHOLE_PAYLOAD), stream),
        Original((1, 0, 2, WHOLE_PAYLOAD), b"junk\njunk"),
        Original((1, 0, 3, WHOLE_PAYLOAD), b"a" * 64),
        json(0, b""),
        json(1, b"a" * 64),
    ]

    found = reoffer(DATASET, records)

    assert [(batch.format, batch.inline) for batch, _ in found.batches] == [
        (RECORD_FORMAT_JSON_LINES, b"a" * 64),
        (RECORD_FORMAT_ARROW, stream),
        (RECORD_FORMAT_JSON_LINES, b"junk\njunk"),
    ]
    assert found.skipped == {ERASED: 1, IN_A_BLOB: 1}
