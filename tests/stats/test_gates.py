"""The gate's checks and the comparison under repeated looks."""

import math

import numpy as np
import pytest
from holdtrue_stats import gates
from holdtrue_stats.gates import Outcome
from holdtrue_stats.sequential import Sums, compare_means, half_width, rows_needed
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats


def rows(n: int, drop: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    y = g.random(n) < 0.3
    base = np.where(y, g.normal(1.2, 1, n), g.normal(-0.2, 1, n))
    a = base + g.normal(0, 0.5, n)
    b = base + g.normal(0, 0.5, n) - drop * np.where(y, 1, -1)
    return y, a > 0.8, b > 0.8


def cells(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.bincount(a * 4 + b * 2 + y, minlength=8)


def test_bounds_agree_with_the_row_bootstrap() -> None:
    y, a, b = rows(2000, 0.05, 1)
    check = gates.precision_noninferior(cells(y, a, b), 0.05, seed=3)
    g, drawn = np.random.default_rng(2), []
    for _ in range(2000):
        i = g.integers(0, 2000, 2000)
        drawn.append(y[i][b[i]].mean() - y[i][a[i]].mean())
    assert check.value == pytest.approx(y[b].mean() - y[a].mean())
    assert (check.lower, check.upper) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])), abs=0.003)


def test_equal_models_pass_with_enough_labels_and_worse_ones_do_not() -> None:
    def passes(n: int, drop: float) -> float:
        outcomes = [gates.precision_noninferior(cells(*rows(n, drop, s)), 0.05, seed=s).outcome for s in range(100)]
        return outcomes.count(Outcome.PASS) / 100

    assert passes(2000, 0.0) > 0.85
    assert passes(500, 0.0) == pytest.approx(0.52, abs=0.15)
    assert passes(2000, 0.25) < 0.1


def test_a_clear_loss_fails_and_too_few_labels_say_how_many_are_missing() -> None:
    assert gates.precision_noninferior(cells(*rows(20_000, 1.0, 5)), 0.05, seed=1).outcome is Outcome.FAIL
    unsure = gates.precision_noninferior(cells(*rows(500, 0.05, 3)), 0.02, seed=1)
    assert unsure.outcome is Outcome.INCONCLUSIVE
    assert unsure.needed_n > 1000


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([0] * 8, "only 0 positives"),
        ([1000, 200, 0, 0, 50, 50, 0, 0], "only 0 rows flagged by the candidate"),
        ([500, 10, 0, 0, 0, 0, 50, 5], "only 15 positives"),
        ([500, 100, 0, 0, 0, 0, 50, 500], "nothing to compare"),
    ],
)
def test_traps_are_inconclusive_with_a_reason(counts: list[int], reason: str) -> None:
    check = gates.precision_noninferior(np.array(counts), 0.05, seed=0)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert reason in check.reason


@given(st.lists(st.sampled_from([0, 1, 19, 20, 10**6]), min_size=8, max_size=8), st.integers(0, 2**32))
def test_no_cells_raise(counts: list[int], seed: int) -> None:
    check = gates.precision_noninferior(np.array(counts), 0.05, seed)
    assert check == gates.precision_noninferior(np.array(counts), 0.05, seed) or math.isnan(check.lower)


def test_floor() -> None:
    low, high = stats.binomtest(180, 200).proportion_ci(0.9, "wilson")
    check = gates.floor(180, 200, 0.85)
    assert (check.lower, check.upper) == pytest.approx((low, high))
    assert check.outcome is Outcome.PASS
    assert gates.floor(100, 200, 0.85).outcome is Outcome.FAIL
    unsure = gates.floor(175, 200, 0.85)
    assert unsure.outcome is Outcome.INCONCLUSIVE
    assert unsure.needed_n > 0
    assert gates.floor(3, 3, 0.1).outcome is Outcome.INCONCLUSIVE


def test_the_worst_outcome_counts() -> None:
    passed, failed, unsure = (gates.floor(k, 200, 0.85) for k in (190, 100, 175))
    assert gates.worst([passed]) is Outcome.PASS
    assert gates.worst([passed, unsure]) is Outcome.INCONCLUSIVE
    assert gates.worst([unsure, failed, passed]) is Outcome.FAIL
    assert gates.worst([]) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("rate", "step"), [(0.5, 20), (0.88, 2), (0.95, 2), (0.01, 6)])
def test_repeated_looks_keep_the_level(rate: float, step: int) -> None:
    """Champion 20 rows a look, challenger `step`; 400 looks, equal rates: an interval without 0 is an error."""
    g, runs = np.random.default_rng(11), 300
    champion, challenger = (np.cumsum(g.binomial(size, rate, (runs, 400)), 1).tolist() for size in (20, step))

    def errs(a: list[int], b: list[int]) -> bool:
        seen = [
            compare_means(Sums.of_rate(x, 20 * i), Sums.of_rate(y, step * i), 0.05)
            for i, (x, y) in enumerate(zip(a, b, strict=True), 1)
        ]
        return any(s.ok and not s.lower <= 0 <= s.upper for s in seen)

    assert sum(map(errs, champion, challenger)) / runs <= 0.07


def test_a_difference_is_found_and_the_rows_needed_are_right() -> None:
    variance = 0.88 * 0.12
    n = rows_needed(variance, 0.05)
    assert half_width(2 * variance / n, 0.05) == pytest.approx(0.05, rel=0.01)
    seen = compare_means(Sums.of_rate(0.88 * n, n), Sums.of_rate(0.75 * n, n), 0.05)
    assert seen.upper < -0.05


def test_few_rows_are_insufficient() -> None:
    seen = compare_means(Sums.of_rate(5, 10), Sums.of_rate(50, 100), 0.05)
    assert (seen.ok, seen.needed_n) == (False, 10)


def test_sums_add() -> None:
    x = np.arange(10.0)
    parts = [Sums(len(v), v.sum(), (v * v).sum()) for v in (x[:3], x[3:])]
    assert (parts[0] + parts[1]).mean == pytest.approx(4.5)
