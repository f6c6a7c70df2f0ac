"""From counts to figures, and from figures to verdicts."""

import math

import numpy as np
import pytest
from holdtrue_contracts.common.v1.measures_pb2 import MEASURE_KIND_ESTIMATED, MEASURE_STATUS_INVALID
from holdtrue_monitor.domain import measures, readings
from holdtrue_monitor.domain.alerts import Verdict
from holdtrue_monitor.domain.buckets import Labelled, Scores, Served
from holdtrue_monitor.domain.readings import DRIFT_FEATURE, DRIFT_SCORE, ESTIMATED, QUALITY, REALISED, Limits
from holdtrue_monitor.domain.reference import parse, unknown
from holdtrue_stats.histogram import State, fold
from holdtrue_stats.validity import Watch
from sklearn.metrics import precision_score, recall_score

from tests.monitor.examples import profile

REFERENCE = parse(profile().SerializeToString())
LIMITS = Limits()


def window(n: int, seed: int, quality: float = 1.0) -> tuple[Scores, Labelled, np.ndarray, np.ndarray]:
    """Rows whose labels follow their scores, or (quality < 1) agree with them less."""
    g = np.random.default_rng(seed)
    score = g.random(n)
    y = g.random(n) < score * quality
    flagged = score >= 0.5
    scores, labelled = Scores.empty(), Labelled.empty()
    bins = (score * 1024).astype(int)
    np.add.at(scores.score, (flagged.astype(int), bins), 1)
    np.add.at(labelled.cells, (flagged.astype(int), y.astype(int), bins), 1)
    return scores, labelled, y, flagged


def test_realised_figures_equal_scikit_learn_and_estimates_are_near() -> None:
    scores, labelled, y, flagged = window(4000, 3)
    seen = measures.performance(REFERENCE, scores, labelled)
    found = {(m.name, m.kind): m for m in seen.measures}
    assert seen.realised.value == pytest.approx(precision_score(y, flagged))
    assert next(m.value for (name, _), m in found.items() if name == "recall") == pytest.approx(
        recall_score(y, flagged)
    )
    estimated = found["precision", MEASURE_KIND_ESTIMATED]
    assert estimated.lower <= seen.realised.value <= estimated.upper
    assert estimated.sum / estimated.n == pytest.approx(estimated.value)
    assert (seen.rows, seen.labelled, seen.completeness) == (4000, 4000, 1.0)


def test_nothing_is_insufficient_and_never_an_error() -> None:
    for reference in (REFERENCE, unknown()):
        seen = measures.performance(reference, Scores.empty(), Labelled.empty())
        assert not seen.estimated.ok
        assert not seen.realised.ok
        assert math.isnan(seen.completeness)
        assert [r.verdict for r in readings.performance(reference, seen, LIMITS)] in ([], [Verdict.UNDECIDED] * 2)


@pytest.mark.parametrize(("quality", "verdict"), [(1.0, Verdict.GOOD), (0.8, Verdict.BAD), (0.6, Verdict.SEVERE)])
def test_realised_precision_is_judged_by_its_interval(quality: float, verdict: Verdict) -> None:
    seen = measures.performance(REFERENCE, *window(4000, 5, quality)[:2])
    found = {reading.kind: reading for reading in readings.performance(REFERENCE, seen, LIMITS)}
    assert found[REALISED].verdict is verdict
    assert found[ESTIMATED].verdict is Verdict.GOOD  # blind to concept drift
    assert found[REALISED].measure.threshold == pytest.approx(REFERENCE.precision - 0.1)
    strict = {r.kind: r for r in readings.performance(REFERENCE.with_floor(0.99), seen, LIMITS)}
    assert strict[ESTIMATED].verdict is Verdict.SEVERE


def test_few_labels_decide_nothing() -> None:
    seen = measures.performance(REFERENCE, *window(20, 5, 0.1)[:2])
    assert {r.verdict for r in readings.performance(REFERENCE, seen, LIMITS) if r.kind == REALISED} == {
        Verdict.UNDECIDED
    }


