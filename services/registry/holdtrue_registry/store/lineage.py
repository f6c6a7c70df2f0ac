"""Edges between things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_registry.domain.lineage import Edge, Node

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdtrue_storage.database import Transaction

_ADD = """INSERT INTO lineage_edge (tenant, source_kind, source_id, target_kind, target_id, relation)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"""
_AROUND = """
WITH RECURSIVE before AS (
    SELECT * FROM lineage_edge WHERE tenant = $1 AND target_kind = $2 AND target_id = $3
    UNION
    SELECT e.* FROM lineage_edge e JOIN before b
        ON e.tenant = b.tenant AND e.target_kind = b.source_kind AND e.target_id = b.source_id
), after AS (
    SELECT * FROM lineage_edge WHERE tenant = $1 AND source_kind = $2 AND source_id = $3
    UNION
    SELECT e.* FROM lineage_edge e JOIN after a
        ON e.tenant = a.tenant AND e.source_kind = a.target_kind AND e.source_id = a.target_id
)
SELECT * FROM (SELECT * FROM before UNION SELECT * FROM after) AS edge
ORDER BY created_at, source_kind, source_id, target_kind, target_id LIMIT 10000"""


class LineageStore:
    """Reads and writes the lineage of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx

    async def add(self, edges: Iterable[Edge]) -> None:
        """Insert the edges that are not there yet."""
        tenant = self._tx.actor.tenant
        rows = [(tenant, e.source.kind, e.source.id, e.target.kind, e.target.id, e.relation) for e in edges]
        await self._tx.executemany(_ADD, rows)

    async def around(self, node: Node) -> list[Edge]:
        """Return all that the node came of, and all that came of it."""
        rows = await self._tx.fetch(_AROUND, self._tx.actor.tenant, node.kind, node.id)
        return [
            Edge(
                Node(row["source_kind"], row["source_id"]), Node(row["target_kind"], row["target_id"]), row["relation"]
            )
            for row in rows
        ]
