"""Rows of the deployer. Aggregates are documents: one row each, guarded by a version, read and written whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout as RolloutMessage
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion
from holdtrue_core.errors import Conflict, NotFound, ResourceExhausted

from holdtrue_deployer.domain.deployment import SLOTS, Deployment
from holdtrue_deployer.domain.rollout import Change, Rollout

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg
    from holdtrue_storage.database import Transaction

T = TypeVar("T", Deployment, Rollout)

_BY_NAME = "SELECT data, version FROM deployment WHERE tenant = $1 AND (name = $2 OR deployment_id = $2)"
_BY_NAME_LOCKED = f"{_BY_NAME} FOR UPDATE"
_LOCKED = "SELECT data, version FROM deployment WHERE tenant = $1 AND deployment_id = $2 FOR UPDATE"
_IDLE = f"{_LOCKED} SKIP LOCKED"


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """An aggregate and the version of the row that it was read from; 0: not stored yet."""

    item: T
    version: int


@dataclass(frozen=True, slots=True)
class Changed:
    """One change of a rollout as it was published."""

    rollout: RolloutMessage
    at: datetime


def _document(item: Deployment | Rollout) -> Any:  # noqa: ANN401  what JSON is made of
    return msgspec.to_builtins(item, str_keys=True)


def _stored(cls: type[T], row: asyncpg.Record) -> Stored[T]:
    return Stored(msgspec.convert(row["data"], cls, strict=False), row["version"])


class DeploymentStore:
    """Deployments of the transaction's tenant. A locked one serialises all that happens to it and its rollouts."""

    def __init__(self, tx: Transaction) -> None:
        """Work within a transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def get(self, name_or_id: str, *, lock: bool = False) -> Stored[Deployment]:
        """Return a deployment, locked on request; raises NotFound."""
        row = await self._tx.fetchrow(
            _BY_NAME_LOCKED if lock else _BY_NAME,
            self._tenant,
            name_or_id,
        )
        if row is None:
            raise NotFound(
                f"there is no deployment {name_or_id[:200]!r}", hint="a model's first rollout makes it: holdtrue deploy"
            )
        return _stored(Deployment, row)

    async def lock(self, deployment_id: str, *, skip: bool = False) -> Stored[Deployment] | None:
        """Return a deployment by id, locked; None where it is not ours, or is locked by another and `skip` is set."""
        row = await self._tx.fetchrow(
            _IDLE if skip else _LOCKED,
            self._tenant,
            deployment_id,
        )
        return _stored(Deployment, row) if row else None

    async def of_model(self, model_id: str) -> list[Stored[Deployment]]:
        """Return the deployments of a model, locked."""
        rows = await self._tx.fetch(
            "SELECT data, version FROM deployment WHERE tenant = $1 AND model_id = $2"
            " ORDER BY deployment_id FOR UPDATE",
            self._tenant,
            model_id,
        )
        return [_stored(Deployment, row) for row in rows]

    async def page(self, after: str, size: int) -> list[Deployment]:
        """Return deployments by name, after a name."""
        rows = await self._tx.fetch(
            "SELECT data, version FROM deployment WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
            self._tenant,
            after,
            size,
        )
        return [_stored(Deployment, row).item for row in rows]

    async def taken(self, name: str) -> bool:
        """Whether a deployment has this name."""
        found = await self._tx.fetchval(
            "SELECT true FROM deployment WHERE tenant = $1 AND name = $2", self._tenant, name
        )
        return bool(found)

    async def save(self, stored: Stored[Deployment]) -> Stored[Deployment]:
        """Insert or update; raises Conflict where the row is no longer what was read."""
        item = stored.item
        if stored.version:
            tag = await self._tx.execute(
                "UPDATE deployment SET data = $4, version = version + 1"
                " WHERE tenant = $1 AND deployment_id = $2 AND version = $3",
                self._tenant,
                item.deployment_id,
                stored.version,
                _document(item),
            )
        else:
            tag = await self._tx.execute(
                "INSERT INTO deployment (tenant, deployment_id, name, model_id, version, data)"
                " VALUES ($1, $2, $3, $4, 1, $5) ON CONFLICT DO NOTHING",
                self._tenant,
                item.deployment_id,
                item.name,
                item.model_id,
                _document(item),
            )
        return _saved(tag, f"deployment {item.name}", stored)

    async def take_slot(self) -> int:
        """Return the next free slot of prediction ids; raises ResourceExhausted when all were used."""
        slot: int = await self._tx.fetchval(
            "INSERT INTO slot (tenant, next) VALUES ($1, 1)"
            " ON CONFLICT (tenant) DO UPDATE SET next = slot.next + 1 RETURNING next - 1",
            self._tenant,
        )
        if slot >= SLOTS:
            raise ResourceExhausted(f"all {SLOTS} slots of prediction ids are used; no further revision is possible")
        return slot


class RolloutStore:
    """Rollouts of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work within a transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def open_of(self, deployment_id: str) -> Stored[Rollout] | None:
        """Return the open rollout of a deployment; lock the deployment first to change it."""
        row = await self._tx.fetchrow(
            "SELECT data, version FROM rollout WHERE tenant = $1 AND deployment_id = $2 AND open",
            self._tenant,
            deployment_id,
        )
        return _stored(Rollout, row) if row else None

    async def latest(self, deployment_id: str, limit: int) -> list[Rollout]:
        """Return rollouts of a deployment, newest first."""
        rows = await self._tx.fetch(
            "SELECT data, version FROM rollout WHERE tenant = $1 AND deployment_id = $2"
            " ORDER BY rollout_id DESC LIMIT $3",
            self._tenant,
            deployment_id,
            limit,
        )
        return [_stored(Rollout, row).item for row in rows]

    async def save(self, stored: Stored[Rollout]) -> Stored[Rollout]:
        """Insert or update; raises Conflict where the row is no longer what was read."""
        item = stored.item
        if stored.version:
            tag = await self._tx.execute(
                "UPDATE rollout SET data = $4, open = $5, due_at = $6, version = version + 1"
                " WHERE tenant = $1 AND rollout_id = $2 AND version = $3",
                self._tenant,
                item.rollout_id,
                stored.version,
                _document(item),
                not item.final,
                item.due_at,
            )
        else:
            tag = await self._tx.execute(
                "INSERT INTO rollout (tenant, rollout_id, deployment_id, version, data, open, due_at)"
                " VALUES ($1, $2, $3, 1, $4, $5, $6) ON CONFLICT DO NOTHING",
                self._tenant,
                item.rollout_id,
                item.deployment_id,
                _document(item),
                not item.final,
                item.due_at,
            )
        return _saved(tag, f"rollout {item.rollout_id}", stored)

    async def record(self, version: int, change: Change, rollout: RolloutMessage, at: datetime) -> None:
        """Keep a change for the history."""
        await self._tx.execute(
            "INSERT INTO rollout_change (tenant, rollout_id, version, kind, at, actor, data)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            self._tenant,
            rollout.rollout_id,
            version,
            change,
            at,
            self._tx.actor.name,
            rollout.SerializeToString(),
        )

    async def changes(self, rollout_id: str) -> list[Changed]:
        """Return the changes of a rollout, oldest first."""
        rows = await self._tx.fetch(
            "SELECT data, at FROM rollout_change WHERE tenant = $1 AND rollout_id = $2 ORDER BY version",
            self._tenant,
            rollout_id,
        )
        return [Changed(RolloutMessage.FromString(row["data"]), row["at"]) for row in rows]


