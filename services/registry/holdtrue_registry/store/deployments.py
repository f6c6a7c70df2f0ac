"""Projection of deployments: which model version plays which role."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
    from holdtrue_storage.database import Transaction


class DeploymentStore:
    """Reads and writes the projection for the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def replace(self, state: DeploymentState, roles: Mapping[int, str]) -> bool:
        """Put a state and its roles (by model version) in place of an older one; false where ours is newer or equal."""
        changed = await self._tx.execute(
            """INSERT INTO deployment (tenant, id, name, model_id, generation) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (tenant, id) DO UPDATE SET name = $3, model_id = $4, generation = $5
            WHERE deployment.generation < $5""",
            self._tenant,
            state.deployment_id,
            state.name,
            state.model_id,
            state.generation,
        )
        if changed == "INSERT 0 0":
            return False
        await self._tx.execute(
            "DELETE FROM deployment_role WHERE tenant = $1 AND deployment_id = $2", self._tenant, state.deployment_id
        )
        await self._tx.executemany(
            """INSERT INTO deployment_role (tenant, deployment_id, model_id, model_version, role)
            VALUES ($1, $2, $3, $4, $5)""",
            [(self._tenant, state.deployment_id, state.model_id, version, role) for version, role in roles.items()],
        )
        return True
