"""What the trainer does on the events of others: remember, and have the policy looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
from holdtrue_contracts.deployer.v1.rollouts_pb2 import (
    Rollout,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutHeld,
    RolloutResumed,
    RolloutRolledBack,
    RolloutStarted,
)
from holdtrue_contracts.monitor.v1.alerts_pb2 import (
    SEVERITY_CRITICAL,
    Alert,
    AlertRaised,
    AlertResolved,
    AlertUpdated,
)
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DatasetVersionCleared,
    DatasetVersionExpired,
    DatasetVersionPublished,
    DatasetVersionRetracted,
    SubjectErased,
)
from holdtrue_contracts.registry.v1.models_pb2 import (
    ModelVersionApproved,
    ModelVersionRegistered,
    ModelVersionRejected,
    ModelVersionValidated,
)
from holdtrue_events.react import subscribes

from holdtrue_trainer.commands import decide_soon, remember
from holdtrue_trainer.domain.policy import Cause, Trigger
from holdtrue_trainer.store import DatasetStore, DeploymentStore, RetrainingStore
from holdtrue_trainer.store.projections import champion_of

if TYPE_CHECKING:
    from datetime import datetime

    from holdtrue_contracts.codec import Event
    from holdtrue_events.outbox import Transaction


@subscribes(DatasetVersionPublished)
async def on_dataset_version(event: Event[DatasetVersionPublished], tx: Transaction) -> None:
    """Keep the version; models that read the dataset may have enough labels now."""
    await DatasetStore(tx).put(event.data)
    await _decide_about_readers(tx, event.data.dataset_id)


@subscribes(DatasetVersionRetracted)
async def on_dataset_version_retracted(event: Event[DatasetVersionRetracted], tx: Transaction) -> None:
    """Train nothing on the version any more."""
    await DatasetStore(tx).retract(event.data.dataset_id, event.data.version)


@subscribes(DatasetVersionCleared)
async def on_dataset_version_cleared(event: Event[DatasetVersionCleared], tx: Transaction) -> None:
    """Train on the version from now on; models that read the dataset may have waited for it."""
    await DatasetStore(tx).clear(event.data.dataset_id, event.data.version)
    await _decide_about_readers(tx, event.data.dataset_id)


@subscribes(DatasetVersionExpired)
async def on_dataset_version_expired(event: Event[DatasetVersionExpired], tx: Transaction) -> None:
    """Forget the version: its rows go."""
    await DatasetStore(tx).forget(event.data.dataset_id, event.data.version)


@subscribes(SubjectErased)
async def on_subject_erased(event: Event[SubjectErased], tx: Transaction) -> None:
    """Know what the versions are since: a run records the digest of what it has really read."""
    for version in event.data.versions:
        await DatasetStore(tx).change(event.data.dataset_id, version, event.data.erasure_epoch)


@subscribes(DeploymentState)
async def on_deployment_state(event: Event[DeploymentState], tx: Transaction) -> None:
    """Keep who is champion."""
    state = event.data
    if not await DeploymentStore(tx).put(state):
        return
    champion = champion_of(state)
    version = champion.model_version if champion else 0
    await remember(tx, state.model_id, lambda m: m.serving(state.deployment_id, version), state.model_name)


@subscribes(ModelVersionRegistered)
async def on_registered(event: Event[ModelVersionRegistered], tx: Transaction) -> None:
    """Let the cool-down of a candidate begin anew: its gate follows."""
    await _judged(event.data.model_id, event.time, tx, rejected=False)


@subscribes(ModelVersionValidated)
async def on_validated(event: Event[ModelVersionValidated], tx: Transaction) -> None:
    """Let the cool-down of a candidate begin anew: its approval follows."""
    await _judged(event.data.model_id, event.time, tx, rejected=False)


@subscribes(ModelVersionApproved)
async def on_approved(event: Event[ModelVersionApproved], tx: Transaction) -> None:
    """Let the cool-down of a candidate begin anew: its rollout follows."""
    await _judged(event.data.model_id, event.time, tx, rejected=False)


@subscribes(ModelVersionRejected)
async def on_rejected(event: Event[ModelVersionRejected], tx: Transaction) -> None:
    """Count the setback."""
    await _judged(event.data.model_id, event.time, tx, rejected=True)


@subscribes(RolloutStarted)
async def on_rollout_started(event: Event[RolloutStarted], tx: Transaction) -> None:
    """Remember that a rollout is open."""
    await _rollout_opened(event.data.rollout, tx)


@subscribes(RolloutAdvanced)
async def on_rollout_advanced(event: Event[RolloutAdvanced], tx: Transaction) -> None:
    """Remember that a rollout is open."""
    await _rollout_opened(event.data.rollout, tx)


@subscribes(RolloutHeld)
async def on_rollout_held(event: Event[RolloutHeld], tx: Transaction) -> None:
    """Remember that a rollout is open."""
    await _rollout_opened(event.data.rollout, tx)


@subscribes(RolloutResumed)
async def on_rollout_resumed(event: Event[RolloutResumed], tx: Transaction) -> None:
    """Remember that a rollout is open."""
    await _rollout_opened(event.data.rollout, tx)


@subscribes(RolloutCompleted)
async def on_rollout_completed(event: Event[RolloutCompleted], tx: Transaction) -> None:
    """The new version serves: alerts about the one before are answered."""
    rollout = event.data.rollout
    await remember(
        tx,
        rollout.model_id,
        lambda m: m.promoted(rollout.rollout_id, rollout.deployment_id, rollout.to_version, event.time),
    )


@subscribes(RolloutRolledBack)
async def on_rollout_rolled_back(event: Event[RolloutRolledBack], tx: Transaction) -> None:
    """Count the setback."""
    rollout = event.data.rollout
    await remember(tx, rollout.model_id, lambda m: m.rolled_back(rollout.rollout_id, event.time))


@subscribes(AlertRaised)
async def on_alert_raised(event: Event[AlertRaised], tx: Transaction) -> None:
    """Remember an alert that may start a run."""
    await _alert(event.data.alert, tx)


@subscribes(AlertUpdated)
async def on_alert_updated(event: Event[AlertUpdated], tx: Transaction) -> None:
    """Remember an alert that has become critical, or what is new about one."""
    await _alert(event.data.alert, tx)


@subscribes(AlertResolved)
async def on_alert_resolved(event: Event[AlertResolved], tx: Transaction) -> None:
    """Forget an alert."""
    alert = event.data.alert
    await remember(tx, alert.model_id, lambda m: m.alerts_closed([alert.alert_id]))


async def _judged(model_id: str, now: datetime, tx: Transaction, *, rejected: bool) -> None:
    await remember(tx, model_id, lambda m: m.judged(now, rejected=rejected))


async def _rollout_opened(rollout: Rollout, tx: Transaction) -> None:
    await remember(tx, rollout.model_id, lambda m: m.rollout_opened(rollout.rollout_id))


async def _alert(alert: Alert, tx: Transaction) -> None:
    trigger = _trigger(alert)
    if trigger is not None:
        await remember(tx, alert.model_id, lambda m: m.alert_raised(trigger))


def _trigger(alert: Alert) -> Trigger | None:
    """Return the trigger of a critical alert on realised precision or on drift."""
    concept = alert.kind.startswith("performance.") and alert.retrain_evidence.realised_breach
    cause = Cause.PRECISION if concept else Cause.DRIFT if alert.kind.startswith("drift.") else None
    if alert.severity != SEVERITY_CRITICAL or cause is None:
        return None
    return Trigger(alert.alert_id, cause, alert.deployment_id, alert.model_version, concept, alert.first_bad_window_ns)


async def _decide_about_readers(tx: Transaction, dataset_id: str) -> None:
    for model_id in await RetrainingStore(tx).reading(dataset_id):
        await decide_soon(tx, model_id)