def served(n: int, shift: float = 0.0, missing: float = 0.0) -> Served:
    g = np.random.default_rng(8)
    x = g.normal(0, 1, (n, 2)).astype(np.float32)
    x[:, 0] += shift
    x[g.random(n) < missing, 1] = np.nan
    return Served(window(n, 9)[0], fold(REFERENCE.edges, x, State.empty(REFERENCE.edges)))


def verdicts(counts: Served, least: int = 1000) -> dict[tuple[str, str], Verdict]:
    result = measures.drifted(REFERENCE, counts, 0.005, least)
    told = measures.drift_measures(REFERENCE.names, result, 2000)
    return {(r.kind, r.subject): r.verdict for r in readings.drift(REFERENCE, result, told)}


def test_drift_is_told_by_column() -> None:
    clean = verdicts(served(2000))
    assert set(clean) == {(DRIFT_FEATURE, "a"), (DRIFT_FEATURE, "b"), (DRIFT_SCORE, ""), (QUALITY, "a"), (QUALITY, "b")}
    assert set(clean.values()) == {Verdict.GOOD}
    moved = verdicts(served(2000, shift=0.5))
    assert moved[DRIFT_FEATURE, "a"] is Verdict.BAD
    assert moved[DRIFT_FEATURE, "b"] is Verdict.GOOD


def test_missing_values_are_bad_quality_and_silence_drift() -> None:
    found = verdicts(served(2000, missing=0.2))
    assert found[QUALITY, "b"] is Verdict.BAD
    assert found[DRIFT_FEATURE, "b"] is Verdict.UNDECIDED
    assert found[QUALITY, "a"] is Verdict.GOOD


def test_few_rows_tell_nothing_of_drift() -> None:
    assert verdicts(served(500)) == {}
    assert verdicts(served(500), least=400) != {}


@pytest.mark.parametrize(
    ("failed", "verdict"), [(0, Verdict.GOOD), (12, Verdict.UNDECIDED), (60, Verdict.BAD), (300, Verdict.SEVERE)]
)
def test_errors_are_judged_by_their_interval(failed: int, verdict: Verdict) -> None:
    scores = Scores.empty()
    scores.requests[:] = [1000 - failed, failed, 0]
    (reading,) = readings.serving(measures.serving(scores), LIMITS)
    assert reading.verdict is verdict


def test_latency_quantiles_are_within_a_bin_of_the_truth() -> None:
    seconds = np.random.default_rng(1).lognormal(-7, 0.8, 20_000)
    bins = np.clip(np.floor(2 * np.log2(seconds * 1e6)), 0, 63).astype(int)
    latency = np.bincount(bins, minlength=64)
    for q in (0.5, 0.99):
        assert measures.latency_quantile(latency, q) == pytest.approx(np.quantile(seconds, q), rel=0.06)
    assert math.isnan(measures.latency_quantile(np.zeros(64, np.int64), 0.5))


@pytest.mark.parametrize(("quality", "contradicted"), [(1.0, False), (0.6, True)])
def test_labels_that_contradict_the_estimate_take_it_out_of_use(quality: float, contradicted: bool) -> None:  # noqa: FBT001
    scores, labelled, *_ = window(4000, 7, quality)
    watch = Watch().step(labelled.cells, REFERENCE.calibration)
    assert watch.invalid is contradicted
    assert watch.last is not None
    (told,) = readings.validity(measures.residual(watch.last), contradicted=watch.invalid)
    assert told.verdict is (Verdict.SEVERE if contradicted else Verdict.GOOD)
    assert told.measure.n == 4000
    seen = measures.performance(REFERENCE, scores, labelled, contradicted=watch.invalid)
    estimated = {reading.kind: reading for reading in readings.performance(REFERENCE, seen, LIMITS)}[ESTIMATED]
    assert estimated.verdict is (Verdict.UNDECIDED if contradicted else Verdict.GOOD)
    assert (estimated.measure.status == MEASURE_STATUS_INVALID) is contradicted


def test_what_was_not_tested_says_nothing() -> None:
    assert not list(readings.validity(None, contradicted=False))
