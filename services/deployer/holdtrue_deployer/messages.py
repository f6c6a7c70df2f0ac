"""Between the domain and the messages of the contracts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_contracts.columns import unpack
from holdtrue_contracts.common.v1.measures_pb2 import (
    MEASURE_KIND_ESTIMATED,
    MEASURE_KIND_REALISED,
    MEASURE_STATUS_INVALID,
    MEASURE_STATUS_OK,
    OUTCOME_FAIL,
    OUTCOME_INCONCLUSIVE,
    OUTCOME_PASS,
    OUTCOME_WAITING,
    CheckResult,
    Measure,
)
from holdtrue_contracts.common.v1.measures_pb2 import Outcome as OutcomeMessage
from holdtrue_contracts.deployer.v1.deployment_service_pb2 import Deployment as DeploymentMessage
from holdtrue_contracts.deployer.v1.deployment_service_pb2 import RolloutPolicy
from holdtrue_contracts.deployer.v1.rollouts_pb2 import (
    ROLLOUT_STATE_BAKING,
    ROLLOUT_STATE_COMPLETED,
    ROLLOUT_STATE_FAILED,
    ROLLOUT_STATE_HELD,
    ROLLOUT_STATE_PREPARING,
    ROLLOUT_STATE_ROLLED_BACK,
    ROLLOUT_STATE_ROLLING_BACK,
    ROLLOUT_STATE_STEPPING,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutHeld,
    RolloutResumed,
    RolloutRolledBack,
    RolloutStarted,
    RolloutState,
)
from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout as RolloutMessage
from holdtrue_core.rpc import timestamp
from holdtrue_stats.interval import z_value
from holdtrue_stats.sequential import NOTHING, Sums

from holdtrue_deployer.domain.checks import Check, Outcome
from holdtrue_deployer.domain.deployment import Artifact, Deployment
from holdtrue_deployer.domain.evidence import LATENCY_BINS, Estimated, Figures, Window
from holdtrue_deployer.domain.policy import Policy
from holdtrue_deployer.domain.rollout import Change, Rollout, State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message
    from holdtrue_contracts.monitor.v1.evaluations_pb2 import WindowEvaluated
    from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion

    from holdtrue_deployer.domain.replicas import Convergence

_OUTCOMES: Mapping[Outcome, OutcomeMessage.ValueType] = {
    Outcome.PASS: OUTCOME_PASS,
    Outcome.FAIL: OUTCOME_FAIL,
    Outcome.INCONCLUSIVE: OUTCOME_INCONCLUSIVE,
    Outcome.WAITING: OUTCOME_WAITING,
}
_STATES: Mapping[State, RolloutState.ValueType] = {
    State.PREPARING: ROLLOUT_STATE_PREPARING,
    State.STEPPING: ROLLOUT_STATE_STEPPING,
    State.BAKING: ROLLOUT_STATE_BAKING,
    State.HELD: ROLLOUT_STATE_HELD,
    State.ROLLING_BACK: ROLLOUT_STATE_ROLLING_BACK,
    State.ROLLED_BACK: ROLLOUT_STATE_ROLLED_BACK,
    State.COMPLETED: ROLLOUT_STATE_COMPLETED,
    State.FAILED: ROLLOUT_STATE_FAILED,
}
_EVENTS: Mapping[Change, type[Message]] = {
    Change.STARTED: RolloutStarted,
    Change.ADVANCED: RolloutAdvanced,
    Change.HELD: RolloutHeld,
    Change.RESUMED: RolloutResumed,
    Change.COMPLETED: RolloutCompleted,
    Change.ROLLED_BACK: RolloutRolledBack,
}


def artifact(version: ModelVersion) -> Artifact:
    """Return what of a version is served."""
    return Artifact(
        version=version.version,
        manifest_digest=version.manifest_digest,
        artifact_digest=version.artifact_digest,
        kind=version.kind,
        threshold=version.threshold,
    )


def policy(message: RolloutPolicy) -> Policy:
    """Return the policy with the product's defaults where the message has zeros."""
    default = Policy()
    return Policy(
        automatic=message.auto,
        steps=tuple(message.steps) or default.steps,
        step_seconds=message.step_seconds or default.step_seconds,
        step_rows=message.step_rows or default.step_rows,
        step_deadline_seconds=message.step_deadline_seconds or default.step_deadline_seconds,
        auto_rollback=message.auto_rollback,
        precision_margin=message.precision_margin or default.precision_margin,
        bake_seconds=message.bake_seconds or default.bake_seconds,
        latency_budget_seconds=message.latency_budget_seconds or default.latency_budget_seconds,
    )


