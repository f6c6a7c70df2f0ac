"""Intervals against scipy, statsmodels and closed forms."""

import math
from typing import Any

import numpy as np
import pytest
from holdtrue_stats.interval import difference, macro, mean, newcombe, pool, score_interval, wilson, z_value
from holdtrue_stats.result import Estimate, Status, insufficient, invalid
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import proportion

oracle: Any = proportion
scipy_stats: Any = stats
NOTHING = Estimate(math.nan, math.nan, math.nan, 0, Status.INSUFFICIENT, 1)


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_equals_scipy(n: int, share: float, level: float) -> None:
    k = round(share * n)
    exact = scipy_stats.binomtest(k, n).proportion_ci(level, "wilson")
    ours = wilson(k, n, level)
    assert (ours.lower, ours.upper) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert ours.lower <= ours.value <= ours.upper


@given(st.integers(1, 900), st.integers(1, 900), st.floats(0, 1), st.floats(0, 1))
def test_newcombe_equals_statsmodels(n1: int, n2: int, share1: float, share2: float) -> None:
    k1, k2 = round(share1 * n1), round(share2 * n2)
    exact = oracle.confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", compare="diff")
    ours = newcombe(k1, n1, k2, n2)
    assert (ours.lower, ours.upper) == pytest.approx(exact, abs=1e-9)
    assert ours.n == min(n1, n2)


def test_newcombe_equals_the_published_example() -> None:
    ours = newcombe(56, 70, 48, 80)  # Newcombe 1998, table II, case (a), method 10
    assert (ours.lower, ours.upper) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.sampled_from([0.9, 0.95]))
def test_mean_equals_students_interval(x: list[float], level: float) -> None:
    ours = mean(sum(x), sum(v * v for v in x), len(x), level)
    low, high = scipy_stats.t.interval(level, len(x) - 1, np.mean(x), stats.sem(x))
    width = 1e-6 * max(map(abs, x)) + 1e-6  # sums of squares lose the digits of a spread far smaller than the values
    assert ours.value == pytest.approx(np.mean(x), abs=1e-9 * (1 + max(map(abs, x))))
    if high - low > 10 * width:
        assert (ours.lower, ours.upper) == pytest.approx((low, high), rel=1e-3)
    assert ours.lower <= ours.value <= ours.upper


def test_a_score_interval_of_a_rate_is_wilsons_and_keeps_to_its_rows() -> None:
    assert score_interval(0.3, 0.3 * 0.7 / 50, 50).upper == pytest.approx(wilson(15, 50).upper)
    sure, capped = score_interval(0.3, 1e-9, 50), score_interval(0.3, 1e-9, 50, n_max=200)
    assert capped.lower == pytest.approx(wilson(60, 200).lower)
    assert capped.lower < sure.lower
    assert (capped.n, sure.n) == (50, 50)
    certain = score_interval(1.0, 0.0, 50)
    assert (certain.lower, certain.upper) == pytest.approx((wilson(50, 50).lower, 1.0))


def test_estimates_add_up_by_rows_with_independent_errors() -> None:
    a, b = Estimate(0.9, 0.8, 1.0, 100), Estimate(0.6, 0.5, 0.7, 300)
    both = pool([a, b, NOTHING])
    assert both.value == pytest.approx(0.675)
    assert both.value - both.lower == pytest.approx(math.hypot(0.025, 0.075))
    assert (both.n, both.ok) == (400, True)
    assert not pool([]).ok
    assert not pool([NOTHING]).ok


def test_what_is_put_together_has_the_worst_status_and_its_reason() -> None:
    sure, unsure = Estimate(0.9, 0.8, 1.0, 100), Estimate(0.6, 0.5, 0.7, 300, Status.INSUFFICIENT, 70, "too few")
    for joined in (pool([sure, unsure]), macro([sure, unsure]), difference(sure, unsure)):
        assert (joined.status, joined.needed_n, joined.reason) == (Status.INSUFFICIENT, 70, "too few")
    broken = Estimate(0.6, 0.5, 0.7, 300, Status.INVALID)
    assert pool([unsure, broken, sure]).status is Status.INVALID


def test_macro_is_the_mean_over_classes_with_the_mean_width() -> None:
    both = macro([Estimate(0.9, 0.8, 1.0, 100), Estimate(0.6, 0.5, 0.8, 300)])
    assert (both.value, both.lower, both.upper, both.n) == pytest.approx((0.75, 0.65, 0.9, 100))
    assert not macro([]).ok


def test_macro_covers_however_classes_depend() -> None:
    g, hits, p = np.random.default_rng(1), 0, np.array([0.5, 0.3, 0.2])
    for _ in range(600):
        k = g.multinomial(150, p)
        seen = macro([wilson(float(v), 150) for v in (k[0], k[0] + k[1], k[0])])
        hits += seen.lower <= (0.5 + 0.8 + 0.5) / 3 <= seen.upper
    assert hits / 600 >= 0.93


def test_nothing_says_what_is_missing_and_nonsense_is_invalid() -> None:
    assert (wilson(0, 0).status, wilson(0, 0).needed_n) == (Status.INSUFFICIENT, 1)
    assert (mean(3.0, 9.0, 1).status, mean(3.0, 9.0, 1).needed_n) == (Status.INSUFFICIENT, 1)
    assert newcombe(1, 2, 0, 0).status is Status.INSUFFICIENT
    for broken in (wilson(math.nan, 5), mean(1e200, math.inf, 5), score_interval(math.nan, 1.0, 5)):
        assert broken.status is Status.INVALID
        assert broken.reason


def test_an_estimate_reads_well() -> None:
    assert repr(Estimate(0.88051, 0.8607, 0.899, 1043)) == "Estimate(0.881 [0.861, 0.899] n=1043)"
    assert str(insufficient(7, 13, "fewer than 20 rows")).endswith(
        "n=7 insufficient (13 more needed; fewer than 20 rows)"
    )
    assert str(invalid(7, "")).endswith("n=7 invalid")


def test_the_quantile_of_the_normal_distribution() -> None:
    assert z_value(0.95) == pytest.approx(1.959963984540054)
