"""One run of erasures: everybody who waits, dataset by dataset.

It may die at any point, and the next goes on where it was: what it did is in the tables' logs and in the queue, and
keys go last. Nothing is called done before every byte of the tables has been looked through.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol

import msgspec

from holdtrue_lake.erasure import Erased, erase_rows, holdings
from holdtrue_lake.erasure_queue import Erasure, T, T_contra, Transactions, recorded, to_plain, worker
from holdtrue_lake.proof import Scan, scan
from holdtrue_lake.storage import has_table, rows_uri
from holdtrue_lake.upkeep import vacuum
from holdtrue_lake.versions import content_digests, rows_of_commits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from holdtrue_lake.leases import Leases, WriterLease
    from holdtrue_lake.storage import Root
    from holdtrue_lake.subjects import MasterKey

PATIENCE = timedelta(minutes=10)
"""How long a run waits for readers before it cancels their leases."""
ECHO = timedelta(days=8)
"""How long rows of an erased subject may still come in: what was offered before lies in a topic for seven days."""
LEAVES = {"data.v1": timedelta(days=7), "dead-letters.v1": timedelta(days=30)}
"""Bytes of foreign producers that nobody can match to a person, and when they have left by retention."""
_NAMED = """pseudonym = coalesce(e.pseudonym,
    (SELECT k.pseudonym FROM subject_key k WHERE k.tenant = e.tenant AND k.blind_index = e.blind_index))"""
_OPEN = f"""
UPDATE erasure e SET began_at = coalesce(began_at, clock_timestamp()), total = $2, {_NAMED}
WHERE tenant = $1 AND done_at IS NULL RETURNING *"""  # noqa: S608  our own text
_RECENT = """
SELECT * FROM erasure WHERE tenant = $1 AND pseudonym IS NOT NULL AND done_at IS NOT NULL
    AND (done_at > clock_timestamp() - $2::interval OR echo <> '{}')"""
_HELD = """
UPDATE erasure SET held = held || $3,
    echo = CASE WHEN done_at IS NULL THEN echo ELSE array_append(array_remove(echo, $4), $4) END
