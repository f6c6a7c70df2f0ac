"""The relay, killed between send and delete: it sends again, and whoever consumes notices nothing."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from holdtrue_events.react import React
from holdtrue_events.relay import Relay

from tests.component.events.harness import (
    MODELS,
    by_model,
    emptied,
    everything,
    handled,
    on_run_requested,
    pairs,
    publish,
    values,
)

if TYPE_CHECKING:
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox
    from holdtrue_storage.database import Database

PROGRAM = Path(__file__).with_name("crashing_relay.py")
LIVES = 4
EVENTS = 300


async def test_a_kill_between_send_and_delete_loses_and_repeats_nothing(
    database: Database, outbox: Outbox, bus: Kafka, database_dsn: str
) -> None:
    """Every life of the relay ends when Kafka has something of which the outbox does not know it yet."""
    react, relay = React(outbox, bus, "group", [on_run_requested]), Relay(outbox, bus)
    dsn = database_dsn.replace("postgres@", f"{database.schema}@")
    sent: list[tuple[str, str]] = []
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(react.run())
        for life in range(LIVES):
            sent += await publish_many(outbox, random.Random(life))  # noqa: S311  no secret
            assert await live(dsn, bus.bootstrap, bus.prefix) == -signal.SIGKILL
            assert len(await values(database, "SELECT id FROM outbox")) == len(sent)
        group.create_task(relay.run())
        await emptied(database)
        had = pairs(await everything(bus))
        had_effect = await handled(database, len(sent))
        await relay.stop()
        await react.stop()

    assert len(had) > len(sent), "no life ended between send and delete"
    assert by_model(dict.fromkeys(had)) == by_model(sent)
    assert by_model(had_effect) == by_model(sent)


async def live(*arguments: str) -> int:
    """One life of the relay; how it ended."""
    process = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, *arguments)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


async def publish_many(outbox: Outbox, chance: random.Random) -> list[tuple[str, str]]:
    """Publish events of several models in several transactions; model and event of each, in order."""
    return [pair for _ in range(EVENTS // 10) for pair in await publish(outbox, *chance.choices(MODELS, k=10))]
