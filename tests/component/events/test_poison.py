"""What cannot be handled becomes a dead letter as it came, and everything behind it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from holdtrue_contracts.catalogue import TOPICS, key
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.dead_letter import DeadLetter
from holdtrue_contracts.trainer.v1.runs_pb2 import RunFailed, RunRequested
from holdtrue_events.dead_letters import DeadLetters
from holdtrue_events.react import React, Rejected, subscribes
from holdtrue_events.relay import Relay

from tests.component.events.harness import (
    ACTOR,
    effects,
    emptied,
    handled,
    letters,
    on_run_requested,
    publish,
    running,
    send_unreadable,
    values,
)
from tests.component.registry.harness import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_contracts.codec import Event, Record
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_storage.database import Database

    Headers = list[tuple[str, bytes | None]]
    Poison = tuple[bytes | None, bytes | None, Headers]

DEFAULT = encode(new_event(RunRequested(model_id="m"), source="test", actor=ACTOR))


def event(model: str = "m") -> Record:
    return encode(new_event(RunRequested(model_id=model), source="test", actor=ACTOR))


def with_header(name: str, value: bytes | None) -> Poison:
    """An event, one header of which is another."""
    record = event()
    return record.key, record.value, [(known, value if known == name else raw) for known, raw in record.headers]


def without(name: str) -> Poison:
    record = event()
    return record.key, record.value, [header for header in record.headers if header[0] != name]


def with_version(text: bytes) -> Poison:
    record = event()
    return record.key, record.value, [*record.headers, ("ce_aggregateversion", text)]


HEADERS: Headers = list(DEFAULT.headers)
KEY, VALUE = DEFAULT.key, DEFAULT.value
MALFORMED: dict[str, tuple[str, Poison]] = {
    "nothing": ("missing_header", (None, b"", [])),
    "no headers": ("missing_header", (KEY, VALUE, [])),
    "no type": ("missing_header", without("ce_type")),
    "no id": ("missing_header", without("ce_id")),
    "no tenant": ("missing_header", without("ce_tenant")),
    "an id without value": ("missing_header", with_header("ce_id", None)),
    "a type without value": ("missing_header", with_header("ce_type", None)),
    "not protobuf": ("bad_payload", (KEY, b"\xff\xff", HEADERS)),
    "no text": ("bad_payload", (KEY, b"\n\x02\xff\xfe", HEADERS)),
    "no value": ("no_value", (KEY, None, HEADERS)),
    "other key": ("bad_key", (key("default", "x"), VALUE, HEADERS)),
    "key of another tenant": ("bad_key", (key("north", "m"), VALUE, HEADERS)),
    "no key": ("bad_key", (None, VALUE, HEADERS)),
    "other tenant": ("bad_header", with_header("ce_tenant", b"north")),
    "no actor": ("bad_header", with_header("ce_actor", b"somebody")),
    "binary header": ("bad_header", with_header("ce_subject", b"\xff\xfe")),
    "time before time": ("bad_header", with_header("ce_time", b"0001-01-01T00:00:00+14:00")),
    "no version": ("bad_header", with_version(b"seven")),
    "endless version": ("bad_header", with_version(b"9" * 5000)),
    "an id with NUL": ("bad_header", with_header("ce_id", b"a\0b")),
    "an id that fits no index": ("bad_header", with_header("ce_id", bytes(range(33, 127)) * 100)),
    "a tenant that fits no index": ("bad_header", with_header("ce_tenant", bytes(range(33, 127)) * 100)),
    "a tenant with NUL": ("bad_header", with_header("ce_tenant", b"\0")),
    "old CloudEvents": ("bad_specversion", with_header("ce_specversion", b"0.3")),
    "JSON": ("bad_content_type", with_header("content-type", b"application/json")),
}


async def test_every_malformed_record_is_kept_as_it_came_and_the_next_is_handled(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        places: dict[str, Any] = {}
        good = [event() for _ in MALFORMED]
        for (name, (_, poison)), behind in zip(MALFORMED.items(), good, strict=True):
            places[name] = await topics.send("runs.v1", *poison)
            await topics.send("runs.v1", behind.key, behind.value, behind.headers)
        async with running(Relay(outbox, bus), React(outbox, bus, "group", [on_run_requested])):
            assert len(await handled(database, len(good))) == len(good)
            found = {(each.partition, each.offset): each for each in await letters(outbox, len(MALFORMED))}
            await emptied(database)
        mirrored = [DeadLetter.from_record(r.key, r.value, r.headers) for r in await topics.records("dead-letters.v1")]

    for name, (reason, (record_key, value, headers)) in MALFORMED.items():
        letter = found[places[name].partition, places[name].offset]
        assert letter.reason == reason, name
        assert (letter.key, letter.value, letter.headers) == (record_key, value, tuple(headers)), name
        assert (letter.topic, letter.consumer) == ("runs.v1", "group"), name
        assert letter.message, name
    assert sorted(mirrored, key=repr) == sorted(found.values(), key=repr)


@pytest.mark.usefixtures("no_pauses")
async def test_a_record_that_the_client_cannot_take_apart_stops_nothing_and_is_told(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    """In front, in the middle, two in a row, behind, and again after a restart; a handler fails next to them."""
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        partition = (await topics.send("runs.v1", *with_header("none", None))).partition
        offsets: list[int] = []
        for count in (1, 0, 3, 0):
            for _ in range(count):
                good = event()
                await topics.send("runs.v1", good.key, good.value, good.headers)
            offsets.append(await send_unreadable(bus, "runs.v1", partition))
        faults = [TimeoutError("no answer")] * 3

        @subscribes(RunRequested)
        async def fail_first(event: Event[RunRequested], tx: Transaction) -> None:
            if faults:
                raise faults.pop()
            await on_run_requested(event, tx)

        async with running(React(outbox, bus, "group", [fail_first])):
            assert len(await handled(database, 5)) == 5
            found = await letters(outbox, 4)
        async with running(Relay(outbox, bus), React(outbox, bus, "new", [on_run_requested], consumer="group")):
            behind = await publish(outbox, "m")
            assert (await handled(database, 6))[-1:] == behind
    assert [(letter.partition, letter.offset) for letter in found] == [(partition, offset) for offset in offsets]
    assert {letter.reason for letter in found} == {"unreadable"}
    assert "not UTF-8" in found[0].message
    assert len(await letters(outbox)) == 4


@pytest.mark.parametrize("broken", range(TOPICS["runs.v1"].partitions))
async def test_next_to_a_record_that_cannot_be_taken_apart_nothing_of_other_partitions_is_lost(
    database: Database, outbox: Outbox, bus: Kafka, broken: int
) -> None:
    """All of it waits when the consumer comes, so that one fetch has records of every partition."""
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        for number in range(60):
            good = event(f"m-{number}")
            await topics.send("runs.v1", good.key, good.value, good.headers)
        offset = await send_unreadable(bus, "runs.v1", broken)
        async with running(React(outbox, bus, "group", [on_run_requested])):
            assert len(await handled(database, 60)) == 60
            [letter] = await letters(outbox, 1)
    assert (letter.partition, letter.offset) == (broken, offset)


async def test_what_is_new_or_for_others_is_passed_by(database: Database, outbox: Outbox, bus: Kafka) -> None:
    failed = encode(new_event(RunFailed(model_id="m"), source="test", actor=ACTOR))
    ours = event()
    foreign: Headers = [*ours.headers, ("of-another-program", None)]
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        await topics.send("runs.v1", *with_header("ce_type", b"holdtrue.trainer.v9.NotYetThought"))
        await topics.send("runs.v1", failed.key, failed.value, failed.headers)
        await topics.send("runs.v1", ours.key, ours.value, foreign)
    async with running(React(outbox, bus, "group", [on_run_requested])):
        assert len(await handled(database, 1)) == 1
    assert not await letters(outbox)


def raising(make: Callable[[], Exception]) -> Any:
    """A handler of RunFailed that makes half of its effect and fails."""

    @subscribes(RunFailed)
    async def fail(event: Event[RunFailed], tx: Transaction) -> None:
        await tx.execute("INSERT INTO effect (value) VALUES ($1)", f"half of {event.id}")
        tx.publish(RunRequested(model_id="of a rejected one"))
        raise make()

    return fail


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Rejected("no such model", reason="unknown_model"), ("unknown_model", "no such model")),
        (lambda: Rejected("no"), ("rejected", "no")),
        (lambda: ZeroDivisionError("by zero"), ("failed", "ZeroDivisionError: by zero")),
        (lambda: ValueError("a\0b\ud800" + "c" * 5000), ("failed", "ValueError: a\ufffdb?" + "c" * 984)),
    ],
    ids=["rejected with a reason", "rejected", "a bug", "a message that no database can keep"],
)
@pytest.mark.usefixtures("no_pauses")
async def test_what_the_domain_refuses_or_fails_at_leaves_a_dead_letter_and_nothing_else(
    database: Database, outbox: Outbox, bus: Kafka, make: Callable[[], Exception], told: tuple[str, str]
) -> None:
    refused = encode(new_event(RunFailed(model_id="m"), source="test", actor=ACTOR))
    behind = event()
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        place = await topics.send("runs.v1", refused.key, refused.value, refused.headers)
        await topics.send("runs.v1", behind.key, behind.value, behind.headers)
    async with running(React(outbox, bus, "group", [on_run_requested, raising(make)], tries=2)):
        assert [model for model, _ in await handled(database, 1)] == ["m"]
    [letter] = await letters(outbox)
    assert (letter.reason, letter.message) == told
    assert (letter.key, letter.value, letter.headers) == (refused.key, refused.value, refused.headers)
    assert (letter.partition, letter.offset) == (place.partition, place.offset)
    assert letter.event_type == "holdtrue.trainer.v1.RunFailed"
    assert await values(database, "SELECT DISTINCT topic FROM outbox") == ["dead-letters.v1"]


async def test_the_largest_record_that_kafka_takes_can_become_a_dead_letter(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    value = b"\xff" * 1_048_000
    async with AIOKafkaProducer(bootstrap_servers=bus.bootstrap, max_request_size=4_000_000) as producer:
        await producer.send_and_wait(bus.topic("runs.v1"), value, KEY, headers=HEADERS)
    async with running(Relay(outbox, bus), React(outbox, bus, "group", [on_run_requested])):
        [letter] = await letters(outbox, 1)
        await emptied(database)
    assert letter.value == value
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        assert [record.value for record in await topics.records("dead-letters.v1")] == [value]


async def test_a_dead_letter_belongs_to_the_tenant_that_the_record_names(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    poison = with_header("ce_tenant", b"north")
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        await topics.send("runs.v1", *poison)
    async with running(React(outbox, bus, "group", [on_run_requested])):
        [letter] = await letters(outbox, 1)
    assert letter.tenant == "north"
    assert await values(database, "SELECT tenant FROM outbox") == ["north"]
    async with outbox.transaction(ACTOR) as tx:
        assert not await DeadLetters(tx).list()
    assert not await effects(database)
