"""From counts to figures with intervals: what `WindowEvaluated` and the health of a revision show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from holdtrue_contracts.common.v1.measures_pb2 import (
    MEASURE_KIND_DRIFT,
    MEASURE_KIND_ESTIMATED,
    MEASURE_KIND_QUALITY,
    MEASURE_KIND_REALISED,
    MEASURE_KIND_SERVING,
    Measure,
    MeasureKind,
    MeasureStatus,
)
from holdtrue_stats import confusion, estimate
from holdtrue_stats.arrays import Counts, Ints
from holdtrue_stats.decision import DriftResult, drift
from holdtrue_stats.histogram import Kind, groups, interpolate, rebin
from holdtrue_stats.interval import pool, wilson
from holdtrue_stats.result import Estimate, Status
from holdtrue_stats.validity import Validity

from holdtrue_monitor.domain.buckets import ANSWERED, FAILED, LATENCY_BINS, Labelled, Scores, Served
from holdtrue_monitor.domain.reference import Reference, unknown

SCORE = "score"
"""Subject of the drift of scores."""
RESIDUAL = "calibration_residual"
LEAST_EFFECT = 0.01
"""Adjusted PSI below which no drift is worth an alarm."""
_SCORE_GROUPS = 64
_RATES = (confusion.precision, confusion.recall, confusion.accuracy)
_LATENCY_CUTS = np.arange(LATENCY_BINS + 1) / 2
"""Where the bins of latencies begin: log2 of microseconds."""
_STATUS: dict[Status, "MeasureStatus.ValueType"] = {
    Status.OK: MeasureStatus.MEASURE_STATUS_OK,
    Status.INSUFFICIENT: MeasureStatus.MEASURE_STATUS_INSUFFICIENT,
    Status.INVALID: MeasureStatus.MEASURE_STATUS_INVALID,
    Status.STALE: MeasureStatus.MEASURE_STATUS_STALE,
}


@dataclass(frozen=True, slots=True)
class Performance:
    """Rows, flagged rows and labels of a span, and what they say about precision, with 95 % intervals.

    `completeness` is the share of the flagged rows that have a label, nan if nothing was flagged.
    """

    rows: int
    flagged: int
    labelled: int
    completeness: float
    estimated: Estimate
    realised: Estimate
    measures: tuple[Measure, ...]


def performance(reference: Reference, scores: Scores, labelled: Labelled, *, contradicted: bool = False) -> Performance:
    """Return estimated and realised performance of the counted rows; `contradicted`: labels disprove the estimate."""
    cells = confusion.binary(labelled.cells)
    flagged = int(scores.score[1].sum())
    completeness = cells.flagged / flagged if flagged else math.nan
    estimated = estimate.estimated(confusion.precision, scores.score, reference.calibration)
    if contradicted:
        estimated = replace(estimated, status=Status.INVALID)
    measures = (
        _estimated_precision(estimated, scores.score[1], reference),
        *(_rate(m.name, MEASURE_KIND_REALISED, *m.parts(cells)) for m in _RATES),
        _plain("label_completeness", MEASURE_KIND_REALISED, completeness, flagged),
    )
    return Performance(
        rows=int(scores.score.sum()),
        flagged=flagged,
        labelled=round(cells.n),
        completeness=completeness,
        estimated=estimated,
        realised=confusion.realised(confusion.precision, cells),
        measures=measures,
    )


def together(parts: Sequence[Performance], scores: Scores, labelled: Labelled) -> Performance:
    """Return the performance of several revisions as one, given the sums of their counts.

    Realised figures are those of all labels; estimates are added up by rows, because each revision has its own
    calibration.
    """
    whole = performance(unknown(), scores, labelled)
    estimated = pool([part.estimated for part in parts])
    sums = [part.measures[0] for part in parts]
    total = measure(
        "precision",
        MEASURE_KIND_ESTIMATED,
        estimated,
        sum(m.sum for m in sums),
        sum(m.sum_squares for m in sums),
    )
    return replace(whole, estimated=estimated, measures=(total, *whole.measures[1:]))


def residual(seen: Validity) -> Measure:
    """Return how far the share of positives is above the estimated, among all labels that were tested."""
    return Measure(
        name=RESIDUAL,
        kind=MEASURE_KIND_ESTIMATED,
        value=seen.value,
        lower=seen.lower,
        upper=seen.upper,
        n=round(seen.n),
        status=_STATUS[seen.status],
        needed_n=seen.needed_n,
    )


def serving(scores: Scores) -> list[Measure]:
    """Return the error rate and the latency of the requests."""
    answered, failed = int(scores.requests[ANSWERED]), int(scores.requests[FAILED])
    return [
        _rate("error_rate", MEASURE_KIND_SERVING, failed, answered + failed),
        _plain("latency_p99", MEASURE_KIND_SERVING, latency_quantile(scores.latency, 0.99), answered),
    ]


def latency_quantile(latency: Ints, q: float) -> float:
    """Return a quantile of the latencies [64] in seconds, interpolated in the logarithm; nan without requests."""
    return 1e-6 * 2.0 ** interpolate(latency, _LATENCY_CUTS, q)


def drifted(reference: Reference, served: Served, q: float, least_rows: int) -> DriftResult:
    """Judge all columns, and the score as the last, of the counted rows against the reference."""
    width = max(reference.edges.bins, _SCORE_GROUPS) + 1
    kinds: list[Kind] = [*reference.edges.kinds, "numeric"]
    group = groups(reference.score.sum(0)[None], _SCORE_GROUPS)

    def stack(hist: Ints, score: Ints) -> Counts:
        rows = np.zeros((len(kinds), width))
        rows[:-1, : hist.shape[1] - 1], rows[:-1, -1] = hist[:, :-1], hist[:, -1]
        rows[-1, :_SCORE_GROUPS] = rebin(score.sum(0)[None], group, _SCORE_GROUPS)[0]
        return rows

    before = stack(reference.state.hist, reference.score)
    after = stack(served.features.hist, served.scores.score)
    return drift(before, after, kinds, q, least_rows=least_rows)


def drift_measures(names: Sequence[str], result: DriftResult, rows: int) -> list[Measure]:
    """Return adjusted PSI of every column and the score over so many rows, and missing shares where they changed."""
    status = _STATUS[result.status]
    measures = [
        Measure(name="psi", kind=MEASURE_KIND_DRIFT, subject=subject, n=rows, status=status, needed_n=result.needed_n)
        for subject in [*names, SCORE]
    ]
    for one, psi in zip(measures, result.psi_adjusted.tolist(), strict=True):
        one.value, one.lower, one.upper, one.threshold = psi, math.nan, math.nan, LEAST_EFFECT
    return measures + [
        _plain("missing", MEASURE_KIND_QUALITY, float(result.missing[i]), rows, names[i])
        for i in result.missing_changed.nonzero()[0].tolist()
    ]


def measure(name: str, kind: "MeasureKind.ValueType", seen: Estimate, total: float, squares: float) -> Measure:
    """Return an estimate as it is sent, with the sums that let windows be added up."""
    return Measure(
        name=name,
        kind=kind,
        value=seen.value,
        lower=seen.lower,
        upper=seen.upper,
        n=round(seen.n),
        sum=total,
        sum_squares=squares,
        status=_STATUS[seen.status],
        needed_n=seen.needed_n,
    )


def _estimated_precision(seen: Estimate, flagged: Ints, reference: Reference) -> Measure:
    p = np.nan_to_num(reference.calibration.p)
    return measure("precision", MEASURE_KIND_ESTIMATED, seen, float(flagged @ p), float(flagged @ p**2))


def _rate(name: str, kind: "MeasureKind.ValueType", k: float, n: float) -> Measure:
    return measure(name, kind, wilson(k, n), k, k)


def _plain(name: str, kind: "MeasureKind.ValueType", value: float, n: int, subject: str = "") -> Measure:
    """A figure that counts all there is and therefore has no interval."""
    status = MeasureStatus.MEASURE_STATUS_INSUFFICIENT if math.isnan(value) else MeasureStatus.MEASURE_STATUS_OK
    return Measure(name=name, kind=kind, value=value, lower=value, upper=value, n=n, status=status, subject=subject)
