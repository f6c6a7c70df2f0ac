from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema


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
