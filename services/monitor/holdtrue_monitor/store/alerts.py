"""Alerts, the memory behind them, and the notifications that subscribers read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_contracts.monitor.v1.alerts_pb2 import (
    ALERT_STATUS_RESOLVED,
    Alert,
    AlertAcknowledged,
    AlertRaised,
    AlertResolved,
    AlertState,
    AlertUpdated,
)

from holdtrue_monitor.domain.alerts import Change, Memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from holdtrue_events.outbox import Transaction

_EVENTS = {
    Change.RAISED: AlertRaised,
    Change.UPDATED: AlertUpdated,
    Change.ACKNOWLEDGED: AlertAcknowledged,
    Change.RESOLVED: AlertResolved,
}
_PUT = """
INSERT INTO alert (tenant, alert_id, alert_key, deployment_id, deployment_name, revision, kind, subject, severity,
    resolved_at, changed_at, version, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, $12)
ON CONFLICT (tenant, alert_id) DO UPDATE
SET severity = $9, resolved_at = $10, changed_at = $11, version = alert.version + 1, body = $12
RETURNING version"""
_NUMBER = """
INSERT INTO notification_counter (tenant, last) VALUES ($1, 1)
ON CONFLICT (tenant) DO UPDATE SET last = notification_counter.last + 1 RETURNING last"""
_NOTIFY = "INSERT INTO notification (tenant, sequence, alert_id, change, body) VALUES ($1, $2, $3, $4, $5)"
_LATEST = """
SELECT DISTINCT ON (alert_key) alert_key, subject, body FROM alert
WHERE tenant = $1 AND alert_key = ANY($2::text[]) AND (resolved_at IS NULL OR resolved_at > $3)
ORDER BY alert_key, resolved_at DESC NULLS FIRST"""
_LIST = """
SELECT body FROM alert
WHERE tenant = $1 AND ($2 = '' OR deployment_id = $2 OR deployment_name = $2) AND severity >= $3
  AND starts_with(kind, $4) AND (resolved_at IS NULL OR $5) AND ($6 = '' OR alert_id < $6)
ORDER BY alert_id DESC LIMIT $7"""
_PUT_MEMORY = """
INSERT INTO signal (tenant, alert_key, memory)
SELECT $1, alert_key, memory::jsonb FROM unnest($2::text[], $3::text[]) AS new (alert_key, memory)
ON CONFLICT (tenant, alert_key) DO UPDATE SET memory = excluded.memory"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which alerts are wanted; empty texts and 0 want all."""

    deployment: str = ""
    min_severity: int = 0
    kind_prefix: str = ""

    def wants(self, alert: Alert) -> bool:
        """Whether an alert is among them."""
        return (
            self.deployment in {"", alert.deployment_id, alert.deployment_name}
            and alert.severity >= self.min_severity
            and alert.kind.startswith(self.kind_prefix)
        )


@dataclass(frozen=True, slots=True)
class Notification:
    """One change of an alert; `sequence` grows by one with each."""

    sequence: int
    change: str
    alert: Alert


class AlertStore:
    """Alerts in one transaction."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction, for its tenant."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def memories(self, keys: Sequence[str]) -> dict[str, Memory]:
        """Return what is remembered of signals."""
        query = "SELECT alert_key, memory FROM signal WHERE tenant = $1 AND alert_key = ANY($2::text[])"
        return {row["alert_key"]: Memory.of(row["memory"]) for row in await self._tx.fetch(query, self._tenant, keys)}

    async def put_memories(self, memories: Mapping[str, Memory]) -> None:
        """Remember."""
        rows = [json.dumps(memory.rows()) for memory in memories.values()]
        await self._tx.execute(_PUT_MEMORY, self._tenant, list(memories), rows)

    async def latest(self, keys: Sequence[str], resolved_after: datetime) -> dict[str, Alert]:
        """Return the open alert of each key, or the one that was resolved after a time."""
        rows = await self._tx.fetch(_LATEST, self._tenant, keys, resolved_after)
        return {row["alert_key"]: Alert.FromString(row["body"]) for row in rows}

    async def open_of(self, revision: str) -> list[tuple[str, Alert]]:
        """Return the open alerts of a revision with what each is about."""
        query = "SELECT subject, body FROM alert WHERE tenant = $1 AND revision = $2 AND resolved_at IS NULL"
        return [
            (row["subject"], Alert.FromString(row["body"]))
            for row in await self._tx.fetch(query, self._tenant, revision)
        ]

    async def get(self, alert_id: str) -> tuple[str, Alert] | None:
        """Lock and return an alert with what it is about."""
        query = "SELECT subject, body FROM alert WHERE tenant = $1 AND alert_id = $2 FOR UPDATE"
        row = await self._tx.fetchrow(query, self._tenant, alert_id)
        return None if row is None else (row["subject"], Alert.FromString(row["body"]))

    async def put(self, alert: Alert, change: Change, subject: str, now: datetime) -> None:
        """Store an alert after a change, publish it, and notify subscribers."""
        over = alert.status == ALERT_STATUS_RESOLVED
        body = alert.SerializeToString()
        version = await self._tx.fetchval(
            _PUT,
            self._tenant,
            alert.alert_id,
            alert.alert_key,
            alert.deployment_id,
            alert.deployment_name,
            alert.revision,
            alert.kind,
            subject,
            alert.severity,
            now if over else None,
            now,
            body,
        )
        self._tx.publish(_EVENTS[change](alert_key=alert.alert_key, alert=alert), aggregate_version=version)
        self._tx.publish(AlertState(alert_key=alert.alert_key, alert=alert), aggregate_version=version)
        sequence = await self._tx.fetchval(_NUMBER, self._tenant)
        await self._tx.execute(_NOTIFY, self._tenant, sequence, alert.alert_id, change.value, body)
        self._tx.after_commit(self._tx.database.signal(NOTIFIED).set)

    async def list(self, wanted: Filter, *, resolved: bool, before: str, limit: int) -> list[Alert]:
        """Return alerts raised before the one with the id `before` ("": all), those raised last first."""
        row = wanted.deployment, wanted.min_severity, wanted.kind_prefix, resolved, before, limit
        return [Alert.FromString(r["body"]) for r in await self._tx.fetch(_LIST, self._tenant, *row)]

    async def span(self) -> tuple[int, int]:
        """Return the first notification that is kept (1 if none was removed) and the last that was made (0: none)."""
        last = await self._tx.fetchval("SELECT last FROM notification_counter WHERE tenant = $1", self._tenant) or 0
        first = await self._tx.fetchval("SELECT min(sequence) FROM notification WHERE tenant = $1", self._tenant)
        return first or last + 1, last

    async def after(self, sequence: int, limit: int) -> list[Notification]:
        """Return the notifications after one, in order."""
        query = """SELECT sequence, change, body FROM notification
            WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3"""
        rows = await self._tx.fetch(query, self._tenant, sequence, limit)
        return [Notification(row["sequence"], row["change"], Alert.FromString(row["body"])) for row in rows]


NOTIFIED = "notifications"
"""Channel of `Database.signal` that wakes those who wait for notifications."""
