"""What serves changes under load, and nobody who asks notices but by the revision in the reply."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.deployer.v1.deployments_pb2 import Role
from holdtrue_contracts.inference.v1.replicas_pb2 import LoadState, ReplicaState
from holdtrue_storage.blobs import DirectoryBlobs

from tests.component.inference.harness import Load, answers_of, ids_of, predictions, publish, read, served
from tests.inference.models import store, with_traffic
from tests.inference.states import state

if TYPE_CHECKING:
    from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision
    from holdtrue_events.kafka import Kafka

    from tests.component.inference.harness import Service

FAILED = LoadState.LOAD_STATE_FAILED
CHAMPION, CHALLENGER, STANDBY = Role.ROLE_CHAMPION, Role.ROLE_CHALLENGER, Role.ROLE_STANDBY
SWAPS = 9


@pytest.fixture
def models(service: Service) -> list[Revision]:
    blobs = DirectoryBlobs(service.folder / "blobs")
    return [store(blobs, seed) for seed in range(3)]


async def test_swaps_under_load_fail_no_request_and_lose_no_record(
    service: Service, bus: Kafka, models: list[Revision]
) -> None:
    """A canary, then all of it, then the next, and back again; the old one stays warm or is let go."""
    await service.start()
    await publish(bus, state(1, with_traffic(models[0], 10_000, CHAMPION)))
    await served(bus, 1)
    async with Load(service.address) as load:
        for generation in range(2, SWAPS + 2):
            old, new = models[generation % 3], models[(generation + 1) % 3]
            split = with_traffic(old, 7_000, CHAMPION), with_traffic(new, 3_000, CHALLENGER)
            whole = with_traffic(old, 0, STANDBY), with_traffic(new, 10_000, CHAMPION)
            await publish(bus, state(generation, *(whole if generation % 2 else split)))
            await answers_of(load, new.revision)
    assert load.failures == []
    assert set(load.revisions) == {"r0", "r1", "r2"}
    assert await service.stop() == 0
    records = await predictions(bus)
    recorded = Counter(ids_of(records))
    assert recorded.keys() == set(load.ids)
    assert set(recorded.values()) == {1}
    by_revision = Counter[str]()
    for record in records:
        by_revision[record.revision] += record.answered
        assert (record.shed, dict(record.failed)) == (0, {})
    assert by_revision == load.revisions


async def test_a_model_that_cannot_be_loaded_leaves_the_old_one_and_says_why(
    service: Service, bus: Kafka, models: list[Revision]
) -> None:
    await service.start()
    await publish(bus, state(1, with_traffic(models[0], 10_000, CHAMPION)))
    await served(bus, 1)
    swapped = with_traffic(models[1], 10_000, CHAMPION)
    swapped.artifact_digest = models[2].artifact_digest
    missing = with_traffic(models[2], 0, STANDBY)
    missing.manifest_digest = "0" * 64
    async with Load(service.address) as load:
        await publish(bus, state(2, with_traffic(models[0], 0, STANDBY), swapped, missing))
        reasons = await failed(bus)
        await answers_of(load, "r0")
    assert f"the revision serves onnx {models[2].artifact_digest}, its manifest names" in reasons["r1"]
    assert f"blob {'0' * 64} is not in" in reasons["r2"]
    assert load.failures == []
    assert set(load.revisions) == {"r0"}
    await service.kill()
    await service.start()
    async with Load(service.address) as load:
        await answers_of(load, "r0")
    assert load.failures == [], "what is on the disk is what served"


async def failed(bus: Kafka) -> dict[str, str]:
    """Wait until the replica tells of two revisions that it could not load; the reasons."""
    async with asyncio.timeout(60):
        while True:
            told = [event.data for _, event in await read(bus, "replicas.v1") if event is not None]
            for deployment in (d for each in told if isinstance(each, ReplicaState) for d in each.deployments):
                reasons = {r.revision: r.reason for r in deployment.revisions if r.state == FAILED}
                if len(reasons) == 2:
                    assert deployment.generation == 1
                    return reasons
