"""Each check of the gate against brute force, scikit-learn or scipy, and where its formula would lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from holdtrue_stats import gates
from holdtrue_stats.gates import Check, Outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats
from sklearn import metrics

stats: Any = scipy_stats


def models(n: int, drop: float = 0.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and the scores of champion and candidate, which is worse by `drop`."""
    g = np.random.default_rng(seed)
    y = g.random(n) < 0.3
    base = np.where(y, g.normal(1.2, 1, n), g.normal(-0.2, 1, n))
    return y, base + g.normal(0, 0.5, n), base + g.normal(0, 0.5, n) - drop * np.where(y, 1, -1)


def cells(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.bincount(a * 4 + b * 2 + y, minlength=8)


def test_delong_equals_brute_force_and_scikit_learn_with_ties() -> None:
    y, a, b = models(300)
    scores = np.round(np.array([a, b]), 1)
    auc, covariance = gates.delong(y, scores)
    placements = []
    for s, seen in zip(scores, auc, strict=True):
        above = (s[y][:, None] > s[~y]) + 0.5 * (s[y][:, None] == s[~y])
        placements.append((above.mean(1), above.mean(0)))
        assert seen == pytest.approx(metrics.roc_auc_score(y, s), abs=1e-12)
    for i, (v01, v10) in enumerate(placements):
        for j, (w01, w10) in enumerate(placements):
            brute = np.cov(v01, w01)[0, 1] / y.sum() + np.cov(v10, w10)[0, 1] / (~y).sum()
            assert covariance[i, j] == pytest.approx(brute, abs=1e-14)


def test_the_auc_check_is_the_interval_of_the_paired_difference() -> None:
    y, a, b = models(2000, 0.02)
    check = gates.auc_noninferior(y, a, b, 0.02)
    g, drawn = np.random.default_rng(2), []
    for _ in range(600):
        i = g.integers(0, 2000, 2000)
        ranks = stats.rankdata([a[i], b[i]], axis=1)[:, y[i]].sum(1)  # of positives; AUC up to a constant
        drawn.append((ranks[1] - ranks[0]) / y[i].sum() / (~y[i]).sum())
    assert check.value == pytest.approx(metrics.roc_auc_score(y, b) - metrics.roc_auc_score(y, a), abs=1e-12)
    assert (check.lower, check.upper) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])), abs=0.0015)


def recall(y: np.ndarray, flagged: np.ndarray) -> float:
    return (y & flagged).sum() / y.sum()


def f1(y: np.ndarray, flagged: np.ndarray) -> float:
    return 2 * (y & flagged).sum() / (y.sum() + flagged.sum())


@pytest.mark.parametrize(("judge", "measure"), [(gates.recall_noninferior, recall), (gates.f1_noninferior, f1)])
def test_recall_and_f1_agree_with_the_row_bootstrap(judge: Any, measure: Any) -> None:
    y, a, b = _flagged(2000, 0.05, 1)
    check = judge(cells(y, a, b), 0.05, seed=3)
    g, drawn = np.random.default_rng(2), []
    for _ in range(1500):
        i = g.integers(0, 2000, 2000)
        drawn.append(measure(y[i], b[i]) - measure(y[i], a[i]))
    oracle = {"recall": metrics.recall_score, "f1": metrics.f1_score}[check.name]
    assert check.value == pytest.approx(oracle(y, b) - oracle(y, a), abs=1e-12)
    assert (check.lower, check.upper) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])), abs=0.004)


