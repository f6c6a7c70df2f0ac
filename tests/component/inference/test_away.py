"""Kafka and the blobs are away: what is asked is answered all the same, and what was answered arrives later."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import grpc
import pytest
from holdtrue_contracts.deployer.v1.deployments_pb2 import LogMode, Role
from holdtrue_events.kafka import Kafka
from holdtrue_local.kafka import Kafka as Broker
from holdtrue_local.ports import free_port
from holdtrue_storage.blobs import DirectoryBlobs

from tests.component.inference.harness import (
    Load,
    Service,
    answers_of,
    arrived,
    ask,
    ask_until_answered,
    ids_of,
    predictions,
    publish,
    refused,
    served,
    topics,
)
from tests.inference.models import store, with_traffic
from tests.inference.states import state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
    from holdtrue_contracts.oip import client

pytestmark = pytest.mark.timeout(300)  # a broker starts twice, on a machine that may be busy


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A Kafka of this test's own, which may be killed."""
    broker = Broker(tmp_path / "kafka")
    await broker.start()
    yield broker
    await broker.kill()


@pytest.fixture
def nowhere() -> Kafka:
    """Kafka at a port where nobody listens."""
    return Kafka(f"127.0.0.1:{free_port()}")


def desired(folder: Path, mode: LogMode.ValueType, name: str = "fraud") -> DeploymentState:
    revision = with_traffic(store(DirectoryBlobs(folder / "blobs")), 10_000, Role.ROLE_CHAMPION)
    revision.log_mode = mode
    return state(1, revision, name=name)


async def replicated(service: Service) -> client.Reply:
    """Ask until Kafka is quick enough to have the prediction before the reply."""
    async with asyncio.timeout(60):
        while (reply := await ask(service, "safe")).durability != "REPLICATED":
            assert reply.durability == "SPOOLED"
        return reply


async def test_kafka_goes_and_comes_back_and_nobody_notices(tmp_path: Path, broker: Broker) -> None:
    """Under load on one deployment, while another promises that Kafka has what it answers."""
    bus = Kafka(broker.bootstrap, "p.")
    await topics(bus)
    service = Service(tmp_path, bus, ack_timeout_seconds=1)
    await service.start()
    for each in (desired(tmp_path, LogMode.LOG_MODE_ASYNC), desired(tmp_path, LogMode.LOG_MODE_ACK, "safe")):
        await publish(bus, each)
    await served(bus, 1, "safe")
    await served(bus, 1, "fraud")
    async with Load(service.address, pause=0.03) as load:
        first = await replicated(service)
        assert first.prediction_ids[0] in ids_of(await predictions(bus)), "it was told that Kafka has it"
        await broker.kill()
        second = await ask(service, "safe")
        assert second.durability == "SPOOLED"
        await answers_of(load, "r0", more=200)
        await broker.start()
        last = await replicated(service)
    assert load.failures == []
    safe = [reply.prediction_ids[0] for reply in (first, second, last)]
    await arrived(bus, {*load.ids, *safe})
    assert await service.stop() == 0
    recorded = ids_of(await predictions(bus))
    assert len(recorded) == len(set(recorded))
    assert {*load.ids, *safe} <= set(recorded)


async def test_the_last_state_is_served_with_everybody_else_away(tmp_path: Path, bus: Kafka, nowhere: Kafka) -> None:
    at_home = Service(tmp_path, bus)
    await at_home.start()
    await publish(bus, desired(tmp_path, LogMode.LOG_MODE_ASYNC))
    await served(bus, 1)
    await at_home.kill()
    shutil.rmtree(tmp_path / "blobs")
    alone, answered = Service(tmp_path, nowhere, drain_seconds=0.1), list[str]()
    for end in (alone.kill, alone.stop):
        await alone.start()
        async with Load(alone.address, callers=2, pause=0.01) as load:
            await answers_of(load, "r0", more=50)
        assert load.failures == []
        answered += load.ids
        await end()
    assert alone.status == 0, "a stop does not need Kafka"
    await at_home.start()
    await arrived(bus, set(answered))
    assert await at_home.stop() == 0
    recorded = ids_of(await predictions(bus))
    assert sorted(recorded) == sorted(answered)


async def test_a_full_spool_refuses_until_kafka_has_it(tmp_path: Path, bus: Kafka, nowhere: Kafka) -> None:
    at_home = Service(tmp_path, bus)
    await at_home.start()
    await publish(bus, desired(tmp_path, LogMode.LOG_MODE_ASYNC))
    await served(bus, 1)
    await at_home.kill()
    alone = Service(tmp_path, nowhere, spool_bytes=20_000)
    await alone.start()
    async with Load(alone.address, callers=2) as load:
        refusal = await refused(load)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SPOOL_FULL")
    assert "Kafka has been away too long" in refusal.message
    await alone.kill()
    filled = Service(tmp_path, bus, spool_bytes=20_000)
    await filled.start()
    await arrived(bus, set(load.ids))
    reply = await ask_until_answered(filled)
    assert await filled.stop() == 0
    assert sorted(ids_of(await predictions(bus))) == sorted([*load.ids, *reply.prediction_ids])
