"""An event has its effect exactly once, with all that the effect publishes, in order per key."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.trainer.v1.runs_pb2 import RunFailed, RunRequested
from holdtrue_events.react import React, Rejected, subscribes
from holdtrue_events.relay import Relay

from tests.component.events.harness import (
    ACTOR,
    MODELS,
    administration,
    by_model,
    effects,
    emptied,
    everything,
    handled,
    on_run_requested,
    publish,
    running,
    until,
    values,
)
from tests.component.registry.harness import Topics

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient
    from holdtrue_contracts.codec import Event
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_storage.database import Database

PERSON = Actor("north", "Zoë", ActorKind.PERSON, ("operator",))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def committed(bus: Kafka, group: str = "group") -> int:
    """Sum of the offsets that the group has committed."""
    async with administration(bus) as admin:
        offsets = await admin.list_consumer_group_offsets(bus.prefix + group)
    return sum(max(place.offset, 0) for place in offsets.values())


async def test_the_effect_and_what_it_publishes_are_in_the_name_of_who_caused_them(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    @subscribes(RunRequested)
    async def refuse(event: Event[RunRequested], tx: Transaction) -> None:
        tx.publish(RunFailed(model_id=event.data.model_id, message=f"{tx.actor.name} {tx.traceparent}"))

    @subscribes(RunFailed)
    async def note(event: Event[RunFailed], tx: Transaction) -> None:
        await tx.execute("INSERT INTO effect (value) VALUES ($1)", f"{event.data.message} {event.actor.tenant}")

    plain = new_event(RunRequested(model_id="m"), source="test", actor=ACTOR)
    traced = new_event(RunRequested(model_id="m"), source="test", actor=PERSON, traceparent=TRACE)
    async with running(Relay(outbox, bus), React(outbox, bus, "group", [refuse, note])):
        async with Topics(bus.bootstrap, bus.prefix) as topics:
            for event in (traced, plain):
                record = encode(event)
                await topics.send(record.topic, record.key, record.value, record.headers)
        await until(lambda: has(database, 2), "both effects")
    found = await values(database, "SELECT value FROM effect ORDER BY value")
    assert found == ["Zoë " + TRACE + " north", "service None default"]
    tenants = await values(database, "SELECT DISTINCT tenant FROM inbox ORDER BY tenant")
    assert tenants == ["default", "north"]


async def has(database: Database, count: int) -> bool:
    return len(await values(database, "SELECT number FROM effect")) >= count


async def test_what_comes_again_has_no_second_effect(database: Database, outbox: Outbox, bus: Kafka) -> None:
    """Twice in one batch, in a later batch, and to a group that reads everything anew in the old consumer's name."""
    records = [encode(new_event(RunRequested(model_id=model), source="test", actor=ACTOR)) for model in MODELS]
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        for record in [*records, *records]:
            await topics.send(record.topic, record.key, record.value, record.headers)
        async with running(React(outbox, bus, "group", [on_run_requested])):
            await until(lambda: reached(bus, "group", 2 * len(records)), "all is read")
            for record in records:
                await topics.send(record.topic, record.key, record.value, record.headers)
            await until(lambda: reached(bus, "group", 3 * len(records)), "all is read again")
    async with running(React(outbox, bus, "new", [on_run_requested], consumer="group")):
        await until(lambda: reached(bus, "new", 3 * len(records)), "all is read by the new group")
    assert Counter(model for model, _ in await effects(database)) == Counter(MODELS)


async def reached(bus: Kafka, group: str, count: int) -> bool:
    return await committed(bus, group) == count


