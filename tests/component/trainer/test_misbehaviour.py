"""Children that misbehave, through the real job, database and outbox: the run fails for the right reason, once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.trainer.v1.runs_pb2 import RunSpec
from holdtrue_core.clock import SystemClock
from holdtrue_events.outbox import Outbox
from holdtrue_models.worker.limits import Limits
from holdtrue_storage.blobs import DirectoryBlobs
from holdtrue_storage.database import Database
from holdtrue_storage.jobs import Worker
from holdtrue_storage.migrations import migrate
from holdtrue_storage.provision import provision
from holdtrue_trainer import commands
from holdtrue_trainer.app import PACKAGES
from holdtrue_trainer.domain.run import MAX_ATTEMPTS, Failure, Run, State
from holdtrue_trainer.store import RunStore
from holdtrue_trainer.workers.inputs import Inputs
from holdtrue_trainer.workers.runs import Runs

from .conftest import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holdtrue_contracts.actor import Actor

ACTOR = service_actor("trainer")
LIMITS = Limits(wall_seconds=2, memory_bytes=512 << 20, processes=8, file_bytes=1 << 20)
FORKS = "import os, time\nfor _ in range(40):\n    if os.fork() == 0: time.sleep(60); os._exit(0)\ntime.sleep(60)"
FILES = "open('result.json', 'w').write('{}')"
LINK = "import os; os.symlink('/etc/passwd', 'result.json')"


class NoInputs(Inputs):
    """A child that misbehaves needs nothing."""

    async def lay_out(self, run: Run, actor: Actor, folder: Path) -> None:
        """Lay out nothing."""


@pytest.fixture
async def outbox(database_dsn: str) -> AsyncIterator[Outbox]:
    await provision(database_dsn, "trainer")
    database = Database(database_dsn.replace("postgres@", "trainer@"), "trainer")
    await database.open()
    await migrate(database, PACKAGES)
    yield Outbox(database, "holdtrue/trainer")
    await database.close()


async def run_to_its_end(outbox: Outbox, code: str, folder: Path) -> Run:
    """Queue a run whose child is this code; return it when it has ended."""
    clock, blobs = SystemClock(), DirectoryBlobs(folder)
    spec = RunSpec(run_id="run-1", model_id="model-1", model_name="fraud")
    async with outbox.transaction(ACTOR) as tx:
        await commands.add(tx, Run(spec, clock.now()))
    runs = Runs(outbox, blobs, NoInputs(outbox, blobs, folder), LIMITS, clock, ["-I", "-c", code])
    worker = Worker(outbox.database, commands.RUN, runs.work, attempts=MAX_ATTEMPTS + 1, backoff=0.05)
    working = asyncio.create_task(worker.run())

    async def ended() -> Run | None:
        async with outbox.transaction(ACTOR) as tx:
            run = await RunStore(tx).get("run-1")
        return run if run and not run.open else None

    try:
        return await until(ended, "the run ends")
    finally:
        await worker.stop()
        await working


@pytest.mark.parametrize(
    ("code", "failure", "attempts"),
    [
        ("while True: pass", Failure.TIMEOUT, 1),
        ("x = bytearray(1 << 40)", Failure.OUT_OF_MEMORY, 1),
        (FORKS, Failure.USER_ERROR, 1),
        ("f = open('big', 'wb')\nwhile True: f.write(bytes(65536))", Failure.USER_ERROR, 1),
        ("pass", Failure.INFRASTRUCTURE, MAX_ATTEMPTS),
        (FILES, Failure.INFRASTRUCTURE, MAX_ATTEMPTS),
        (LINK, Failure.INFRASTRUCTURE, MAX_ATTEMPTS),
    ],
    ids=["loop", "allocation", "fork", "write", "no result", "malformed result", "link as result"],
)
async def test_it_is_stopped_and_the_run_fails_for_the_right_reason(
    outbox: Outbox, tmp_path: Path, code: str, failure: Failure, attempts: int
) -> None:
    run = await run_to_its_end(outbox, code, tmp_path)
    assert (run.state, run.failure, run.attempts) == (State.FAILED, failure, attempts)
    assert run.message
    async with outbox.database.acquire() as connection:
        keys = [row["value"] for row in await connection.fetch("SELECT value FROM outbox ORDER BY id")]
        memory = await connection.fetchval("SELECT memory FROM retraining")
        states = [row["state"] for row in await connection.fetch("SELECT state FROM job WHERE kind = 'run'")]
    assert len(keys) == 1 + attempts + 1  # requested, started each time, failed once
    assert (memory["open_run"], memory["setbacks"]) == ("", 1), json.dumps(memory)
    assert states == ["done"]
