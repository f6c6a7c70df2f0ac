"""Whether labels contradict the estimates of a revision: all its labels, and what they said when last tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from holdtrue_contracts.common.v1.measures_pb2 import Measure
from holdtrue_stats.validity import Watch

from holdtrue_monitor.domain.buckets import Labelled

if TYPE_CHECKING:
    from asyncpg import Record
    from holdtrue_storage.database import Transaction

_PUT = """
UPDATE revision SET contradicted = $3, residual = $4, residual_due = $5, residual_before = $6
WHERE tenant = $1 AND revision = $2"""


@dataclass(frozen=True, slots=True)
class Tested:
    """The watch over a revision, and the measure that its last test gave; None before the first."""

    watch: Watch
    residual: Measure | None

    @classmethod
    def of(cls, row: Record) -> Tested:
        """Read it from the revision's row."""
        before, residual = cast("bytes | None", row["residual_before"]), cast("bytes | None", row["residual"])
        watch = Watch(
            invalid=row["contradicted"],
            due=row["residual_due"],
            before=None if before is None else Labelled.from_bytes(before).cells,
        )
        return cls(watch, None if residual is None else Measure.FromString(residual))


class ValidityStore:
    """Tests of estimates, in one transaction."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction, for its tenant."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def labels(self, revision: str) -> Labelled:
        """Return the counts of all labels of a revision."""
        query = "SELECT data FROM revision_labels WHERE tenant = $1 AND revision = $2"
        rows = await self._tx.fetch(query, self._tenant, revision)
        return sum((Labelled.from_bytes(row["data"]) for row in rows), Labelled.empty())

    async def put(self, revision: str, tested: Tested) -> None:
        """Store the outcome of a test."""
        watch, residual = tested.watch, tested.residual
        before = None if watch.before is None else Labelled(watch.before).to_bytes()
        told = None if residual is None else residual.SerializeToString()
        await self._tx.execute(_PUT, self._tenant, revision, watch.invalid, told, watch.due, before)
