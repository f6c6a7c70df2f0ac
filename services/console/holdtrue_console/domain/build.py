"""From the services' messages to the view model."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from holdtrue_contracts.common.v1.measures_pb2 import (
    MEASURE_KIND_DRIFT,
    MEASURE_KIND_ESTIMATED,
    MEASURE_KIND_REALISED,
    MEASURE_STATUS_OK,
    CheckResult,
    Measure,
    MeasureStatus,
    Outcome,
)
from holdtrue_contracts.deployer.v1.deployments_pb2 import Role
from holdtrue_contracts.deployer.v1.rollouts_pb2 import RolloutState
from holdtrue_contracts.monitor.v1.alerts_pb2 import AlertStatus, Severity
from holdtrue_contracts.registry.v1.model_service_pb2 import ModelVersionState

from holdtrue_console.domain import view
from holdtrue_console.domain.words import name_of, word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp
    from holdtrue_contracts.deployer.v1 import deployment_service_pb2 as deployer
    from holdtrue_contracts.monitor.v1.alerts_pb2 import Alert
    from holdtrue_contracts.monitor.v1.evaluations_pb2 import WindowEvaluated
    from holdtrue_contracts.monitor.v1.monitor_service_pb2 import RevisionHealth
    from holdtrue_contracts.registry.v1 import model_service_pb2 as registry

NOTHING = view.Figure(None, None, None, 0, "nothing yet")


def model(message: registry.Model, versions: Iterable[registry.ModelVersionView]) -> view.Model:
    """Return a model with its versions, given newest first."""
    return view.Model(
        name=message.name,
        min_precision=message.policy.min_precision or None,
        versions=tuple(_version(item) for item in versions),
    )


def _version(item: registry.ModelVersionView) -> view.Version:
    version = item.model_version
    return view.Version(
        number=version.version,
        state=word(name_of(ModelVersionState.DESCRIPTOR, item.state)),
        reason=item.reason,
        role=item.role,
        dataset_version=version.dataset_version,
        run_id=version.run_id,
        registered_at=_seconds(item.registered_at),
        checks=tuple(check(result) for result in item.checks),
    )


def deployment(  # noqa: PLR0913  what four questions were answered with
    message: deployer.Deployment,
    changes: Sequence[deployer.RolloutChange],
    windows: Sequence[WindowEvaluated],
    health: Iterable[RevisionHealth],
    *,
    gate: float | None,
    alerts: int,
) -> view.Deployment:
    """Return a deployment; windows are given newest first, of all segments or not."""
    return view.Deployment(
        name=message.state.name,
        model=message.state.model_name,
        generation=message.state.generation,
        replicas=message.replicas,
        converged=message.converged,
        gate=gate,
        traffic=_traffic(message),
        rollout=_rollout(message, changes) if message.HasField("rollout") else None,
        health=tuple(_health(item) for item in health if item.deployment_id == message.state.deployment_id),
        points=tuple(_point(window) for window in reversed(windows) if window.all_segments),
        alerts=alerts,
    )


def _traffic(message: deployer.Deployment) -> tuple[view.Traffic, ...]:
    revisions = message.state.revisions
    starts = accumulate((item.weight for item in revisions), initial=0)
    return tuple(
        view.Traffic(item.model_version, name_of(Role.DESCRIPTOR, item.role), start, item.weight)
        for item, start in zip(revisions, starts, strict=False)
    )


def _rollout(message: deployer.Deployment, changes: Iterable[deployer.RolloutChange]) -> view.Rollout:
    rollout = message.rollout
    return view.Rollout(
        from_version=rollout.from_version,
        to_version=rollout.to_version,
        state=word(name_of(RolloutState.DESCRIPTOR, rollout.state)),
        weight=rollout.weight,
        reason=rollout.reason,
        checks=tuple(check(result) for result in rollout.checks),
        changes=tuple(_change(change) for change in changes),
    )


def _change(change: deployer.RolloutChange) -> view.Change:
    rollout = change.rollout
    state = word(name_of(RolloutState.DESCRIPTOR, rollout.state))
    return view.Change(state, rollout.weight, rollout.reason, _seconds(change.at))


def check(result: CheckResult) -> view.Check:
    """Return a check with its evidence."""
    return view.Check(
        name=result.check,
        outcome=word(name_of(Outcome.DESCRIPTOR, result.outcome)),
        figure=view.Figure(_known(result.value), _known(result.lower), _known(result.upper), result.n),
        margin=result.margin,
        reason=result.reason,
        required=result.required,
    )


def _point(window: WindowEvaluated) -> view.Point:
    return view.Point(
        version=window.model_version,
        from_s=window.from_ns / 1e9,
        to_s=window.to_ns / 1e9,
        rows=window.rows,
        labelled=window.labelled,
        estimated=_precision(window.measures, MEASURE_KIND_ESTIMATED),
        realised=_precision(window.measures, MEASURE_KIND_REALISED),
    )


def _health(item: RevisionHealth) -> view.Health:
    drift = [m for m in item.measures if m.kind == MEASURE_KIND_DRIFT and m.name == "psi"]
    return view.Health(
        version=item.model_version,
        from_s=item.from_ns / 1e9,
        to_s=item.to_ns / 1e9,
        rows=item.rows,
        labelled=item.labelled,
        completeness=_known(item.label_completeness),
        estimated=_precision(item.measures, MEASURE_KIND_ESTIMATED),
        realised=_precision(item.measures, MEASURE_KIND_REALISED),
        drifted=tuple(m.subject for m in drift if m.HasField("threshold") and m.value >= m.threshold),
        features=len(drift),
    )


def _precision(measures: Iterable[Measure], kind: int) -> view.Figure:
    found = (m for m in measures if m.kind == kind and m.name == "precision" and not m.subject)
    return next((figure(m) for m in found), NOTHING)


def figure(measure: Measure) -> view.Figure:
    """Return a measure; one that may not be used keeps its value with a note, and where it is wrong shows none."""
    note = "" if measure.status == MEASURE_STATUS_OK else name_of(MeasureStatus.DESCRIPTOR, measure.status)
    if measure.needed_n:
        note += f", {measure.needed_n} more needed"
    return view.Figure(_known(measure.value), _known(measure.lower), _known(measure.upper), measure.n, note)


def alert(item: Alert) -> view.Alert:
    """Return an alert with its evidence."""
    measure = item.measure
    return view.Alert(
        id=item.alert_id,
        title=item.title or item.kind,
        kind=item.kind,
        severity=word(name_of(Severity.DESCRIPTOR, item.severity)),
        status=name_of(AlertStatus.DESCRIPTOR, item.status),
        deployment=item.deployment_name,
        version=item.model_version,
        figure=figure(measure),
        threshold=_known(measure.threshold) if measure.HasField("threshold") else None,
        from_s=item.from_ns / 1e9,
        to_s=item.to_ns / 1e9,
        raised_at=_seconds(item.raised_at),
        resolved_at=_seconds(item.resolved_at) if item.HasField("resolved_at") else None,
        causes=tuple(f"{cause.subject}: {cause.explanation}" for cause in item.causes),
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _seconds(time: Timestamp) -> float:
    return time.seconds + time.nanos / 1e9
