"""The drift rule piece by piece, its tests against exact oracles, and its error rates by the laboratory's program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from holdtrue_stats import twosample
from holdtrue_stats.decision import TESTS, DriftResult, Severity, Streaks, drift, rate
from holdtrue_stats.histogram import Kind, State, fold, freeze
from holdtrue_stats.result import Status
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

stats: Any = scipy_stats
LABORATORY = Path(__file__).parents[2] / "benchmarks" / "false_alarms.py"


def judged(reference: np.ndarray, window: np.ndarray, kinds: list[Kind] | None = None, **options: Any) -> DriftResult:
    edges = freeze(reference, kinds=kinds)
    before, after = (fold(edges, x, State.empty(edges)).hist for x in (reference, window))
    return drift(before, after, edges.kinds, **options)


# ---- the tests behind the rule ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k1", "n1", "k2", "n2"), [(20, 10_000, 9, 1000), (5, 10_000, 4, 1000), (40, 10_000, 15, 1000)]
)
def test_p_values_of_rare_values_are_near_fishers_exact_ones(k1: int, n1: int, k2: int, n2: int) -> None:
    """Exact up to the weight of the observed value itself, of which a discrete test counts all or half."""
    values = stats.hypergeom(n1 + n2, k1 + k2, n2)
    low, high = 2 * values.sf(k2), 2 * values.sf(k2 - 1)
    _, p = twosample.two_proportions(k1, n1, k2, n2)
    assert 0.9 * low <= p <= 1.1 * high
    two_bins = np.array([[n1 - k1, k1]]), np.array([[n2 - k2, k2]])
    for _, ranked in twosample.rank_tests(*two_bins):
        assert 0.9 * low <= ranked[0] <= 1.1 * high
    normal = stats.chi2_contingency([[k1, n1 - k1], [k2, n2 - k2]], correction=False).pvalue
    assert normal < 0.6 * low  # what the two moments alone would have said


def test_rank_tests_of_unskewed_data_keep_their_normal_p_value() -> None:
    even = np.full((1, 64), 40), np.random.default_rng(1).integers(30, 50, (1, 64))
    for z, p in twosample.rank_tests(*even):
        assert p[0] == pytest.approx(2 * stats.norm.sf(abs(z[0])), rel=0.02)


def test_rare_is_the_exact_binomial_test_of_the_sparse_bins() -> None:
    r, c = np.array([[6000, 3900, 90, 8, 2, 0]]), np.array([[600, 380, 9, 2, 1, 8]])
    sparse = [3, 4, 5]  # expected in the window: 0.9, 0.27, 0.73; that of the third bin is 9
    share = c.sum() / (r.sum() + c.sum())
    exact = []
    for j in sparse:
        t = int(r[0, j] + c[0, j])
        tails = stats.binom.sf(c[0, j] - 1, t, share), stats.binom.cdf(c[0, j], t, share)
        exact.append(2 * min(tails))
    which, p = twosample.rare(r, c)
    assert p[0] == pytest.approx(min(1, 3 * min(exact)), rel=1e-9)
    assert which[0] == sparse[int(np.argmin(exact))]


def test_rare_says_nothing_where_nothing_is_sparse_or_a_side_is_empty() -> None:
    full, empty = np.array([[100, 200]]), np.array([[0, 0]])
    for r, c in ((full, full), (full, empty), (empty, full), (empty, empty)):
        assert np.isnan(twosample.rare(r, c)).all()


# ---- the rule ----------------------------------------------------------------------------------------------------


def test_a_category_never_seen_before_is_noticed_though_it_is_rare() -> None:
    g = np.random.default_rng(1)
    reference, window = (g.choice(3, (n, 1), p=[0.6, 0.3, 0.1]).astype(float) for n in (10_000, 1000))
    assert not judged(reference, window, ["categorical"]).drifted[0]
    window[:30] = 3.0
    found = judged(reference, window, ["categorical"])
    assert found.drifted[0]
    assert "strongest in rare" in found.why(0)


def test_a_rare_category_that_becomes_common_is_noticed() -> None:
    g = np.random.default_rng(2)
    reference, window = ((g.random((n, 1)) < share).astype(float) for n, share in ((10_000, 0.001), (1000, 0.03)))
    assert judged(reference, window, ["categorical"]).drifted[0]


def test_what_is_seen_says_what_moved() -> None:
    g = np.random.default_rng(3)
    reference = g.normal(0, 1, (10_000, 3))
    window = g.normal(0, 1, (1000, 3)) * [1, 1.5, 1] + [0.35, 0, 0]
    found = judged(reference, window)
    assert found.drifted.tolist() == [True, True, False]
    assert TESTS[int(np.nanargmin(found.tests[:, 1]))] == "scale"
    assert found.why(0).startswith(found.severity(0))
    assert found.severity(2) is Severity.NONE
    assert str(found) == "2 of 3 features drifted, 0 changed in missing values (n=1000, ok)"
    assert found.alarms.tolist() == [True, True, False, False, False, False]


def test_severity_follows_the_effect() -> None:
    g = np.random.default_rng(4)
    reference = g.normal(0, 1, (10_000, 3))
    found = judged(reference, g.normal([0.2, 0.4, 0.8], 1, (4000, 3)))
    assert [found.severity(i) for i in range(3)] == [Severity.INFO, Severity.WARNING, Severity.CRITICAL]


def test_significant_but_tiny_is_no_alarm() -> None:
    g = np.random.default_rng(5)
    reference, window = g.normal(0, 1, (1_000_000, 1)), g.normal(0.05, 1, (1_000_000, 1))
    assert not judged(reference, window, n_cap=np.inf).drifted[0]
    assert judged(reference, window, n_cap=np.inf, min_effect=0.0).drifted[0]


def test_counts_beyond_the_cap_add_no_evidence() -> None:
    g = np.random.default_rng(6)
    edges = freeze(reference := g.normal(0, 1, (10_000, 2)))
    before = fold(edges, reference, State.empty(edges)).hist
    after = fold(edges, g.normal(0.1, 1, (10_000, 2)), State.empty(edges)).hist
    assert np.allclose(drift(before, after * 7, edges.kinds).p, drift(before, after, edges.kinds).p, rtol=1e-9)


@pytest.mark.parametrize("share", [0.002, 0.05])
def test_missing_values_are_a_hypothesis_of_their_own(share: float) -> None:
    g = np.random.default_rng(7)
    reference, window = g.normal(0, 1, (10_000, 2)), g.normal(0, 1, (1000, 2))
    reference[g.random(reference.shape) < share] = np.nan
    window[g.random(window.shape) < [share, share + 0.04]] = np.nan
    found = judged(reference, window)
    assert found.missing_changed.tolist() == [False, True]
    assert not found.drifted.any()


def test_features_without_rows_or_with_one_value_are_left_out_and_say_so() -> None:
    reference, window = np.zeros((10_000, 2)), np.zeros((1000, 2))
    window[:, 1] = np.nan
    found = judged(reference, window)
    assert np.isnan(found.p).all()
    assert found.why(0) == "no test can be made: no rows, or a single value"
    assert found.missing_changed.tolist() == [False, True]


def test_too_few_rows_are_not_judged() -> None:
    g = np.random.default_rng(8)
    found = judged(g.normal(0, 1, (10_000, 1)), g.normal(3, 1, (400, 1)))
    assert (found.status, found.needed_n, found.alarms.any()) == (Status.INSUFFICIENT, 600, False)
    assert "600 more needed" in str(found)


@given(st.integers(0, 999), st.sampled_from([1e6, -1e6, np.inf, -np.inf, 3e38]), st.sampled_from([0.0, 0.3, 2.0]))
def test_one_wild_value_changes_no_verdict(row: int, wild: float, shift: float) -> None:
    window = WINDOW + shift
    spoilt = window.copy()
    spoilt[row, 0] = wild
    clean, dirty = drift(BEFORE, counted(window), EDGES.kinds), drift(BEFORE, counted(spoilt), EDGES.kinds)
    assert (clean.drifted == dirty.drifted).all()
    assert clean.severity(0) is dirty.severity(0)


def test_one_wild_value_in_the_reference_changes_no_verdict() -> None:
    for shift in (0.0, 0.3, 2.0):
        spoilt = REFERENCE.copy()
        spoilt[17, 0] = 1e6
        clean, dirty = (judged(reference, WINDOW + shift) for reference in (REFERENCE, spoilt))
        assert (clean.drifted == dirty.drifted).all()
        assert clean.severity(0) is dirty.severity(0)


GENERATOR = np.random.default_rng(9)
REFERENCE, WINDOW = GENERATOR.normal(0, 1, (10_000, 2)), GENERATOR.normal(0, 1, (1000, 2))
EDGES = freeze(REFERENCE)


def counted(x: np.ndarray) -> np.ndarray:
    return fold(EDGES, x, State.empty(EDGES)).hist


BEFORE = counted(REFERENCE)

numbers = arrays(
    np.float64, st.tuples(st.integers(0, 60), st.just(3)), elements=st.sampled_from([0, 1, 2, np.nan, np.inf, -1e38, 7])
)


@given(numbers, numbers, st.sampled_from([0, 10]))
def test_no_data_raises(reference: np.ndarray, window: np.ndarray, least: int) -> None:
    codes = np.where(np.isfinite(reference), np.clip(reference, 0, 9), np.nan)
    found = judged(
        np.c_[reference[:, :2], codes[:, 2]], window, ["numeric", "numeric", "categorical"], least_rows=least
    )
    assert found.alarms.shape == (6,)
    assert all(found.why(i) for i in range(3))


# ---- two windows in a row ----------------------------------------------------------------------------------------


def test_two_windows_raise_and_three_clean_ones_resolve() -> None:
    history = [True, False, True, True, False, True, False, False, False, True]
    memory, raised = Streaks.empty(1), []
    for alarm in history:
        memory = memory.after(np.array([alarm]))
        raised.append(bool(memory.raised[0]))
    assert raised == [False, False, False, True, True, True, True, True, False, False]


def test_a_window_without_a_judgement_changes_nothing() -> None:
    memory = Streaks.empty(2).after(np.array([True, True]))
    paused = memory.after(np.array([False, True]), judged=np.array([False, True]))
    assert (paused.bad.tolist(), paused.raised.tolist()) == ([1, 2], [False, True])
    assert memory.after(np.array([False, False]), judged=False).bad.tolist() == [1, 1]


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=30))
def test_hypotheses_do_not_touch_each_other(history: list[list[bool]]) -> None:
    together, alone = Streaks.empty(3), [Streaks.empty(1) for _ in range(3)]
    for alarms in history:
        together = together.after(np.array(alarms))
        alone = [memory.after(np.array([alarm])) for memory, alarm in zip(alone, alarms, strict=True)]
    assert together.raised.tolist() == [bool(memory.raised[0]) for memory in alone]


@given(st.floats(1e-9, 100), st.floats(0, 1e9))
def test_two_windows_at_the_rate_keep_the_budget(budget: float, evaluations: float) -> None:
    q = rate(budget, evaluations)
    assert 0 <= q <= 0.005
    assert q * q * evaluations <= budget * (1 + 1e-9)


# ---- error rates -------------------------------------------------------------------------------------------------


def simulated(repetitions: int, *kinds: str, seed: int = 1) -> dict[str, dict[str, int]]:
    options = ["--repetitions", repetitions, "--kinds", ",".join(kinds), "--seed", seed, "--json"]
    command = [sys.executable, str(LABORATORY), *map(str, options)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def bound(share: float, runs: int) -> float:
    """Three standard errors above a share."""
    return share + 3 * (share * (1 - share) / runs) ** 0.5


ORDERED = ("normal", "correlated", "lognormal", "tied8", "tied20", "tied200")
CLEAN = ("tied2", "flag0.01", "missing", "categories2", "categories20", "zipf20", "zipf120", "rare0.005")


@pytest.mark.timeout(600)
def test_clean_windows_rarely_alarm_and_small_changes_do() -> None:
    runs = 40
    for kind, seen in simulated(runs, "normal", "correlated", "lognormal", "tied8", seed=2).items():
        assert seen["none"] <= bound(0.01, runs) * runs, kind
        assert seen["shift"] >= 0.8 * runs, kind
        assert seen["scale"] >= 0.8 * runs, kind


@pytest.mark.timeout(600)
def test_clean_windows_of_ties_categories_and_missing_values_rarely_alarm() -> None:
    runs = 25
    for kind, seen in simulated(runs, *CLEAN, seed=3).items():
        assert seen["none"] <= bound(0.01, runs) * runs, kind


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", [*ORDERED, *CLEAN])
def test_error_rates_long(kind: str) -> None:
    runs = 2000
    seen = simulated(runs, kind, seed=4)[kind]
    assert seen["none"] <= bound(0.01, runs) * runs
    if kind in ORDERED:
        assert seen["shift"] >= 0.9 * runs
        assert seen["scale"] >= 0.9 * runs
