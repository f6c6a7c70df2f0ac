"""The relay, killed between send and delete: it sends again, and whoever consumes notices nothing."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.trainer.v1.runs_pb2 import RunRequested
from holdtrue_events.mirror import Mirror
from holdtrue_events.react import React, subscribes
from holdtrue_events.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdtrue_contracts.codec import Event
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_storage.database import Database

    ByModel = dict[str, list[str]]

PROGRAM = Path(__file__).with_name("crashing_relay.py")
LIVES = 4
EVENTS = 300
MODELS = [f"model-{number}" for number in range(9)]


@subscribes(RunRequested)
async def on_run_requested(event: Event[RunRequested], tx: Transaction) -> None:
    await tx.execute("INSERT INTO effect (value) VALUES ($1)", f"{event.data.model_id} {event.id}")


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
            sent += await publish(outbox, random.Random(life))  # noqa: S311  no secret
            assert await live(dsn, bus.bootstrap, bus.prefix) == -signal.SIGKILL
            assert len(await values(database, "SELECT id::text AS value FROM outbox")) == len(sent)
        group.create_task(relay.run())
        while await values(database, "SELECT id::text AS value FROM outbox"):
            await asyncio.sleep(0.05)
        had = await everything(bus)
        while len(effects := await values(database, "SELECT value FROM effect ORDER BY number")) < len(sent):
            await asyncio.sleep(0.05)
        await relay.stop()
        await react.stop()

    assert len(had) > len(sent), "no life ended between send and delete"
    assert by_model(dict.fromkeys(had)) == by_model(sent)
    assert by_model([(model, event) for model, _, event in (effect.partition(" ") for effect in effects)]) == by_model(
        sent
    )


async def live(*arguments: str) -> int:
    """One life of the relay; how it ended."""
    process = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, *arguments)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


async def publish(outbox: Outbox, chance: random.Random) -> list[tuple[str, str]]:
    """Publish events of several models in several transactions; model and event of each, in order."""
    sent: list[tuple[str, str]] = []
    while len(sent) < EVENTS:
        async with outbox.transaction(service_actor("service")) as tx:
            models = chance.choices(MODELS, k=10)
            sent += [(model, tx.publish(RunRequested(model_id=model)).id) for model in models]
    return sent


async def everything(bus: Kafka) -> list[tuple[str, str]]:
    """Model and event of every record that Kafka has."""
    heard: list[Event[Any]] = []

    def hear(_key: bytes, event: Event[Any] | None) -> None:
        assert event is not None
        heard.append(event)

    mirror = Mirror(bus, "runs.v1", hear)
    await mirror.start()
    await mirror.stop()
    await mirror.run()
    return [(event.data.model_id, event.id) for event in heard]


async def values(database: Database, query: str) -> list[str]:
    async with database.acquire() as connection:
        return [row["value"] for row in await connection.fetch(query)]


def by_model(pairs: Iterable[tuple[str, str]]) -> ByModel:
    """Events of each model in their order."""
    found: ByModel = defaultdict(list)
    for model, event in pairs:
        found[model].append(event)
    return found
