"""What may succeed later is tried again in place, ever more slowly, while other partitions go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from aiokafka.errors import KafkaTimeoutError
from holdtrue_contracts.catalogue import key
from holdtrue_contracts.trainer.v1.runs_pb2 import RunRequested
from holdtrue_core.errors import Unavailable
from holdtrue_events.backoff import Backoff
from holdtrue_events.react import React, Rejected, subscribes
from holdtrue_events.relay import Relay
from structlog.testing import capture_logs

from tests.component.events.harness import (
    MODELS,
    by_model,
    emptied,
    handled,
    letters,
    on_run_requested,
    publish,
    running,
    until,
    values,
)
from tests.component.registry.harness import Topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.codec import Event
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_events.subscriptions import AnyHandler
    from holdtrue_storage.database import Database

    from tests.component.events.harness import Pair

TRANSIENT = [
    Unavailable("the database is away", reason="DATABASE_UNAVAILABLE"),
    ConnectionResetError("the peer is gone"),
    TimeoutError("no answer"),
    KafkaTimeoutError("no answer"),
]


FAIL_TWICE = """
CREATE SEQUENCE attempt;
CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempt') <= 2 THEN
        RAISE EXCEPTION 'try again' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail_twice BEFORE INSERT ON dead_letter FOR EACH ROW EXECUTE FUNCTION fail_twice()"""


class Faults:
    """A handler that raises what is left of a list before it has its effect; `models`: only for these."""

    def __init__(self, *left: Exception, models: Sequence[str] = MODELS) -> None:
        self.left: list[Exception] = list(left)
        self.models = models
        self.calls = 0

    def handler(self) -> AnyHandler:
        @subscribes(RunRequested)
        async def handle(event: Event[RunRequested], tx: Transaction) -> None:
            self.calls += 1
            if self.left and event.data.model_id in self.models:
                raise self.left.pop(0)
            await on_run_requested(event, tx)

        return handle


async def published(database: Database, outbox: Outbox, bus: Kafka, *models: str) -> list[Pair]:
    """Publish events and wait until Kafka has them."""
    async with running(Relay(outbox, bus)):
        sent = await publish(outbox, *models)
        await emptied(database)
    return sent


@pytest.mark.usefixtures("no_pauses")
async def test_a_transient_error_never_makes_a_dead_letter_and_never_changes_the_order(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    """More of them than there are tries; the batch fails first, then its first event again and again."""
    sent = await published(database, outbox, bus, *["model-0"] * 10)
    faults = Faults(*TRANSIENT, *TRANSIENT[:1])
    async with running(React(outbox, bus, "group", [faults.handler()], tries=2)):
        assert await handled(database, len(sent)) == sent
    assert not faults.left
    assert not await letters(outbox)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(("failures", "kept"), [(2, 0), (3, 1)])
async def test_an_unexpected_error_gets_as_many_tries_as_were_asked_for(
    database: Database, outbox: Outbox, bus: Kafka, failures: int, kept: int
) -> None:
    """The try of the batch does not count, nor do transient errors in between."""
    sent = await published(database, outbox, bus, "model-0", "model-0")
    unexpected = [ValueError(f"failure {number}") for number in range(failures)]
    faults = Faults(ValueError("the batch"), *unexpected[:2], TimeoutError("no answer"), *unexpected[2:])
    async with running(React(outbox, bus, "group", [faults.handler()], tries=3)):
        assert await handled(database, 2 - kept) == sent[kept:]
        assert [letter.event_id for letter in await letters(outbox, kept)] == [event for _, event in sent[:kept]]
    assert not faults.left


async def test_while_one_event_waits_its_partition_waits_and_the_others_go_on(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once: its pause never ends."""
    asked: list[int] = []

    def never(self: Backoff) -> float:
        asked.append(self.failures)
        return 3600.0

    monkeypatch.setattr(Backoff, "next", never)
    first = await published(database, outbox, bus, "model-0")
    faults = Faults(*[TimeoutError("no answer")] * 1000, models=["model-0"])
    async with running(React(outbox, bus, "group", [faults.handler()])):
        await until(lambda: true_of(asked), "one waits")
        behind = await published(database, outbox, bus, *MODELS)
        async with Topics(bus.bootstrap, bus.prefix) as topics:
            partitions = {record.key: record.partition for record in await topics.records("runs.v1")}
        waiting = partitions[key("default", "model-0")]
        elsewhere = [pair for pair in behind if partitions[key("default", pair[0])] != waiting]
        found = await handled(database, len(elsewhere))
    assert sorted(found) == sorted(elsewhere)
    assert len(elsewhere) < len(behind)
    assert asked == [0]
    async with running(React(outbox, bus, "group", [on_run_requested])):  # nothing that waited counts as read
        found = await handled(database, len(first) + len(behind))
    assert by_model(found) == by_model([*first, *behind])


async def true_of(items: Sequence[object]) -> bool:
    return bool(items)


async def test_pauses_grow_with_each_failure_of_an_event_and_begin_anew_with_the_next(
    database: Database, outbox: Outbox, bus: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    following = Backoff.next

    def note(self: Backoff) -> float:
        asked.append(self.failures)
        following(self)
        return 0.0

    monkeypatch.setattr(Backoff, "next", note)
    sent = await published(database, outbox, bus, "model-0", "model-0")
    faults = Faults(*[TimeoutError("no answer")] * 4)
    async with running(React(outbox, bus, "group", [faults.handler()])):
        await handled(database, len(sent))
        faults.left += [TimeoutError("no answer")] * 3
        await published(database, outbox, bus, "model-0")
        await handled(database, len(sent) + 1)
    assert asked == [0, 1, 2, 0, 1]


@pytest.mark.usefixtures("no_pauses")
async def test_an_outage_of_the_database_is_waited_out(
    database: Database, outbox: Outbox, bus: Kafka, postgres: str, database_dsn: str
) -> None:
    name = database_dsn.partition("?")[0].rpartition("/")[2]
    sent = await published(database, outbox, bus, *MODELS)
    administrator = await asyncpg.connect(postgres)
    await administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    with capture_logs() as logs:
        async with running(React(outbox, bus, "group", [on_run_requested])):
            await until(lambda: said(logs, "an event waits"), "an event waits")
            await administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            assert by_model(await handled(database, len(sent))) == by_model(sent)
    await administrator.close()
    assert not await letters(outbox)


async def said(logs: list[Any], text: str) -> bool:
    return any(log["event"] == text for log in logs)


@pytest.mark.usefixtures("no_pauses")
async def test_a_dead_letter_that_cannot_be_kept_now_is_kept_later(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    """The database refuses it twice for a reason that passes."""

    @subscribes(RunRequested)
    async def reject(event: Event[RunRequested], tx: Transaction) -> None:
        if event.data.model_id == "bad":
            raise Rejected("no")
        await on_run_requested(event, tx)

    async with database.acquire() as connection:
        await connection.execute(FAIL_TWICE)
    sent = await published(database, outbox, bus, "bad", "bad", "good")
    async with running(React(outbox, bus, "group", [reject])):
        assert await handled(database, 1) == sent[2:]
        assert [letter.event_id for letter in await letters(outbox, 2)] == [event for _, event in sent[:2]]
    assert await values(database, "SELECT last_value FROM attempt") == [4]
