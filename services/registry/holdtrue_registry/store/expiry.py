"""Versions that are kept or forgotten, and commits whose rows go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_lake.history import Hold
from holdtrue_lake.ranges import Ranges

from holdtrue_registry.domain.lineage import DATASET_VERSION, MODEL_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from holdtrue_storage.database import Transaction

    from holdtrue_registry.domain.datasets import Dataset

_MODELS = """
SELECT DISTINCT before.source_id AS version, after.target_id AS name
FROM lineage_edge before JOIN lineage_edge after ON after.tenant = before.tenant
    AND after.source_kind = before.target_kind AND after.source_id = before.target_id AND after.target_kind = $3
WHERE before.tenant = $1 AND before.source_kind = $4 AND starts_with(before.source_id, $2)"""


@dataclass(frozen=True)
class Pinned:
    """One reason why a version is kept; of models there is no `reason` and no time."""

    version: int
    kind: Hold
    name: str
    reason: str = ""
    created_at: datetime | None = None


class ExpiryStore:
    """Reads and writes pins and expiry for the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def pins(self, dataset: Dataset) -> list[Pinned]:
        """Return all reasons why versions of a dataset are kept, by version, newest first."""
        held = await self._tx.fetch(
            "SELECT version, name, reason, created_at FROM dataset_pin WHERE tenant = $1 AND dataset_id = $2",
            self._tenant,
            dataset.id,
        )
        learned = await self._tx.fetch(_MODELS, self._tenant, f"{dataset.name}@", MODEL_VERSION, DATASET_VERSION)
        found = [Pinned(row["version"], Hold.HOLD, row["name"], row["reason"], row["created_at"]) for row in held]
        found += [Pinned(int(row["version"].rpartition("@")[2]), Hold.MODEL, row["name"]) for row in learned]
        return sorted(found, key=lambda pin: (-pin.version, pin.kind, pin.name))

    async def pin(self, dataset_id: str, version: int, name: str, reason: str) -> None:
        """Keep a version, under the dataset's lock; a pin that is there stays as it is."""
        await self._tx.execute(
            """INSERT INTO dataset_pin (tenant, dataset_id, version, name, reason, actor)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING""",
            self._tenant,
            dataset_id,
            version,
            name,
            reason,
            self._tx.actor.to_header().decode(),
        )

    async def unpin(self, dataset_id: str, version: int, name: str) -> bool:
        """Withdraw a pin, under the dataset's lock; return whether it was there."""
        done = await self._tx.execute(
            "DELETE FROM dataset_pin WHERE tenant = $1 AND dataset_id = $2 AND version = $3 AND name = $4",
            self._tenant,
            dataset_id,
            version,
            name,
        )
        return done == "DELETE 1"

    async def expire(self, dataset_id: str, versions: Sequence[int], commits: Ranges, reason: str) -> None:
        """Forget versions, under the dataset's lock, and let the rows of commits go."""
        await self._tx.execute(
            """UPDATE dataset_version SET expired_at = now(), expired = $4
            WHERE tenant = $1 AND dataset_id = $2 AND version = ANY($3)""",
            self._tenant,
            dataset_id,
            versions,
            reason,
        )
        await self._tx.execute(
            """UPDATE dataset_commit SET released_at = now()
            WHERE tenant = $1 AND dataset_id = $2 AND number = ANY($3) AND released_at IS NULL""",
            self._tenant,
            dataset_id,
            [*commits.numbers()],
        )

    async def released(self, dataset_id: str, grace: timedelta) -> Ranges:
        """Return the commits whose rows are to be deleted: those that no version has had for that long."""
        rows = await self._tx.fetch(
            """SELECT number FROM dataset_commit WHERE tenant = $1 AND dataset_id = $2
            AND released_at <= now() - $3::interval AND dropped_at IS NULL""",
            self._tenant,
            dataset_id,
            grace,
        )
        return Ranges.of((row["number"], row["number"]) for row in rows)

    async def drop(self, dataset_id: str, commits: Ranges) -> None:
        """Remember that the rows of commits are deleted."""
        await self._tx.execute(
            "UPDATE dataset_commit SET dropped_at = now() WHERE tenant = $1 AND dataset_id = $2 AND number = ANY($3)",
            self._tenant,
            dataset_id,
            [*commits.numbers()],
        )
