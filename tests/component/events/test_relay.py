"""From the outbox to Kafka: by one relay at a time, at once, in order, and nothing is skipped."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from holdtrue_contracts.catalogue import TOPICS, key
from holdtrue_contracts.codec import Record
from holdtrue_events import relay as module
from holdtrue_events.backoff import Backoff
from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import SIGNAL, Outbox
from holdtrue_events.relay import Relay
from holdtrue_events.topics import ensure
from holdtrue_local.ports import free_port
from holdtrue_storage.database import Database
from structlog.testing import capture_logs

from tests.component.events.harness import (
    ACTOR,
    MODELS,
    SCHEMA,
    administration,
    by_model,
    emptied,
    everything,
    leaders,
    led_by_another,
    pairs,
    publish,
    running,
    until,
    values,
)
from tests.component.registry.harness import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest

NEVER = 3600.0
STANDBY = """
SELECT query_start FROM pg_stat_activity
WHERE query LIKE '%pg_try_advisory_lock%' AND pid <> pg_backend_pid() AND datname = current_database()"""
AWAKE = """
SELECT query_start FROM pg_stat_activity
WHERE query LIKE '%FROM outbox%' AND pid <> pg_backend_pid() AND datname = current_database()"""


@asynccontextmanager
async def other_process(dsn: str) -> AsyncGenerator[Outbox]:
    """The outbox as another process of the service sees it."""
    database = Database(dsn.replace("postgres@", f"{SCHEMA}@"), SCHEMA)
    await database.open()
    yield Outbox(database, "holdtrue/service")
    await database.close()


async def quiet(database: Database, query: str) -> None:
    """Return when a session has asked nothing new during fifty round trips of another one."""

    async def same() -> bool:
        before = await values(database, query)
        for _ in range(50):
            await values(database, "SELECT 1")
        return before == await values(database, query) != []

    await until(same, "the session is quiet")


async def test_what_is_published_goes_out_at_once_and_nothing_polls(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a poll that never comes only the signal of the commit can wake it."""
    monkeypatch.setattr(module, "_POLL_SECONDS", NEVER)
    sent: list[tuple[str, str]] = []
    async with running(Relay(outbox, bus)):
        for model in MODELS:
            sent += await publish(outbox, model)
            await emptied(database)
        await quiet(database, AWAKE)
    assert by_model(pairs(await everything(bus))) == by_model(sent)


async def test_what_another_process_published_goes_out_too(
    database: Database, outbox: Outbox, bus: Kafka, database_dsn: str
) -> None:
    """Its commits do not signal here: the poll finds them."""
    async with running(Relay(outbox, bus)), other_process(database_dsn) as other:
        sent = await publish(other, *MODELS)
        await emptied(database)
        assert not database.signal(SIGNAL).is_set()
    assert sorted(pairs(await everything(bus))) == sorted(sent)


async def test_the_records_arrive_byte_for_byte(database: Database, outbox: Outbox, bus: Kafka) -> None:
    records = [
        Record("runs.v1", b"k", b"v" * 1_040_000, (("absent", None), ("empty", b""), ("same", b"1"), ("same", b"2"))),
        Record("runs.v1", b"k", b"", ()),
        Record("deployments.v1", b"gone", None, (("ce_id", b"\xff"),)),
        Record("dead-letters.v1", None, None, ()),
        Record("dead-letters.v1", b"k", b"v" * 1_500_000, (("why", b"x" * 5_000),)),
    ]
    async with running(Relay(outbox, bus)):
        async with outbox.transaction(ACTOR) as tx:
            for record in records:
                tx.send(record)
        await emptied(database)
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        for name in ("runs.v1", "deployments.v1", "dead-letters.v1"):
            found = [Record(name, r.key, r.value, r.headers) for r in await topics.records(name)]
            assert sorted(found, key=repr) == sorted((r for r in records if r.topic == name), key=repr)


async def test_a_key_meets_the_partition_that_other_clients_choose(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    async with running(Relay(outbox, bus)):
        await publish(outbox, *MODELS)
        await emptied(database)
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        ours = {record.key: record.partition for record in await topics.records("runs.v1")}
        for model in MODELS:
            theirs = await topics.send("runs.v1", key("default", model), b"", [])
            assert theirs.partition == ours[key("default", model)]


async def test_one_relay_leads_and_the_next_takes_over_in_order(
    database: Database, outbox: Outbox, bus: Kafka, database_dsn: str
) -> None:
    """Three processes publish and relay; the leader's session is ended again and again."""
    sent: list[tuple[str, str]] = []
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(other_process(database_dsn)) for _ in range(2)]
        await stack.enter_async_context(running(*(Relay(each, bus) for each in (outbox, *others))))
        for _ in range(3):
            for each in (outbox, *others):
                sent += await publish(each, *MODELS)
            [leader] = await leaders(database)
            await values(database, "SELECT pg_terminate_backend($1)", leader)
        await emptied(database)
    arrived = pairs(await everything(bus))
    assert by_model(dict.fromkeys(arrived)) == by_model(sent)
    assert {model: events[-1] for model, events in by_model(arrived).items()} == dict(sent)


