"""Publishing: an event exists if, and only if, the change exists that it tells of."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.codec import Record, decode
from holdtrue_contracts.trainer.v1.runs_pb2 import RunFailed, RunRequested
from holdtrue_core.errors import InvalidArgument, Unavailable
from holdtrue_events.kafka import MAX_EVENT_BYTES, MAX_RECORD_BYTES
from holdtrue_events.outbox import SIGNAL, Outbox, unpack_headers
from holdtrue_storage.database import Database

from tests.component.events.harness import ACTOR, SCHEMA, publish, values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message
    from holdtrue_contracts.codec import Event

NOW = datetime(2026, 7, 1, 12, 0, 0, 250_000, UTC)
PERSON = Actor("default", "Zoë O'Neil", ActorKind.PERSON, ("operator",))
EVENT = RunRequested(model_id="m")
WRITERS = 16


class Noon:
    """A clock that stands."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


async def waiting(database: Database) -> list[Event[Any]]:
    """The events of the outbox in the order in which they will be sent."""
    async with database.acquire() as connection:
        rows = await connection.fetch("SELECT key, value, headers FROM outbox ORDER BY id")
    return [decode(row["key"], row["value"], unpack_headers(row["headers"])) for row in rows]


async def nothing(database: Database) -> bool:
    """Whether there is neither event nor effect, and nobody was woken."""
    found = await values(database, "SELECT id::text FROM outbox UNION ALL SELECT value FROM effect")
    return not found and not database.signal(SIGNAL).is_set()


async def change(outbox: Outbox, message: Message = EVENT, subject: str = "", also: str = "") -> None:
    """A change with its event, and `also` a statement after it."""
    async with outbox.transaction(ACTOR) as tx:
        await tx.execute("INSERT INTO effect (value) VALUES ('changed')")
        tx.publish(message, subject=subject)
        if also:
            await tx.execute(also)


async def test_an_event_tells_who_what_when_and_after_what(database: Database) -> None:
    outbox = Outbox(database, "holdtrue/service", Noon())
    async with outbox.transaction(PERSON) as tx:
        plain = tx.publish(RunRequested(model_id="m"))
        tx.traceparent = "00-a-b-01"
        full = tx.publish(RunFailed(model_id="m"), aggregate_version=7, subject="run 3", event_id="chosen")
        assert not database.signal(SIGNAL).is_set()

    assert await waiting(database) == [plain, full]
    assert (full.id, full.subject, full.aggregate_version, full.traceparent) == ("chosen", "run 3", 7, "00-a-b-01")
    assert (plain.subject, plain.aggregate_version, plain.traceparent) == ("m", None, None)
    assert {event.actor for event in (plain, full)} == {PERSON}
    assert {event.time for event in (plain, full)} == {NOW}
    assert {event.source for event in (plain, full)} == {"holdtrue/service"}
    assert database.signal(SIGNAL).is_set()


async def test_ids_are_unique_and_grow(database: Database, outbox: Outbox) -> None:
    sent = await publish(outbox, *"abc") + await publish(outbox, *"abc")
    ids = [event for _, event in sent]
    assert ids == sorted(set(ids))
    assert [event.id for event in await waiting(database)] == ids


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError()])
async def test_what_was_rolled_back_leaves_nothing(database: Database, outbox: Outbox, error: BaseException) -> None:
    async def fail() -> None:
        async with outbox.transaction(ACTOR) as tx:
            await tx.execute("INSERT INTO effect (value) VALUES ('changed')")
            tx.publish(RunRequested(model_id="m"))
            raise error

    with pytest.raises(type(error)):
        await fail()
    assert await nothing(database)


async def test_a_commit_that_fails_leaves_nothing(database: Database, outbox: Outbox) -> None:
    """The outbox rows travel with COMMIT, which checks deferred constraints after them."""
    async with database.acquire() as connection:
        await connection.execute("ALTER TABLE effect ADD UNIQUE (value) DEFERRABLE INITIALLY DEFERRED")
    with pytest.raises(asyncpg.UniqueViolationError):
        await change(outbox, also="INSERT INTO effect (value) VALUES ('changed')")
    assert await nothing(database)


async def test_a_statement_that_failed_and_was_passed_over_publishes_nothing(
    database: Database, outbox: Outbox
) -> None:
    async def pass_over() -> None:
        async with outbox.transaction(ACTOR) as tx:
            tx.publish(EVENT)
            with contextlib.suppress(asyncpg.UndefinedTableError):
                await tx.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await pass_over()
    assert await nothing(database)


