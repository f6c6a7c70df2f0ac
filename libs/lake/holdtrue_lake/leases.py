"""Who may remove files while others read them: leases on a dataset's table, in PostgreSQL.

Appending needs no lease, nor does compaction: the table's log keeps them apart. Removing files that left the table only
just now does: `upkeep.vacuum(alone=True)` wants the writer's lease and no reader. Time is the database's.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_core.errors import Conflict, Unavailable
from holdtrue_core.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from holdtrue_storage.database import Database, Transaction

DURATION = timedelta(minutes=10)
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('table lease of ' || $1 || '/' || $2, 0))"
_EXPIRE = "DELETE FROM table_lease WHERE tenant = $1 AND dataset_id = $2 AND leased_until < clock_timestamp()"
_WRITER = "SELECT holder, alone FROM table_lease WHERE tenant = $1 AND dataset_id = $2 AND kind = 'writer'"
_READERS = "SELECT count(*) FROM table_lease WHERE tenant = $1 AND dataset_id = $2 AND kind = 'reader'"
_TAKE = """
INSERT INTO table_lease (tenant, dataset_id, id, kind, holder, leased_until)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6)"""
_RENEW = """
UPDATE table_lease SET leased_until = clock_timestamp() + $4
WHERE tenant = $1 AND dataset_id = $2 AND id = $3 AND leased_until >= clock_timestamp()"""
_ALONE = "UPDATE table_lease SET alone = true WHERE tenant = $1 AND dataset_id = $2 AND id = $3"
_CANCEL = "DELETE FROM table_lease WHERE tenant = $1 AND dataset_id = $2 AND kind = 'reader'"
_FORGET = "DELETE FROM table_lease WHERE holder = $1"
_RELEASE = "DELETE FROM table_lease WHERE tenant = $1 AND dataset_id = $2 AND id = $3"


class TableBusy(Unavailable):
    """Somebody else has the lease that this would need; trying later helps."""


class TableLeaseLost(Conflict):
    """The lease ended, or a writer cancelled it: what was read or is to be removed is no longer protected."""


class WriterLease(Protocol):
    """The right to remove files of one table."""

    async def alone(self, *, cancel: bool = False) -> bool:
        """Let no new reader in and tell whether none is left; with `cancel`, those that are left lose their lease."""
        ...


class Leases(Protocol):
    """Leases on tables. Both raise TableBusy on entering; inside, a lost lease ends the block by TableLeaseLost."""

    def reader(self, tenant: str, dataset_id: str, holder: str) -> AbstractAsyncContextManager[object]:
        """Files of the table stay while the block runs; busy while a writer is or wants to be alone."""
        ...

    def writer(self, tenant: str, dataset_id: str, holder: str) -> AbstractAsyncContextManager[WriterLease]:
        """Nobody else is writer while the block runs; readers may still be there."""
        ...


class PostgresLeases:
    """Leases in the service's own schema; needs the migrations of `holdtrue_lake`."""

    def __init__(self, database: Database, duration: timedelta = DURATION) -> None:
        """Say where, and how long a lease outlives a process that died with it."""
        self._database = database
        self._duration = duration

    @asynccontextmanager
    async def reader(self, tenant: str, dataset_id: str, holder: str) -> AsyncGenerator[object]:
        """See `Leases.reader`."""
        async with self._held(_Lease(self._database, tenant, dataset_id, self._duration), "reader", holder) as lease:
            yield lease

    @asynccontextmanager
    async def writer(self, tenant: str, dataset_id: str, holder: str) -> AsyncGenerator[WriterLease]:
        """See `Leases.writer`."""
        async with self._held(_Lease(self._database, tenant, dataset_id, self._duration), "writer", holder) as lease:
            yield lease

    async def forget(self, holder: str) -> None:
        """End the leases that an earlier life of `holder` has left, which would last until their time is up."""
        async with self._database.acquire() as connection:
            await connection.execute(_FORGET, holder)

    @asynccontextmanager
    async def _held(self, lease: _Lease, kind: str, holder: str) -> AsyncGenerator[_Lease]:
        since = time.monotonic()
        await lease.take(kind, holder)
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(lease.keep(since))
                yield lease
                keeper.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await lease.release()


class _Lease:
    def __init__(self, database: Database, tenant: str, dataset_id: str, duration: timedelta) -> None:
        self._database = database
        self._table = (tenant, dataset_id)
        self._id = uuid7()
        self._duration = duration

    async def take(self, kind: str, holder: str) -> None:
        async with self._locked() as tx:
            writer = await tx.fetchrow(_WRITER, *self._table)
            if writer and (kind == "writer" or writer["alone"]):
                text = f"{writer['holder']} is writing the table of dataset {self._table[1]}; try again"
                raise TableBusy(text, reason="TABLE_BUSY")
            await tx.execute(_TAKE, *self._table, self._id, kind, holder, self._duration)

    async def alone(self, *, cancel: bool = False) -> bool:
        async with self._locked() as tx:
            if await tx.execute(_ALONE, *self._table, self._id) != "UPDATE 1":
                raise self._lost()
            if cancel:
                await tx.execute(_CANCEL, *self._table)
            return await tx.fetchval(_READERS, *self._table) == 0

    async def keep(self, since: float) -> None:
        """Renew until cancelled; raises TableLeaseLost."""
        seconds = self._duration.total_seconds()
        while True:
            await asyncio.sleep(seconds / 3)
            attempt = time.monotonic()
            try:
                async with self._database.acquire() as connection:
                    done = await connection.execute(_RENEW, *self._table, self._id, self._duration)
            except Unavailable:
                if time.monotonic() - since > seconds:
                    raise self._lost() from None
                continue
            if done != "UPDATE 1":
                raise self._lost()
            since = attempt

    async def release(self) -> None:
        async with self._database.acquire() as connection:
            await connection.execute(_RELEASE, *self._table, self._id)

    @asynccontextmanager
    async def _locked(self) -> AsyncGenerator[Transaction]:
        """One at a time for a table, with what has ended out of the way."""
        async with self._database.transaction(Actor(self._table[0], "lake", ActorKind.SERVICE)) as tx:
            await tx.execute(_LOCK, *self._table)
            await tx.execute(_EXPIRE, *self._table)
            yield tx

    def _lost(self) -> TableLeaseLost:
        text = f"the lease on the table of dataset {self._table[1]} has ended or was cancelled"
        return TableLeaseLost(text, reason="LEASE_LOST")
