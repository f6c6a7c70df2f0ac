"""Divergences, two-sample tests and multiplicity against scipy; the drift rule by simulation."""

from typing import Any

import numpy as np
import pytest
from holdtrue_stats import divergence, multiple, twosample
from holdtrue_stats.arrays import Ints
from holdtrue_stats.decision import Severity, drift, rate
from holdtrue_stats.histogram import State, fold, freeze
from holdtrue_stats.result import Status
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats
from scipy.spatial.distance import jensenshannon

stats: Any = scipy_stats  # its type stubs do not know the fields of results
rng = np.random.default_rng(3)
R = rng.integers(20, 400, (6, 16))
C = rng.integers(20, 90, (6, 16))


def test_divergences_equal_their_definitions() -> None:
    p, q = R / R.sum(1, keepdims=True), C / C.sum(1, keepdims=True)
    assert np.allclose(divergence.js(R, C), [jensenshannon(a, b, 2) for a, b in zip(p, q, strict=True)], atol=1e-12)
    assert np.allclose(divergence.hellinger(R, C), np.linalg.norm(np.sqrt(p) - np.sqrt(q), axis=1) / np.sqrt(2))
    assert np.allclose(divergence.tvd(R, C), np.abs(p - q).sum(1) / 2)
    assert np.allclose(divergence.linf(R, C), np.abs(p - q).max(1))
    a, b = (R + 0.5) / (R.sum(1, keepdims=True) + 8), (C + 0.5) / (C.sum(1, keepdims=True) + 8)
    assert np.allclose(divergence.psi(R, C), ((a - b) * np.log(a / b)).sum(1))


def test_psi_ignores_bins_that_are_empty_on_both_sides_and_adjusts_for_noise() -> None:
    pad = np.zeros((6, 5), np.int64)
    assert np.allclose(divergence.psi(np.c_[R, pad], np.c_[C, pad]), divergence.psi(R, C))
    same = rng.multinomial(1000, np.full(16, 1 / 16), 4000)
    reference = rng.multinomial(10_000, np.full(16, 1 / 16), 4000)
    assert abs(divergence.psi_adjusted(reference, same).mean()) < 5e-4


def test_ks_is_close_to_the_exact_test_on_the_same_ties() -> None:
    bins = np.arange(16)
    statistic, p = twosample.ks(R, C)
    for j in range(6):
        exact = stats.ks_2samp(np.repeat(bins, R[j]), np.repeat(bins, C[j]), method="asymp")
        assert statistic[j] == pytest.approx(exact.statistic, abs=1e-12)
        assert p[j] == pytest.approx(exact.pvalue, rel=0.06, abs=1e-9)


def test_chi2_equals_scipy() -> None:
    statistic, p = twosample.chi2(R, C)
    for j in range(6):
        exact = stats.chi2_contingency(np.stack([R[j], C[j]]), correction=False)
        assert statistic[j] == pytest.approx(exact.statistic, rel=1e-9)
        assert p[j] == pytest.approx(exact.pvalue, rel=0.1, abs=1e-20)  # its tail is that of bins with few rows


def test_chi2_of_many_rows_is_chi_squared() -> None:
    g = np.random.default_rng(5)
    r, c = g.multinomial(10**7, np.full(16, 1 / 16), 6), g.multinomial(10**7, np.full(16, 1 / 16), 6)
    statistic, p = twosample.chi2(r, c)
    assert np.allclose(p, stats.chi2.sf(statistic, 15), rtol=1e-3)


@pytest.mark.parametrize("shares", [[0.993, 0.007], [0.91, *[0.01] * 9], (1 / np.arange(1, 21)) / 3.597739657])
def test_chi2_holds_its_level_where_bins_have_few_rows(shares: list[float]) -> None:
    g, runs = np.random.default_rng(6), 100_000
    share = np.array(shares) / np.sum(shares)
    p = twosample.chi2(g.multinomial(10_000, share, runs), g.multinomial(1000, share, runs))[1]
    for level in (0.01, 1e-3):
        assert np.mean(p < level) == pytest.approx(level, abs=0.25 * level + 3 * (level / runs) ** 0.5)


def test_chi2_pools_sparse_bins() -> None:
    r, c = np.array([[500, 300, 3, 40, 20, 21]]), np.array([[90, 60, 30, 2, 1, 3]])
    pooled = stats.chi2_contingency([[500, 300, 3, 40, 20 + 21], [90, 60, 30, 2, 1 + 3]], correction=False)
    assert ((r + c) * c.sum() / (r + c).sum() >= 5).tolist() == [[True, True, True, True, False, False]]
    assert pooled.dof == 4
    assert twosample.chi2(r, c)[0][0] == pytest.approx(pooled.statistic)


def test_rank_location_equals_mann_whitney_without_continuity_correction() -> None:
    bins = np.arange(16)
    z, p = twosample.rank_location(R, C)
    for j in range(6):
        exact = stats.mannwhitneyu(
            np.repeat(bins, C[j]), np.repeat(bins, R[j]), method="asymptotic", use_continuity=False
        )
        assert p[j] == pytest.approx(exact.pvalue, rel=1e-9)
        assert np.isfinite(z[j])


