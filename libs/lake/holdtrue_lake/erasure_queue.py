"""Erasures that people asked for, as they are recorded: who it was is encrypted until it is done, and gone then."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_core.errors import InvalidArgument, NotFound
from holdtrue_core.ids import uuid7
from holdtrue_storage.database import Transaction

from holdtrue_lake.erasure import Erased
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.subjects import normal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from holdtrue_lake.subjects import MasterKey

DEADLINE = timedelta(hours=24)
_COLUMNS = """id, pseudonym, reason, asked_by, asked_at, deadline, done_at, proof, began_at, total, held, checked"""
_ASK = """
INSERT INTO erasure (tenant, id, blind_index, pseudonym, identifier, reason, asked_by, deadline, urgent)
VALUES ($1, $2, $3, (SELECT pseudonym FROM subject_key WHERE tenant = $1 AND blind_index = $3), $4, $5, $6,
        clock_timestamp() + $7, $8)
ON CONFLICT (tenant, blind_index) WHERE done_at IS NULL DO UPDATE SET urgent = erasure.urgent OR excluded.urgent
RETURNING id"""
_LIST = f"""
SELECT {_COLUMNS} FROM erasure
WHERE tenant = $1 AND ($2 OR (done_at IS NULL AND deadline < clock_timestamp())) ORDER BY id"""  # noqa: S608  ours
_PAGE = f"""
SELECT {_COLUMNS} FROM erasure
WHERE tenant = $1 AND ($2 = '' OR id < $2) AND NOT ($3 AND done_at IS NOT NULL)
ORDER BY id DESC LIMIT $4"""  # noqa: S608  ours
_FIND = f"SELECT {_COLUMNS} FROM erasure WHERE tenant = $1 AND starts_with(id, $2) LIMIT 2"  # noqa: S608  ours
_PSEUDONYM = "SELECT pseudonym FROM subject_key WHERE tenant = $1 AND blind_index = $2"
_PRESSING = """
SELECT EXISTS (SELECT FROM erasure WHERE tenant = $1 AND ((done_at IS NULL AND (urgent OR began_at IS NOT NULL))
    OR echo <> '{}'))"""

T = TypeVar("T", bound=Transaction)
T_co = TypeVar("T_co", bound=Transaction, covariant=True)
T_contra = TypeVar("T_contra", bound=Transaction, contravariant=True)


class Transactions(Protocol[T_co]):
    """Whatever opens transactions of a kind: a database, or an outbox whose transactions publish, too."""

    def transaction(self, actor: Actor) -> AbstractAsyncContextManager[T_co]:
        """Open one in the name of an actor."""
        ...


@dataclass(frozen=True)
class Erasure:
    """One person's erasure, as it is recorded; `proof` is of the last attempt.

    `held` is what datasets had about the person, by id, since before anything went; `checked` what was looked through
    in them and found. `total` is the number of datasets.
    """

    id: str
    pseudonym: str | None
    reason: str
    asked_by: str
    asked_at: datetime
    deadline: datetime
    done_at: datetime | None
    proof: dict[str, Any] | None
    began_at: datetime | None = None
    total: int = 0
    held: Mapping[str, Erased] = field(default_factory=dict[str, Erased])
    checked: Mapping[str, dict[str, Any]] = field(default_factory=dict[str, "dict[str, Any]"])


class ErasureQueue(Generic[T]):
    """What people asked for; needs the migrations of `holdtrue_lake`."""

    def __init__(self, database: Transactions[T], master: MasterKey) -> None:
        """Say where it is, and by what key identifiers are protected."""
        self._database, self._master = database, master

    async def ask(
        self, actor: Actor, identifier: str, reason: str, deadline: timedelta = DEADLINE, *, urgent: bool = False
    ) -> str:
        """Queue the erasure of a subject; return its id, which is the same until it is done. Raises InvalidArgument.

        An `urgent` one is not to wait for others.
        """
        index = self._index(actor.tenant, identifier)
        sealed = self._master.wrap(normal(identifier).encode(), index)
        async with self._database.transaction(actor) as tx:
            return await tx.fetchval(_ASK, actor.tenant, uuid7(), index, sealed, reason, actor.name, deadline, urgent)

    async def pseudonym(self, tenant: str, identifier: str) -> str | None:
        """Return the pseudonym of a subject; None where no dataset knows one. Raises InvalidArgument."""
        index = self._index(tenant, identifier)
        async with self._database.transaction(worker(tenant)) as tx:
            return await tx.fetchval(_PSEUDONYM, tenant, index)

    async def list(self, tenant: str, *, overdue: bool = False) -> list[Erasure]:
        """Return all erasures, or those that are not done though their deadline has passed, oldest first."""
        async with self._database.transaction(worker(tenant)) as tx:
            return [recorded(row) for row in await tx.fetch(_LIST, tenant, not overdue)]

    async def page(self, tenant: str, before: str, size: int, *, unfinished: bool = False) -> list[Erasure]:
        """Return erasures, newest first, those before the id `before` (empty: from the newest on)."""
        async with self._database.transaction(worker(tenant)) as tx:
            return [recorded(row) for row in await tx.fetch(_PAGE, tenant, before, unfinished, size)]

    async def get(self, tenant: str, erasure_id: str) -> Erasure:
        """Return an erasure by its id or a beginning of it; raises NotFound, InvalidArgument."""
        async with self._database.transaction(worker(tenant)) as tx:
            found = await tx.fetch(_FIND, tenant, erasure_id) if erasure_id else []
        if not found:
            raise NotFound(f"there is no erasure {erasure_id[:80]!r}", hint="holdtrue datasets erasures")
        if len(found) > 1:
            raise InvalidArgument.of("erasure_id", f"several begin with {erasure_id[:80]!r}; give more of the id")
        return recorded(found[0])

    async def pressing(self, tenant: str) -> bool:
        """Tell whether something is to be gone on with, or to begin, without waiting for the next round."""
        async with self._database.transaction(worker(tenant)) as tx:
            return await tx.fetchval(_PRESSING, tenant)

    def _index(self, tenant: str, identifier: str) -> bytes:
        if not normal(identifier):
            raise InvalidArgument.of("identifier", "name the person as the data does, for example by an e-mail address")
        return self._master.blind_index(tenant, identifier)


def worker(tenant: str) -> Actor:
    """Return who does the work."""
    return Actor(tenant, "erasure", ActorKind.SERVICE)


def recorded(row: Any) -> Erasure:  # noqa: ANN401  a record of asyncpg
    """Return an erasure from its row."""
    fields: dict[str, Any] = dict(row)
    held = {dataset_id: from_plain(each) for dataset_id, each in fields.pop("held").items()}
    return Erasure(**fields, held=held)


def to_plain(held: Erased) -> dict[str, Any]:
    """Return what was held as values of JSON."""
    return {"rows": held.rows, "quarantined": held.quarantined, "commits": [list(span) for span in held.commits]}


def from_plain(value: Mapping[str, Any]) -> Erased:
    """Read what `to_plain` wrote."""
    return Erased(value["rows"], value["quarantined"], Ranges.of((first, last) for first, last in value["commits"]))