async def test_one_that_does_not_lead_sends_nothing_though_it_is_stopped(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    """What it sent would arrive after newer events of the leader, and stay as the latest of a compacted topic."""
    async with led_by_another(database):
        async with running(Relay(outbox, bus)):
            sent = await publish(outbox, *MODELS)
            await quiet(database, STANDBY)
        assert len(await values(database, "SELECT id FROM outbox")) == len(sent)
        assert not await everything(bus)
    async with running(Relay(outbox, bus)):
        await emptied(database)
    assert sorted(pairs(await everything(bus))) == sorted(sent)


async def test_one_that_does_not_lead_is_not_woken_by_what_its_process_publishes(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", NEVER)
    async with led_by_another(database), running(Relay(outbox, bus)):
        await quiet(database, STANDBY)
        await publish(outbox, *MODELS)
        assert database.signal(SIGNAL).is_set()
        await quiet(database, STANDBY)


async def test_while_kafka_is_away_it_rests_however_much_is_published(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next", always)
    away = Kafka(f"127.0.0.1:{free_port()}", bus.prefix)
    with capture_logs() as logs:
        async with running(Relay(outbox, away)):
            sent = await publish(outbox, *MODELS)
            await until(lambda: rested(logs), "it rests")
            for _ in range(20):
                sent += await publish(outbox, *MODELS)
        assert len(await values(database, "SELECT id FROM outbox")) == len(sent)
    assert sum(log["event"] == "the relay rests" for log in logs) == 1


def always(_: Backoff) -> float:
    return NEVER


async def rested(logs: list[Any]) -> bool:
    return any(log["event"] == "the relay rests" for log in logs)


async def test_what_kafka_refuses_holds_up_its_topic_alone_and_is_never_skipped(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REST_SECONDS", 0.2)
    topic = bus.topic("rollouts.v1")
    numbers = [b"1", b"2" * 3000, b"3"]
    async with administration(bus) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "2000"})])
        with capture_logs() as logs:
            async with running(Relay(outbox, bus)):
                for number in numbers:
                    await send(outbox, Record("rollouts.v1", b"k", number, ()))
                await until(lambda: rested(logs), "Kafka refuses")
                await publish(outbox, *MODELS)
                await until(lambda: only(database, "rollouts.v1"), "the other topic goes on")
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={})])
                await emptied(database)
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        assert [record.value for record in await topics.records("rollouts.v1", 1)] == numbers


async def send(outbox: Outbox, record: Record) -> None:
    async with outbox.transaction(ACTOR) as tx:
        tx.send(record)


async def test_events_of_a_topic_that_is_not_there_yet_wait_for_it_and_others_do_not(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_METADATA_SECONDS", 0.5)
    monkeypatch.setattr(module, "_REST_SECONDS", 0.2)
    late = Record("rollouts.v1", b"k", b"v", ())
    async with running(Relay(outbox, bus)):
        await send(outbox, late)
        await publish(outbox, *MODELS)
        await until(lambda: only(database, "rollouts.v1"), "the other topic goes on")
        await ensure(bus.bootstrap, bus.prefix, topics=[TOPICS["rollouts.v1"]])
        await emptied(database)
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        assert [(r.key, r.value) for r in await topics.records("rollouts.v1")] == [(late.key, late.value)]


async def only(database: Database, topic: str) -> bool:
    return await values(database, "SELECT DISTINCT topic FROM outbox") == [topic]


async def test_a_crowd_is_drained_in_order(database: Database, outbox: Outbox, bus: Kafka) -> None:
    """More rows than one pass takes, written by many while they are sent."""

    async def write() -> list[tuple[str, str]]:
        return [pair for _ in range(10) for pair in await publish(outbox, *MODELS)]

    async with running(Relay(outbox, bus)):
        async with outbox.transaction(ACTOR) as tx:
            for number in range(3_000):
                tx.send(Record("deployments.v1", b"k", b"%d" % number, ()))
        written = await asyncio.gather(*(write() for _ in range(4)))
        await emptied(database)
    assert len(pairs(await everything(bus))) == sum(map(len, written))
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        found = [int(record.value) for record in await topics.records("deployments.v1")]
    assert found == list(range(3_000))
