from __future__ import annotations

import itertools
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema
from holdtrue_lake.digest import content_digest
from holdtrue_lake.files import DataFile, data_files
from holdtrue_lake.storage import Storage, open_table, rows_uri
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.validation import validate
from holdtrue_lake.versions import read_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pyarrow as pa
    from holdtrue_lake.commits import Commit


@pytest.fixture
def schema() -> DatasetSchema:
    return DatasetSchema(
        columns=[
            ColumnSpec(name="amount", dtype="float32"),
            ColumnSpec(name="country", dtype="string", categories=["DE", "FR"]),
            ColumnSpec(name="known", dtype="bool"),
            ColumnSpec(name="fraud", dtype="int64"),
        ],
        label="fraud",
        time="at",
    )


@pytest.fixture
def dataset_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 3, 1, 12, tzinfo=UTC)


class Lake:
    """One dataset's table, filled commit by commit with rows that say where they came from.

    Row `r` of the message at offset `o` of partition `p` has `amount = 1000 * p + 10 * o + r`.
    """

    def __init__(self, root: Path, dataset_id: str, schema: DatasetSchema, now: datetime) -> None:
        self.root = root
        self.dataset_id = dataset_id
        self.table = DatasetTable(root, dataset_id, schema)
        self._schema = schema
        self._now = now
        self._offsets = itertools.count()

    def append(self, rows: int = 2, partition: int = 0, now: datetime | None = None) -> Commit:
        """One commit with one message."""
        offset = next(self._offsets)
        entry = {"country": "DE", "known": True, "fraud": 0, "at": 1_700_000_000 + offset}
        records = [entry | {"amount": 1000 * partition + 10 * offset + row} for row in range(rows)]
        content = b"\n".join(json.dumps(record).encode() for record in records)
        valid = validate(self._schema, content, RECORD_FORMAT_JSON_LINES, self._now)
        source = Source("cluster", "topic", partition)
        commit = self.table.ingest(source, [Offer(offset, f"batch {offset}", valid)], now or self._now)
        assert commit is not None
        assert commit.accepted == rows
        return commit

    def read(self, ranges: Iterable[tuple[int, int]], columns: Sequence[str] | None = None) -> pa.Table:
        return read_version(self.root, self.dataset_id, ranges, columns)

    def digest(self, ranges: Iterable[tuple[int, int]]) -> str:
        return content_digest(self.read(ranges))

    def files(self) -> list[DataFile]:
        return data_files(open_table(self.place))

    @property
    def place(self) -> Storage:
        return rows_uri(self.root, self.dataset_id)


@pytest.fixture
def lake(tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime) -> Lake:
    return Lake(tmp_path, dataset_id, schema, now)
