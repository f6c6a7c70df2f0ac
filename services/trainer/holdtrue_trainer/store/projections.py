"""What others have published, as far as the trainer needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState, Revision, Role
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DATASET_VERSION_STATUS_PUBLISHED,
    DATASET_VERSION_STATUS_RETRACTED,
    DATASET_VERSION_STATUS_SUSPECT,
    DatasetVersionPublished,
    ErasedVersion,
)

if TYPE_CHECKING:
    from asyncpg import Record
    from holdtrue_storage.database import Transaction

_PUT_DATASET = """
INSERT INTO dataset_version (tenant, dataset_id, version, name, published) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, dataset_id, version) DO UPDATE SET name = excluded.name, published = excluded.published"""
_FIND_DATASET = """
SELECT published FROM dataset_version
WHERE tenant = $1 AND (dataset_id = $2 OR name = $2) AND ($3 = 0 OR version = $3)
ORDER BY (dataset_id = $2) DESC, version DESC LIMIT 1"""
_PUT_DEPLOYMENT = """
INSERT INTO deployment (tenant, deployment_id, model_id, name, generation, champion) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, deployment_id) DO UPDATE
SET name = excluded.name, generation = excluded.generation, champion = excluded.champion
WHERE deployment.generation < excluded.generation"""
_CHAMPION = """
SELECT champion FROM deployment WHERE tenant = $1 AND model_id = $2 AND champion IS NOT NULL
ORDER BY (name = $3) DESC, deployment_id LIMIT 1"""


class DatasetStore:
    """Dataset versions of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work within tx."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def put(self, published: DatasetVersionPublished) -> None:
        """Keep a version."""
        key = (published.dataset_id, published.version, published.name)
        await self._tx.execute(_PUT_DATASET, self._tenant, *key, published.SerializeToString())

    async def find(self, name_or_id: str, version: int = 0) -> DatasetVersionPublished | None:
        """Return a version of the dataset with this id or name; 0: the newest."""
        return _dataset(await self._tx.fetchrow(_FIND_DATASET, self._tenant, name_or_id, version))

    async def retract(self, dataset_id: str, version: int) -> None:
        """Mark a version, if it is known, as one that nothing is trained on."""
        found = await self.find(dataset_id, version)
        if found is not None:
            found.status = DATASET_VERSION_STATUS_RETRACTED
            await self.put(found)

    async def clear(self, dataset_id: str, version: int) -> None:
        """Mark a version, if it is known and suspect, as one that may be trained on."""
        found = await self.find(dataset_id, version)
        if found is not None and found.status == DATASET_VERSION_STATUS_SUSPECT:
            found.status = DATASET_VERSION_STATUS_PUBLISHED
            await self.put(found)

    async def forget(self, dataset_id: str, version: int) -> None:
        """Know a version no more."""
        await self._tx.execute(
            "DELETE FROM dataset_version WHERE tenant = $1 AND dataset_id = $2 AND version = $3",
            self._tenant,
            dataset_id,
            version,
        )

    async def change(self, dataset_id: str, erased: ErasedVersion, epoch: int) -> None:
        """Know what a version, if it is known, is since an erasure took rows out of it."""
        found = await self.find(dataset_id, erased.version)
        if found is not None and found.erasure_epoch <= epoch:
            found.digest, found.rows, found.erasure_epoch = erased.digest, erased.rows, epoch
            await self.put(found)

    async def names(self) -> list[str]:
        """Return the names of the known datasets, at most 20."""
        query = "SELECT DISTINCT name FROM dataset_version WHERE tenant = $1 ORDER BY name LIMIT 20"
        return [row["name"] for row in await self._tx.fetch(query, self._tenant)]


class DeploymentStore:
    """Deployments of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work within tx."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def put(self, state: DeploymentState) -> bool:
        """Keep a state; return whether it is newer than what was known."""
        champion = champion_of(state)
        key = (state.deployment_id, state.model_id, state.name, state.generation)
        done = await self._tx.execute(
            _PUT_DEPLOYMENT, self._tenant, *key, champion.SerializeToString() if champion else None
        )
        return done == "INSERT 0 1"

    async def champion(self, model_id: str, model_name: str) -> Revision | None:
        """Return the model's champion; of several deployments the one that has the model's name."""
        row = await self._tx.fetchval(_CHAMPION, self._tenant, model_id, model_name)
        return None if row is None else Revision.FromString(row)


def champion_of(state: DeploymentState) -> Revision | None:
    """Return the revision that the others are compared with."""
    if state.deleted:
        return None
    return next((revision for revision in state.revisions if revision.role == Role.ROLE_CHAMPION), None)


def _dataset(row: Record | None) -> DatasetVersionPublished | None:
    return None if row is None else DatasetVersionPublished.FromString(row["published"])
