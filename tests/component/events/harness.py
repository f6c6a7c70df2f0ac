"""What the tests of delivery have in common: a service with one handler, and ways to see what came of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.record.util import calc_crc32c
from holdtrue_contracts.actor import Actor, ActorKind, service_actor
from holdtrue_contracts.trainer.v1.runs_pb2 import RunRequested
from holdtrue_events.dead_letters import DeadLetters
from holdtrue_events.mirror import Mirror
from holdtrue_events.react import subscribes
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import migrate
from holdtrue_storage.provision import provision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from holdtrue_contracts.codec import Event
    from holdtrue_contracts.dead_letter import DeadLetter
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox, Transaction

    Pair = tuple[str, str]
    ByModel = dict[str, list[str]]

SCHEMA = "service"
ACTOR = service_actor(SCHEMA)
MODELS = [f"model-{number}" for number in range(9)]
PATIENCE = 100  # less than the limit of a test, so that it says what never came
_CHECKSUM = slice(17, 21)  # where a record batch has it, over all that follows
_HOLD = f"SELECT pg_advisory_lock(hashtextextended('holdtrue relay of {SCHEMA}', 0))"
_LET_GO = f"SELECT pg_advisory_unlock(hashtextextended('holdtrue relay of {SCHEMA}', 0))"
_LEADERS = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class Part(Protocol):
    """What a service is made of."""

    async def start(self) -> None: ...
    async def run(self) -> None: ...
    async def stop(self) -> None: ...


async def prepared(dsn: str) -> Database:
    """Open the database of a service, with the shared tables and one of its own: `effect(value text)`."""
    await provision(dsn, SCHEMA)
    database = Database(dsn.replace("postgres@", f"{SCHEMA}@"), SCHEMA)
    await database.open()
    await migrate(database, ["holdtrue_storage", "holdtrue_events"])
    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE effect (number bigserial PRIMARY KEY, value text NOT NULL)")
    return database


@subscribes(RunRequested)
async def on_run_requested(event: Event[RunRequested], tx: Transaction) -> None:
    """Write model and event down."""
    await tx.execute("INSERT INTO effect (value) VALUES ($1)", f"{event.data.model_id} {event.id}")


@asynccontextmanager
async def running(*parts: Part) -> AsyncGenerator[None]:
    """Run parts of a service, stop them at the end as it would: in reverse order."""
    async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as group:
        for part in parts:
            await part.start()
            group.create_task(part.run())
        try:
            yield
        finally:
            for part in reversed(parts):
                await part.stop()


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Return when the condition holds; fail saying what never came."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {PATIENCE} s") from None


async def publish(outbox: Outbox, *models: str) -> list[Pair]:
    """Publish an event of each model in one transaction; model and event id of each."""
    async with outbox.transaction(ACTOR) as tx:
        return [(model, tx.publish(RunRequested(model_id=model)).id) for model in models]


async def values(database: Database, query: str, *arguments: object) -> list[Any]:
    """Return the first column."""
    async with database.acquire() as connection:
        return [row[0] for row in await connection.fetch(query, *arguments)]


async def effects(database: Database) -> list[Pair]:
    """Model and event of each effect, in the order of the effects."""
    found = await values(database, "SELECT value FROM effect ORDER BY number")
    return [(model, event) for model, _, event in (effect.partition(" ") for effect in found)]


async def emptied(database: Database) -> None:
    """Return when the relay has taken everything."""

    async def empty() -> bool:
        return not await values(database, "SELECT id FROM outbox LIMIT 1")

    await until(empty, "the outbox is empty")


async def handled(database: Database, count: int) -> list[Pair]:
    """Return the effects when there are so many."""

    async def enough() -> bool:
        return len(await effects(database)) >= count

    await until(enough, f"{count} effects")
    return await effects(database)


async def letters(outbox: Outbox, count: int = 0, *, replayed: bool = False) -> list[DeadLetter]:
    """Return the dead letters of all tenants, oldest first, when there are so many."""
    found: list[DeadLetter] = []

    async def enough() -> bool:
        found.clear()
        for tenant in await values(outbox.database, "SELECT DISTINCT tenant FROM dead_letter"):
            async with outbox.transaction(Actor(tenant, "test", ActorKind.PERSON)) as tx:
                found.extend(await DeadLetters(tx).list(replayed=replayed))
        return len(found) >= count

    await until(enough, f"{count} dead letters")
    return sorted(found, key=lambda letter: letter.id)


async def everything(bus: Kafka, topic: str = "runs.v1") -> list[Event[Any]]:
    """Every event that the topic has."""
    heard: list[Event[Any]] = []

    def hear(_key: bytes, event: Event[Any] | None) -> None:
        assert event is not None
        heard.append(event)

    mirror = Mirror(bus, topic, hear)
    await mirror.start()
    await mirror.stop()
    await mirror.run()
    return heard


def pairs(events: Iterable[Event[Any]]) -> list[Pair]:
    """Model and event id of each."""
    return [(event.data.model_id, event.id) for event in events]


def by_model(found: Iterable[Pair]) -> ByModel:
    """Events of each model in their order."""
    models: ByModel = defaultdict(list)
    for model, event in found:
        models[model].append(event)
    return models


@asynccontextmanager
async def led_by_another(database: Database, instead_of: int = 0) -> AsyncGenerator[None]:
    """Hold the lock that elects the relay; `instead_of`: the session that holds it now is ended."""
    async with database.acquire() as connection:
        waiting = asyncio.create_task(connection.execute(_HOLD))
        if instead_of:
            await values(database, "SELECT pg_terminate_backend($1)", instead_of)
        await waiting
        yield
        await connection.execute(_LET_GO)


async def leaders(database: Database) -> list[int]:
    """The sessions that hold that lock, when there are any."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await values(database, _LEADERS)):
            await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def administration(bus: Kafka) -> AsyncGenerator[AIOKafkaAdminClient]:
    """A client for what only administrators do."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bus.bootstrap)
    await admin.start()
    yield admin
    await admin.close()


async def remove_topics(bus: Kafka) -> None:
    """Leave no topics behind: a broker that has thousands is slow for all tests."""
    async with administration(bus) as admin:
        await admin.delete_topics([name for name in await admin.list_topics() if bus.prefix in name])


async def send_unreadable(bus: Kafka, topic: str, partition: int) -> int:
    """Send a record that Kafka takes and aiokafka cannot read: a header's name is not UTF-8. Its offset."""
    async with AIOKafkaProducer(bootstrap_servers=bus.bootstrap) as producer:
        batch: Any = producer.create_batch()
        batch.append(timestamp=None, key=b"k", value=b"v", headers=[("NAME", b"x")])
        batch.close()
        raw = bytearray(batch._build())
        raw = raw.replace(b"NAME", b"\xff\xfe\xfd\xfc")
        raw[_CHECKSUM] = calc_crc32c(bytes(raw[_CHECKSUM.stop :])).to_bytes(4, "big")
        batch._buffer = raw
        sent = await producer.send_batch(batch, bus.topic(topic), partition=partition)
        return (await sent).offset
