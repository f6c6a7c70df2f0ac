"""What publishing costs: transactions with and without an outbox row, and the relay's drain.

    python benchmarks/outbox.py [--seconds 3] [--rounds 5] [--writers 16] [--events 60000]

Prints transactions/s of `UPDATE … RETURNING version` alone and with one event, alternating in one run, and events per
CPU-second of this process while its relay carries rows from PostgreSQL to Kafka and deletes them; then checks that
each key's events stand in order on the topic.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from typing import TYPE_CHECKING

import uvloop
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.codec import decode
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersionApproved
from holdtrue_events.relay import Relay
from servers import Bench, servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ACTOR = service_actor("bench")
MODELS = 1_000
CHUNK = 500


async def main() -> None:
    arguments = _arguments()
    async with servers(arguments.writers + 2) as bench:
        async with bench.database.acquire() as connection:
            await connection.execute("CREATE TABLE model (id text PRIMARY KEY, version bigint NOT NULL DEFAULT 0)")
            await connection.execute(f"INSERT INTO model SELECT 'm' || n FROM generate_series(0, {MODELS - 1}) AS n")
        await _transactions(bench, arguments)
        await _drain(bench, arguments.events)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind")
    parser.add_argument("--writers", type=int, default=16, help="concurrent transactions")
    parser.add_argument("--events", type=int, default=60_000, help="events to drain")
    return parser.parse_args()


async def _transactions(bench: Bench, arguments: argparse.Namespace) -> None:
    async def change(model: str) -> None:
        async with bench.database.transaction(ACTOR) as tx:
            await tx.fetchval("UPDATE model SET version = version + 1 WHERE id = $1 RETURNING version", model)

    async def change_and_publish(model: str) -> None:
        async with bench.outbox.transaction(ACTOR) as tx:
            query = "UPDATE model SET version = version + 1 WHERE id = $1 RETURNING version"
            tx.publish(ModelVersionApproved(model_id=model), aggregate_version=await tx.fetchval(query, model))

    rates: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(arguments.rounds):
        rates["without"].append(await _rate(change, arguments))
        rates["with"].append(await _rate(change_and_publish, arguments))
    ratios = [b / a for a, b in zip(rates["without"], rates["with"], strict=True)]
    print(f"\ntransactions/s at {arguments.writers} writers, median of {arguments.rounds} rounds")
    print(f"  without an outbox row  {statistics.median(rates['without']):8,.0f}")
    print(f"  with an outbox row     {statistics.median(rates['with']):8,.0f}")
    print(
        f"  ratio                 {statistics.median(ratios):8.2f}   (goal ≥ 0.80; {min(ratios):.2f}–{max(ratios):.2f})"
    )


async def _rate(change: Callable[[str], Awaitable[None]], arguments: argparse.Namespace) -> float:
    until = time.perf_counter() + arguments.seconds

    async def write(first: int) -> int:
        count = 0
        while time.perf_counter() < until:
            await change(f"m{(first + count * arguments.writers) % MODELS}")
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(write(number) for number in range(arguments.writers)))
    return sum(counts) / (time.perf_counter() - began)


async def _drain(bench: Bench, events: int) -> None:
    async with bench.database.acquire() as connection:
        await connection.execute("TRUNCATE outbox")
    for first in range(0, events, CHUNK):
        async with bench.outbox.transaction(ACTOR) as tx:
            for number in range(first, first + CHUNK):
                tx.publish(ModelVersionApproved(model_id=f"m{number % MODELS}"), aggregate_version=1 + number // MODELS)
    relay = Relay(bench.outbox, bench.kafka)
    wall, cpu = time.perf_counter(), time.process_time()
    running = asyncio.create_task(relay.run())
    while await _waiting(bench):
        await asyncio.sleep(0.05)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await relay.stop()
    await running
    print(f"\nrelay, {events:,} events of {MODELS:,} keys")
    print(f"  events per CPU-second  {events / cpu:8,.0f}   (goal ≥ 15,000)")
    print(f"  events per second      {events / wall:8,.0f}")
    print(f"  in order per key       {await _in_order(bench, events):>8}")


async def _waiting(bench: Bench) -> bool:
    async with bench.database.acquire() as connection:
        return await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)")


async def _in_order(bench: Bench, events: int) -> str:
    versions: dict[str, int] = {}
    consumer = bench.kafka.consumer(bench.kafka.topic("model-versions.v1"))
    await consumer.start()
    for _ in range(events):
        record = await consumer.getone()
        event = decode(record.key, record.value, record.headers)
        if event.aggregate_version != versions.get(event.subject, 0) + 1:
            return "NO"
        versions[event.subject] = versions.get(event.subject, 0) + 1
    await consumer.stop()
    return "yes"


if __name__ == "__main__":
    uvloop.run(main())