def policy_message(item: Policy) -> RolloutPolicy:
    """Return the policy as it is in force."""
    return RolloutPolicy(
        auto=item.automatic,
        steps=item.steps,
        step_seconds=item.step_seconds,
        step_rows=item.step_rows,
        step_deadline_seconds=item.step_deadline_seconds,
        auto_rollback=item.auto_rollback,
        precision_margin=item.precision_margin,
        bake_seconds=item.bake_seconds,
        latency_budget_seconds=item.latency_budget_seconds,
    )


def window(message: WindowEvaluated) -> Window:
    """Return what rollouts are judged on; raises ValueError for a latency histogram of another shape."""
    realised, estimated = (
        next((m for m in message.measures if (m.name, m.kind, m.subject) == ("precision", kind, "")), None)
        for kind in (MEASURE_KIND_REALISED, MEASURE_KIND_ESTIMATED)
    )
    counts: list[int] = unpack(message.latency, np.uint32, 1).tolist() if message.HasField("latency") else []
    if len(counts) not in (0, LATENCY_BINS):
        raise ValueError(f"latency: expected {LATENCY_BINS} bins, got {len(counts)}")
    figures = Figures(
        restatement=message.restatement,
        rows=message.rows,
        answered=message.answered,
        failed=message.failed,
        latency=tuple(counts),
        realised=_sums(realised) if realised else NOTHING,
        estimated=_estimated(estimated) if estimated else None,
    )
    return Window(revision=message.revision, from_ns=message.from_ns, to_ns=message.to_ns, figures=figures)


def _sums(measure: Measure) -> Sums:
    return Sums(measure.n, measure.sum, measure.sum_squares)


def _estimated(measure: Measure) -> Estimated | None:
    """Take an estimate that holds, or the news that it does not; an insufficient one says nothing."""
    if measure.status == MEASURE_STATUS_INVALID:
        return Estimated(sums=NOTHING, map_variance=0.0, invalid=True)
    if measure.status != MEASURE_STATUS_OK or not measure.n:
        return None
    return Estimated(sums=_sums(measure), map_variance=_map_variance(measure), invalid=False)


def _map_variance(measure: Measure) -> float:
    """Return what the interval has beyond the labels' own spread Σp(1-p)/n²: the calibration map's variance."""
    total = ((measure.upper - measure.lower) / 2 / z_value(0.95)) ** 2
    return max(0.0, total - (measure.sum - measure.sum_squares) / measure.n**2)


def rollout(item: Rollout, deployment: Deployment) -> RolloutMessage:
    """Return a rollout as others see it."""
    return RolloutMessage(
        rollout_id=item.rollout_id,
        deployment_id=item.deployment_id,
        deployment_name=deployment.name,
        model_id=deployment.model_id,
        from_revision=item.from_revision,
        to_revision=item.to_revision,
        from_version=deployment.version_of(item.from_revision),
        to_version=deployment.version_of(item.to_revision),
        state=_STATES[item.state],
        step=item.step,
        weight=item.weight,
        checks=[_check(check) for check in item.checks],
        reason=item.reason,
    )


def _check(item: Check) -> CheckResult:
    return CheckResult(
        check=item.name,
        outcome=_OUTCOMES[item.outcome],
        value=_figure(item.value),
        lower=_figure(item.lower),
        upper=_figure(item.upper),
        n=item.n,
        margin=item.margin,
        needed_n=item.needed_n,
        reason=item.reason,
        required=item.required,
    )


def _figure(value: float | None) -> float:
    return math.nan if value is None else value


def event(change: Change, message: RolloutMessage) -> Message:
    """Return the event of a change."""
    return _EVENTS[change](deployment_id=message.deployment_id, rollout=message)


def deployment(item: Deployment, last: Rollout | None, convergence: Convergence) -> DeploymentMessage:
    """Return a deployment as others see it, with its open or last rollout."""
    return DeploymentMessage(
        state=item.message(),
        policy=policy_message(item.policy),
        rollout=rollout(last, item) if last else None,
        replicas=convergence.live,
        converged=convergence.converged,
        created_at=timestamp(item.created_at),
    )