WHERE tenant = $1 AND id = $2"""
_CHECKED = """
UPDATE erasure SET checked = checked || $3, echo = CASE WHEN $5 THEN array_remove(echo, $4) ELSE echo END
WHERE tenant = $1 AND id = $2"""
_TRIED = "UPDATE erasure SET proof = $3 WHERE tenant = $1 AND id = $2"
_DONE = f"""
UPDATE erasure e SET proof = $3, identifier = NULL, done_at = clock_timestamp(), {_NAMED}
WHERE tenant = $1 AND id = $2 AND done_at IS NULL RETURNING *"""  # noqa: S608  who came only now is known to the next
_DESTROY = "DELETE FROM subject_key WHERE tenant = $1 AND blind_index = $2"
_OURS = ("tenant", "blind_index", "identifier", "urgent", "echo")


@dataclass(frozen=True)
class DatasetErased:
    """What a run did to a dataset: `digests` and `rows` are what its changed commits have now, by number."""

    dataset_id: str
    erased: Erased
    digests: dict[int, str]
    rows: dict[int, int]
    scan: Scan


class Recorder(Protocol[T_contra]):
    """Stores what follows from erasures, in the transaction that makes it so."""

    async def changed(self, tx: T_contra, outcome: DatasetErased, /) -> None:
        """Commits of a dataset have other contents now; the same may be told again."""
        ...

    async def erased(self, tx: T_contra, erasure: Erasure, /) -> None:
        """A person is erased from what `erasure.held` names."""
        ...


@dataclass(frozen=True)
class Place:
    """Where tables are, and how they are kept from others."""

    leases: Leases
    root: Root
    patience: timedelta
    holder: str


@dataclass(frozen=True)
class Person:
    """Somebody who is to be erased, or, without an `identifier`, has been and may still come in.

    `echo` are datasets in which what came in late is being erased.
    """

    erasure: Erasure
    blind_index: bytes
    identifier: str
    echo: frozenset[str]

    @property
    def id(self) -> str:
        """Id of the erasure."""
        return self.erasure.id

    def waits(self, dataset_id: str) -> bool:
        """Tell whether a dataset is to be looked through for somebody who is to be erased."""
        check = self.erasure.checked.get(dataset_id)
        return bool(self.identifier) and (check is None or bool(check["found"] or check["trouble"]))

    def holding(self, dataset_id: str, held: Erased) -> Person:
        """Know what a dataset has of them."""
        before = self.erasure.held.get(dataset_id, Erased())
        return replace(self, erasure=replace(self.erasure, held={**self.erasure.held, dataset_id: before | held}))

    def checked(self, dataset_id: str, check: dict[str, Any]) -> Person:
        """Know what a dataset was found to have of them afterwards."""
        return replace(self, erasure=replace(self.erasure, checked={**self.erasure.checked, dataset_id: check}))


async def people(database: Transactions[T], master: MasterKey, tenant: str, total: int) -> dict[str, Person]:
    """Return all who are to be erased, or may still come in, by the ids of their erasures; `total` datasets follow."""
    async with database.transaction(worker(tenant)) as tx:
        rows = [*await tx.fetch(_OPEN, tenant, total), *await tx.fetch(_RECENT, tenant, ECHO)]
    found = (_person(row, master) for row in rows)
    return {each.id: each for each in sorted(found, key=lambda each: each.id)}


def _person(row: Any, master: MasterKey) -> Person:  # noqa: ANN401  a record of asyncpg
    sealed, index = row["identifier"], row["blind_index"]
    identifier = "" if sealed is None else master.unwrap(sealed, index).decode()
    return Person(_erasure(row), index, identifier, frozenset(row["echo"]))


def _erasure(row: Any) -> Erasure:  # noqa: ANN401  a record of asyncpg
    return recorded({name: value for name, value in row.items() if name not in _OURS})


class Round(Generic[T]):
    """A run for some people."""

    def __init__(
        self,
        database: Transactions[T],
        place: Place,
        recorder: Recorder[T],
        tenant: str,
        found: dict[str, Person],
    ) -> None:
        """Say for whom."""
        self._database, self._place, self._recorder = database, place, recorder
        self._tenant, self._people = tenant, found

    async def visit(self, dataset_id: str) -> DatasetErased | None:
        """Erase everybody from a dataset and look through it; None: there was nothing to do.

        Raises TableBusy, TableLeaseLost, Fenced, DamagedFile; nothing is lost then.
        """
        due = [each for each in self._people.values() if each.waits(dataset_id) or not each.identifier]
        if not due:
            return None
        if not await asyncio.to_thread(has_table, rows_uri(self._place.root, dataset_id)):
            await self._check_all(dataset_id, {})
            return None
        async with self._place.leases.writer(self._tenant, dataset_id, self._place.holder) as lease:
            held = await asyncio.to_thread(holdings, self._place.root, dataset_id, _pseudonyms(due))
            due = [each for each in due if each.waits(dataset_id) or _echoes(each, dataset_id, held)]
            if not due:
                return None
            due = await self._hold(due, dataset_id, held)
            outcome = await self._erase(lease, dataset_id, due)
        async with self._database.transaction(worker(self._tenant)) as tx:
            await self._recorder.changed(tx, outcome)
            await self._note(tx, dataset_id, due, held, outcome)
        return outcome

    async def note_trouble(self, dataset_id: str, trouble: str) -> None:
        """Write down why a dataset could not be worked on."""
        await self._check_all(dataset_id, {"trouble": trouble})

    async def finish(self, dataset_ids: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Destroy the keys of those who are erased everywhere; return their erasures' ids, and those that are left."""
        done: list[str] = []
        wanted = [each for each in self._people.values() if each.identifier]
        async with self._database.transaction(worker(self._tenant)) as tx:
            for each in wanted:
                if any(each.waits(dataset_id) for dataset_id in dataset_ids):
                    await tx.execute(_TRIED, self._tenant, each.id, _proof(each))
                    continue
                row = await tx.fetchrow(_DONE, self._tenant, each.id, _proof(each))
                if row is not None:
                    await tx.execute(_DESTROY, self._tenant, each.blind_index)
                    await self._recorder.erased(tx, _erasure(row))
                done.append(each.id)
        return tuple(done), tuple(each.id for each in wanted if each.id not in done)

    async def _hold(self, due: Sequence[Person], dataset_id: str, held: Mapping[str, Erased]) -> list[Person]:
        """Write down what there is of each before it goes: afterwards nobody could tell who was in what."""
        known = [each.holding(dataset_id, held.get(each.erasure.pseudonym or "", Erased())) for each in due]
        self._people.update((each.id, each) for each in known)
        async with self._database.transaction(worker(self._tenant)) as tx:
            for each in known:
                value = {dataset_id: to_plain(each.erasure.held[dataset_id])}
                await tx.execute(_HELD, self._tenant, each.id, value, dataset_id)
        return known

    async def _erase(self, lease: WriterLease, dataset_id: str, due: Sequence[Person]) -> DatasetErased:
        root = self._place.root
        went = await asyncio.to_thread(erase_rows, root, dataset_id, _pseudonyms(due), [each.id for each in due])
        await self._alone(lease)
        await asyncio.to_thread(vacuum, root, dataset_id, timedelta(), alone=True)
        return await asyncio.to_thread(_proven, root, dataset_id, went, _needles(due))

    async def _alone(self, lease: WriterLease) -> None:
        """Wait until nobody reads what is to be removed; who reads for too long must read again."""
        patience = self._place.patience.total_seconds()
        until = time.monotonic() + patience
        while not await lease.alone(cancel=time.monotonic() >= until):  # noqa: ASYNC110  readers are other processes
            await asyncio.sleep(min(1.0, patience / 10))

    async def _note(
        self, tx: T, dataset_id: str, due: Sequence[Person], held: Mapping[str, Erased], outcome: DatasetErased
    ) -> None:
        """Write down what was looked through and what of each person was found; tell of what came late."""
        for number, each in enumerate(due):
            found = [asdict(found) for found in outcome.scan.found if found.needle // 2 == number]
            for trace in found:
                trace["pseudonym"] = bool(trace.pop("needle") % 2)
            await self._check(tx, each, dataset_id, {**_scanned(outcome), "found": found})
            if not each.identifier:
                late = held.get(each.erasure.pseudonym or "", each.erasure.held[dataset_id])
                await self._recorder.erased(tx, replace(each.erasure, held={dataset_id: late}))

    async def _check_all(self, dataset_id: str, check: dict[str, Any]) -> None:
        async with self._database.transaction(worker(self._tenant)) as tx:
            for each in [*self._people.values()]:
                if each.waits(dataset_id):
                    await self._check(tx, each, dataset_id, check)

    async def _check(self, tx: T, each: Person, dataset_id: str, check: dict[str, Any]) -> None:
        full: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(),
            "files": 0,
            "bytes": 0,
            "found": [],
            "trouble": "",
            **check,
        }
        self._people[each.id] = each.checked(dataset_id, full)
        clean = not full["found"] and not full["trouble"]
        await tx.execute(_CHECKED, self._tenant, each.id, {dataset_id: full}, dataset_id, clean)


