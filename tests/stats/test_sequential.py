"""Bounds that hold at all looks: their level over 1,000 looks, their formulas, and what they say of little data."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from holdtrue_stats.arrays import Floats
from holdtrue_stats.betting import Bernstein, EProcess
from holdtrue_stats.interval import newcombe
from holdtrue_stats.result import Estimate, Status
from holdtrue_stats.sequential import (
    NOTHING,
    Sums,
    compare_means,
    compare_quantiles,
    compare_rates,
    half_width,
    mean_cs,
    quantile_cs,
    rate_cs,
    rows_needed,
)
from scipy import special, stats

LOOKS = 1000
ROWS = 10
"""Rows between two looks."""
CUTS = np.r_[0.0, np.geomspace(0.01, 10, 40), np.inf]


def left(runs: int, truth: float, path: Callable[[np.random.Generator], list[Estimate]]) -> float:
    """The share of paths that exclude the truth at any look."""
    return np.mean([_leaves(path(np.random.default_rng(seed)), truth) for seed in range(runs)]).item()


def _leaves(seen: list[Estimate], truth: float) -> bool:
    return any(s.ok and not s.lower <= truth <= s.upper for s in seen)


def looked_at(rows: Floats) -> Floats:
    """Sums of the rows up to every look."""
    return np.cumsum(rows.reshape(LOOKS, -1).sum(1))


many = pytest.mark.parametrize("runs", [40, pytest.param(400, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
ALLOWED = {40: 0.125, 400: 0.065}
"""Errors at alpha 5 % that chance explains."""


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.95])
@many
def test_rates_are_held_at_all_looks(rate: float, runs: int) -> None:
    def path(g: np.random.Generator) -> list[Estimate]:
        k = looked_at((g.random(LOOKS * ROWS) < rate).astype(float))
        return [rate_cs(v, ROWS * (i + 1)) for i, v in enumerate(k.tolist()) if i < 50 or i % 10 == 0]

    assert left(runs, rate, path) <= ALLOWED[runs]


@pytest.mark.parametrize("rate", [0.05, 0.88])
@many
def test_differences_of_rates_are_held_at_all_looks(rate: float, runs: int) -> None:
    def path(g: np.random.Generator) -> list[Estimate]:
        a, b = (looked_at((g.random(LOOKS * n) < rate).astype(float)).tolist() for n in (ROWS, 2))
        every = zip(a, b, strict=True)
        return [
            compare_means(Sums.of_rate(x, ROWS * i), Sums.of_rate(y, 2 * i), 0.05) for i, (x, y) in enumerate(every, 1)
        ]

    assert left(runs, 0.0, path) <= ALLOWED[runs]


@many
def test_means_of_any_unit_are_held_at_all_looks(runs: int) -> None:
    def path(g: np.random.Generator) -> list[Estimate]:
        x = 50 * g.exponential(size=LOOKS * ROWS)
        total, squares = looked_at(x).tolist(), looked_at(x * x).tolist()
        return [mean_cs(t, s, ROWS * i) for i, (t, s) in enumerate(zip(total, squares, strict=True), 1)]

    assert left(runs, 50.0, path) <= ALLOWED[runs]


@pytest.mark.parametrize("q", [0.5, 0.99])
@many
def test_quantiles_are_held_at_all_looks(q: float, runs: int) -> None:
    truth = -math.log1p(-q)

    def path(g: np.random.Generator) -> list[Estimate]:
        x = g.exponential(size=LOOKS * ROWS)
        sizes = range(ROWS, LOOKS * ROWS, ROWS if runs > 100 else 20 * ROWS)
        return [quantile_cs(np.histogram(x[:n], CUTS)[0], CUTS, q) for n in sizes]

    assert left(runs, truth, path) <= ALLOWED[runs]


@pytest.mark.parametrize("shape", [(0.2, 0.2), (5.0, 2.0)])
@many
def test_bounded_means_are_held_at_all_looks(shape: tuple[float, float], runs: int) -> None:
    def path(g: np.random.Generator) -> list[Estimate]:
        state, seen = Bernstein(), list[Estimate]()
        for x in g.beta(*shape, (LOOKS, ROWS)):
            state = state.update(Sums(ROWS, float(x.sum()), float((x * x).sum())))
            seen.append(state.estimate)
        return seen

    assert left(runs, shape[0] / sum(shape), path) <= ALLOWED[runs]


@many
def test_bets_on_a_true_null_seldom_pay(runs: int) -> None:
    p = [EProcess(0.3).update(np.random.default_rng(s).random(LOOKS * ROWS) < 0.3).p for s in range(runs)]
    assert np.mean(np.array(p) <= 0.05) <= ALLOWED[runs]


def test_bets_on_a_false_null_pay_and_do_not_depend_on_batches() -> None:
    x = np.random.default_rng(1).beta(3, 4, 400)
    whole = EProcess(0.3).update(x)
    parts = EProcess(0.3)
    for batch in np.split(x, [3, 50, 51]):
        parts = parts.update(batch)
    assert whole.log_wealth == pytest.approx(parts.log_wealth)
    assert (whole.value > 1e6, whole.p < 1e-6, whole.n) == (True, True, 400)
    assert EProcess(0.6).update(x).p > 0.5
    assert "mean > 0.3" in repr(whole)


def test_bets_skip_what_is_no_number_and_clip_the_rest() -> None:
    odd = EProcess(0.5).update([np.nan, 2.0, -np.inf]).update([]).update(np.nan)
    assert odd.log_wealth == pytest.approx(EProcess(0.5).update([1.0, 0.0]).log_wealth)
    assert (odd.n, odd.skipped) == (2, 2)
    assert (EProcess(0.5).status, EProcess(0.5).value, EProcess(0.5).p) == (Status.INSUFFICIENT, 1.0, 1.0)


def test_rate_bounds_solve_the_mixtures_equation() -> None:
    k, n, alpha, c = 37.0, 120.0, 0.05, 1000 / (2 * math.log(20) + math.log1p(2 * math.log(20)))
    seen = rate_cs(k, n)

    def log_ratio(p: float) -> float:
        mixture = special.betaln(c * p + k, c * (1 - p) + n - k) - special.betaln(c * p, c * (1 - p))
        return float(mixture - k * np.log(p) - (n - k) * np.log1p(-p))

    assert [log_ratio(p) for p in (seen.lower, seen.upper)] == pytest.approx([math.log(1 / alpha)] * 2, rel=1e-6)


def test_more_rows_than_can_be_told_apart_change_nothing() -> None:
    assert rate_cs(1e300, 2e300).value == 0.5
    assert 0.49 < rate_cs(1e300, 2e300).lower < rate_cs(1e300, 2e300).upper < 0.51


def test_differences_of_independent_rates_and_their_widths() -> None:
    fixed, sure, exact = (
        newcombe(880, 1000, 880, 1000),
        *(
            compare_means(Sums.of_rate(880, 1000), Sums.of_rate(880, 1000), 0.05),
            compare_rates(880, 1000, 880, 1000),
        ),
    )
    assert [round((s.upper - s.lower) / 2, 3) for s in (fixed, sure, exact)] == [0.029, 0.044, 0.067]
    bets = Bernstein(alpha=0.025)
    for _ in range(100):
        bets = bets.update(Sums.of_rate(8.8, 10))
    both = bets.minus(bets)
    assert (round((both.upper - both.lower) / 2, 3), both.value) == (0.068, 0.0)


def test_a_difference_is_found_and_the_rows_needed_are_right() -> None:
    variance = 0.88 * 0.12
    n = rows_needed(variance, 0.05)
    assert half_width(2 * variance / n, 0.05) == pytest.approx(0.05, rel=0.01)
    assert compare_means(Sums.of_rate(0.88 * n, n), Sums.of_rate(0.75 * n, n), 0.05).upper < -0.05
    assert compare_rates(880, 1000, 700, 1000).upper < -0.05


def test_an_error_that_all_looks_share_widens_the_bounds() -> None:
    a = Sums.of_rate(88, 100)
    plain, widened = compare_means(a, a, 0.05), compare_means(a, a, 0.05, extra_variance=0.01**2)
    assert widened.upper - plain.upper == pytest.approx(stats.norm.ppf(0.975) * 0.01)


def test_quantile_bounds_are_cuts_and_are_open_while_nothing_is_known() -> None:
    cuts = np.r_[-np.inf, np.arange(10.0), np.inf]
    few = quantile_cs(np.r_[0, np.ones(9), 0], cuts, 0.99)
    assert few.upper == math.inf
    many_rows = quantile_cs(np.full(11, 1000), cuts, 0.5)
    assert (many_rows.lower, many_rows.value, many_rows.upper) == (4.0, 4.5, 5.0)
    moved = compare_quantiles(np.full(11, 1000), np.r_[np.zeros(5), np.full(6, 1000)], cuts, 0.5)
    assert moved.lower <= moved.value <= moved.upper
    assert moved.lower > 0


def test_a_single_value_is_its_own_quantile() -> None:
    cuts = [-np.inf, 3.0, np.nextafter(3.0, 4), np.inf]
    seen = quantile_cs(np.array([0, 500, 0]), cuts, 0.9)
    assert (seen.lower, seen.upper) == (3.0, np.nextafter(3.0, 4))
    assert seen.lower <= seen.value <= seen.upper


def test_little_or_impossible_data_say_so() -> None:
    seen = compare_means(Sums.of_rate(5, 10), Sums.of_rate(50, 100), 0.05)
    assert (seen.status, seen.needed_n) == (Status.INSUFFICIENT, 10)
    assert (mean_cs(1.0, 1.0, 33).needed_n, mean_cs(1.0, math.inf, 99).status) == (7, Status.INVALID)
    assert rate_cs(0, 0).status is quantile_cs(np.zeros(2), [0, 1, 2], 0.5).status is Status.INSUFFICIENT
    assert Bernstein().estimate.status is Status.INSUFFICIENT
    assert Bernstein().update(NOTHING) == Bernstein()
    broken = Bernstein().update(Sums(10, 11.0, 3.0))
    assert broken.estimate.status is broken.update(Sums.of_rate(1, 2)).estimate.status is Status.INVALID
    assert compare_means(Sums(30, math.nan, 1.0), Sums.of_rate(5, 30), 0.05).status is Status.INVALID
    assert rate_cs(math.nan, 3).status is compare_rates(math.inf, 3, 1, 3).status is Status.INVALID
    assert (math.isnan(NOTHING.mean), NOTHING.variance) == (True, 0.25)


def test_sums_add() -> None:
    x = np.arange(10.0)
    parts = [Sums(len(v), v.sum(), (v * v).sum()) for v in (x[:3], x[3:])]
    assert (parts[0] + parts[1]).mean == pytest.approx(4.5)
