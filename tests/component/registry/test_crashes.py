"""Killed anywhere, the registry has every acknowledged record exactly once afterwards."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from holdtrue_contracts.catalogue import key as partition_key
from holdtrue_contracts.dead_letter import DeadLetter
from holdtrue_contracts.registry.v1.dataset_service_pb2 import GetDatasetRequest
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished, RecordsQuarantined
from holdtrue_lake.table import DatasetTable
from holdtrue_lake.versions import read_quarantine, read_version
from holdtrue_local.ports import free_port

from tests.component.registry.harness import Process, create, offered, publish, schema

if TYPE_CHECKING:
    from pathlib import Path

    from holdtrue_contracts.registry.v1.dataset_service_pb2 import Dataset
    from holdtrue_contracts.registry.v1.datasets_pb2 import RecordsOffered

    from tests.component.registry.harness import Registry, Topics

ALL = [(0, 1_000_000)]


def batch(dataset: Dataset, number: int) -> RecordsOffered:
    """Two records that fit and one that does not; `amount` says which."""
    rows: list[dict[str, Any]] = [{"amount": number * 10 + row, "fraud": 0, "at": 1_700_000_000} for row in range(2)]
    return offered(dataset.dataset_id, [*rows, {"amount": "x", "fraud": 0, "at": number}], f"batch-{number}")


@pytest.mark.parametrize(
    "place", ["append", *(pytest.param(place, marks=pytest.mark.long) for place in ("record", "finish"))]
)
async def test_a_kill_at_the_worst_place_heals(
    environment: dict[str, str], own_broker: Topics, tmp_path: Path, place: str
) -> None:
    process = Process(environment, tmp_path / "log")
    process.start(crash=f"{place}:0")
    async with process.client() as registry:
        dataset = await create(registry, version_rows=2)
    process.kill()

    process.start(crash=f"{place}:1")
    for number in range(3):
        await own_broker.send_event(batch(dataset, number))
    key = partition_key("default", dataset.dataset_id)  # of one partition, so that the rows come first
    await own_broker.send("data.v1", key, b"x", [])
    async with asyncio.timeout(60):
        assert await asyncio.to_thread(process.running.wait) == -signal.SIGKILL
    had = DatasetTable(registry.lake, dataset.dataset_id, schema()).commits(-1)
    process.start()
    async with process.client() as registry:
        healed = (await registry.datasets.GetDataset(GetDatasetRequest(dataset=dataset.name))).dataset
        answer = await publish(registry, dataset, [f"batch-{number}" for number in range(3)])

        assert bool(had) == (place != "append")
        assert healed.accepted >= sum(commit.accepted for commit in had)
        assert answer.version.rows == 6
        assert sorted(read_version(registry.lake, dataset.dataset_id, ALL).column("amount").to_pylist()) == [
            0, 1, 10, 11, 20, 21,
        ]  # fmt: skip
        assert read_quarantine(registry.lake, dataset.dataset_id).num_rows == 3
        refused = await own_broker.wait_for("datasets.v1", 3, RecordsQuarantined, dataset.dataset_id)
        assert {event.data.batch_id for event in refused} == {"batch-0", "batch-1", "batch-2"}
        versions = await own_broker.wait_for("datasets.v1", 1, DatasetVersionPublished, dataset.dataset_id)
        assert versions[-1].data == answer.version
        assert await process.stop() == 0


async def test_two_registries_killed_at_random_lose_and_repeat_nothing(
    environment: dict[str, str], own_broker: Topics, tmp_path: Path
) -> None:
    """Both take part in one group and share four datasets; a ledger outside knows what was acknowledged."""
    other = environment | {
        "HOLDTRUE_REGISTRY_INSTANCE_ID": "registry-1",
        "HOLDTRUE_REGISTRY_GRPC_PORT": str(free_port()),
    }
    processes = [Process(environment, tmp_path / "log-0"), Process(other, tmp_path / "log-1")]
    processes[0].start()
    async with processes[0].client() as registry:
        datasets = [await create(registry, version_rows=20) for _ in range(4)]
    processes[0].kill()

    ledger: dict[str, list[int]] = {dataset.dataset_id: [] for dataset in datasets}
    sending = asyncio.create_task(send(own_broker, datasets, ledger))
    kills = await live_and_die(processes, sending)
    await sending
    processes[0].start()
    async with processes[0].client() as registry:
        for dataset in datasets:
            numbers = ledger[dataset.dataset_id]
            answer = await publish(registry, dataset, [f"batch-{number}" for number in numbers])
            compare(registry, dataset, numbers, answer.version)
        poison = await dead_letters(own_broker, 10)

    assert kills >= 6
    assert len(poison) == len({letter.value for letter in poison}) == 10


async def send(broker: Topics, datasets: list[Dataset], ledger: dict[str, list[int]]) -> None:
    for number in range(200):
        dataset = datasets[number % len(datasets)]
        await broker.send_event(batch(dataset, number))
        ledger[dataset.dataset_id].append(number)
        if number % 7 == 0:
            await broker.send_event(batch(dataset, number))  # a producer that did not get its answer
        if number % 20 == 0:
            await broker.send("data.v1", b"poison", b"poison %d" % number, [])
        await asyncio.sleep(0.05)  # so that kills fall between messages, too


async def live_and_die(processes: list[Process], sending: asyncio.Task[None]) -> int:
    """Restart what died, kill what lives too long, until everything is sent and at least six were killed."""
    chance, kills = random.Random(1), 0  # noqa: S311  no secret
    for process in processes:
        process.start(crash="any:0.1")
    while not sending.done() or kills < 6:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sending), 0.5)
        for process in processes:
            if process.alive and chance.random() < 0.05:
                process.kill()
            if not process.alive:
                assert process.running.returncode == -signal.SIGKILL
                kills += 1
                process.start(crash="any:0.1")
    for process in processes:
        process.kill()
    return kills


def compare(registry: Registry, dataset: Dataset, numbers: list[int], version: DatasetVersionPublished) -> None:
    rows = read_version(registry.lake, dataset.dataset_id, [(r.first, r.last) for r in version.ranges])
    assert sorted(rows.column("amount").to_pylist()) == [number * 10 + row for number in numbers for row in range(2)]
    refused = read_quarantine(registry.lake, dataset.dataset_id)
    assert sorted(refused.column("batch_id").to_pylist()) == sorted(f"batch-{number}" for number in numbers)
    commits = DatasetTable(registry.lake, dataset.dataset_id, schema()).commits(-1)
    assert [commit.number for commit in commits] == list(range(len(commits)))
    assert version.rows == sum(commit.accepted for commit in commits)


async def dead_letters(broker: Topics, count: int) -> list[DeadLetter]:
    async with asyncio.timeout(30):
        found = await broker.records("dead-letters.v1")
        while len(found) < count:
            found = await broker.records("dead-letters.v1")
    return [DeadLetter.from_record(record.key, record.value, record.headers) for record in found]
