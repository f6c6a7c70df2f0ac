"""Model files that were uploaded: each belongs to who brought it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdtrue_storage.database import Transaction


class UploadStore:
    """Uploaded files of the actor's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in a transaction."""
        self._tx = tx

    async def add(self, digest: str, size: int) -> None:
        """Remember a file; the same again changes nothing."""
        await self._tx.execute(
            "INSERT INTO upload (tenant, digest, size) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            self._tx.actor.tenant,
            digest,
            size,
        )

    async def has(self, digest: str) -> bool:
        """Tell whether such a file was uploaded."""
        query = "SELECT EXISTS (SELECT FROM upload WHERE tenant = $1 AND digest = $2)"
        return bool(await self._tx.fetchval(query, self._tx.actor.tenant, digest))
