"""Tables are compacted under their lease while rows go on coming, and every version reads as before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
from holdtrue_contracts.registry.v1.dataset_service_pb2 import GetDatasetRequest
from holdtrue_lake.digest import content_digest
from holdtrue_lake.files import data_files
from holdtrue_lake.storage import open_table, rows_uri
from holdtrue_lake.versions import read_version

from tests.component.registry.harness import Process, create, offered, publish

if TYPE_CHECKING:
    from pathlib import Path

    from holdtrue_contracts.registry.v1.dataset_service_pb2 import Dataset
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished

    from tests.component.registry.harness import Registry, Topics

GOOD: dict[str, Any] = {"amount": 1.5, "fraud": 0, "at": 1_700_000_000}
_BUSY = """INSERT INTO table_lease (tenant, dataset_id, id, kind, holder, leased_until)
VALUES ('default', $1, 'test', 'writer', 'a test', now() + interval '1 hour')"""


def files(registry: Registry, dataset: Dataset) -> int:
    return len(data_files(open_table(rows_uri(registry.lake, dataset.dataset_id))))


def digest(registry: Registry, version: DatasetVersionPublished) -> str:
    spans = [(span.first, span.last) for span in version.ranges]
    return content_digest(read_version(registry.lake, version.dataset_id, spans))


async def grow(registry: Registry, broker: Topics, dataset: Dataset, batches: int) -> DatasetVersionPublished:
    """A commit for each batch, and one version of all."""
    request = GetDatasetRequest(dataset=dataset.name)
    rows = (await registry.datasets.GetDataset(request)).dataset.accepted
    for number in range(batches):
        await broker.send_event(offered(dataset.dataset_id, [GOOD | {"amount": number}] * 2))
        rows += 2
        while (await registry.datasets.GetDataset(request)).dataset.accepted < rows:
            await asyncio.sleep(0.05)
    return (await publish(registry, dataset, [])).version


async def test_tables_are_compacted_but_for_those_whose_lease_somebody_has(
    environment: dict[str, str], own_broker: Topics, tmp_path: Path
) -> None:
    process = Process(environment, tmp_path / "log")
    process.start()
    async with process.client() as registry:
        busy, idle = [await create(registry) for _ in range(2)]
        versions = [await grow(registry, own_broker, dataset, 3) for dataset in (busy, idle)]
    assert await process.stop() == 0
    before = [digest(registry, version) for version in versions]
    connection = await asyncpg.connect(environment["HOLDTRUE_REGISTRY_POSTGRES_DSN"])
    await connection.execute(_BUSY, busy.dataset_id)
    await connection.close()

    process.environment["HOLDTRUE_REGISTRY_UPKEEP_SECONDS"] = "0.05"
    process.start()
    async with process.client() as registry, asyncio.timeout(60):
        later = await grow(registry, own_broker, idle, 1)
        while files(registry, idle) > 2 or "a table is busy" not in (tmp_path / "log").read_text():
            await asyncio.sleep(0.1)
        assert later.rows == 8
        assert [digest(registry, version) for version in versions] == before
    assert await process.stop() == 0
    assert files(registry, busy) == 3
