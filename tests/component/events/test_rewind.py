"""Reading again from a point in time: the group goes back, the inbox sees to it that nothing happens twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from holdtrue_core.errors import FailedPrecondition
from holdtrue_events.kafka import Kafka
from holdtrue_events.react import React
from holdtrue_events.relay import Relay
from holdtrue_events.rewind import rewind
from holdtrue_local.ports import free_port

from tests.component.events.harness import (
    MODELS,
    administration,
    by_model,
    emptied,
    handled,
    on_run_requested,
    publish,
    running,
    until,
    values,
)
from tests.component.registry.harness import Topics

if TYPE_CHECKING:
    from holdtrue_events.outbox import Outbox
    from holdtrue_storage.database import Database

    from tests.component.events.harness import Pair

PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime.now(UTC) + timedelta(days=365)


async def consumed(database: Database, outbox: Outbox, bus: Kafka, count: int) -> list[Pair]:
    """Let the group handle everything; the effects, of which there are so many then."""
    async with running(React(outbox, bus, "group", [on_run_requested])):
        found = await handled(database, count)
        await all_committed(bus)
    return found


async def committed(bus: Kafka) -> dict[int, int]:
    """Where the group goes on in each partition."""
    async with administration(bus) as admin:
        offsets = await admin.list_consumer_group_offsets(bus.prefix + "group")
    return {place.partition: offset.offset for place, offset in offsets.items()}


async def ends(bus: Kafka) -> dict[int, int]:
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        records = await topics.records("runs.v1")
    last = dict.fromkeys(range(3), 0)
    for record in records:
        last[record.partition] = record.offset + 1
    return last


async def all_committed(bus: Kafka) -> None:
    """Return when the group is at the end."""
    expected = {partition: end for partition, end in (await ends(bus)).items() if end}

    async def reached() -> bool:
        return await committed(bus) == expected

    await until(reached, "all is committed")


async def published(database: Database, outbox: Outbox, bus: Kafka) -> list[Pair]:
    async with running(Relay(outbox, bus)):
        sent = await publish(outbox, *MODELS)
        await emptied(database)
    return sent


async def test_what_was_handled_is_read_again_without_a_second_effect(
    database: Database, outbox: Outbox, bus: Kafka
) -> None:
    sent = await published(database, outbox, bus)
    await consumed(database, outbox, bus, len(sent))
    await rewind(bus, "group", ["runs.v1"], PAST)
    assert set((await committed(bus)).values()) == {0}
    await values(database, "DELETE FROM inbox WHERE event_id = $1", sent[0][1])  # this one was never handled
    found = await consumed(database, outbox, bus, len(sent) + 1)
    assert sorted(found) == sorted([*sent, sent[0]])


async def test_it_begins_with_the_first_record_of_that_time(database: Database, outbox: Outbox, bus: Kafka) -> None:
    """To the millisecond; a partition with nothing newer goes to its end."""
    first = await published(database, outbox, bus)
    async with Topics(bus.bootstrap, bus.prefix) as topics:
        latest = max(record.timestamp for record in await topics.records("runs.v1"))
        second = await topics.send("runs.v1", b"k", b"", [])
        [stamp] = [r.timestamp for r in await topics.records("runs.v1") if r.key == b"k"]
    assert stamp > latest
    offsets = await rewind(bus, "group", ["runs.v1"], datetime.fromtimestamp(stamp / 1000, UTC))
    expected = await ends(bus) | {second.partition: second.offset}
    assert {place.partition: offset for place, offset in offsets.items()} == expected == await committed(bus)
    assert first


async def test_into_the_future_it_passes_over_everything(database: Database, outbox: Outbox, bus: Kafka) -> None:
    await published(database, outbox, bus)
    await rewind(bus, "group", ["runs.v1"], FUTURE)
    assert await committed(bus) == await ends(bus)
    behind = await published(database, outbox, bus)
    assert by_model(await consumed(database, outbox, bus, len(behind))) == by_model(behind)


@pytest.mark.parametrize("instance_id", ["", "service-0"], ids=["dynamic", "static"])
async def test_a_group_at_work_is_left_alone(database: Database, outbox: Outbox, bus: Kafka, instance_id: str) -> None:
    named = type(bus)(bus.bootstrap, bus.prefix, instance_id=instance_id)
    sent = await published(database, outbox, bus)
    async with running(React(outbox, named, "group", [on_run_requested])):
        await handled(database, len(sent))
        await all_committed(bus)
        with pytest.raises(FailedPrecondition, match="group group has running members: stop them") as caught:
            await rewind(named, "group", ["runs.v1"], PAST)
        assert caught.value.reason == "GROUP_ACTIVE"
        assert set((await committed(bus)).values()) != {0}


async def run(bus: Kafka) -> subprocess.CompletedProcess[str]:
    where = ("--kafka", bus.bootstrap, "--prefix", bus.prefix, "--group", "group", "--since", "2020-01-01", "runs.v1")
    command = [sys.executable, "-m", "holdtrue_events.rewind", *where]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)


async def test_the_command_says_where_the_group_goes_on(database: Database, outbox: Outbox, bus: Kafka) -> None:
    sent = await published(database, outbox, bus)
    await consumed(database, outbox, bus, len(sent))
    done = await run(bus)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{bus.prefix}runs.v1 partition {number}: from offset 0" for number in range(3)]
    async with running(React(outbox, bus, "group", [on_run_requested])):
        await all_committed(bus)
        done = await run(bus)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "group group has running members: stop them, rewind, start them again\n"


async def test_the_command_says_in_a_sentence_that_kafka_is_away() -> None:
    away = f"127.0.0.1:{free_port()}"
    done = await run(Kafka(away))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Kafka at {away}: KafkaConnectionError")
    assert len(done.stderr.splitlines()) == 1
