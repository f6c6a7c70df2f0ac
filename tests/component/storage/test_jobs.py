from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_core.errors import Unavailable
from holdtrue_storage.jobs import Job, Lease, LeaseLost, Worker, enqueue

if TYPE_CHECKING:
    import asyncpg
    from holdtrue_storage.database import Database

ALICE = Actor("acme", "alice", ActorKind.PERSON, ("admin",))
SECONDS = 20  # patience, not a measure


async def _add(database: Database, n: int = 0, **options: Any) -> str | None:
    async with database.transaction(ALICE) as tx:
        return await enqueue(tx, "train", {"n": n}, **options)


async def _rows(database: Database) -> list[asyncpg.Record]:
    async with database.acquire() as connection:
        return await connection.fetch("SELECT * FROM job ORDER BY created_at, id")


async def _until_all(database: Database, state: str) -> list[asyncpg.Record]:
    """Wait until every job is in a state."""
    async with asyncio.timeout(SECONDS):
        while True:
            rows = await _rows(database)
            if all(row["state"] == state for row in rows):
                return rows
            await asyncio.sleep(0.01)


class Running:
    """A worker that runs in this process, with what its handler saw."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.seen: list[Job] = []
        self.worker = Worker(database, "train", self.handle, poll=0.05, **options)

    async def handle(self, job: Job, lease: Lease) -> None:  # noqa: ARG002  what a handler takes
        self.seen.append(job)

    async def __aenter__(self) -> Self:
        await self.worker.start()
        self.task = asyncio.create_task(self.worker.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.stop()
        await self.task


async def test_a_job_is_done_once_in_the_name_of_who_asked(database: Database) -> None:
    job_id = await _add(database, 7)
    async with Running(database) as running:
        await _until_all(database, "done")
    (job,) = running.seen
    assert (job.id, job.tenant, job.actor, job.payload, job.attempts) == (job_id, "acme", ALICE, {"n": 7}, 1)


async def test_a_job_of_a_transaction_that_rolls_back_never_was(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction(ALICE) as tx:
            await enqueue(tx, "train", {})
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await _rows(database) == []


async def test_a_key_has_one_open_job(database: Database) -> None:
    first = await _add(database, key="model")
    assert first is not None
    assert await _add(database, key="model") is None
    assert await _add(database, key="other") is not None
    async with Running(database):
        await _until_all(database, "done")
    assert await _add(database, key="model") not in (None, first)


async def test_a_handler_may_enqueue_its_successor_under_its_own_key(database: Database) -> None:
    class Counting(Running):
        async def handle(self, job: Job, lease: Lease) -> None:
            await super().handle(job, lease)
            async with database.transaction(job.actor) as tx:
                await lease.complete(tx)
                if job.payload["n"] < 3:
                    assert await enqueue(tx, "train", {"n": job.payload["n"] + 1}, key="timer") is not None

    await _add(database, key="timer")
    async with Counting(database) as running, asyncio.timeout(SECONDS):
        while len(await _until_all(database, "done")) < 4:
            await asyncio.sleep(0.01)
    assert [job.payload["n"] for job in running.seen] == [0, 1, 2, 3]


async def test_a_job_is_not_done_before_its_time(database: Database) -> None:
    await _add(database, 1, run_at=datetime.now(UTC) + timedelta(hours=1))
    await _add(database, 2)
    async with Running(database) as running, asyncio.timeout(SECONDS):
        while not running.seen:
            await asyncio.sleep(0.01)
    assert [job.payload["n"] for job in running.seen] == [2]


async def test_many_workers_do_each_job_once(database: Database) -> None:
    for n in range(50):
        await _add(database, n)
    async with Running(database, concurrency=3) as one, Running(database, concurrency=3) as other:
        await _until_all(database, "done")
    assert sorted(job.payload["n"] for job in one.seen + other.seen) == list(range(50))


class Failing(Running):
    """Raises `error` as often as `times` says, then succeeds."""

    def __init__(self, database: Database, error: Exception, times: int) -> None:
        super().__init__(database, backoff=0.01, attempts=3)
        self.error = error
        self.times = times

    async def handle(self, job: Job, lease: Lease) -> None:
        await super().handle(job, lease)
        if len(self.seen) <= self.times:
            raise self.error


async def test_a_failure_is_tried_again(database: Database) -> None:
    await _add(database)
    async with Failing(database, ValueError("no such column"), 2) as running:
        await _until_all(database, "done")
    assert [job.attempts for job in running.seen] == [1, 2, 3]
    assert [job.token for job in running.seen] == [1, 2, 3]


async def test_after_the_last_attempt_it_is_dead_with_its_error(database: Database) -> None:
    await _add(database)
    async with Failing(database, ValueError("no such column"), 99) as running:
        (row,) = await _until_all(database, "dead")
    assert row["error"] == "ValueError: no such column"
    assert len(running.seen) == 3


async def test_a_retriable_error_does_not_count(database: Database) -> None:
    await _add(database)
    async with Failing(database, Unavailable("Kafka is away"), 10) as running:
        await _until_all(database, "done")
    assert len(running.seen) == 11


async def test_a_long_job_keeps_its_lease(database: Database) -> None:
    class Slow(Running):
        async def handle(self, job: Job, lease: Lease) -> None:
            await super().handle(job, lease)
            await asyncio.sleep(1.5)  # five leases long

    await _add(database)
    async with Slow(database, lease=0.3) as one, Slow(database, lease=0.3) as other:
        await _until_all(database, "done")
    assert len(one.seen + other.seen) == 1


async def _take(database: Database, number: int) -> Lease:
    """Take the lease of the only job as another worker would after the lease ran out; its token is `number`."""
    async with database.acquire() as connection:
        await connection.execute("UPDATE job SET token = $1", number)
    (row,) = await _rows(database)
    job = Job("acme", row["id"], "train", None, {}, ALICE, 1, number, row["created_at"])
    return Lease(database, job, timedelta(seconds=30))


async def test_who_lost_the_lease_writes_nothing(database: Database) -> None:
    await _add(database)
    old = await _take(database, 1)
    new = await _take(database, 2)

    async def write(lease: Lease, how: str) -> None:
        async with database.transaction(ALICE) as tx:
            await tx.execute("INSERT INTO effect VALUES ($1)", lease.job.token)
            await getattr(lease, how)(tx)

    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE effect (token bigint)")
    for how in ("check", "complete"):
        with pytest.raises(LeaseLost):
            await write(old, how)
    with pytest.raises(LeaseLost):
        await old.renew()
    await write(new, "check")
    await new.renew()
    await write(new, "complete")
    with pytest.raises(LeaseLost):
        await write(new, "complete")
    async with database.acquire() as connection:
        assert [row["token"] for row in await connection.fetch("SELECT token FROM effect")] == [2, 2]


async def test_a_handler_that_lost_its_lease_is_cancelled(database: Database) -> None:
    cancelled = asyncio.Event()
    taken = asyncio.Event()

    class Stuck(Running):
        async def handle(self, job: Job, lease: Lease) -> None:
            await super().handle(job, lease)
            if len(self.seen) > 1:
                return
            taken.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    await _add(database)
    async with Stuck(database, lease=0.3), asyncio.timeout(SECONDS):
        await taken.wait()
        async with database.acquire() as connection:
            await connection.execute("UPDATE job SET token = token + 1")
        await cancelled.wait()
        await _until_all(database, "done")


async def test_a_stop_gives_unfinished_jobs_back(database: Database) -> None:
    class Stuck(Running):
        async def handle(self, job: Job, lease: Lease) -> None:
            await super().handle(job, lease)
            await asyncio.sleep(60)

    await _add(database)
    async with Stuck(database, grace=0.05) as stuck, asyncio.timeout(SECONDS):
        while not stuck.seen:
            await asyncio.sleep(0.01)
    async with Running(database) as running:  # at once: nobody waits for the old lease to run out
        await _until_all(database, "done")
    assert [job.attempts for job in running.seen] == [1]


_WORKER = """
import asyncio, os, signal, sys
from holdtrue_core.process import die_with_parent
from holdtrue_storage.database import Database
from holdtrue_storage.jobs import Worker

