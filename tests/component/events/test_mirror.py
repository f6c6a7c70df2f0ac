"""A compacted topic in memory: complete when it says so, the latest of each key, never back to an older one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from holdtrue_contracts.catalogue import key
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
from holdtrue_events.kafka import Kafka
from holdtrue_events.mirror import Mirror
from holdtrue_local.ports import free_port
from structlog.testing import capture_logs

from tests.component.events.harness import ACTOR, running, send_unreadable, until
from tests.component.registry.harness import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdtrue_contracts.codec import Event

TOPIC = "deployments.v1"


class Copy:
    """What a service keeps of the topic: the latest generation of each deployment, and all that it heard."""

    def __init__(self, bus: Kafka) -> None:
        self.generations: dict[bytes, int] = {}
        self.heard: list[tuple[bytes, int | None]] = []
        self.mirror = Mirror(bus, TOPIC, self._apply)

    def _apply(self, name: bytes, event: Event[Any] | None) -> None:
        self.heard.append((name, None if event is None else event.data.generation))
        if event is None:
            self.generations.pop(name, None)
        else:
            self.generations[name] = event.data.generation

    async def has(self, name: str, generation: int | None) -> bool:
        return self.generations.get(key("default", name)) == generation


@pytest.fixture
async def topics(bus: Kafka) -> AsyncIterator[Topics]:
    async with Topics(bus.bootstrap, bus.prefix) as connected:
        yield connected


async def put(topics: Topics, name: str, generation: int, version: int | None = None) -> None:
    state = DeploymentState(deployment_id=name, generation=generation)
    record = encode(new_event(state, source="test", actor=ACTOR, aggregate_version=version))
    await topics.send(TOPIC, record.key, record.value, record.headers)


async def remove(topics: Topics, name: str) -> None:
    await topics.send(TOPIC, key("default", name), None, [])


async def test_it_is_complete_when_it_has_started_and_then_follows(bus: Kafka, topics: Topics) -> None:
    for generation in range(1, 4):
        for name in "abcdef":
            await put(topics, name, generation)
    await remove(topics, "f")
    copy = Copy(bus)
    async with running(copy.mirror):
        assert copy.mirror.caught_up.is_set()
        assert copy.generations == {key("default", name): 3 for name in "abcde"}
        await put(topics, "a", 4)
        await put(topics, "new", 1)
        await remove(topics, "b")
        await until(lambda: copy.has("a", 4), "the change arrives")
        await until(lambda: copy.has("new", 1), "the new one arrives")
        await until(lambda: copy.has("b", None), "the removal arrives")


async def test_an_empty_topic_is_complete_at_once(bus: Kafka, topics: Topics) -> None:
    copy = Copy(bus)
    async with running(copy.mirror):
        assert copy.mirror.caught_up.is_set()
        await put(topics, "a", 1)
        await until(lambda: copy.has("a", 1), "the first one arrives")


async def test_each_key_is_heard_in_its_order_however_often_it_changes(bus: Kafka, topics: Topics) -> None:
    copy = Copy(bus)
    async with running(copy.mirror):
        for generation in range(1, 301):
            await put(topics, "ab"[generation % 2], generation)
        await until(lambda: copy.has("a", 300), "the last one arrives")
        await until(lambda: copy.has("b", 299), "the last one arrives")
    for name, first in (("a", 2), ("b", 1)):
        assert [number for known, number in copy.heard if known == key("default", name)] == list(range(first, 301, 2))


async def test_what_was_sent_again_after_a_crash_does_not_bring_back_the_past(bus: Kafka, topics: Topics) -> None:
    """After a removal a version counts as new: the key begins again."""
    copy = Copy(bus)
    for version in (1, 2, 3, 1, 2, 3, 3, 4):
        await put(topics, "a", version, version)
    await remove(topics, "a")
    await put(topics, "a", 1, 1)
    async with running(copy.mirror):
        assert [number for _, number in copy.heard] == [1, 2, 3, 3, 3, 4, None, 1]


async def test_two_mirrors_of_a_service_each_have_everything(bus: Kafka, topics: Topics) -> None:
    """There is no group that would divide the partitions."""
    copies = [Copy(bus), Copy(bus)]
    for name in "abcdef":
        await put(topics, name, 1)
    async with running(*(copy.mirror for copy in copies)):
        assert copies[0].generations == copies[1].generations == {key("default", name): 1 for name in "abcdef"}


async def test_after_a_restart_it_has_the_same_again(bus: Kafka, topics: Topics) -> None:
    for name in "abcdef":
        await put(topics, name, 1)
    await remove(topics, "c")
    first, second = Copy(bus), Copy(bus)
    async with running(first.mirror):
        pass
    async with running(second.mirror):
        assert second.generations == first.generations
        assert len(second.generations) == 5


async def test_records_that_are_no_event_are_told_and_passed_over(bus: Kafka, topics: Topics) -> None:
    record = encode(new_event(DeploymentState(deployment_id="a"), source="test", actor=ACTOR))
    newer = [(name, b"holdtrue.deployer.v9.New" if name == "ce_type" else value) for name, value in record.headers]
    endless = [*record.headers, ("ce_aggregateversion", b"9" * 5000)]
    await topics.send(TOPIC, record.key, b"\xff\xff", record.headers)
    await topics.send(TOPIC, record.key, record.value, [])
    await topics.send(TOPIC, record.key, record.value, newer)
    await topics.send(TOPIC, record.key, record.value, endless)
    await topics.send(TOPIC, key("default", "other"), record.value, record.headers)
    for partition in range(3):
        await send_unreadable(bus, TOPIC, partition)
    await put(topics, "a", 7)
    copy = Copy(bus)
    with capture_logs() as logs:
        async with running(copy.mirror):
            assert copy.heard == [(key("default", "a"), 7)]
    told = [log["why"] for log in logs if log["event"] == "unusable record"]
    assert len(told) == 8
    assert "unknown event type holdtrue.deployer.v9.New" in told


async def test_markers_of_transactions_at_the_end_do_not_keep_it_waiting(bus: Kafka, topics: Topics) -> None:
    """They take offsets that no consumer is ever given."""
    await put(topics, "a", 1)
    record = encode(new_event(DeploymentState(deployment_id="a", generation=2), source="test", actor=ACTOR))
    writer: Any = AIOKafkaProducer(bootstrap_servers=bus.bootstrap, transactional_id=bus.prefix + "writer")
    async with writer, writer.transaction():
        await writer.send_and_wait(bus.topic(TOPIC), record.value, record.key, headers=list(record.headers))
    copy = Copy(bus)
    async with running(copy.mirror):
        assert await copy.has("a", 2)


class Silence:
    """A server that takes connections and never says anything."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._port = free_port()

    async def serve(self) -> Kafka:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port)
        return Kafka(f"127.0.0.1:{self._port}")

    async def _take(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        self.reached.set()
        await reader.read()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def silence() -> AsyncIterator[Silence]:
    silence = Silence()
    yield silence
    await silence.close()


async def test_it_can_be_stopped_while_kafka_does_not_answer(silence: Silence) -> None:
    copy = Copy(await silence.serve())
    starting = asyncio.create_task(copy.mirror.start())
    await silence.reached.wait()
    await copy.mirror.stop()
    await starting
    await copy.mirror.run()
    assert not copy.mirror.caught_up.is_set()
