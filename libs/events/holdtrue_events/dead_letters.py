"""The dead letters of a service: a table of its schema, mirrored to the topic `dead-letters.v1` by the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdtrue_contracts.dead_letter import DeadLetter, settled

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

    async def settle(self, tenant: str, letter_id: str) -> None:
        """Note that its consumer has handled the replay of one, here and on its topic: it is listed no more.

        What failed again is a dead letter of its own.
        """
        query = """
            UPDATE dead_letter SET replayed_at = now()
            WHERE tenant = $1 AND id = $2 AND replayed_at IS NULL RETURNING key"""
        row = await self._tx.fetchrow(query, tenant, letter_id)
        if row:
            self._tx.send(settled(letter_id, row["key"]))


def _letter(row: asyncpg.Record) -> DeadLetter:
    fields: dict[str, Any] = {**row, "headers": tuple(unpack_headers(row["headers"]))}
    return DeadLetter(**fields)
