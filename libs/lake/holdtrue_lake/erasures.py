"""Erasures that people asked for: queued, run together, proven.

A run may die at any point and be run again: what it did is in the tables' logs, and keys go last. Nothing is called
done before every byte of the tables has been looked through.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_core.errors import InvalidArgument
from holdtrue_core.ids import uuid7

from holdtrue_lake.erasure import Erased, erase_rows
from holdtrue_lake.proof import Scan, scan
from holdtrue_lake.storage import has_table, rows_uri
from holdtrue_lake.subjects import normal
from holdtrue_lake.upkeep import vacuum
from holdtrue_lake.versions import content_digests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from holdtrue_storage.database import Database, Transaction

    from holdtrue_lake.leases import Leases, WriterLease
    from holdtrue_lake.storage import Root
    from holdtrue_lake.subjects import MasterKey

DEADLINE = timedelta(hours=24)
PATIENCE = timedelta(minutes=10)
"""How long a run waits for readers before it cancels their leases."""
ECHO = timedelta(days=8)
"""How long rows of an erased subject may still come in: what was offered before lies in a topic for seven days."""
LEAVES = {"data.v1": timedelta(days=7), "dead-letters.v1": timedelta(days=30)}
"""Bytes of foreign producers that nobody can match to a person, and when they have left by retention."""
_ASK = """
INSERT INTO erasure (tenant, id, blind_index, pseudonym, identifier, reason, asked_by, deadline)
VALUES ($1, $2, $3, (SELECT pseudonym FROM subject_key WHERE tenant = $1 AND blind_index = $3), $4, $5, $6,
        clock_timestamp() + $7)
ON CONFLICT (tenant, blind_index) WHERE done_at IS NULL DO UPDATE SET reason = erasure.reason
RETURNING id"""
_OPEN = """
UPDATE erasure e SET pseudonym = coalesce(e.pseudonym,
    (SELECT k.pseudonym FROM subject_key k WHERE k.tenant = e.tenant AND k.blind_index = e.blind_index))
WHERE tenant = $1 AND done_at IS NULL RETURNING id, blind_index, pseudonym, identifier"""
_RECENT = """
SELECT pseudonym FROM erasure
WHERE tenant = $1 AND pseudonym IS NOT NULL AND done_at > clock_timestamp() - $2::interval"""
_LIST = """
SELECT id, pseudonym, reason, asked_by, asked_at, deadline, done_at, proof FROM erasure
WHERE tenant = $1 AND ($2 OR (done_at IS NULL AND deadline < clock_timestamp())) ORDER BY id"""
_TRIED = "UPDATE erasure SET proof = $3 WHERE tenant = $1 AND id = $2"
_DONE = """
UPDATE erasure e SET proof = $3, identifier = NULL, done_at = clock_timestamp(), pseudonym = coalesce(e.pseudonym,
    (SELECT k.pseudonym FROM subject_key k WHERE k.tenant = e.tenant AND k.blind_index = e.blind_index))
WHERE tenant = $1 AND id = $2"""  # a subject who came only now is known to the next run
_DESTROY = "DELETE FROM subject_key WHERE tenant = $1 AND blind_index = $2"


@dataclass(frozen=True)
class Erasure:
    """One person's erasure, as it is recorded; `proof` is of the last attempt."""

    id: str
    pseudonym: str | None
    reason: str
    asked_by: str
    asked_at: datetime
    deadline: datetime
    done_at: datetime | None
    proof: dict[str, Any] | None


@dataclass(frozen=True)
class DatasetErased:
    """What a run did to a dataset: `digests` are the new ones of the changed commits, for `History.erase`."""

    dataset_id: str
    erased: Erased
    digests: dict[int, str]
    scan: Scan


@dataclass(frozen=True)
class Run:
    """What a run did; `done` and `left` are ids of erasures: those that are proven, and those that must run again."""

    done: tuple[str, ...]
    left: tuple[str, ...]
    datasets: tuple[DatasetErased, ...]


@dataclass(frozen=True)
class _Wanted:
    id: str
    blind_index: bytes
    pseudonym: str | None
    identifier: str


