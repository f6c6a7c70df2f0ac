"""What was handled is remembered for as long as it can come again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from holdtrue_events.inbox import claim, forget
from holdtrue_events.react import React
from holdtrue_events.relay import Relay

from tests.component.events.harness import (
    ACTOR,
    MODELS,
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
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox
    from holdtrue_storage.database import Database

    from tests.component.events.harness import Pair

EVENTS = [("default", "a"), ("north", "a"), ("default", "b")]


async def take(outbox: Outbox, events: list[Pair], consumer: str = "trainer") -> set[Pair]:
    async with outbox.transaction(ACTOR) as tx:
        return await claim(tx, consumer, events)


async def test_an_event_is_new_once_for_each_consumer_and_tenant(outbox: Outbox, database: Database) -> None:
    assert await take(outbox, EVENTS[:2]) == set(EVENTS[:2])
    assert await take(outbox, EVENTS) == {("default", "b")}
    assert await take(outbox, EVENTS, "deployer") == set(EVENTS)
    assert len(await values(database, "SELECT * FROM inbox")) == 6


async def test_twice_in_one_batch_is_once(outbox: Outbox) -> None:
    assert await take(outbox, [EVENTS[0], EVENTS[0]]) == {EVENTS[0]}


async def test_what_was_rolled_back_is_new_again(outbox: Outbox) -> None:
    async def fail() -> None:
        async with outbox.transaction(ACTOR) as tx:
            assert await claim(tx, "trainer", EVENTS)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()
    assert await take(outbox, EVENTS) == set(EVENTS)


@pytest.mark.parametrize("commits", [True, False])
async def test_two_at_once_wait_for_each_other(outbox: Outbox, database: Database, *, commits: bool) -> None:
    """The second is told what came of the first, not what it looked like meanwhile."""
    async with database.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute("INSERT INTO inbox (tenant, consumer, event_id) VALUES ('default', 'trainer', 'a')")
        second = asyncio.create_task(take(outbox, EVENTS))
        await until(lambda: blocked(database), "the second waits")
        assert not second.done()
        await connection.execute("COMMIT" if commits else "ROLLBACK")
    assert (EVENTS[0] in await second) == (not commits)


async def blocked(database: Database) -> bool:
    return bool(await values(database, "SELECT pid FROM pg_locks WHERE NOT granted"))


async def age(database: Database, days: int, consumer: str = "group") -> None:
    await values(
        database,
        "UPDATE inbox SET seen_at = seen_at - $1 * interval '1 day' WHERE consumer = $2",
        days,
        consumer,
    )


@pytest.mark.parametrize(
    ("topics", "days", "kept"),
    [
        (["runs.v1"], 371, True),
        (["runs.v1"], 373, False),
        (["data.v1"], 13, True),
        (["data.v1"], 15, False),
        (["data.v1", "runs.v1"], 371, True),
        (["deployments.v1"], 371, True),
        (["deployments.v1"], 373, False),
    ],
)
async def test_it_is_forgotten_when_no_topic_can_hold_it_any_more(
    outbox: Outbox, database: Database, topics: list[str], days: int, *, kept: bool
) -> None:
    for consumer in ("group", "other"):
        await take(outbox, EVENTS, consumer)
        await age(database, days, consumer)
    async with outbox.transaction(ACTOR) as tx:
        await forget(tx, "group", topics)
    assert len(await take(outbox, EVENTS)) == 3
    assert bool(await take(outbox, EVENTS, "group")) == (not kept)
    assert not await take(outbox, EVENTS, "other")


async def test_a_consumer_forgets_by_itself_what_is_old(database: Database, outbox: Outbox, bus: Kafka) -> None:
    await take(outbox, [("default", "old"), ("default", "young")], "group")
    await values(database, "UPDATE inbox SET seen_at = now() - interval '2 years' WHERE event_id = 'old'")
    async with running(React(outbox, bus, "group", [on_run_requested])):
        await until(lambda: only_young(database), "the old one is forgotten")


async def only_young(database: Database) -> bool:
    return await values(database, "SELECT event_id FROM inbox") == ["young"]


async def test_malformed_records_are_known_by_their_place(database: Database, outbox: Outbox, bus: Kafka) -> None:
    """They have no id that could be trusted: a new group with the old name makes no second dead letter of them."""
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        for _ in range(2):
            await topics.send("runs.v1", b"same", b"same", [("ce_id", b"same")])
    async with running(React(outbox, bus, "group", [on_run_requested])):
        await letters(outbox, 2)
    async with running(Relay(outbox, bus), React(outbox, bus, "new", [on_run_requested], consumer="group")):
        sent = await publish(outbox, *MODELS)
        assert sorted(await handled(database, len(sent))) == sorted(sent)
        assert len(await letters(outbox)) == 2
