"""A message that cannot be used never stops the ones behind it, and is never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdtrue_contracts.catalogue import key
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.dead_letter import DeadLetter, settles
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_ARROW
from holdtrue_events.kafka import Kafka
from holdtrue_lake.versions import read_quarantine

from tests.component.events.harness import send_unreadable
from tests.component.registry.harness import PRODUCER, create, offered, publish

if TYPE_CHECKING:
    from holdtrue_contracts.codec import Record

    from tests.component.registry.harness import Registry, Topics

GOOD: dict[str, Any] = {"amount": 1.5, "fraud": 0, "at": 1_700_000_000}


def record(dataset_id: str) -> Record:
    return encode(new_event(offered(dataset_id, [GOOD]), source="test", actor=PRODUCER))


async def letters(broker: Topics, dataset_key: bytes) -> list[DeadLetter]:
    found = await broker.records("dead-letters.v1")
    return [
        DeadLetter.from_record(r.key, r.value, r.headers)
        for r in found
        if r.key == dataset_key and not settles(r.headers)
    ]


async def settled_letters(broker: Topics) -> list[str]:
    return [letter for record in await broker.records("dead-letters.v1") if (letter := settles(record.headers))]


async def test_poison_goes_to_the_dead_letters_and_the_rest_goes_on(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    good = record(dataset.dataset_id)
    headers = list(good.headers)
    without_type = [header for header in headers if header[0] != "ce_type"]
    of_the_future = [*without_type, ("ce_type", b"holdtrue.registry.v9.NotYetThought")]
    nameless = offered(dataset.dataset_id, [GOOD])
    nameless.batch_id = ""
    last = offered(dataset.dataset_id, [GOOD])

    await broker.send("data.v1", good.key, b"\xff\xff not protobuf", headers)
    await broker.send("data.v1", good.key, good.value, without_type)
    await broker.send("data.v1", good.key, good.value, of_the_future)
    await broker.send("data.v1", good.key, None, headers)
    await broker.send_event(nameless)
    await broker.send_event(last)
    answer = await publish(registry, dataset, [last.batch_id])

    assert answer.version.rows == 1
    found: list[DeadLetter] = []
    while len(found) < 4:
        found = await letters(broker, good.key or b"")
    assert [(letter.reason, letter.value) for letter in found] == [
        ("bad_payload", b"\xff\xff not protobuf"),
        ("missing_header", good.value),
        ("no_value", None),
        ("no_batch_id", nameless.SerializeToString()),
    ]
    assert {letter.topic for letter in found} == {"data.v1"}
    assert found[1].headers == tuple(without_type)


async def test_ids_that_the_database_cannot_hold_reach_no_table(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    last = offered(dataset.dataset_id, [GOOD])
    for batch_id in ("a\0b", "".join(map(chr, range(0x4E00, 0x8E00)))):
        await broker.send_event(offered(dataset.dataset_id, [GOOD], batch_id))
    await broker.send_event(offered("nobody's" * 30, [GOOD]))
    await broker.send_event(last)
    answer = await publish(registry, dataset, [last.batch_id])

    assert answer.version.rows == 1
    found: list[DeadLetter] = []
    while len(found) < 3:
        found = [
            *await letters(broker, key("default", dataset.dataset_id)),
            *await letters(broker, key("default", "nobody's" * 30)),
        ]
    assert [letter.reason for letter in found] == ["bad_batch_id", "bad_batch_id", "bad_dataset_id"]
    assert "at most 200 printable characters, got 3: 'a\\x00b'" in found[0].message


async def test_a_record_that_the_client_cannot_take_apart_stops_no_partition(
    registry: Registry, broker: Topics
) -> None:
    dataset = await create(registry)
    first, last = (offered(dataset.dataset_id, [GOOD]) for _ in range(2))
    good = encode(new_event(first, source="test", actor=PRODUCER))
    partition = (await broker.send("data.v1", good.key, good.value, good.headers)).partition
    settings = registry.process.environment
    bus = Kafka(settings["HOLDTRUE_REGISTRY_KAFKA"], broker.prefix)

    offset = await send_unreadable(bus, "data.v1", partition)
    await broker.send_event(last)
    answer = await publish(registry, dataset, [first.batch_id, last.batch_id])

    assert answer.version.rows == 2
    found: list[DeadLetter] = []
    while not found:
        every = [DeadLetter.from_record(r.key, r.value, r.headers) for r in await broker.records("dead-letters.v1")]
        found = [letter for letter in every if letter.reason == "unreadable"]
    assert [(letter.topic, letter.partition, letter.offset) for letter in found] == [("data.v1", partition, offset)]


async def test_records_of_an_unknown_dataset_wait_for_it_as_dead_letters(registry: Registry, broker: Topics) -> None:
    assert registry.process.alive
    await broker.send_event(offered("no-such-dataset", [GOOD]))

    found: list[DeadLetter] = []
    while not found:
        found = await letters(broker, key("default", "no-such-dataset"))

    assert [letter.reason for letter in found] == ["unknown_dataset"]
    assert "create it, then replay this" in found[0].message

    again = found[0].replay()
    await broker.send(again.topic, again.key, again.value, again.headers)
    while not (done := await settled_letters(broker)):
        pass
    assert done == [found[0].id]
    assert [letter.reason for letter in await letters(broker, key("default", "no-such-dataset"))] == [
        "unknown_dataset",
        "unknown_dataset",
    ]


async def test_an_unreadable_payload_is_quarantined_with_its_bytes(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    broken, foreign, last = (offered(dataset.dataset_id, [GOOD]) for _ in range(3))
    broken.format, broken.inline = RECORD_FORMAT_ARROW, b"no arrow"
    foreign.schema_id = "0" * 64
    for message in (broken, foreign, last):
        await broker.send_event(message)

    answer = await publish(registry, dataset, [broken.batch_id, foreign.batch_id, last.batch_id])

    assert answer.version.rows == 1
    assert dict(answer.quarantined) == {"MALFORMED": 1, "UNKNOWN_SCHEMA": 1}
    kept = read_quarantine(registry.lake, dataset.dataset_id)
    assert kept.column("raw").to_pylist() == [b"no arrow", foreign.inline]
    assert kept.column("batch_id").to_pylist() == [broken.batch_id, foreign.batch_id]
