from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema
from holdtrue_lake.digest import content_digest, version_digest
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.validation import validate
from holdtrue_lake.versions import DatasetMissing, read_version
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


def fill(root: Path, dataset_id: str, schema: DatasetSchema, now: datetime, partitions: list[int]) -> None:
    table = DatasetTable(root, dataset_id, schema)
    for number, partition in enumerate(partitions):
        record = {"amount": number, "country": "FR", "known": False, "fraud": 1, "at": "2026-01-01"}
        content = "\n".join([json.dumps(record)] * 3).encode()
        offers = [Offer(number, f"batch {number}", validate(schema, content, RECORD_FORMAT_JSON_LINES, now))]
        assert table.ingest(Source("cluster", "topic", partition), offers, now)


def test_a_version_is_its_commits_in_canonical_order(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime
) -> None:
    fill(tmp_path, dataset_id, schema, now, [5, 1, 5, 1])

    rows = read_version(tmp_path, dataset_id, [(0, 1), (3, 3)])

    identity = list(zip(*(rows.column(name).to_pylist() for name in ("_part", "_off", "_row")), strict=True))
    assert identity == sorted(identity)
    assert rows.column("_commit").to_pylist() == [1, 1, 1, 3, 3, 3, 0, 0, 0]
    assert rows.schema.field("amount").type == pa.float32()
    assert read_version(tmp_path, dataset_id, []).num_rows == 0


def test_a_version_stays_the_same_while_the_table_grows(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime
) -> None:
    fill(tmp_path, dataset_id, schema, now, [0, 0])
    before = content_digest(read_version(tmp_path, dataset_id, [(0, 1)]))

    table = DatasetTable(tmp_path, dataset_id, schema)
    for offset in range(2, 8):
        record = {"amount": offset, "country": "DE", "known": True, "fraud": 0, "at": "2026-01-02"}
        content = validate(schema, json.dumps(record).encode(), RECORD_FORMAT_JSON_LINES, now)
        table.ingest(Source("cluster", "topic", 0), [Offer(offset, f"later {offset}", content)], now)
    table._rows.optimize.compact()

    assert read_version(tmp_path, dataset_id, [(0, 7)]).num_rows == 12
    assert content_digest(read_version(tmp_path, dataset_id, [(0, 1)])) == before


def test_a_commits_digest_is_that_of_its_rows(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime
) -> None:
    fill(tmp_path, dataset_id, schema, now, [0, 2])

    for commit in DatasetTable(tmp_path, dataset_id, schema).commits(-1):
        rows = read_version(tmp_path, dataset_id, [(commit.number, commit.number)])
        assert content_digest(rows) == commit.digest


def test_a_dataset_without_rows_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissing, match="has it received any rows"):
        read_version(tmp_path, str(uuid.uuid4()), [(0, 1)])


ROWS = st.lists(st.tuples(st.integers(-5, 5) | st.none(), st.text(max_size=3) | st.none()), max_size=6)


def as_table(rows: list[tuple[int | None, str | None]]) -> pa.Table:
    return pa.table({"n": pa.array([n for n, _ in rows], pa.int64()), "s": pa.array([s for _, s in rows], pa.string())})


@given(ROWS, ROWS, st.integers(0, 6))
def test_digests_tell_contents_apart_and_not_layouts(
    rows: list[tuple[int | None, str | None]], other: list[tuple[int | None, str | None]], cut: int
) -> None:
    table = as_table(rows)
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    sliced = as_table([*other, *rows]).slice(len(other))

    assert content_digest(chunked) == content_digest(table) == content_digest(sliced)
    assert (content_digest(as_table(other)) == content_digest(table)) == (other == rows)


def test_a_versions_digest_depends_on_commits_and_schema_and_not_on_their_order() -> None:
    assert version_digest(["a", "b"], "s") == version_digest(["b", "a"], "s")
    assert version_digest(["a", "b"], "s") != version_digest(["a"], "s")
    assert version_digest(["a"], "s") != version_digest(["a"], "t")
