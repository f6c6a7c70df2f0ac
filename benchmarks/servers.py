"""Real servers and a service's schema for the benchmarks: private, on loopback, gone afterwards."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import Outbox
from holdtrue_events.topics import ensure
from holdtrue_local import kafka as local_kafka
from holdtrue_local import postgres as local_postgres
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import migrate
from holdtrue_storage.provision import provision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SERVICE = "bench"


@dataclass(frozen=True)
class Bench:
    """What a benchmark works with."""

    database: Database
    outbox: Outbox
    kafka: Kafka


@asynccontextmanager
async def servers(pool_size: int) -> AsyncGenerator[Bench]:
    """Start PostgreSQL (durable: every commit reaches the disk) and Kafka, and provision one service."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="holdtrue-bench-")))
        postgres, kafka = local_postgres.Postgres(folder / "postgres"), local_kafka.Kafka(folder / "kafka")
        for server in (postgres, kafka):
            await server.start()
            stack.push_async_callback(server.kill)
        await ensure(kafka.bootstrap)
        await provision(postgres.dsn, SERVICE)
        database = Database(postgres.dsn.replace("postgres@", f"{SERVICE}@"), SERVICE, pool_size)
        await database.open()
        stack.push_async_callback(database.close)
        await migrate(database, ["holdtrue_storage", "holdtrue_events"])
        yield Bench(database, Outbox(database, f"holdtrue/{SERVICE}"), Kafka(kafka.bootstrap))