async def test_two_consumers_of_a_service_each_have_their_effect(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    async with running(
        *(React(outbox, bus, group, [on_run_requested]) for group in ("one", "two")), Relay(outbox, bus)
    ):
        sent = await publish(outbox, *MODELS)
        assert Counter(await handled(database, 2 * len(sent))) == Counter([*sent, *sent])


async def test_a_batch_is_one_transaction_until_one_of_it_fails(database: Database, outbox: Outbox, bus: Kafka) -> None:
    """`xmin` is the transaction that wrote a row."""

    @subscribes(RunFailed)
    async def reject(event: Event[RunFailed], tx: Transaction) -> None:
        await tx.execute("INSERT INTO effect (value) VALUES ($1)", f"half of {event.id}")
        raise Rejected("no")

    async def transactions() -> int:
        return len(await values(database, "SELECT DISTINCT xmin::text FROM effect"))

    async with running(Relay(outbox, bus)):
        first = await publish(outbox, *["m"] * 100)
        await emptied(database)
        async with running(React(outbox, bus, "group", [on_run_requested, reject])):
            await handled(database, 100)
            assert await transactions() < 20
        second = await publish(outbox, *["m"] * 50)
        async with outbox.transaction(ACTOR) as tx:
            tx.publish(RunFailed(model_id="m"))
        third = await publish(outbox, *["m"] * 50)
        await emptied(database)
        await values(database, "DELETE FROM effect")
        async with running(React(outbox, bus, "group", [on_run_requested, reject])):
            assert await handled(database, 100) == second + third
            assert await transactions() > 20
    assert len(first) == 100
    assert await values(database, "SELECT reason FROM dead_letter") == ["rejected"]


async def test_an_effect_that_broke_off_half_way_leaves_nothing_and_is_tried_again(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    """The handler fails after its effect; the server ends its session; its transaction cannot commit."""
    faults = iter(["raise", "terminate", "commit"])

    @subscribes(RunRequested)
    async def fail_first(event: Event[RunRequested], tx: Transaction) -> None:
        await on_run_requested(event, tx)
        tx.publish(RunFailed(model_id=event.data.model_id))
        fault = next(faults, "")
        if fault == "raise":
            raise ValueError("half done")
        if fault == "terminate":
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        if fault == "commit":
            await tx.execute("INSERT INTO deferred VALUES (1), (1)")

    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE deferred (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    async with running(Relay(outbox, bus), React(outbox, bus, "group", [fail_first])):
        sent = await publish(outbox, "m", "m")
        assert await handled(database, 2) == sent
        await emptied(database)
    assert next(faults, "none left") == "none left"
    assert [type(event.data) for event in await everything(bus)] == [RunRequested] * 2 + [RunFailed] * 2
    assert not await values(database, "SELECT reason FROM dead_letter")


async def test_a_rebalance_between_consumers_repeats_and_loses_nothing(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    """One is at work all the time; another joins and leaves, and joins and leaves, while events come."""
    ended = asyncio.Event()
    calls: list[str] = []

    @subscribes(RunRequested)
    async def second(event: Event[RunRequested], tx: Transaction) -> None:
        calls.append(event.id)
        await on_run_requested(event, tx)

    async def write() -> list[tuple[str, str]]:
        sent: list[tuple[str, str]] = []
        while not ended.is_set():
            sent += await publish(outbox, *MODELS)
            await asyncio.sleep(0.02)  # a stream, not a flood
        return sent

    async with running(Relay(outbox, bus), React(outbox, bus, "group", [on_run_requested])):
        writing = asyncio.create_task(write())
        for turn in range(1, 3):
            async with running(React(outbox, bus, "group", [second])):
                await until(lambda wanted=5 * turn: more_than(calls, wanted), "the second takes part")
        ended.set()
        sent = await writing
        assert by_model(await handled(database, len(sent))) == by_model(sent)


async def more_than(calls: list[str], count: int) -> bool:
    return len(calls) > count


async def test_the_stop_finishes_what_is_in_hand_and_commits_it(database: Database, outbox: Outbox, bus: Kafka) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    @subscribes(RunRequested)
    async def slow(event: Event[RunRequested], tx: Transaction) -> None:
        await on_run_requested(event, tx)
        begun.set()
        await finish.wait()

    async with running(Relay(outbox, bus)):
        sent = await publish(outbox, "m")
        await emptied(database)
    react = React(outbox, bus, "group", [slow])
    task = asyncio.create_task(react.run())
    await begun.wait()
    await react.stop()
    finish.set()
    await task
    assert await effects(database) == sent
    assert await committed(bus) == 1


async def test_events_of_other_types_and_tombstones_pass_by(database: Database, outbox: Outbox, bus: Kafka) -> None:
    async with running(Relay(outbox, bus), React(outbox, bus, "group", [on_run_requested])):
        async with outbox.transaction(ACTOR) as tx:
            tx.publish(RunFailed(model_id="m"))
        sent = await publish(outbox, "m")
        assert await handled(database, 1) == sent
    assert len(await values(database, "SELECT event_id FROM inbox")) == 1


async def test_who_stops_leaves_its_group_though_its_name_is_static(outbox: Outbox, bus: Kafka) -> None:
    """Otherwise its partitions would wait a whole session for it."""
    named = replace(bus, instance_id="service-0")
    async with administration(bus) as admin:
        async with running(React(outbox, named, "group", [on_run_requested])):
            await until(lambda: members(admin, bus.prefix + "group", 1), "it is a member")
        assert await members(admin, bus.prefix + "group", 0)


async def members(admin: AIOKafkaAdminClient, group: str, count: int) -> bool:
    [response] = await admin.describe_consumer_groups([group])
    [described] = response.to_object()["groups"]
    return len(described["members"]) == count
