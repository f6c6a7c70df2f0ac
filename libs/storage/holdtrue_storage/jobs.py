"""Leased jobs: work that outlives its request, done by one worker at a time, again if that worker dies.

Time is the database's. Each lease has a fencing token, greater than all before: a write in the name of a job goes
through `Lease.check` or `Lease.complete` in the same transaction, so that a worker that lost its lease changes nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from holdtrue_contracts.actor import Actor
from holdtrue_core.errors import Conflict, HoldtrueError, Unavailable
from holdtrue_core.ids import uuid7

if TYPE_CHECKING:
    from asyncpg import Record

    from .database import Database, Transaction

_LEASE = """
UPDATE job SET token = token + 1, attempts = attempts + 1, leased_until = clock_timestamp() + $2
WHERE (tenant, id) = (
    SELECT tenant, id FROM job
    WHERE kind = $1 AND state = 'open' AND run_at <= clock_timestamp()
      AND (leased_until IS NULL OR leased_until < clock_timestamp())
    ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING tenant, id, kind, key, payload, actor, attempts, token, created_at"""
_RENEW = """
UPDATE job SET leased_until = clock_timestamp() + $4 WHERE tenant = $1 AND id = $2 AND token = $3"""
_CHECK = "SELECT 1 FROM job WHERE tenant = $1 AND id = $2 AND token = $3 AND state = 'open' FOR UPDATE"
_COMPLETE = """
UPDATE job SET state = 'done', leased_until = NULL, error = NULL, finished_at = clock_timestamp()
WHERE tenant = $1 AND id = $2 AND token = $3 AND state = 'open'"""
_RETRY = """
UPDATE job SET leased_until = NULL, error = $4, run_at = clock_timestamp() + $5, attempts = attempts - $6
WHERE tenant = $1 AND id = $2 AND token = $3 AND state = 'open'"""
_BURY = """
UPDATE job SET state = 'dead', leased_until = NULL, error = $4, finished_at = clock_timestamp()
WHERE tenant = $1 AND id = $2 AND token = $3 AND state = 'open'"""
_FORGET = "DELETE FROM job WHERE kind = $1 AND state <> 'open' AND finished_at < now() - interval '30 days'"
_FORGET_SECONDS = 3600.0
_ERROR_CHARACTERS = 2000
_LONGEST_PAUSE = 300.0
_log = structlog.stdlib.get_logger("holdtrue.jobs")


class LeaseLost(Conflict):
    """Another worker has the job by now, or it is finished: this one must not write."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done. `attempts` counts this one, too."""

    tenant: str
    id: str
    kind: str
    key: str | None
    payload: dict[str, Any]
    actor: Actor
    attempts: int
    token: int
    created_at: datetime


async def enqueue(
    tx: Transaction, kind: str, payload: dict[str, Any], key: str | None = None, run_at: datetime | None = None
) -> str | None:
    """Record a job within `tx`, for its actor, due at `run_at` (default: at once); return its id.

    With a key, a job that is open for the same kind and key stays the only one, and None is returned. A handler that
    enqueues its successor under its own key completes itself first, in the same transaction.
    """
    job_id = await tx.fetchval(
        """
        INSERT INTO job (tenant, id, kind, key, payload, actor, run_at)
        VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, clock_timestamp()))
        ON CONFLICT (tenant, kind, key) WHERE state = 'open' DO NOTHING RETURNING id""",
        tx.actor.tenant,
        uuid7(),
        kind,
        key,
        payload,
        tx.actor.to_header().decode(),
        run_at,
    )
    tx.after_commit(tx.database.signal(_channel(kind)).set)
    return job_id


class Lease:
    """The right to work on a job, as long as it is renewed."""

    def __init__(self, database: Database, job: Job, duration: timedelta) -> None:
        """Made by `Worker`."""
        self.job = job
        self._database = database
        self._duration = duration
        self.completed = False

    async def check(self, tx: Transaction) -> None:
        """Lock the job until the end of `tx`; raises LeaseLost, so that the transaction rolls back."""
        if await tx.fetchval(_CHECK, self.job.tenant, self.job.id, self.job.token) is None:
            raise self._lost()

    async def complete(self, tx: Transaction) -> None:
        """Finish the job in the transaction of its effect; raises LeaseLost, so that the transaction rolls back."""
        if await tx.execute(_COMPLETE, self.job.tenant, self.job.id, self.job.token) != "UPDATE 1":
            raise self._lost()
        tx.after_commit(self._mark)

    async def renew(self) -> None:
        """Prolong it; `Worker` does so by itself. Raises LeaseLost."""
        async with self._database.acquire() as connection:
            done = await connection.execute(_RENEW, self.job.tenant, self.job.id, self.job.token, self._duration)
        if done != "UPDATE 1":
            raise self._lost()

    def _mark(self) -> None:
        self.completed = True

    def _lost(self) -> LeaseLost:
        text = f"the lease of {self.job.kind} job {self.job.id} is lost: another worker has it, or it is finished"
        return LeaseLost(text, reason="LEASE_LOST")


Handler = Callable[[Job, Lease], Awaitable[None]]


class Worker:
    """Works on the jobs of one kind.

    A handler that returns without `lease.complete` is completed after it. One that raises is tried again with growing
    pauses, `attempts` times at most, then the job is dead (kept, with its error); a retriable error does not count. A
    job whose worker dies counts as tried. A handler whose lease cannot be renewed in time is cancelled.
    """

    def __init__(  # noqa: PLR0913  each has a default that is right for most
        self,
        database: Database,
        kind: str,
        handler: Handler,
        *,
        lease: float = 30.0,
        concurrency: int = 1,
        poll: float = 1.0,
        attempts: int = 5,
        backoff: float = 1.0,
        grace: float = 10.0,
    ) -> None:
        """Say what to do.

        In seconds: `lease`, `poll`, `backoff` (first pause, doubled each time up to 5 min) and `grace` (how long a stop
        waits for handlers before it cancels them and gives their jobs back).
        """
        self.name = f"worker of {kind}"
        self._database = database
        self._kind = kind
        self._handler = handler
        self._lease = timedelta(seconds=lease)
        self._concurrency = concurrency
        self._poll = poll
        self._attempts = attempts
        self._backoff = backoff
        self._grace = grace
        self._wake = database.signal(_channel(kind))
        self._stopping = asyncio.Event()
        self._forget_at = 0.0

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Take jobs until the stop."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._work()) for _ in range(self._concurrency)]
            await self._stopping.wait()
            _, late = await asyncio.wait(tasks, timeout=self._grace)
            for task in late:
                task.cancel()

    async def stop(self) -> None:
        """Take no more jobs."""
        self._stopping.set()
        self._wake.set()

    async def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if await self._do_next():
                    continue
            except Unavailable as error:
                _log.warning("no job now", kind=self._kind, error=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._poll)

    async def _do_next(self) -> bool:
        """Do the next job that is due; false where there is none."""
        since = time.monotonic()
        async with self._database.acquire() as connection:
            row = await connection.fetchrow(_LEASE, self._kind, self._lease)
        if row is None:
            await self._forget()
            return False
        job = _job(row)
        if job.attempts > self._attempts:
            await self._update(_BURY, job, "each worker that tried it died")
        else:
            await self._do(job, since)
        return True

    async def _forget(self) -> None:
        """Delete, now and then, what was finished long ago."""
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + _FORGET_SECONDS
        async with self._database.acquire() as connection:
            await connection.execute(_FORGET, self._kind)

    async def _do(self, job: Job, since: float) -> None:
        lease = Lease(self._database, job, self._lease)
        try:
            await self._handle(lease, since)
        except LeaseLost as error:
            _log.warning("lease lost", kind=job.kind, job=job.id, error=str(error))
        except asyncio.CancelledError:
            await self._update(_RETRY, job, "given back at a stop", timedelta(), 1)
            raise
        except Exception as error:  # noqa: BLE001  whatever it was: recorded with the job, tried again
            await self._failed(job, error)

    async def _handle(self, lease: Lease, since: float) -> None:
        """Run the handler while the lease is kept; whichever fails first ends the other."""
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep(lease, since))
                await self._handler(lease.job, lease)
                keeper.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if not lease.completed:
            async with self._database.transaction(lease.job.actor) as tx:
                await lease.complete(tx)

    async def _keep(self, lease: Lease, since: float) -> None:
        duration = self._lease.total_seconds()
        while True:
            await asyncio.sleep(duration / 3)
            attempt = time.monotonic()
            try:
                await lease.renew()
                since = attempt
            except Unavailable:
                if time.monotonic() - since > duration:
                    raise LeaseLost("the database was away for longer than the lease", reason="LEASE_LOST") from None

    async def _failed(self, job: Job, error: Exception) -> None:
        retriable = isinstance(error, HoldtrueError) and error.retriable
        text = f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]
        _log.warning("job failed", kind=job.kind, job=job.id, attempt=job.attempts, error=text, exc_info=not retriable)
        if job.attempts >= self._attempts and not retriable:
            await self._update(_BURY, job, text)
            return
        pause = min(self._backoff * 2 ** (job.attempts - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.5)  # noqa: S311
        await self._update(_RETRY, job, text, timedelta(seconds=pause), int(retriable))

    async def _update(self, statement: str, job: Job, *args: object) -> None:
        """Write the outcome, unless the job has a newer lease."""
        async with self._database.acquire() as connection:
            await connection.execute(statement, job.tenant, job.id, job.token, *args)


def _channel(kind: str) -> str:
    return f"job {kind}"


def _job(row: Record) -> Job:
    fields: dict[str, Any] = {**row, "actor": Actor.from_header(row["actor"].encode())}
    return Job(**fields)
