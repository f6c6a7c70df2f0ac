"""The alert as people and programs read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from holdtrue_contracts.monitor.v1.alerts_pb2 import (
    ALERT_STATUS_OPEN,
    ALERT_STATUS_RESOLVED,
    Alert,
    Cause,
    RetrainEvidence,
)
from holdtrue_stats.cause import rank

from holdtrue_monitor.domain.alerts import Change, Memory
from holdtrue_monitor.domain.readings import DRIFT_FEATURE, DRIFT_SCORE, ESTIMATED, INVALID, QUALITY, REALISED, Reading

RUNBOOK = "docs/runbooks.md"
_MOST_CAUSES = 5


@dataclass(frozen=True, slots=True)
class Watched:
    """The revision that is watched."""

    tenant: str
    deployment_id: str
    deployment_name: str
    model_id: str
    model_version: int
    revision: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else is known when an alert changes.

    `open_alerts`: kind and subject of the revision's open alerts; `drifted`: adjusted PSI of the columns that
    drifted in the last span judged; `importances` of all columns; `labels`: labels since the first bad window.
    """

    open_alerts: frozenset[tuple[str, str]]
    drifted: Mapping[str, float]
    importances: Mapping[str, float]
    labels: int = 0


def key(watched: Watched, kind: str, subject: str) -> str:
    """Return the key of an alert: one open alert a key."""
    return f"{watched.tenant}/{watched.deployment_id}/{watched.revision}/{kind}/{subject}"


def changed(  # noqa: PLR0913, PLR0917 - an alert has as many sources
    alert: Alert,
    change: Change,
    reading: Reading,
    window: tuple[int, int],
    memory: Memory,
    around: Surroundings,
    now: datetime,
) -> Alert:
    """Return the alert after a change that the reading of a window caused."""
    after = Alert()
    after.CopyFrom(alert)
    after.kind = reading.kind
    after.title = f"{alert.deployment_name} v{alert.model_version}: {reading.text}"
    after.from_ns, after.to_ns = window
    after.measure.CopyFrom(reading.measure)
    if change is Change.RESOLVED:
        return resolved(after, now)
    after.severity = reading.severity
    if change is Change.RAISED:
        _reopen(after, now)
    after.first_bad_window_ns = _first_bad(after, memory)
    del after.causes[:], after.flags[:]
    after.causes.extend(causes(around))
    after.retrain_evidence.CopyFrom(evidence(reading.kind, around))
    if reading.kind in {DRIFT_FEATURE, DRIFT_SCORE} and _performs_badly(around):
        after.flags.append("inhibited")
    return after


def resolved(alert: Alert, now: datetime) -> Alert:
    """Return the alert as over."""
    after = Alert()
    after.CopyFrom(alert)
    after.status = ALERT_STATUS_RESOLVED
    after.resolved_at.FromDatetime(now)
    return after


def evidence(kind: str, around: Surroundings) -> RetrainEvidence:
    """Return what a retraining policy needs to know; `kind` is that of the alert itself."""
    kinds = {kind} | {k for k, _ in around.open_alerts}
    return RetrainEvidence(
        realised_breach=REALISED in kinds,
        estimated_breach=ESTIMATED in kinds,
        estimate_invalid=INVALID in kinds,
        drifted_importance_share=min(1.0, sum(around.importances.get(name, 0.0) for name in around.drifted)),
        new_labels=around.labels,
        quality_clean=QUALITY not in kinds,
    )


def causes(around: Surroundings) -> Sequence[Cause]:
    """Return the columns that drifted, by adjusted PSI times importance; weights sum to 1."""
    names = list(around.drifted)
    ranked = rank(list(around.drifted.values()), [around.importances.get(name, 0.0) for name in names])
    return [
        Cause(
            subject=f"feature {names[one.feature]}",
            explanation=f"PSI {one.effect:.3f}, importance {one.importance:.2f}",
            weight=one.weight,
        )
        for one in ranked[:_MOST_CAUSES]
    ]


def _reopen(alert: Alert, now: datetime) -> None:
    alert.status = ALERT_STATUS_OPEN
    alert.ClearField("resolved_at")
    alert.first_bad_window_ns = 0
    alert.acknowledged_by, alert.note = "", ""
    alert.raised_at.FromDatetime(now)


def _first_bad(alert: Alert, memory: Memory) -> int:
    """Begin of the first window of the run that raised it; what was found once stays."""
    first = memory.run[0].from_ns
    return min(alert.first_bad_window_ns, first) if alert.first_bad_window_ns else first


def _performs_badly(around: Surroundings) -> bool:
    return bool({REALISED, ESTIMATED} & {kind for kind, _ in around.open_alerts})
