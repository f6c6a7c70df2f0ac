"""The PostgreSQL side of a fold: state and next offsets in one transaction, so that each record counts exactly once.

On assignment `load_offsets` says where to go on. A commit writes the state and calls `commit_offsets` in the same
transaction; it raises Fenced where another worker has moved the offset: roll back, drop the memory, load again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_core.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdtrue_storage.database import Transaction

_ENSURE = """
INSERT INTO fold_offset (tenant, topic, partition, next_offset)
SELECT $1, $2, partition, 0 FROM unnest($3::int[]) AS row (partition) ON CONFLICT DO NOTHING"""
_LOAD = "SELECT partition, next_offset FROM fold_offset WHERE tenant = $1 AND topic = $2 AND partition = ANY($3::int[])"
_LOCK = _LOAD + " ORDER BY partition FOR UPDATE"
_ADVANCE = """
UPDATE fold_offset SET next_offset = row.next FROM unnest($3::int[], $4::bigint[]) AS row (partition, next)
WHERE tenant = $1 AND topic = $2 AND fold_offset.partition = row.partition"""


class Fenced(Conflict):
    """Another worker folded these partitions meanwhile: what this one has in memory is no longer true."""


async def load_offsets(tx: Transaction, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the next offset of each partition of a topic (without prefix), 0 where nothing was folded yet."""
    wanted = sorted(partitions)
    await tx.execute(_ENSURE, tx.actor.tenant, topic, wanted)
    rows = await tx.fetch(_LOAD, tx.actor.tenant, topic, wanted)
    return {row["partition"]: row["next_offset"] for row in rows}


async def commit_offsets(tx: Transaction, topic: str, moves: Mapping[int, tuple[int, int]]) -> None:
    """Move offsets, each partition from what is expected to what is next, and hold them until `tx` ends.

    Call it before writing the state: workers then wait for each other here. Raises Fenced where an offset is not as
    expected, Unavailable (retriable) with the transaction.
    """
    partitions = sorted(moves)
    rows = await tx.fetch(_LOCK, tx.actor.tenant, topic, partitions)
    found = {row["partition"]: row["next_offset"] for row in rows}
    expected = {partition: moves[partition][0] for partition in partitions}
    if found != expected:
        raise Fenced(f"offsets of {topic}: expected {expected}, found {found}; load them again", reason="FENCED")
    following = [moves[partition][1] for partition in partitions]
    await tx.execute(_ADVANCE, tx.actor.tenant, topic, partitions, following)
