"""Which events had their effect already."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from holdtrue_contracts.catalogue import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .outbox import Transaction

_CLAIM = """
INSERT INTO inbox (tenant, consumer, event_id)
SELECT tenant, $1, event_id FROM unnest($2::text[], $3::text[]) AS row (tenant, event_id)
ON CONFLICT DO NOTHING RETURNING tenant, event_id"""
_FORGET = """
DELETE FROM inbox WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM inbox WHERE consumer = $1 AND seen_at < now() - $2::interval LIMIT $3))"""
_FORGET_ROWS = 10_000
_MARGIN = timedelta(days=7)
_COMPACTED = timedelta(days=365)


async def claim(tx: Transaction, consumer: str, events: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Record (tenant, event id)s as handled by `consumer` with this transaction; return those that are new.

    Waits where another transaction is recording the same one.
    """
    tenants, ids = zip(*events, strict=True)
    return {(row["tenant"], row["event_id"]) for row in await tx.fetch(_CLAIM, consumer, tenants, ids)}


async def forget(tx: Transaction, consumer: str, topics: Iterable[str]) -> None:
    """Drop some rows of events that cannot come again: their topics (without prefix) do not hold them any more."""
    kept = max(TOPICS[topic].retention or _COMPACTED for topic in topics) + _MARGIN
    await tx.execute(_FORGET, consumer, kept, _FORGET_ROWS)
