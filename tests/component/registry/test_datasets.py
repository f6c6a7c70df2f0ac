"""From an offered record to a version, on real servers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1 import dataset_service_pb2 as pb
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema, DatasetVersionPublished, RecordsQuarantined
from holdtrue_lake.versions import read_quarantine, read_version

from tests.component.registry.harness import Process, create, error_of, offered, publish, schema

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.registry.harness import Registry, Topics

GOOD: dict[str, Any] = {"amount": 1.5, "fraud": 0, "at": 1_700_000_000}


async def test_records_become_a_version(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    batches = [offered(dataset.dataset_id, [GOOD, GOOD | {"amount": "x"}, GOOD]) for _ in range(3)]
    for batch in batches:
        await broker.send_event(batch)

    answer = await publish(registry, dataset, [batch.batch_id for batch in batches])

    assert (answer.version.version, answer.version.rows) == (1, 6)
    assert dict(answer.quarantined) == {"WRONG_TYPE": 3}
    assert answer.examples[0] == "row 1, column 'amount': expected a number, got 'x' (WRONG_TYPE)"
    ranges = [(r.first, r.last) for r in answer.version.ranges]
    assert read_version(registry.lake, dataset.dataset_id, ranges).num_rows == 6
    [published] = await broker.wait_for("datasets.v1", 1, DatasetVersionPublished, dataset.dataset_id)
    assert published.data == answer.version
    assert len(await broker.wait_for("datasets.v1", 3, RecordsQuarantined, dataset.dataset_id)) == 3
    shown = (await registry.datasets.GetDataset(pb.GetDatasetRequest(dataset=dataset.dataset_id))).dataset
    assert (shown.accepted, shown.quarantined, shown.latest_version) == (6, 3, 1)


async def test_publishing_again_without_new_rows_changes_nothing(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    first, refused = offered(dataset.dataset_id, [GOOD]), offered(dataset.dataset_id, [{"amount": 1}])
    await broker.send_event(first)
    one = await publish(registry, dataset, [first.batch_id])
    await broker.send_event(refused)

    again = await publish(registry, dataset, [first.batch_id, refused.batch_id])

    assert again.version == one.version
    assert dict(again.quarantined) == {"MISSING": 1}


async def test_a_producers_retry_counts_once(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    batch, last = offered(dataset.dataset_id, [GOOD, GOOD]), offered(dataset.dataset_id, [GOOD])
    for message in (batch, batch, batch, last, batch):
        await broker.send_event(message)

    answer = await publish(registry, dataset, [batch.batch_id, last.batch_id])

    assert answer.version.rows == 3


async def test_versions_close_by_rows_and_by_time(
    environment: dict[str, str], own_broker: Topics, tmp_path: Path
) -> None:
    process = Process(environment | {"HOLDTRUE_REGISTRY_VERSION_SECONDS": "0.5"}, tmp_path / "log")
    process.start()
    async with process.client() as registry:
        slow = await create(registry, "slow")
        quick = await create(registry, "quick", version_rows=4)
        await own_broker.send_event(offered(quick.dataset_id, [GOOD] * 5))
        await own_broker.send_event(offered(slow.dataset_id, [GOOD]))

        [by_time] = await own_broker.wait_for("datasets.v1", 1, DatasetVersionPublished, slow.dataset_id)
        [by_rows] = await own_broker.wait_for("datasets.v1", 1, DatasetVersionPublished, quick.dataset_id)

    assert (by_time.data.rows, by_rows.data.rows) == (1, 5)
    assert await process.stop() == 0


async def test_rows_may_come_in_a_blob(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    batch, missing = (offered(dataset.dataset_id, [GOOD] * 50) for _ in range(2))
    batch.blob_digest = registry.blobs.put(batch.inline)
    missing.blob_digest = "0" * 64
    for message in (batch, missing):
        await broker.send_event(message)

    answer = await publish(registry, dataset, [batch.batch_id, missing.batch_id])

    assert answer.version.rows == 50
    assert dict(answer.quarantined) == {"MALFORMED": 1}
    assert read_quarantine(registry.lake, dataset.dataset_id).column("raw").to_pylist() == [b"0" * 64]


async def test_a_batch_that_never_comes_is_named(registry: Registry) -> None:
    dataset = await create(registry)
    request = pb.PublishVersionRequest(dataset=dataset.name, batch_ids=["never-sent"])

    error = await error_of(registry.datasets.PublishVersion(request, timeout=1.5))

    assert "1 of 1 batches" in str(error)
    assert "never-sent" in str(error)


async def test_an_empty_dataset_cannot_be_published(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    assert "send records to data.v1 first" in str(await error_of(publish(registry, dataset, [])))

    batch = offered(dataset.dataset_id, [{"amount": "x"}])
    await broker.send_event(batch)
    error = await error_of(publish(registry, dataset, [batch.batch_id]))

    assert "every record was refused" in str(error)
    assert "expected a number, got 'x'" in str(error)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.CreateDatasetRequest(name="a/b", schema=schema()), "name: use 1 to 128 letters"),
        (pb.CreateDatasetRequest(name="a"), r"schema.columns: expected 1 to 10000 columns, got 0"),
        (pb.CreateDatasetRequest(name="a", schema=schema(), version_rows=-1), "version_rows: expected 0 or more"),
        (
            pb.CreateDatasetRequest(
                name="a", schema=DatasetSchema(columns=[ColumnSpec(name="x", dtype="int")], label="y")
            ),
            r"schema.columns\[0\].dtype: expected one of float32.*; schema.label: the label 'y' is not among",
        ),
    ],
)
async def test_a_wrong_dataset_is_explained(registry: Registry, request_: pb.CreateDatasetRequest, text: str) -> None:
    error = await error_of(registry.datasets.CreateDataset(request_))

    assert re.search(text, str(error))


async def test_names_are_unique_and_unknown_ones_are_explained(registry: Registry) -> None:
    dataset = await create(registry)

    assert "exists" in str(await error_of(create(registry, dataset.name)))
    assert "no dataset 'x'" in str(await error_of(registry.datasets.GetDataset(pb.GetDatasetRequest(dataset="x"))))
    request = pb.GetDatasetVersionRequest(dataset=dataset.name, version=3)
    assert "has no version 3; it has none yet" in str(await error_of(registry.datasets.GetDatasetVersion(request)))


async def test_listings_come_in_pages(registry: Registry, broker: Topics) -> None:
    mine = [(await create(registry)).name for _ in range(3)]
    dataset = await create(registry)
    for _ in range(3):
        batch = offered(dataset.dataset_id, [GOOD])
        await broker.send_event(batch)
        await publish(registry, dataset, [batch.batch_id])

    names, page = list[str](), pb.ListDatasetsResponse(next_page_token="")
    while not names or page.next_page_token:
        page = await registry.datasets.ListDatasets(
            pb.ListDatasetsRequest(page_size=2, page_token=page.next_page_token)
        )
        names += [found.name for found in page.datasets]
    first = pb.ListDatasetVersionsRequest(dataset=dataset.name, page_size=2)
    newest = await registry.datasets.ListDatasetVersions(first)
    first.page_token = newest.next_page_token
    oldest = await registry.datasets.ListDatasetVersions(first)

    assert names == sorted(names)
    assert set(mine) < set(names)
    assert [version.version for version in (*newest.versions, *oldest.versions)] == [3, 2, 1]
