"""From an offered record to a version, on real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.registry.v1 import dataset_service_pb2 as pb
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished, RecordsQuarantined
from holdtrue_core.errors import from_rpc_error
from holdtrue_lake.versions import read_version
from pathlib import Path

from tests.component.registry.harness import Registry, Topics, offered, schema

GOOD = {"amount": 1.5, "fraud": 0, "at": 1_700_000_000}


async def create(registry: Registry, name: str = "payments", version_rows: int = 0) -> pb.Dataset:
    request = pb.CreateDatasetRequest(name=name, schema=schema(), version_rows=version_rows)
    return (await registry.datasets.CreateDataset(request)).dataset


async def test_records_become_a_version(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    batches = [offered(dataset.dataset_id, [GOOD, GOOD | {"amount": "x"}, GOOD]) for _ in range(3)]
    for batch in batches:
        await broker.send_event(batch)

    request = pb.PublishVersionRequest(dataset="payments", batch_ids=[batch.batch_id for batch in batches])
    answer = await registry.datasets.PublishVersion(request, timeout=30)

    assert (answer.version.version, answer.version.rows) == (1, 6)
    assert dict(answer.quarantined) == {"WRONG_TYPE": 3}
    assert answer.examples[0] == "row 1, column 'amount': expected a number, got 'x' (WRONG_TYPE)"
    lake = Path(registry.environment["HOLDTRUE_REGISTRY_LAKE"])
    ranges = [(r.first, r.last) for r in answer.version.ranges]
    assert read_version(lake, dataset.dataset_id, ranges).num_rows == 6
    [published] = await broker.wait_for("datasets.v1", 1, DatasetVersionPublished)
    assert published.data == answer.version
    assert len(await broker.wait_for("datasets.v1", 3, RecordsQuarantined)) == 3
