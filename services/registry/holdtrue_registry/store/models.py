"""Models and their versions."""
# ruff: noqa: S608  what is put into statements are our own lists of columns

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_contracts.common.v1.measures_pb2 import CheckResult
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion

from holdtrue_registry.domain.gate import Policy, State, Verdict

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Record
    from holdtrue_storage.database import Transaction

_MODEL = "id, name, min_precision, precision_margin, approvals, latest_version, created_at"
_VERSION = """v.model_version, v.state, v.reason, v.checks, v.created_at, coalesce((
    SELECT role FROM deployment_role r
    WHERE r.tenant = v.tenant AND r.model_id = v.model_id AND r.model_version = v.version
    ORDER BY array_position(ARRAY['champion', 'challenger', 'shadow', 'standby'], role) LIMIT 1), '') AS role"""


@dataclass(frozen=True)
class StoredModel:
    """A model as it stands."""

    id: str
    name: str
    policy: Policy
    latest_version: int
    created_at: datetime


@dataclass(frozen=True)
class StoredVersion:
    """A model version as it stands; `role` is its most important one in a deployment, empty if none."""

    model_version: ModelVersion
    state: State
    reason: str
    checks: tuple[CheckResult, ...]
    created_at: datetime
    role: str


class ModelStore:
    """Reads and writes models of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def create(self, model_id: str, name: str, policy: Policy) -> StoredModel | None:
        """Insert a model; None where the name is taken."""
        row = await self._tx.fetchrow(
            f"""INSERT INTO model (tenant, id, name, min_precision, precision_margin, approvals, actor)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, name) DO NOTHING RETURNING {_MODEL}""",
            self._tenant,
            model_id,
            name,
            policy.min_precision,
            policy.margin,
            policy.approvals,
            self._tx.actor.to_header().decode(),
        )
        return _model(row) if row else None

    async def find(self, name_or_id: str) -> StoredModel | None:
        """Return the model of that name or id."""
        row = await self._tx.fetchrow(
            f"SELECT {_MODEL} FROM model WHERE tenant = $1 AND (name = $2 OR id = $2) ORDER BY name <> $2 LIMIT 1",
            self._tenant,
            name_or_id,
        )
        return _model(row) if row else None

    async def page(self, after: str, size: int) -> list[StoredModel]:
        """Return models by name, those after `after`."""
        rows = await self._tx.fetch(
            f"SELECT {_MODEL} FROM model WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
            self._tenant,
            after,
            size,
        )
        return [_model(row) for row in rows]

    async def next_number(self, model_id: str) -> int:
        """Take the next version number; others wait for it until the transaction ends."""
        return await self._tx.fetchval(
            """UPDATE model SET latest_version = latest_version + 1 WHERE tenant = $1 AND id = $2
            RETURNING latest_version""",
            self._tenant,
            model_id,
        )

    async def add_version(self, version: ModelVersion, state: State, verdict: Verdict, evidence_digest: str) -> None:
        """Insert a version with the gate's verdict."""
        await self._tx.execute(
            """INSERT INTO model_version (tenant, model_id, version, run_id, state, reason, model_version, checks,
                evidence_digest, actor)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
            self._tenant,
            version.model_id,
            version.version,
            version.run_id,
            state.value,
            verdict.reason,
            version.SerializeToString(deterministic=True),
            [check.SerializeToString(deterministic=True) for check in verdict.checks],
            evidence_digest,
            self._tx.actor.to_header().decode(),
        )

    async def of_run(self, run_id: str) -> StoredVersion | None:
        """Return the version that a run made."""
        row = await self._tx.fetchrow(
            f"SELECT {_VERSION} FROM model_version v WHERE tenant = $1 AND run_id = $2", self._tenant, run_id
        )
        return _version(row) if row else None

    async def version(self, model_id: str, number: int) -> StoredVersion | None:
        """Return a version by its number."""
        row = await self._tx.fetchrow(
            f"SELECT {_VERSION} FROM model_version v WHERE tenant = $1 AND model_id = $2 AND version = $3",
            self._tenant,
            model_id,
            number,
        )
        return _version(row) if row else None

    async def versions(self, model_id: str, before: int, size: int) -> list[StoredVersion]:
        """Return versions with numbers below `before`, newest first."""
        rows = await self._tx.fetch(
            f"""SELECT {_VERSION} FROM model_version v WHERE tenant = $1 AND model_id = $2 AND version < $3
            ORDER BY version DESC LIMIT $4""",
            self._tenant,
            model_id,
            before,
            size,
        )
        return [_version(row) for row in rows]


def _model(row: Record) -> StoredModel:
    policy = Policy(row["min_precision"], row["precision_margin"], row["approvals"])
    return StoredModel(row["id"], row["name"], policy, row["latest_version"], row["created_at"])


def _version(row: Record) -> StoredVersion:
    return StoredVersion(
        ModelVersion.FromString(row["model_version"]),
        State(row["state"]),
        row["reason"],
        tuple(CheckResult.FromString(check) for check in row["checks"]),
        row["created_at"],
        row["role"],
    )
