"""What retraining remembers of each model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdtrue_trainer.domain.policy import Policy, Retraining

if TYPE_CHECKING:
    from holdtrue_storage.database import Transaction

_ENSURE = """
INSERT INTO retraining (tenant, model_id, model_name, memory) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, model_id) DO UPDATE
SET model_name = CASE WHEN excluded.model_name = '' THEN retraining.model_name ELSE excluded.model_name END
RETURNING memory"""
_SAVE = "UPDATE retraining SET memory = $3 WHERE tenant = $1 AND model_id = $2"


class RetrainingStore:
    """The retraining memories of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work within tx."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def lock(self, model_id: str, default: Policy, model_name: str = "") -> Retraining:
        """Return the model's memory, made with the default policy if there is none, locked until the end of tx."""
        fresh = msgspec.to_builtins(Retraining(default))
        return _memory(await self._tx.fetchval(_ENSURE, self._tenant, model_id, model_name, fresh))

    async def save(self, model_id: str, memory: Retraining) -> None:
        """Write a memory that was read with `lock`."""
        await self._tx.execute(_SAVE, self._tenant, model_id, msgspec.to_builtins(memory))

    async def get(self, model_id: str) -> tuple[Retraining, str] | None:
        """Return the memory and the last decision in words."""
        query = "SELECT memory, last_decision FROM retraining WHERE tenant = $1 AND model_id = $2"
        row = await self._tx.fetchrow(query, self._tenant, model_id)
        return None if row is None else (_memory(row["memory"]), row["last_decision"])

    async def name(self, model_id: str) -> str:
        """Return the model's name as last heard; empty if never."""
        query = "SELECT model_name FROM retraining WHERE tenant = $1 AND model_id = $2"
        return await self._tx.fetchval(query, self._tenant, model_id) or ""

    async def set_decision(self, model_id: str, decision: str) -> None:
        """Write the last decision in words."""
        query = "UPDATE retraining SET last_decision = $3 WHERE tenant = $1 AND model_id = $2"
        await self._tx.execute(query, self._tenant, model_id, decision)

    async def reading(self, dataset_id: str) -> list[str]:
        """Return the ids of the models whose policy reads this dataset."""
        query = "SELECT model_id FROM retraining WHERE tenant = $1 AND memory -> 'policy' ->> 'dataset_id' = $2"
        return [row["model_id"] for row in await self._tx.fetch(query, self._tenant, dataset_id)]


def _memory(stored: object) -> Retraining:
    return msgspec.convert(stored, Retraining)