def test_losses_are_judged_as_a_t_test_of_the_ratio_would() -> None:
    y, a, b = models(4000, 0.0)
    champion, candidate = (gates.log_losses(y, 1 / (1 + np.exp(-s))) for s in (a, b))
    assert champion.mean() == pytest.approx(metrics.log_loss(y, 1 / (1 + np.exp(-a))), abs=1e-12)
    check = gates.loss_noninferior("log_loss", champion, candidate, 0.05)
    exact = stats.ttest_1samp(candidate - 1.05 * champion, 0).confidence_interval(0.9)
    assert (check.lower, check.upper) == pytest.approx((exact.low, exact.high), rel=1e-2)
    assert check.outcome is Outcome.PASS
    assert gates.loss_noninferior("brier", champion, candidate * 1.2, 0.05).outcome is Outcome.FAIL
    unsure = gates.loss_noninferior("mae", champion[:200], candidate[:200] * 1.04, 0.05)
    assert (unsure.outcome, unsure.needed_n > 0) == (Outcome.INCONCLUSIVE, True)


def test_mcnemar_equals_the_binomial_test() -> None:
    y, a, b = models(500, 0.1)
    a, b = a > 0.5, b > 0.5
    seen = gates.mcnemar(cells(y, a, b))
    assert (seen.n01, seen.n10) == (int(((a != y) & (b == y)).sum()), int(((a == y) & (b != y)).sum()))
    exact = stats.binomtest(seen.n10, seen.n01 + seen.n10, 0.5, "greater").pvalue
    assert seen.p_worse == pytest.approx(exact, rel=1e-12)
    assert seen.p_two == pytest.approx(stats.binomtest(seen.n10, seen.n01 + seen.n10, 0.5).pvalue, rel=1e-12)
    assert gates.mcnemar(np.zeros(8, np.int64)) == gates.McNemar(0, 0, 1.0, 1.0)


def test_a_dummy_is_beaten_or_not() -> None:
    better = gates.better_than_dummy(np.array([[600, 100], [40, 60]]), seed=1)
    assert better.value == pytest.approx(0.6 - 160 / 800)
    assert better.outcome is Outcome.PASS
    assert gates.better_than_dummy(np.array([[400, 200], [190, 10]]), seed=1).outcome is Outcome.FAIL
    assert gates.better_than_dummy(np.array([[560, 140], [79, 21]]), seed=1).outcome is Outcome.INCONCLUSIVE
    assert "all rows are flagged" in gates.better_than_dummy(np.array([[0, 0], [500, 100]]), seed=1).reason


def test_slices_all_pass_and_one_bad_one_among_many_must_be_surely_bad() -> None:
    good = {str(i): cells(*_flagged(4000, 0.0, i)) for i in range(4)}
    passed = gates.slices(good, 0.10, seed=1)
    assert passed.check.outcome is Outcome.PASS
    assert len(passed.parts) == 4
    failed = gates.slices(good | {"bad": cells(*_flagged(8000, 1.5, 9))}, 0.10, seed=1)
    assert failed.check.outcome is Outcome.FAIL
    assert "slice bad" in failed.check.reason
    assert failed.check.value == min(part.value for part in failed.parts)


def test_a_slice_that_fails_alone_is_inconclusive_among_many() -> None:
    doubtful = _just_failing()
    alone = gates.slices({"x": doubtful}, 0.10, seed=1)
    many = gates.slices({"x": doubtful} | {str(i): cells(*_flagged(4000, 0.0, i)) for i in range(9)}, 0.10, seed=1)
    assert alone.check.outcome is Outcome.FAIL
    assert many.check.outcome is Outcome.INCONCLUSIVE
    assert "by chance" in many.parts[0].reason


def test_small_slices_are_shown_and_not_judged() -> None:
    tiny = cells(*_flagged(90, 3.0, 1))
    assert gates.slices({"tiny": tiny}, 0.10, seed=1).check.outcome is Outcome.INCONCLUSIVE
    beside = gates.slices({"tiny": tiny, "large": cells(*_flagged(4000, 0.0, 2))}, 0.10, seed=1)
    assert beside.check.outcome is Outcome.PASS
    assert beside.check.n == 4000


