"""What serves, and what it is held against: projections of deployments.v1 and model-versions.v1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from asyncpg import Record
    from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
    from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion
    from holdtrue_storage.database import Transaction

_PUT_DEPLOYMENT = """
INSERT INTO deployment (tenant, deployment_id, name, model_id, model_name, id_key, generation, deleted)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, deployment_id) DO UPDATE
SET name = $3, model_id = $4, model_name = $5, id_key = $6, generation = $7, deleted = $8
WHERE deployment.generation < $7
RETURNING true"""
_PUT_REVISION = """
INSERT INTO revision (tenant, revision, deployment_id, model_version, slot, live) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, revision) DO UPDATE SET slot = $5, live = $6"""
_RETIRE = """
UPDATE revision SET live = false WHERE tenant = $1 AND deployment_id = $2 AND live AND revision <> ALL($3::text[])
RETURNING revision"""
_PUT_VERSION = """
INSERT INTO model_version (tenant, model_id, version, profile_digest, min_precision) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, model_id, version) DO UPDATE SET profile_digest = $4, min_precision = $5"""
_ORIGIN = """
SELECT d.model_id, v.profile_digest, v.min_precision, r.profile_digest AS fixed
FROM deployment d
JOIN model_version v ON v.tenant = d.tenant AND v.model_id = d.model_id AND v.version = $4
LEFT JOIN revision r ON r.tenant = d.tenant AND r.revision = $3
WHERE d.tenant = $1 AND d.deployment_id = $2"""
_FIX = """
INSERT INTO revision (tenant, revision, deployment_id, model_version, slot, live, profile_digest)
VALUES ($1, $2, $3, $4, $5, true, $6)
ON CONFLICT (tenant, revision) DO UPDATE SET profile_digest = coalesce(revision.profile_digest, $6)
RETURNING profile_digest"""
_SLOTS = """
SELECT DISTINCT ON (r.slot) r.slot, r.revision, d.id_key
FROM revision r JOIN deployment d USING (tenant, deployment_id)
WHERE r.tenant = $1 AND r.slot = ANY($2::int[])
ORDER BY r.slot, r.model_version DESC"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the reference of a revision comes from. `digest` of its profile, empty: it has none."""

    digest: str
    min_precision: float
    fixed: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot in prediction ids stands for."""

    revision: str
    id_key: int


class CatalogStore:
    """Deployments, revisions and model versions, in one transaction."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction, for its tenant."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def put_deployment(self, state: DeploymentState, live: Mapping[str, bool]) -> list[str]:
        """Store a state unless a newer one is known; return the revisions that serve no longer."""
        taken = await self._tx.fetchval(
            _PUT_DEPLOYMENT,
            self._tenant,
            state.deployment_id,
            state.name,
            state.model_id,
            state.model_name,
            state.id_key,
            state.generation,
            state.deleted,
        )
        if not taken:
            return []
        for r in state.revisions:
            row = self._tenant, r.revision, state.deployment_id, r.model_version, r.slot, live[r.revision]
            await self._tx.execute(_PUT_REVISION, *row)
        serving = [revision for revision, yes in live.items() if yes]
        await self._tx.fetch(_RETIRE, self._tenant, state.deployment_id, serving)
        return [
            row["revision"]
            for row in await self._tx.fetch(
                "SELECT revision FROM revision WHERE tenant = $1 AND deployment_id = $2 AND NOT live",
                self._tenant,
                state.deployment_id,
            )
        ]

    async def put_version(self, version: ModelVersion) -> None:
        """Store what a version is held against."""
        row = version.model_id, version.version, version.reference_profile_digest, version.min_precision
        await self._tx.execute(_PUT_VERSION, self._tenant, *row)

    async def origin(self, deployment_id: str, revision: str, model_version: int) -> Origin | None:
        """Return where the reference of a revision comes from; None while its deployment or version is unknown."""
        row = await self._tx.fetchrow(_ORIGIN, self._tenant, deployment_id, revision, model_version)
        if row is None:
            return None
        digest = row["profile_digest"] if row["fixed"] is None else row["fixed"]
        return Origin(digest, row["min_precision"], row["fixed"] is not None)

    async def fix(self, deployment_id: str, revision: str, model_version: int, slot: int, digest: str) -> str:
        """Decide for good what the revision's counts are binned by; return what was decided, perhaps earlier."""
        return await self._tx.fetchval(_FIX, self._tenant, revision, deployment_id, model_version, slot, digest)

    async def profile(self, digest: str) -> bytes | None:
        """Return the copy of a reference profile, if one is kept."""
        query = "SELECT data FROM profile WHERE tenant = $1 AND digest = $2"
        return await self._tx.fetchval(query, self._tenant, digest)

    async def keep_profile(self, digest: str, data: bytes) -> None:
        """Keep a copy of a reference profile."""
        query = "INSERT INTO profile (tenant, digest, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
        await self._tx.execute(query, self._tenant, digest, data)

    async def slots(self, slots: Iterable[int]) -> dict[int, Slot]:
        """Return what is known of the slots."""
        rows = await self._tx.fetch(_SLOTS, self._tenant, list(slots))
        return {row["slot"]: Slot(row["revision"], int(row["id_key"])) for row in rows}

    async def deployments(self, named: str) -> dict[str, str]:
        """Return the names, by id, of the deployments with this name or id; empty: of all."""
        rows = await self._tx.fetch(
            """SELECT deployment_id, name FROM deployment
            WHERE tenant = $1 AND ($2 = '' OR deployment_id = $2 OR (name = $2 AND NOT deleted)) ORDER BY name""",
            self._tenant,
            named,
        )
        return {row["deployment_id"]: row["name"] for row in rows}

    async def revisions(self, deployment_ids: Sequence[str]) -> list[Record]:
        """Return all revisions of deployments."""
        query = "SELECT * FROM revision WHERE tenant = $1 AND deployment_id = ANY($2::text[])"
        return await self._tx.fetch(query, self._tenant, deployment_ids)

    async def watched(self, revision: str) -> Record | None:
        """Lock and return a revision with its deployment: one evaluation of a revision at a time."""
        return await self._tx.fetchrow(
            """SELECT r.*, d.name, d.model_id FROM revision r JOIN deployment d USING (tenant, deployment_id)
            WHERE r.tenant = $1 AND r.revision = $2 FOR UPDATE OF r""",
            self._tenant,
            revision,
        )