class VersionStore:
    """What the registry has said about model versions."""

    def __init__(self, tx: Transaction) -> None:
        """Work within a transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def put(self, version: ModelVersion, state: str) -> None:
        """Remember the state of a version."""
        await self._tx.execute(
            "INSERT INTO model_version (tenant, model_id, version, state, data) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (tenant, model_id, version) DO UPDATE SET state = $4, data = $5",
            self._tenant,
            version.model_id,
            version.version,
            state,
            version.SerializeToString(),
        )

    async def get(self, model_id: str, version: int) -> tuple[ModelVersion, str] | None:
        """Return a version and its state; None if the registry has not told of it yet."""
        row = await self._tx.fetchrow(
            "SELECT data, state FROM model_version WHERE tenant = $1 AND model_id = $2 AND version = $3",
            self._tenant,
            model_id,
            version,
        )
        return (ModelVersion.FromString(row["data"]), row["state"]) if row else None

    async def approved(self, model_id: str) -> list[ModelVersion]:
        """Return the versions of a model that may be deployed."""
        rows = await self._tx.fetch(
            "SELECT data FROM model_version WHERE tenant = $1 AND model_id = $2 AND state = 'approved'",
            self._tenant,
            model_id,
        )
        return [ModelVersion.FromString(row["data"]) for row in rows]


class AlertStore:
    """Open critical alerts of performance and serving."""

    def __init__(self, tx: Transaction) -> None:
        """Work within a transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def put(self, alert_key: str, deployment_id: str, revision: str) -> None:
        """Remember that an alert is open."""
        await self._tx.execute(
            "INSERT INTO alert (tenant, alert_key, deployment_id, revision) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (tenant, alert_key) DO UPDATE SET deployment_id = $3, revision = $4",
            self._tenant,
            alert_key,
            deployment_id,
            revision,
        )

    async def remove(self, alert_key: str) -> None:
        """Forget an alert."""
        await self._tx.execute("DELETE FROM alert WHERE tenant = $1 AND alert_key = $2", self._tenant, alert_key)

    async def revisions(self, deployment_id: str) -> frozenset[str]:
        """Return the revisions of a deployment that have an open alert."""
        rows = await self._tx.fetch(
            "SELECT DISTINCT revision FROM alert WHERE tenant = $1 AND deployment_id = $2", self._tenant, deployment_id
        )
        return frozenset(row["revision"] for row in rows)


def _saved(tag: str, what: str, stored: Stored[T]) -> Stored[T]:
    if not tag.endswith(" 1"):
        raise Conflict(f"{what} was changed by somebody else; read it again and repeat")
    return Stored(stored.item, stored.version + 1)