def _flagged(n: int, drop: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, a, b = models(n, drop, seed)
    return y, a > 0.8, b > 0.8


def _just_failing() -> np.ndarray:
    """Precision .81 against .61 on separate rows: alone just significantly worse than 0.80 - 0.10."""
    return np.array([500, 100, 63, 97, 30, 130, 0, 0])


def test_calibration_value_equals_its_definition_and_bounds_the_brute_force_bootstrap() -> None:
    y, p, q = calibrated(1500, 0.08)
    check = gates.calibration_noninferior(y, p, q, 0.02, seed=1)

    def ece(s: np.ndarray, order: np.ndarray, i: np.ndarray) -> float:
        """Bins are kept from the whole sample: row k of the sample is in bin place[k]."""
        place = np.empty(len(s), int)
        place[order] = np.arange(len(s)) * 15 // len(s)
        return sum(abs((y[i] - s[i])[place[i] == b].sum()) for b in range(15)) / len(s)

    orders = np.argsort(p, kind="stable"), np.argsort(q, kind="stable")
    everything = np.arange(1500)
    value = ece(q, orders[1], everything) - ece(p, orders[0], everything)
    assert check.value == pytest.approx(value, abs=1e-12)
    g, drawn = np.random.default_rng(3), []
    for _ in range(1500):
        i = np.concatenate([g.choice(part, len(part)) for part in (np.flatnonzero(y), np.flatnonzero(~y))])
        drawn.append(2 * value - (ece(q, orders[1], i) - ece(p, orders[0], i)))
    assert (check.lower, check.upper) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])), abs=0.003)


