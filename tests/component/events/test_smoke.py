from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.trainer.v1.runs_pb2 import RunRequested
from holdtrue_events.mirror import Mirror
from holdtrue_events.react import React, subscribes
from holdtrue_events.relay import Relay

if TYPE_CHECKING:
    from holdtrue_contracts.codec import Event
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_storage.database import Database


@subscribes(RunRequested)
async def on_run_requested(event: Event[RunRequested], tx: Transaction) -> None:
    await tx.execute("INSERT INTO effect (value) VALUES ($1)", event.id)


async def test_an_event_goes_all_the_way(database: Database, outbox: Outbox, bus: Kafka) -> None:
    relay, react = Relay(outbox, bus), React(outbox, bus, "group", [on_run_requested])
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(relay.run())
        group.create_task(react.run())
        async with outbox.transaction(service_actor("service")) as tx:
            sent = [tx.publish(RunRequested(model_id="m")).id for n in range(100)]
        seen: list[str] = []
        while len(seen) < len(sent):
            async with database.acquire() as connection:
                seen = [row["value"] for row in await connection.fetch("SELECT value FROM effect ORDER BY number")]
            await asyncio.sleep(0.05)
        assert seen == sent
        heard: list[Any] = []
        mirror = Mirror(bus, "runs.v1", lambda _key, event: heard.append(event))
        await mirror.start()
        assert [event.id for event in heard] == sent
        for part in (mirror, react, relay):
            await part.stop()
