"""What happens to deployments, each in one transaction: load, decide in the domain, save, publish.

The deployment is locked first, so that everything about it and its rollouts happens one after the other.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from holdtrue_core.errors import AlreadyExists, FailedPrecondition, NotFound
from holdtrue_core.ids import uuid7

from holdtrue_deployer import messages
from holdtrue_deployer.domain.deployment import Deployment, NoTarget, Revision
from holdtrue_deployer.domain.machine import advance, begin
from holdtrue_deployer.domain.rollout import AbortAsked, Advance, Alerted, IllegalTransition, Rollout, Signal
from holdtrue_deployer.store import AlertStore, DeploymentStore, RolloutStore, Stored, VersionStore

if TYPE_CHECKING:
    from datetime import datetime

    from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion
    from holdtrue_events.outbox import Transaction

    from holdtrue_deployer.domain.policy import Policy

_log = structlog.stdlib.get_logger("holdtrue.deployer")


class VersionUnknown(NotFound):
    """The registry has not told of the version, yet."""


class NotApproved(FailedPrecondition):
    """The registry has not told that the version may be deployed, yet."""


async def create(tx: Transaction, deployment: Deployment) -> Deployment:
    """Create a deployment without any version; raises AlreadyExists."""
    store = DeploymentStore(tx)
    if await store.taken(deployment.name):
        raise AlreadyExists(f"deployment {deployment.name!r} exists; start a rollout on it, or choose another name")
    return (await store.save(Stored(deployment, 0))).item


def new_deployment(  # noqa: PLR0913  a deployment is made of as many things
    *, name: str, model_id: str, model_name: str, policy: Policy, log_mode: int, now: datetime
) -> Deployment:
    """Return a new deployment with a key of its own for the check in prediction ids."""
    return Deployment(
        deployment_id=uuid7(),
        name=name,
        model_id=model_id,
        model_name=model_name,
        policy=policy,
        log_mode=log_mode,
        id_key=secrets.randbits(64),
        created_at=now,
    )


async def set_policy(tx: Transaction, name: str, policy: Policy) -> Deployment:
    """Set how versions are rolled out from the next rollout on."""
    store = DeploymentStore(tx)
    stored = await store.get(name, lock=True)
    return (await store.save(replace(stored, item=replace(stored.item, policy=policy)))).item


async def start(tx: Transaction, name: str, version: int, reason: str, now: datetime) -> tuple[Rollout, Deployment]:
    """Roll an approved version out because a person wants it; raises FailedPrecondition, NotFound, VersionUnknown."""
    stored = await DeploymentStore(tx).get(name, lock=True)
    known = await VersionStore(tx).get(stored.item.model_id, version)
    if known is None:
        raise VersionUnknown(f"version {version} of model {stored.item.model_name} does not exist")
    found, state = known
    if state != "approved":
        refusal = FailedPrecondition if state == "rejected" else NotApproved
        text = f"version {version} of model {stored.item.model_name} is {state}; only approved versions are rolled out"
        raise refusal(text, reason="NOT_APPROVED")
    await _refuse_second(tx, stored.item)
    if version == stored.item.version_of(stored.item.champion):
        raise FailedPrecondition(f"version {version} is the champion of {name} already", reason="IS_CHAMPION")
    rollout, deployment = await _begin(tx, stored, found, stored.item.policy, automatic=False, reason=reason, now=now)
    return rollout, deployment


async def start_candidate(tx: Transaction, deployment_id: str, now: datetime) -> None:
    """Roll out the newest approved version that was never tried, if the policy wants that and nothing is open."""
    stored = await DeploymentStore(tx).lock(deployment_id)
    if stored is None or not stored.item.policy.automatic:
        return
    if await RolloutStore(tx).open_of(deployment_id):
        return
    approved = {v.version: v for v in await VersionStore(tx).approved(stored.item.model_id)}
    candidate = stored.item.candidate(messages.artifact(v) for v in approved.values())
    if candidate is not None:
        found = approved[candidate.version]
        await _begin(tx, stored, found, stored.item.policy, automatic=True, reason="approved by the registry", now=now)


async def roll_back(  # noqa: PLR0913  what, where to and why
    tx: Transaction, name: str, version: int, reason: str, now: datetime, *, dry_run: bool
) -> tuple[Rollout, Deployment]:
    """Abort the open rollout, or return to a version (0: the last good one); raises FailedPrecondition."""
    stored = await DeploymentStore(tx).get(name, lock=True)
    running = await RolloutStore(tx).open_of(stored.item.deployment_id)
    if running is None:
        made, deployment = await _way_back(tx, stored.item, version, reason, now, automatic=False)
    elif version in (0, stored.item.version_of(running.item.from_revision)):
        made, deployment = _decide(running.item, AbortAsked(tx.actor.name, reason), now), stored.item
    else:
        raise FailedPrecondition(
            f"a rollout of version {stored.item.version_of(running.item.to_revision)} is open on {name};"
            f" take it back first, then return to version {version}",
            reason="ROLLOUT_OPEN",
        )
    if dry_run:
        return made.rollout, deployment
    return made.rollout, await _apply(tx, replace(stored, item=deployment), running, made, now)


async def signal(tx: Transaction, stored: Stored[Deployment], given: Signal, now: datetime) -> Rollout | None:
    """Give a signal to the open rollout of a locked deployment; None if none is open."""
    running = await RolloutStore(tx).open_of(stored.item.deployment_id)
    if running is None:
        return None
    made = _decide(running.item, given, now)
    if made.rollout is not running.item:
        await _apply(tx, stored, running, made, now)
    if made.rollout.final:
        await start_candidate(tx, stored.item.deployment_id, now)
    return made.rollout


async def alerted(tx: Transaction, stored: Stored[Deployment], alert: Alerted, now: datetime) -> None:
    """React to a critical alert: roll the challenger back, or go back from a champion that is still on probation."""
    if await signal(tx, stored, alert, now) is not None:
        return
    if not stored.item.may_reverse(alert.revision, alert.at, now):
        return
    try:
        made, deployment = await _way_back(tx, stored.item, 0, f"critical alert: {alert.title}", now, automatic=True)
    except FailedPrecondition as error:
        _log.warning("no way back from a champion with a critical alert", alert=alert.title, why=error.message)
        return
    await _apply(tx, replace(stored, item=replace(deployment, reversed_at=now)), None, made, now)


async def _refuse_second(tx: Transaction, deployment: Deployment) -> None:
    running = await RolloutStore(tx).open_of(deployment.deployment_id)
    if running is not None:
        version = deployment.version_of(running.item.to_revision)
        raise FailedPrecondition(
            f"a rollout of version {version} is open on {deployment.name} ({running.item.state});"
            " wait for its end, or roll it back",
            reason="ROLLOUT_OPEN",
            metadata={"rollout_id": running.item.rollout_id, "version": str(version)},
        )


async def _begin(  # noqa: PLR0913  who, what, how and why
    tx: Transaction,
    stored: Stored[Deployment],
    version: ModelVersion,
    policy: Policy,
    *,
    automatic: bool,
    reason: str,
    now: datetime,
) -> tuple[Rollout, Deployment]:
    deployment, revision = await _revision(tx, stored.item, version)
    made = _beginning(tx, deployment, revision, policy, automatic=automatic, warm=False, reason=reason, now=now)
    return made.rollout, await _apply(tx, replace(stored, item=deployment), None, made, now)


async def _revision(tx: Transaction, deployment: Deployment, version: ModelVersion) -> tuple[Deployment, Revision]:
    known = deployment.revision_of(version.version)
    if known is not None:
        return deployment, known
    slot = await DeploymentStore(tx).take_slot()
    revision = Revision(revision=uuid7(), slot=slot, artifact=messages.artifact(version))
    return deployment.with_revision(revision), revision


async def _way_back(  # noqa: PLR0913  what, where to and why
    tx: Transaction, deployment: Deployment, version: int, reason: str, now: datetime, *, automatic: bool
) -> tuple[Advance, Deployment]:
    alerting = frozenset[str]() if version else await AlertStore(tx).revisions(deployment.deployment_id)
    try:
        target = deployment.target(version, alerting)
    except NoTarget as error:
        raise FailedPrecondition(f"nothing to return to: {error}", reason="NO_TARGET") from error
    policy, warm = deployment.policy.at_once(), deployment.warm(target.revision)
    made = _beginning(tx, deployment, target, policy, automatic=automatic, warm=warm, reason=reason, now=now)
    return made, deployment.disown(deployment.champion)


def _beginning(  # noqa: PLR0913  who, what, how and why
    tx: Transaction,
    deployment: Deployment,
    revision: Revision,
    policy: Policy,
    *,
    automatic: bool,
    warm: bool,
    reason: str,
    now: datetime,
) -> Advance:
    return begin(
        rollout_id=uuid7(),
        deployment_id=deployment.deployment_id,
        from_revision=deployment.champion,
        to_revision=revision.revision,
        policy=policy,
        automatic=automatic,
        actor=tx.actor.name,
        generation=deployment.generation,
        warm=warm,
        reason=reason,
        now=now,
    )


def _decide(rollout: Rollout, given: Signal, now: datetime) -> Advance:
    try:
        return advance(rollout, given, now)
    except IllegalTransition as error:
        raise FailedPrecondition(str(error), reason="ILLEGAL_TRANSITION") from error


async def _apply(
    tx: Transaction, stored: Stored[Deployment], running: Stored[Rollout] | None, made: Advance, now: datetime
) -> Deployment:
    """Save what was decided and publish it, in the same transaction."""
    deployment = stored.item.follow(made.rollout, now)
    if made.desired is not None:
        deployment = deployment.desire(made.desired, made.rollout.rollout_id)
        tx.publish(deployment.message(), aggregate_version=deployment.generation)
    if deployment is not stored.item:
        await DeploymentStore(tx).save(replace(stored, item=deployment))
    rollouts = RolloutStore(tx)
    saved = await rollouts.save(Stored(made.rollout, running.version if running else 0))
    message = messages.rollout(made.rollout, deployment)
    for change in made.changes:
        await rollouts.record(saved.version, change, message, now)
        tx.publish(messages.event(change, message), aggregate_version=saved.version)
        _log.info(f"rollout {change}", deployment=deployment.name, rollout=message.rollout_id, reason=message.reason)
    return deployment
