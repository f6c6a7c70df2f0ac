"""What the figures of one window mean for each signal that alerts watch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from holdtrue_contracts.common.v1.measures_pb2 import MEASURE_KIND_ESTIMATED, MEASURE_KIND_REALISED, Measure
from holdtrue_contracts.monitor.v1.alerts_pb2 import (
    SEVERITY_CRITICAL,
    SEVERITY_INFO,
    SEVERITY_WARNING,
    Severity,
)
from holdtrue_stats.decision import DriftResult
from holdtrue_stats.decision import Severity as DriftSeverity
from holdtrue_stats.result import Estimate, Status

from holdtrue_monitor.domain.alerts import Verdict
from holdtrue_monitor.domain.measures import SCORE, Performance
from holdtrue_monitor.domain.reference import Reference

REALISED, ESTIMATED = "performance.realised", "performance.estimated"
INVALID = "estimate.invalid"
DRIFT_FEATURE, DRIFT_SCORE = "drift.feature", "drift.score"
QUALITY, SERVING, FOLD_GAP = "quality", "serving", "fold.gap"
_DRIFT = {
    DriftSeverity.NONE: SEVERITY_INFO,
    DriftSeverity.INFO: SEVERITY_INFO,
    DriftSeverity.WARNING: SEVERITY_WARNING,
    DriftSeverity.CRITICAL: SEVERITY_CRITICAL,
}
_BACK = 0.2  # share of the way back from the border that a value must have gone to count as good again


@dataclass(frozen=True, slots=True)
class Limits:
    """Where good ends. Settings of the monitor, and the model's policy where it has one."""

    least_labels: int = 20
    """Labelled flagged rows of a window that its realised precision needs to be judged."""
    drop: float = 0.1
    """Allowed loss of precision against the hold-out, where the model's policy names no floor."""
    severe: float = 0.1
    """So far below the floor one window is enough."""
    error_rate: float = 0.01
    """Share of failed requests that is tolerated."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One signal in one window. `subject` is the feature it is about, empty for the whole."""

    kind: str
    subject: str
    verdict: Verdict
    severity: "Severity.ValueType"
    measure: Measure
    text: str


def performance(reference: Reference, seen: Performance, limits: Limits) -> Iterator[Reading]:
    """Yield what realised and estimated precision say against the floor."""
    floor = reference.floor or reference.precision - limits.drop
    if math.isnan(floor):
        return
    enough = seen.realised.n >= limits.least_labels
    for kind, name, value, usable, severity in (
        (REALISED, MEASURE_KIND_REALISED, seen.realised, enough, SEVERITY_CRITICAL),
        (ESTIMATED, MEASURE_KIND_ESTIMATED, seen.estimated, seen.estimated.status is Status.OK, SEVERITY_WARNING),
    ):
        measure = Measure()
        measure.CopyFrom(next(m for m in seen.measures if m.name == "precision" and m.kind == name))
        measure.threshold = floor
        verdict = _against(floor, value, reference, limits) if usable else Verdict.UNDECIDED
        word = "precision" if kind == REALISED else "estimated precision"
        yield Reading(kind, "", verdict, severity, measure, f"{word} {_shown(value)}, floor {floor:.3f}")


def validity(residual: Measure | None, *, contradicted: bool) -> Iterator[Reading]:
    """Yield what the labels say about the estimates, if they were tested; a test counts, not a number of windows."""
    if residual is not None:
        verdict = Verdict.SEVERE if contradicted else Verdict.GOOD
        said = "contradict" if contradicted else "do not contradict"
        text = (
            f"{residual.n} labels {said} the estimated precision: positives are {residual.value:+.3f} "
            f"[{residual.lower:+.3f}, {residual.upper:+.3f}] off the promised share"
        )
        yield Reading(INVALID, "", verdict, SEVERITY_WARNING, residual, text)


def drift(reference: Reference, result: DriftResult, measures: list[Measure]) -> Iterator[Reading]:
    """Yield what the drift of each column and of the score says; bad input silences the drift of its column."""
    if result.status is not Status.OK:
        return
    for i, subject in enumerate([*reference.names, SCORE]):
        score = i == len(reference.names)
        missing = bool(result.missing_changed[i])
        verdict = Verdict.BAD if result.drifted[i] else Verdict.GOOD
        text = f"{'scores' if score else subject}: PSI {result.psi_adjusted[i]:.3f} against the hold-out"
        kind = DRIFT_SCORE if score else DRIFT_FEATURE
        severity = _DRIFT[result.severity(i)]
        yield Reading(
            kind, "" if score else subject, Verdict.UNDECIDED if missing else verdict, severity, measures[i], text
        )
        if not score:
            text = f"{subject}: {result.missing[i]:.1%} missing"
            bad = Verdict.BAD if missing else Verdict.GOOD
            yield Reading(QUALITY, subject, bad, SEVERITY_WARNING, _missing(subject, result, i, measures), text)


def serving(measures: list[Measure], limits: Limits) -> Iterator[Reading]:
    """Yield what the error rate says."""
    for measure in measures:
        if measure.name == "error_rate" and measure.n:
            measure.threshold = limits.error_rate
            text = f"{measure.value:.2%} of {measure.n} requests failed"
            yield Reading(SERVING, "", _errors(measure, limits.error_rate), SEVERITY_CRITICAL, measure, text)


def _against(floor: float, seen: Estimate, reference: Reference, limits: Limits) -> Verdict:
    """The interval, not the value, must be below the floor; to be good again the value must have come some way back."""
    if seen.upper < floor:
        return Verdict.SEVERE if seen.upper < floor - limits.severe else Verdict.BAD
    usual = max(floor, reference.precision)
    return Verdict.GOOD if seen.value >= floor + _BACK * (usual - floor) else Verdict.UNDECIDED


def _errors(measure: Measure, limit: float) -> Verdict:
    if measure.lower > limit:
        return Verdict.SEVERE if measure.lower > 5 * limit else Verdict.BAD
    return Verdict.GOOD if measure.value <= (1 - _BACK) * limit else Verdict.UNDECIDED


def _missing(subject: str, result: DriftResult, i: int, measures: list[Measure]) -> Measure:
    found = next((m for m in measures if m.name == "missing" and m.subject == subject), None)
    return found or Measure(name="missing", subject=subject, value=float(result.missing[i]))


def _shown(seen: Estimate) -> str:
    return f"{seen.value:.3f} [{seen.lower:.3f}, {seen.upper:.3f}] of {seen.n:g} rows"
