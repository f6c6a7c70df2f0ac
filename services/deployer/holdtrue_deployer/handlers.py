"""What the deployer does on the events of others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.monitor.v1.alerts_pb2 import (
    SEVERITY_CRITICAL,
    Alert,
    AlertAcknowledged,
    AlertRaised,
    AlertResolved,
    AlertUpdated,
)
from holdtrue_contracts.monitor.v1.evaluations_pb2 import WindowEvaluated
from holdtrue_contracts.registry.v1.models_pb2 import (
    ModelVersionApproved,
    ModelVersionRegistered,
    ModelVersionRejected,
    ModelVersionValidated,
)
from holdtrue_events.react import Rejected, subscribes

from holdtrue_deployer import commands, messages
from holdtrue_deployer.domain.rollout import Alerted, Evaluated
from holdtrue_deployer.store import AlertStore, DeploymentStore, VersionStore

if TYPE_CHECKING:
    from holdtrue_contracts.codec import Event
    from holdtrue_events.outbox import Transaction

DECISIVE = ("performance.", "serving")
"""Kinds of alerts that a revision answers for; a drift of the world is not its fault."""


@subscribes(ModelVersionRegistered)
async def on_registered(event: Event[ModelVersionRegistered], tx: Transaction) -> None:
    """Remember that a version exists."""
    await VersionStore(tx).put(event.data.model_version, "registered")


@subscribes(ModelVersionValidated)
async def on_validated(event: Event[ModelVersionValidated], tx: Transaction) -> None:
    """Remember that a version passed its gate; only its approval starts anything."""
    await VersionStore(tx).put(event.data.model_version, "validated")


@subscribes(ModelVersionRejected)
async def on_rejected(event: Event[ModelVersionRejected], tx: Transaction) -> None:
    """Remember that a version failed its gate."""
    await VersionStore(tx).put(event.data.model_version, "rejected")


@subscribes(ModelVersionApproved)
async def on_approved(event: Event[ModelVersionApproved], tx: Transaction) -> None:
    """Open a rollout wherever the model is deployed with automatic promotion."""
    await VersionStore(tx).put(event.data.model_version, "approved")
    for stored in await DeploymentStore(tx).of_model(event.data.model_id):
        await commands.start_candidate(tx, stored.item.deployment_id, _now())


@subscribes(WindowEvaluated)
async def on_window_evaluated(event: Event[WindowEvaluated], tx: Transaction) -> None:
    """Judge the open rollout on a window of one of its revisions; segments judge nobody."""
    if not event.data.all_segments:
        return
    try:
        window = messages.window(event.data)
    except ValueError as error:
        raise Rejected(str(error)) from error
    stored = await DeploymentStore(tx).lock(event.data.deployment_id)
    if stored is not None:
        await commands.signal(tx, stored, Evaluated(window), _now())


@subscribes(AlertRaised)
async def on_alert_raised(event: Event[AlertRaised], tx: Transaction) -> None:
    """React to a new alert."""
    await _alert(event.data.alert, tx)


@subscribes(AlertUpdated)
async def on_alert_updated(event: Event[AlertUpdated], tx: Transaction) -> None:
    """React to an alert that became critical, or is so no more."""
    await _alert(event.data.alert, tx)


@subscribes(AlertAcknowledged)
async def on_alert_acknowledged(event: Event[AlertAcknowledged], tx: Transaction) -> None:
    """React as to an update: that a person looks at it does not make the revision good."""
    await _alert(event.data.alert, tx)


@subscribes(AlertResolved)
async def on_alert_resolved(event: Event[AlertResolved], tx: Transaction) -> None:
    """Forget an alert."""
    await AlertStore(tx).remove(event.data.alert_key)


async def _alert(alert: Alert, tx: Transaction) -> None:
    alerts = AlertStore(tx)
    if alert.severity != SEVERITY_CRITICAL or not alert.kind.startswith(DECISIVE):
        await alerts.remove(alert.alert_key)
        return
    await alerts.put(alert.alert_key, alert.deployment_id, alert.revision)
    stored = await DeploymentStore(tx).lock(alert.deployment_id)
    if stored is not None:
        at = datetime.fromtimestamp(alert.to_ns / 1e9, UTC)
        await commands.alerted(tx, stored, Alerted(alert.revision, alert.title, at), _now())


def _now() -> datetime:
    return datetime.now(UTC)