def calibrated(n: int, off: float, seed: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, calibrated probabilities, and others that are `off` too high or, in the upper half, too low."""
    g = np.random.default_rng(seed)
    p = g.uniform(0.1, 0.9, n)
    return g.random(n) < p, p, p + np.where(p < 0.5, off, -off)


def test_a_badly_calibrated_candidate_fails_and_an_equal_one_passes() -> None:
    y, p, q = calibrated(20_000, 0.08)
    assert gates.calibration_noninferior(y, p, q, 0.02, seed=1).outcome is Outcome.FAIL
    assert gates.calibration_noninferior(y, q, p, 0.02, seed=1).outcome is Outcome.PASS
    nearly = np.clip(p + np.random.default_rng(1).normal(0, 0.01, len(p)), 0, 1)
    assert gates.calibration_noninferior(y, p, nearly, 0.02, seed=1).outcome is Outcome.PASS


def grouped(widen: float, n: int = 6000) -> np.ndarray:
    """Cells of two groups; the candidate flags `widen` fewer positives and negatives of the second."""
    g, parts = np.random.default_rng(6), []
    for less in (0.0, widen):
        y = g.random(n) < 0.4
        a, b = (g.random(n) < np.where(y, 0.7 - drop, 0.3 - drop) for drop in (0.0, less))
        parts.append(cells(y, a, b))
    return np.array(parts)


def test_fairness_values_equal_their_definition() -> None:
    counts = grouped(0.1)
    tpr, selection = gates.fairness_noninferior(counts, 0.05, seed=1)
    rates = {"tpr": [], "selection": []}
    for group in counts:
        a, b, y = (group.reshape(2, 2, 2).take(1, axis) for axis in range(3))
        both = group.reshape(2, 2, 2)
        rates["tpr"].append((both[1, :, 1].sum() / y.sum(), both[:, 1, 1].sum() / y.sum()))
        rates["selection"].append((a.sum() / group.sum(), b.sum() / group.sum()))
    for check, name in ((tpr, "tpr"), (selection, "selection")):
        champion, candidate = np.ptp(np.array(rates[name]), axis=0)
        assert check.value == pytest.approx(candidate - champion)
        assert check.outcome is Outcome.FAIL
    assert all(check.outcome is Outcome.PASS for check in gates.fairness_noninferior(grouped(0.0), 0.05, seed=1))


def test_a_gap_needs_two_groups_with_positives() -> None:
    lonely, _ = gates.fairness_noninferior(grouped(0.0)[:1], 0.05, seed=1)
    assert "fewer than two groups" in lonely.reason
    few = grouped(0.0, 60)
    few[1, 1::2] = 0
    tpr, selection = gates.fairness_noninferior(few, 0.05, seed=1)
    assert "only 0 positives of a group" in tpr.reason
    assert not math.isnan(selection.value)


def test_what_cannot_be_computed_is_inconclusive_and_a_candidate_without_numbers_fails() -> None:
    y, a, b = models(200)
    broken = np.where(np.arange(200) == 7, np.nan, b)
    p = 1 / (1 + np.exp(-a))
    fails = [
        gates.auc_noninferior(y, a, broken, 0.02),
        gates.loss_noninferior("mae", a * a, broken, 0.05),
        gates.calibration_noninferior(y, p, broken, 0.02, 1),
    ]
    assert [check.outcome for check in fails] == [Outcome.FAIL] * 3
    unsure = [
        gates.auc_noninferior(y, broken, a, 0.02),
        gates.auc_noninferior(y, a, a, 0.02),
        gates.auc_noninferior(y[:30], a[:30], b[:30], 0.02),
        gates.loss_noninferior("mae", broken, a * a, 0.05),
        gates.loss_noninferior("mae", np.ones(50), np.ones(50), 0.05),
        gates.calibration_noninferior(y, broken, p, 0.02, 1),
        gates.calibration_noninferior(y, p, p, 0.02, 1),
    ]
    assert [check.outcome for check in unsure] == [Outcome.INCONCLUSIVE] * 7
    assert all(check.reason for check in unsure)


numbers = st.sampled_from([0.0, 1.0, 0.5, -1.0, 1e-300, 1e300, np.nan, np.inf, -np.inf])
triples = st.integers(0, 60).flatmap(
    lambda n: st.tuples(arrays(np.bool_, n), *(arrays(np.float64, n, elements=numbers) for _ in range(2)))
)


@given(triples)
def test_no_scores_raise(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    y, a, b = rows
    with np.errstate(over="ignore"):
        checks = [gates.auc_noninferior(y, a, b, 0.02), gates.loss_noninferior("mae", a, b, 0.05)]
    for check in checks:
        assert check.reason
        assert check.outcome is not Outcome.PASS or check.n >= 20


@settings(max_examples=30)
@given(arrays(np.int64, st.tuples(st.integers(0, 4), st.just(8)), elements=st.sampled_from([0, 1, 20, 10**6])))
def test_no_groups_raise(counts: np.ndarray) -> None:
    checks = [*gates.fairness_noninferior(counts, 0.05, seed=1)]
    checks.append(gates.slices({str(i): row for i, row in enumerate(counts)}, 0.10, seed=1).check)
    assert all(isinstance(check, Check) and check.reason for check in checks)


def test_a_check_reads_as_a_sentence_and_repeats() -> None:
    y, a, b = _flagged(2000, 0.0, 3)
    check = gates.precision_noninferior(cells(y, a, b), 0.05, seed=7)
    assert str(check).startswith("precision: pass, candidate - champion = ")
    assert (check.formula, check.seed) == ("paired_multinomial_bootstrap", 7)
    assert check == gates.precision_noninferior(cells(y, a, b), 0.05, seed=7)
    assert check != gates.precision_noninferior(cells(y, a, b), 0.05, seed=8)


def test_labels_needed_is_the_sample_size_formula() -> None:
    needed = (stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) ** 2 * 500 * 0.03**2 / 0.05**2
    assert gates.labels_needed(500, 0.03, 0.05) == math.ceil(needed) - 500
    assert gates.labels_needed(500, 0.01, 0.05) == 0
    assert gates.labels_needed(500, math.nan, 0.05) == 0
    assert gates.labels_needed(500, 0.01, 0.0) == 0
