"""Commits whose rows were not as expected, and versions that are suspect because they hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import BrokenExpectation
from holdtrue_lake.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdtrue_storage.database import Transaction


@dataclass(frozen=True)
class Suspicion:
    """What commits do not meet; `version` is the first that held them."""

    version: int
    commits: Ranges
    broken: tuple[BrokenExpectation, ...]


class SuspicionStore:
    """Reads and writes suspicions of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def open(self, dataset_id: str) -> list[Suspicion]:
        """Return those that nobody has cleared, oldest first."""
        rows = await self._tx.fetch(
            """SELECT version, commits, broken FROM dataset_suspicion
            WHERE tenant = $1 AND dataset_id = $2 AND cleared_at IS NULL ORDER BY version""",
            self._tenant,
            dataset_id,
        )
        return [
            Suspicion(
                row["version"],
                Ranges.of((first, last) for first, last in row["commits"]),
                tuple(BrokenExpectation.FromString(each) for each in row["broken"]),
            )
            for row in rows
        ]

    async def add(self, dataset_id: str, suspicion: Suspicion) -> None:
        """Insert one, under the dataset's lock."""
        await self._tx.execute(
            """INSERT INTO dataset_suspicion (tenant, dataset_id, version, commits, broken)
            VALUES ($1, $2, $3, $4, $5)""",
            self._tenant,
            dataset_id,
            suspicion.version,
            list(map(list, suspicion.commits)),
            [each.SerializeToString(deterministic=True) for each in suspicion.broken],
        )

    async def clear(self, dataset_id: str, suspicions: Iterable[Suspicion], reason: str) -> None:
        """Close suspicions for a reason, under the dataset's lock."""
        await self._tx.execute(
            """UPDATE dataset_suspicion SET cleared_at = now(), cleared_by = $4, reason = $5
            WHERE tenant = $1 AND dataset_id = $2 AND version = ANY($3)""",
            self._tenant,
            dataset_id,
            [each.version for each in suspicions],
            self._tx.actor.to_header().decode(),
            reason,
        )

    async def release(self, dataset_id: str, versions: Sequence[int], reason: str) -> None:
        """Let versions be used that were suspect."""
        await self._tx.execute(
            """UPDATE dataset_version SET status = 'published', cleared = $4
            WHERE tenant = $1 AND dataset_id = $2 AND version = ANY($3) AND status = 'suspect'""",
            self._tenant,
            dataset_id,
            versions,
            reason,
        )
