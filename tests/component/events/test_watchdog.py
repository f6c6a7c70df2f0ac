"""A consumer that stands still is built anew, and given up when that does not help; one with nothing to do is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer
from holdtrue_events import mirror, react
from holdtrue_events.mirror import Mirror
from holdtrue_events.react import React
from holdtrue_events.relay import Relay
from holdtrue_events.watchdog import ConsumerStalled, Watchdog
from structlog.testing import capture_logs

from tests.component.events.harness import (
    MODELS,
    emptied,
    handled,
    on_run_requested,
    publish,
    running,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox
    from holdtrue_storage.database import Database


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def consumer(bus: Kafka) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all partitions, which reads only when it is told to."""
    async with bus.consumer(bus.topic("runs.v1")) as consumer:
        yield consumer


async def look(watchdog: Watchdog, time: Time, consumer: AIOKafkaConsumer, after: float) -> None:
    time.now += after
    await watchdog.watch(consumer)


async def test_one_that_does_not_read_what_is_there_is_told(
    database: Database, outbox: Outbox, bus: Kafka, consumer: AIOKafkaConsumer
) -> None:
    time = Time()
    watchdog = Watchdog(30, time)
    await look(watchdog, time, consumer, 0)
    async with running(Relay(outbox, bus)):
        await publish(outbox, "m")
        await emptied(database)
    await look(watchdog, time, consumer, 10)
    await look(watchdog, time, consumer, 29)
    with pytest.raises(ConsumerStalled, match=r"runs\.v1.* did not move for 30 s at \[0\]"):
        await look(watchdog, time, consumer, 5)


async def test_one_that_has_read_everything_or_is_paused_may_stand_still(
    database: Database, outbox: Outbox, bus: Kafka, consumer: AIOKafkaConsumer
) -> None:
    time = Time()
    watchdog = Watchdog(30, time)
    async with running(Relay(outbox, bus)):
        await publish(outbox, *MODELS)
        await emptied(database)
        read = 0
        while read < len(MODELS):
            read += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        for _ in range(3):
            await look(watchdog, time, consumer, 100)
        consumer.pause(*consumer.assignment())
        await publish(outbox, *MODELS)
        await emptied(database)
        for _ in range(3):
            await look(watchdog, time, consumer, 100)


async def test_it_looks_no_oftener_than_it_has_to(bus: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    original = AIOKafkaConsumer.end_offsets

    async def note(self: AIOKafkaConsumer, partitions: Any) -> Any:
        asked.append(partitions)
        return await original(self, partitions)

    monkeypatch.setattr(AIOKafkaConsumer, "end_offsets", note)
    time = Time()
    watchdog = Watchdog(30, time)
    async with bus.consumer(bus.topic("runs.v1")) as consumer:
        for _ in range(100):
            await look(watchdog, time, consumer, 0.1)
    assert len(asked) == 2  # in ten seconds


def deaf(times: int, monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaConsumer]:
    """Let the next consumers read nothing, as aiokafka's sometimes do; returns all that were tried."""
    tried: list[AIOKafkaConsumer] = []
    original = AIOKafkaConsumer.getmany

    async def getmany(self: AIOKafkaConsumer, *partitions: Any, **options: Any) -> Any:
        if self not in tried:
            tried.append(self)
        if tried.index(self) < times:
            await asyncio.sleep(0.01)
            return {}
        return await original(self, *partitions, **options)

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    monkeypatch.setattr(react, "Watchdog", lambda: Watchdog(0.3))
    monkeypatch.setattr(mirror, "Watchdog", lambda: Watchdog(0.3))
    return tried


async def test_a_group_and_a_mirror_that_stand_still_are_built_anew_and_miss_nothing(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = await published(database, outbox, bus)
    tried = deaf(4, monkeypatch)
    heard: list[bytes] = []
    with capture_logs() as logs:
        async with running(
            React(outbox, bus, "group", [on_run_requested]),
            Mirror(bus, "runs.v1", lambda key, _event: heard.append(key)),
        ):
            assert sorted(await handled(database, len(sent))) == sorted(sent)
            await until(lambda: all_heard(heard), "the mirror has all")
    assert len(tried) == 6
    assert sum(log["event"] == "a consumer stands still" for log in logs) == 4


async def all_heard(heard: list[bytes]) -> bool:
    return len(heard) == len(MODELS)


async def published(database: Database, outbox: Outbox, bus: Kafka) -> list[tuple[str, str]]:
    async with running(Relay(outbox, bus)):
        sent = await publish(outbox, *MODELS)
        await emptied(database)
    return sent


async def test_one_that_stands_still_whatever_is_tried_ends_its_process(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    await published(database, outbox, bus)
    tried = deaf(1000, monkeypatch)
    with pytest.raises(ConsumerStalled, match=r"runs\.v1"):
        await React(outbox, bus, "group", [on_run_requested]).run()
    assert len(tried) == 4