async def handle(job, lease):
    async with database.transaction(job.actor) as tx:
        await tx.execute("INSERT INTO effect VALUES ($1, $2)", job.payload["n"], job.token)
        if job.payload["n"] == int(sys.argv[3]) and sys.argv[4] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await lease.complete(tx)
    if job.payload["n"] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    global database
    database = Database(sys.argv[1], "registry")
    await database.open()
    await Worker(database, "train", handle, lease=0.5, poll=0.05).run()

die_with_parent(int(sys.argv[2]))
asyncio.run(main())
"""


async def _killed_worker(dsn: str, n: int, when: str) -> int:
    """Run a worker that kills itself at job `n`; return its exit status."""
    arguments = [dsn, str(os.getpid()), str(n), when]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _WORKER, *arguments)
    async with asyncio.timeout(60):
        return await process.wait()


async def test_jobs_of_killed_workers_are_done_exactly_once(database: Database, service_dsn: str) -> None:
    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE effect (n int, token bigint)")
    for n in range(20):
        await _add(database, n)
    for n, when in ((3, "before"), (7, "after"), (12, "before"), (15, "after")):
        assert await _killed_worker(service_dsn, n, when) == -signal.SIGKILL

    class Rest(Running):
        async def handle(self, job: Job, lease: Lease) -> None:
            async with database.transaction(job.actor) as tx:
                await tx.execute("INSERT INTO effect VALUES ($1, $2)", job.payload["n"], job.token)
                await lease.complete(tx)

    async with Rest(database):
        await _until_all(database, "done")
    async with database.acquire() as connection:
        effects = await connection.fetch("SELECT n, token FROM effect ORDER BY n")
    assert [row["n"] for row in effects] == list(range(20))
    assert {row["n"] for row in effects if row["token"] > 1} == {3, 12}


async def test_a_job_that_kills_its_worker_is_dead_in_the_end(database: Database) -> None:
    await _add(database)
    async with database.acquire() as connection:
        await connection.execute("UPDATE job SET attempts = 3, token = 3")
    async with Running(database, attempts=3) as running:
        (row,) = await _until_all(database, "dead")
    assert running.seen == []
    assert "died" in row["error"]
