"""What consuming domain events costs: each with an effect and its inbox row, one transaction a batch.

    python benchmarks/react.py [--events 60000]

Fills a topic, then lets one React (one process, one core) consume it from the start with a handler that writes a row.
Prints events per second and per CPU-second of the process, and checks that each had its effect exactly once.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING

import uvloop
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.codec import Event, encode, new_event
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersionApproved
from holdtrue_events.react import React, subscribes
from servers import Bench, servers

if TYPE_CHECKING:
    from asyncio import Future

    from aiokafka import AIOKafkaProducer, RecordMetadata
    from holdtrue_events.outbox import Transaction

ACTOR = service_actor("bench")
MODELS = 1_000
CHUNK = 1_000
GOAL = 3_000


@subscribes(ModelVersionApproved)
async def on_approved(event: Event[ModelVersionApproved], tx: Transaction) -> None:
    """The effect: one row."""
    await tx.execute("INSERT INTO effect (model, event) VALUES ($1, $2)", event.data.model_id, event.id)


async def main() -> None:
    events = _arguments().events
    async with servers(4) as bench:
        async with bench.database.acquire() as connection:
            await connection.execute("CREATE TABLE effect (model text NOT NULL, event text NOT NULL)")
        await _fill(bench, events)
        react = React(bench.outbox, bench.kafka, "bench", [on_approved])
        wall, cpu = time.perf_counter(), time.process_time()
        running = asyncio.create_task(react.run())
        while await _effects(bench) < events:
            await asyncio.sleep(0.05)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        await react.stop()
        await running
        print(f"React, {events:,} events, each with an effect and an inbox row, {await _exact(bench, events)}")
        print(f"  events per second      {events / wall:8,.0f}   (goal ≥ {GOAL:,} on one core)")
        print(f"  events per CPU-second  {events / cpu:8,.0f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000, help="events to consume")
    return parser.parse_args()


async def _fill(bench: Bench, events: int) -> None:
    async with bench.kafka.producer() as producer:
        for first in range(0, events, CHUNK):
            await asyncio.gather(*[await _send(bench, producer, n) for n in range(first, min(first + CHUNK, events))])


async def _send(bench: Bench, producer: AIOKafkaProducer, number: int) -> Future[RecordMetadata]:
    record = encode(new_event(ModelVersionApproved(model_id=f"m{number % MODELS}"), source="bench", actor=ACTOR))
    topic = bench.kafka.topic(record.topic)
    return await producer.send(topic, record.value, key=record.key, headers=list(record.headers))


async def _effects(bench: Bench) -> int:
    async with bench.database.acquire() as connection:
        return await connection.fetchval("SELECT count(*) FROM effect")


async def _exact(bench: Bench, events: int) -> str:
    async with bench.database.acquire() as connection:
        distinct = await connection.fetchval("SELECT count(DISTINCT event) FROM effect")
    return "exactly once" if distinct == events else f"NOT exactly once: {distinct:,} distinct"


if __name__ == "__main__":
    uvloop.run(main())