def _echoes(each: Person, dataset_id: str, held: Mapping[str, Erased]) -> bool:
    """Whether more has come of somebody who was erased, or an earlier run has not finished with it."""
    return not each.identifier and (each.erasure.pseudonym in held or dataset_id in each.echo)


def _pseudonyms(due: Sequence[Person]) -> set[str]:
    return {each.erasure.pseudonym for each in due if each.erasure.pseudonym}


def _needles(due: Sequence[Person]) -> list[str]:
    """Names and pseudonyms in turn; those who have only one of them have it twice."""
    pairs = [(each.identifier, each.erasure.pseudonym or "") for each in due]
    return [text for name, pseudonym in pairs for text in (name or pseudonym, pseudonym or name)]


def _proven(root: Root, dataset_id: str, went: Erased, needles: list[str]) -> DatasetErased:
    commits = [*went.commits.numbers()]
    digests, rows = content_digests(root, dataset_id, commits), rows_of_commits(root, dataset_id, commits)
    return DatasetErased(dataset_id, went, digests, rows, scan(root, dataset_id, needles))


def _scanned(outcome: DatasetErased) -> dict[str, int]:
    return {"files": outcome.scan.files, "bytes": outcome.scan.bytes}


def _proof(one: Person) -> dict[str, Any]:
    """What was looked through and what of this person was found; places are named, the person is not."""
    now = datetime.now(UTC)
    tables = [
        {"dataset_id": dataset_id, **to_plain(one.erasure.held.get(dataset_id, Erased())), **check}
        for dataset_id, check in one.erasure.checked.items()
    ]
    leaves = {topic: now + age for topic, age in LEAVES.items()}
    return msgspec.to_builtins({"at": now, "datasets": tables, "leaves": leaves})
