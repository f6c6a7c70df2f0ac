"""A dead letter gets another chance: its consumer handles it once more, and only that one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.dead_letter import DeadLetter, settles
from holdtrue_contracts.trainer.v1.runs_pb2 import RunRequested
from holdtrue_core.errors import InvalidArgument
from holdtrue_events.dead_letters import DeadLetters
from holdtrue_events.react import React, Rejected, subscribes
from holdtrue_events.relay import Relay

from tests.component.events.harness import (
    ACTOR,
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
    from holdtrue_contracts.codec import Event
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_storage.database import Database

OPERATOR = Actor("default", "Zoë", ActorKind.PERSON, ("operator",))


class Domain:
    """Refuses events until it has learned better."""

    def __init__(self) -> None:
        self.refuses = True
        domain = self

        @subscribes(RunRequested)
        async def handle(event: Event[RunRequested], tx: Transaction) -> None:
            if domain.refuses:
                raise Rejected("not yet", reason="not_yet")
            await on_run_requested(event, tx)

        self.handle = handle


async def replay(outbox: Outbox, letter: DeadLetter) -> None:
    async with outbox.transaction(OPERATOR) as tx:
        tx.send(letter.replay())


async def test_its_consumer_handles_it_and_no_other_does(database: Database, outbox: Outbox, bus: Kafka) -> None:
    domain = Domain()
    other = React(outbox, bus, "other", [on_run_requested])
    async with running(Relay(outbox, bus), React(outbox, bus, "group", [domain.handle]), other):
        sent = await publish(outbox, "m")
        [letter] = await letters(outbox, 1)
        assert await handled(database, 1) == sent  # the other group's
        domain.refuses = False
        await replay(outbox, letter)
        assert await handled(database, 2) == [*sent, *sent]
        behind = await publish(outbox, "m")
        assert await handled(database, 4) == [*sent, *sent, *behind, *behind]
        await emptied(database)
    assert not await letters(outbox)
    assert await letters(outbox, 1, replayed=True) == [letter]
    mirrored = await mirrored_letters(bus)
    assert [settles(record.headers) for record in mirrored] == [None, letter.id]
    assert mirrored[0].key == mirrored[1].key


async def test_a_replay_that_arrives_twice_has_one_effect_and_a_second_replay_another(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    domain = Domain()
    async with running(Relay(outbox, bus), React(outbox, bus, "group", [domain.handle])):
        await publish(outbox, "m")
        [letter] = await letters(outbox, 1)
        domain.refuses = False
        async with outbox.transaction(OPERATOR) as tx:
            for _ in range(2):
                tx.send(letter.replay())  # sent again after a crash of the relay
        sent = await publish(outbox, "m")
        found = await handled(database, 2)
    assert found == [("m", letter.event_id), *sent]


async def test_what_fails_again_becomes_a_dead_letter_again(database: Database, outbox: Outbox, bus: Kafka) -> None:
    domain = Domain()
    async with running(Relay(outbox, bus), React(outbox, bus, "group", [domain.handle])):
        sent = await publish(outbox, "m")
        [first] = await letters(outbox, 1)
        await replay(outbox, first)
        await until(lambda: another(outbox, first), "another dead letter")
        [second] = await letters(outbox, 1)
        domain.refuses = False
        await replay(outbox, second)
        assert await handled(database, 1) == sent
    assert (second.event_id, second.key, second.value) == (first.event_id, first.key, first.value)
    assert len(await letters(outbox, 2, replayed=True)) == 2


async def another(outbox: Outbox, first: DeadLetter) -> bool:
    return [letter.id for letter in await letters(outbox)] not in ([], [first.id])


async def test_a_malformed_record_stays_malformed_and_stops_nothing(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        await topics.send("runs.v1", None, b"", [])
    async with running(Relay(outbox, bus), React(outbox, bus, "group", [on_run_requested])):
        [first] = await letters(outbox, 1)
        await replay(outbox, first)
        await until(lambda: another(outbox, first), "another dead letter")
        sent = await publish(outbox, "m")
        assert await handled(database, 1) == sent
    [second] = await letters(outbox, 1)
    assert (second.reason, second.offset > first.offset or second.partition != first.partition) == (
        "missing_header",
        True,
    )


async def mirrored_letters(bus: Kafka) -> list[Any]:
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        return sorted(await topics.records("dead-letters.v1"), key=lambda record: record.offset)


async def keep(outbox: Outbox, tenant: str, number: int, value: bytes = b"v") -> DeadLetter:
    """Put a dead letter into the table."""
    record = encode(new_event(RunRequested(model_id="m"), source="test", actor=ACTOR))
    now = outbox.clock.now()
    letter = DeadLetter(
        f"{number:04}", tenant, "group", "runs.v1", 0, number, "no", "why", now, record.key, value, record.headers
    )
    async with outbox.transaction(Actor(tenant, "test", ActorKind.SERVICE)) as tx:
        await DeadLetters(tx).add(letter)
    return letter


async def test_letters_are_listed_page_by_page_each_tenant_its_own(database: Database, outbox: Outbox) -> None:
    ours = [await keep(outbox, "default", number) for number in range(5)]
    theirs = await keep(outbox, "north", 9)
    async with outbox.transaction(OPERATOR) as tx:
        known = DeadLetters(tx)
        assert await known.list(limit=2) == ours[:2]
        assert await known.list(limit=2, after=ours[1].id) == ours[2:4]
        assert await known.list(after=ours[4].id) == []
        await known.settle("default", theirs.id)
        await known.settle("default", "no such letter")
    assert await values(database, "SELECT id FROM dead_letter WHERE replayed_at IS NOT NULL") == []
    async with outbox.transaction(OPERATOR) as tx:
        for _ in range(2):
            await DeadLetters(tx).settle("default", ours[3].id)
    assert await values(database, "SELECT id FROM dead_letter WHERE replayed_at IS NOT NULL") == [ours[3].id]
    assert len(await values(database, "SELECT 1 FROM outbox")) == 7


async def test_what_kafka_would_refuse_for_ever_is_not_replayed(database: Database, outbox: Outbox) -> None:
    letter = await keep(outbox, "default", 1, b"v" * 1_048_000)
    with pytest.raises(InvalidArgument, match=r"runs\.v1: \d+ bytes with headers"):
        await replay(outbox, letter)
    assert await letters(outbox) == [letter]
    assert await values(database, "SELECT DISTINCT topic FROM outbox") == ["dead-letters.v1"]