async def test_a_session_that_ends_in_the_middle_leaves_nothing(database: Database, outbox: Outbox) -> None:
    with pytest.raises(Unavailable):
        await change(outbox, also="SELECT pg_terminate_backend(pg_backend_pid())")
    assert await nothing(database)
    await change(outbox)
    assert len(await waiting(database)) == 1


@pytest.fixture
async def wide(database_dsn: str, database: Database) -> AsyncIterator[Database]:
    """The service's database with a connection for each of many writers, and aggregates."""
    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE aggregate (id text PRIMARY KEY, version bigint NOT NULL DEFAULT 0)")
        await connection.execute("INSERT INTO aggregate (id) SELECT 'model-' || n FROM generate_series(0, 2) AS n")
    wide = Database(database_dsn.replace("postgres@", f"{SCHEMA}@"), SCHEMA, pool_size=WRITERS)
    await wide.open()
    yield wide
    await wide.close()


async def test_ids_follow_the_versions_of_a_key_whoever_writes(wide: Database) -> None:
    """Sixteen writers fight for three aggregates; the relay sends in the order of the ids."""
    outbox, rounds = Outbox(wide, "holdtrue/service"), 30

    async def write(writer: int) -> None:
        for turn in range(rounds):
            model = f"model-{(writer + turn) % 3}"
            async with outbox.transaction(ACTOR) as tx:
                query = "UPDATE aggregate SET version = version + 1 WHERE id = $1 RETURNING version"
                version = await tx.fetchval(query, model)
                tx.publish(RunRequested(model_id=model), aggregate_version=version)

    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))

    sent = await waiting(wide)
    assert len(sent) == WRITERS * rounds
    for model in {event.data.model_id for event in sent}:
        versions = [event.aggregate_version for event in sent if event.data.model_id == model]
        assert versions == list(range(1, len(versions) + 1))


def of_size(size: int) -> RunFailed:
    """An event whose key and value are so many bytes."""
    bare = len(b"default/m") + RunFailed(model_id="m", message="x" * 100_000).ByteSize() - 100_000
    return RunFailed(model_id="m", message="x" * (size - bare))


async def test_an_event_that_is_too_large_is_refused_before_the_commit(database: Database, outbox: Outbox) -> None:
    with pytest.raises(InvalidArgument, match=r"RunFailed: 1000001 bytes, 1000000 are allowed: refer to a blob"):
        await change(outbox, of_size(MAX_EVENT_BYTES + 1))
    assert await nothing(database)


async def test_the_largest_event_is_published(database: Database, outbox: Outbox) -> None:
    await change(outbox, of_size(MAX_EVENT_BYTES))
    assert [event.data for event in await waiting(database)] == [of_size(MAX_EVENT_BYTES)]


async def test_headers_count_too(database: Database, outbox: Outbox) -> None:
    """Kafka would refuse the record for ever, and everything behind it would wait."""
    with pytest.raises(InvalidArgument, match=rf"runs\.v1: \d+ bytes with headers, {MAX_RECORD_BYTES} are allowed"):
        await change(outbox, of_size(MAX_EVENT_BYTES), subject="s" * 50_000)
    assert await nothing(database)


@pytest.mark.parametrize(
    "record",
    [
        Record("runs.v1", None, None, ()),
        Record("runs.v1", b"", b"", (("", b""),)),
        Record("it's a 'topic'; --", b"\x00\xff'\\", b"'); DROP TABLE outbox; --", (("ü", b"\x00"), ("ü", b"\xff"))),
        Record("runs.v1", b"k", b"v", (("absent", None), ("empty", b""))),
    ],
)
async def test_records_are_kept_byte_for_byte(database: Database, outbox: Outbox, record: Record) -> None:
    tenant = "O'Reilly \\'; ü"
    async with outbox.transaction(Actor(tenant, "x", ActorKind.SERVICE)) as tx:
        tx.send(record)
    async with database.acquire() as connection:
        row = await connection.fetchrow("SELECT * FROM outbox")
    assert row is not None
    assert row["tenant"] == tenant
    assert Record(row["topic"], row["key"], row["value"], tuple(unpack_headers(row["headers"]))) == record
