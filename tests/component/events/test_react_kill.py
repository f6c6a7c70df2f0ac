"""A consumer that is killed anywhere has given each event its effect exactly once when it comes back."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from holdtrue_events.relay import Relay

from tests.component.events.harness import (
    MODELS,
    SCHEMA,
    by_model,
    emptied,
    handled,
    publish,
    running,
)

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator

    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox
    from holdtrue_storage.database import Database

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def life(dsn: str, bus: Kafka, place: str, count: int) -> AsyncGenerator[Process]:
    """A consumer in a process of its own, which does not outlive the block."""
    arguments = (dsn.replace("postgres@", f"{SCHEMA}@"), bus.bootstrap, bus.prefix, place, str(count))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.component.events.crashing_react", *arguments, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_killed_at_the_worst_places_it_repeats_and_loses_nothing(
    database: Database, outbox: Outbox, bus: Kafka, database_dsn: str
) -> None:
    """Between effect and commit, between commit and offset, and after the offset, amid batches of events."""
    sent: list[tuple[str, str]] = []
    async with running(Relay(outbox, bus)):
        for place, count in (("effect", 5), ("committed", 1), ("effect", 1), ("committed", 2), ("offset", 1)):
            for _ in range(5):
                sent += await publish(outbox, *MODELS)
            async with life(database_dsn, bus, place, count) as process:
                while process.returncode is None:  # the next batches, so that every place is reached
                    sent += await publish(outbox, *MODELS)
                    await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=0.1)
                assert process.returncode == -signal.SIGKILL
        await emptied(database)
        async with life(database_dsn, bus, "never", 1):
            effects = await handled(database, len(sent))
    assert by_model(effects) == by_model(sent)
