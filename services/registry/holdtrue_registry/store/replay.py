"""Refused records that were offered again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdtrue_lake.rejects import Place
    from holdtrue_storage.database import Transaction


class ReplayStore:
    """Reads and writes replays of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def places(self, dataset_id: str) -> set[Place]:
        """Return where the records were refused that have been offered again."""
        rows = await self._tx.fetch(
            "SELECT refused_us, part, off, row FROM dataset_replay WHERE tenant = $1 AND dataset_id = $2",
            self._tenant,
            dataset_id,
        )
        return {(row["refused_us"], row["part"], row["off"], row["row"]) for row in rows}

    async def add(self, dataset_id: str, places: Iterable[Place], batch_id: str, reason: str) -> None:
        """Remember that records are offered again, under the dataset's lock."""
        actor = self._tx.actor.to_header().decode()
        await self._tx.executemany(
            """INSERT INTO dataset_replay (tenant, dataset_id, refused_us, part, off, row, batch_id, reason, actor)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
            [(self._tenant, dataset_id, *place, batch_id, reason, actor) for place in places],
        )