class Erasures:
    """The queue of a service's erasures and its worker; needs the migrations of `holdtrue_lake`."""

    def __init__(
        self, database: Database, master: MasterKey, leases: Leases, root: Root, patience: timedelta = PATIENCE
    ) -> None:
        """Say where everything is."""
        self._database, self._master, self._leases = database, master, leases
        self._root, self._patience = root, patience

    async def ask(self, actor: Actor, identifier: str, reason: str, deadline: timedelta = DEADLINE) -> str:
        """Queue the erasure of a subject; return its id, which is the same until it is done. Raises InvalidArgument."""
        if not normal(identifier):
            raise InvalidArgument.of("identifier", "name the person as the data does, for example by an e-mail address")
        index = self._master.blind_index(actor.tenant, identifier)
        sealed = self._master.wrap(normal(identifier).encode(), index)
        async with self._database.transaction(actor) as tx:
            return await tx.fetchval(_ASK, actor.tenant, uuid7(), index, sealed, reason, actor.name, deadline)

    async def list(self, tenant: str, *, overdue: bool = False) -> list[Erasure]:
        """Return all erasures, or those that are not done though their deadline has passed, oldest first."""
        async with self._database.transaction(_worker(tenant)) as tx:
            return [Erasure(**row) for row in await tx.fetch(_LIST, tenant, not overdue)]

    async def run(
        self,
        tenant: str,
        dataset_ids: Sequence[str],
        record: Callable[[Transaction, Run], Awaitable[None]],
    ) -> Run:
        """Erase everybody who is waiting from all of the tenant's datasets, together.

        Also what has come since about those who were erased. `record` stores what follows from it (digests of commits,
        events, who held the rows) in the transaction in which the keys go. Raises TableBusy, TableLeaseLost.
        """
        wanted, recent = await self._wanted(tenant)
        names = {each.pseudonym for each in wanted if each.pseudonym} | recent
        datasets = [await self._erase(tenant, each, names, wanted) for each in dataset_ids] if wanted or names else []
        run = Run(*_judged(wanted, datasets), tuple(datasets))
        async with self._database.transaction(_worker(tenant)) as tx:
            await record(tx, run)
            for each in wanted:
                proven = each.id in run.done
                await tx.execute(_DONE if proven else _TRIED, tenant, each.id, _proof(wanted, each, datasets))
                if proven:
                    await tx.execute(_DESTROY, tenant, each.blind_index)
        return run

    async def _wanted(self, tenant: str) -> tuple[list[_Wanted], set[str]]:
        async with self._database.transaction(_worker(tenant)) as tx:
            rows = await tx.fetch(_OPEN, tenant)
            recent = {row["pseudonym"] for row in await tx.fetch(_RECENT, tenant, ECHO)}
        return sorted((self._opened(row) for row in rows), key=lambda each: each.id), recent

    def _opened(self, row: Any) -> _Wanted:  # noqa: ANN401  a record of asyncpg
        identifier = self._master.unwrap(row["identifier"], row["blind_index"]).decode()
        return _Wanted(row["id"], row["blind_index"], row["pseudonym"], identifier)

    async def _erase(
        self, tenant: str, dataset_id: str, pseudonyms: Collection[str], wanted: Sequence[_Wanted]
    ) -> DatasetErased:
        if not has_table(rows_uri(self._root, dataset_id)):
            return DatasetErased(dataset_id, Erased(), {}, Scan(0, 0, ()))
        ids = [each.id for each in wanted] or [uuid7()]
        async with self._leases.writer(tenant, dataset_id, "erasure") as lease:
            went = await asyncio.to_thread(erase_rows, self._root, dataset_id, pseudonyms, ids)
            await self._alone(lease)
            await asyncio.to_thread(vacuum, self._root, dataset_id, timedelta(), alone=True)
            return await asyncio.to_thread(self._proven, dataset_id, went, wanted)

    def _proven(self, dataset_id: str, went: Erased, wanted: Sequence[_Wanted]) -> DatasetErased:
        digests = content_digests(self._root, dataset_id, went.commits.numbers())
        return DatasetErased(dataset_id, went, digests, scan(self._root, dataset_id, _needles(wanted)))

    async def _alone(self, lease: WriterLease) -> None:
        """Wait until nobody reads what is to be removed; who reads for too long must read again."""
        until = time.monotonic() + self._patience.total_seconds()
        while not await lease.alone(cancel=time.monotonic() >= until):  # noqa: ASYNC110  readers are other processes
            await asyncio.sleep(min(1.0, self._patience.total_seconds() / 10))


def _worker(tenant: str) -> Actor:
    return Actor(tenant, "erasure", ActorKind.SERVICE)


def _needles(wanted: Sequence[_Wanted]) -> list[str]:
    """Names and pseudonyms in turn; those who have no pseudonym have their name twice."""
    return [text for each in wanted for text in (each.identifier, each.pseudonym or each.identifier)]


def _judged(wanted: Sequence[_Wanted], datasets: Sequence[DatasetErased]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    seen = {found.needle // 2 for each in datasets for found in each.scan.found}
    done = tuple(each.id for number, each in enumerate(wanted) if number not in seen)
    return done, tuple(each.id for number, each in enumerate(wanted) if number in seen)


def _proof(wanted: Sequence[_Wanted], one: _Wanted, datasets: Sequence[DatasetErased]) -> dict[str, Any]:
    """What was looked through and what of this person was found; places are named, the person is not."""
    number, now = wanted.index(one), datetime.now(UTC)
    tables = [
        {
            "dataset_id": each.dataset_id,
            "commits": list(each.erased.commits),
            "rows_of_all": each.erased.rows,
            "refused_of_all": each.erased.quarantined,
            "erased_together": len(wanted),
            "files": each.scan.files,
            "bytes": each.scan.bytes,
            "found": [asdict(found) for found in each.scan.found if found.needle // 2 == number],
        }
        for each in datasets
    ]
    proof = {"at": now, "datasets": tables, "leaves": {topic: now + age for topic, age in LEAVES.items()}}
    return msgspec.to_builtins(proof)
