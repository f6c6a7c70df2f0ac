"""Which events had their effect already."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .outbox import Transaction

_CLAIM = """
INSERT INTO inbox (tenant, consumer, event_id)
SELECT tenant, $1, event_id FROM unnest($2::text[], $3::text[]) AS row (tenant, event_id)
ON CONFLICT DO NOTHING RETURNING tenant, event_id"""


async def claim(tx: Transaction, consumer: str, events: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Record (tenant, event id)s as handled by `consumer` with this transaction; return those that are new.

    Waits where another transaction is recording the same one.
    """
    tenants, ids = zip(*events, strict=True)
    return {(row["tenant"], row["event_id"]) for row in await tx.fetch(_CLAIM, consumer, tenants, ids)}
