"""Where reading the partitions of a topic resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdtrue_storage.database import Transaction


class PositionStore:
    """Resume hints for the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx

    async def open(self, topic_id: str, partition: int, begin: int) -> int:
        """Return the offset to read next: `begin` where the partition was never read, and that is remembered."""
        await self._tx.execute(
            """INSERT INTO ingest_position (tenant, topic_id, partition, next_offset) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING""",
            self._tx.actor.tenant,
            topic_id,
            partition,
            begin,
        )
        return await self._lock(topic_id, partition)

    async def advance(self, topic_id: str, partition: int, next_offset: int) -> int:
        """Move on to `next_offset`, never back; return what was next before. Others wait until the transaction ends."""
        before = await self._lock(topic_id, partition)
        await self._tx.execute(
            """UPDATE ingest_position SET next_offset = greatest(next_offset, $4)
            WHERE tenant = $1 AND topic_id = $2 AND partition = $3""",
            self._tx.actor.tenant,
            topic_id,
            partition,
            next_offset,
        )
        return before

    async def _lock(self, topic_id: str, partition: int) -> int:
        return await self._tx.fetchval(
            """SELECT next_offset FROM ingest_position
            WHERE tenant = $1 AND topic_id = $2 AND partition = $3 FOR UPDATE""",
            self._tx.actor.tenant,
            topic_id,
            partition,
        )