def test_rank_scale_holds_its_level_and_sees_scale() -> None:
    def p_values(scale: float) -> list[float]:
        found: list[float] = []
        for _ in range(300):
            edges = np.quantile(reference := rng.normal(0, 1, 4000), np.linspace(0, 1, 65)[1:-1])
            r, c = (
                np.bincount(np.searchsorted(edges, v), minlength=64)[None]
                for v in (reference, rng.normal(0, scale, 1000))
            )
            found.append(float(twosample.rank_scale(r, c)[1][0]))
        return found

    assert stats.kstest(p_values(1.0), "uniform").pvalue > 1e-3
    assert np.mean(np.array(p_values(1.2)) < 0.01) > 0.9


def test_two_proportions_equals_the_pooled_z_test() -> None:
    z, p = twosample.two_proportions([30, 0, 5], [1000, 10, 0], [60, 0, 1], [1000, 10, 10])
    exact = stats.chi2_contingency([[30, 970], [60, 940]], correction=False)
    assert (z[0] ** 2, p[0]) == pytest.approx((exact.statistic, exact.pvalue))
    assert np.isnan(p[1:]).all()


def test_cauchy_equals_scipy_and_leaves_out_what_was_not_tested() -> None:
    p = np.array([[0.01, 0.2, np.nan], [0.5, np.nan, np.nan], [1e-200, 0.9, np.nan]])
    combined = multiple.cauchy(p)
    t = np.tan((0.5 - p[:2, 0]) * np.pi).sum() + 1 / (np.pi * 1e-200)
    assert combined[0] == pytest.approx(1 / (np.pi * t / 3), rel=1e-9)
    assert combined[1] == pytest.approx(0.5 - np.arctan(np.tan((0.5 - np.array([0.2, 0.9])) * np.pi).mean()) / np.pi)
    assert np.isnan(combined[2])


def test_an_exact_one_does_not_hide_a_small_p() -> None:
    assert multiple.cauchy([[1.0], [1e-9]], n=1000)[0] < 1e-6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.2))
def test_bh_equals_scipy(p: list[float], q: float) -> None:
    assert (multiple.bh(p, q) == (stats.false_discovery_control(p) <= q)).all() or np.isclose(
        stats.false_discovery_control(p), q
    ).any()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_as_its_definition_says(p: list[float], alpha: float) -> None:
    ordered = sorted(p)
    stop = next((i for i, v in enumerate(ordered) if v > alpha / (len(p) - i)), len(p))
    assert multiple.holm(p, alpha).sum() == stop


counts = arrays(np.int64, (3, 9), elements=st.sampled_from([0, 0, 1, 7, 2000, 10**9]))


@given(counts, counts)
def test_nothing_raises_and_no_warning_escapes(r: Ints, c: Ints) -> None:
    with np.errstate(all="raise", under="ignore"):
        result = drift(r, c, ["numeric", "categorical", "numeric"])
        for function in (divergence.psi, divergence.js, divergence.hellinger, divergence.linf, divergence.tvd):
            function(r, c)
    assert result.drifted.dtype == np.bool_
    assert ((result.p >= 0) | np.isnan(result.p)).all()


def alarms(repetitions: int, shift: float = 0.0, scale: float = 1.0) -> float:
    hits = 0
    for seed in range(repetitions):
        g = np.random.default_rng(seed)
        reference, window = g.normal(0, 1, (10_000, 30)), g.normal(0, 1, (1000, 30))
        window[:, 0] = window[:, 0] * scale + shift
        edges = freeze(reference)
        r, c = (fold(edges, x, State.empty(edges)).hist for x in (reference, window))
        hits += drift(r, c, edges.kinds).drifted.any()
    return hits / repetitions


def test_the_rule_is_silent_on_clean_windows_and_sees_small_shifts_and_scales() -> None:
    assert alarms(120) <= 0.03
    assert alarms(40, shift=0.2) >= 0.85
    assert alarms(40, scale=1.2) >= 0.9


def test_a_value_that_was_rare_is_noticed_when_it_is_common() -> None:
    reference, window = (rng.random((n, 1)) < share for n, share in ((10_000, 0.01), (1000, 0.5)))
    edges = freeze(reference)
    r, c = (fold(edges, x, State.empty(edges)).hist for x in (reference, window))
    result = drift(r, c, edges.kinds)
    assert result.drifted[0]
    assert result.severity(0) is Severity.CRITICAL


def test_nulls_alarm_as_missing_and_not_as_drift() -> None:
    reference, window = rng.normal(0, 1, (10_000, 1)), rng.normal(0, 1, (2000, 1))
    window[:300] = np.nan
    edges = freeze(reference)
    r, c = (fold(edges, x, State.empty(edges)).hist for x in (reference, window))
    result = drift(r, c, edges.kinds)
    assert (result.missing_changed[0], result.drifted[0]) == (True, False)


def test_few_rows_are_insufficient_and_say_how_many_are_missing() -> None:
    r, c = np.full((1, 9), 1000), np.array([[600, 0, 0, 0, 0, 0, 0, 0, 0]])
    result = drift(r, c, ["numeric"])
    assert (result.status, result.needed_n) == (Status.INSUFFICIENT, 400)
    assert not result.drifted.any()


def test_the_budget_sets_the_rate() -> None:
    assert rate(1, 43_200) == pytest.approx((1 / 43_200) ** 0.5)
    assert rate(1, 10) == 0.005
