"""The dead letters of a service: a table of its schema, mirrored to the topic `dead-letters.v1` by the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdtrue_contracts.dead_letter import DeadLetter
from holdtrue_core.errors import NotFound

from .outbox import pack_headers, unpack_headers

if TYPE_CHECKING:
    import asyncpg

    from .outbox import Transaction

_COLUMNS = 'id, tenant, consumer, topic, partition, "offset", reason, message, failed_at, key, value, headers'
_INSERT = f"""
INSERT INTO dead_letter ({_COLUMNS}, event_id, event_type)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"""  # noqa: S608  our own constant


class DeadLetters:
    """The dead letters of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work within `tx`, in the name of its actor."""
        self._tx = tx

    async def add(self, letter: DeadLetter) -> None:
        """Keep one, and mirror it to its topic with the commit."""
        packed = pack_headers(letter.headers)
        await self._tx.execute(
            _INSERT,
            letter.id,
            letter.tenant,
            letter.consumer,
            letter.topic,
            letter.partition,
            letter.offset,
            letter.reason,
            letter.message,
            letter.failed_at,
            letter.key,
            letter.value,
            packed,
            letter.event_id,
            letter.event_type,
        )
        self._tx.send(letter.to_record())

    async def list(self, *, replayed: bool = False, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return at most `limit` that were, or were not yet, replayed, oldest first, with ids beyond `after`."""
        query = f"""
            SELECT {_COLUMNS} FROM dead_letter
            WHERE tenant = $1 AND (replayed_at IS NOT NULL) = $2 AND id > $3 ORDER BY id LIMIT $4"""  # noqa: S608
        return [_letter(row) for row in await self._tx.fetch(query, self._tx.actor.tenant, replayed, after, limit)]

    async def get(self, letter_id: str) -> DeadLetter:
        """Return one; raises NotFound."""
        query = f"SELECT {_COLUMNS} FROM dead_letter WHERE tenant = $1 AND id = $2"  # noqa: S608
        row = await self._tx.fetchrow(query, self._tx.actor.tenant, letter_id)
        if row is None:
            raise NotFound(f"dead letter {letter_id}: there is none with this id; list them first")
        return _letter(row)

    async def replay(self, letter_id: str) -> DeadLetter:
        """Send one to its consumer again with the commit, and note who did so; raises NotFound."""
        letter = await self.get(letter_id)
        await self._tx.execute(
            "UPDATE dead_letter SET replayed_at = now(), replayed_by = $3 WHERE tenant = $1 AND id = $2",
            letter.tenant,
            letter.id,
            self._tx.actor.to_header().decode(),
        )
        self._tx.send(letter.replay())
        return letter


def _letter(row: asyncpg.Record) -> DeadLetter:
    fields: dict[str, Any] = {**row, "headers": tuple(unpack_headers(row["headers"]))}
    return DeadLetter(**fields)
