"""The estimate of a run's time against numpy's solution of the same weighted least squares."""

from __future__ import annotations

import numpy as np
import pytest
from holdtrue_inference.domain.estimate import FORGETTING, RunTime
from hypothesis import assume, given
from hypothesis import strategies as st

Runs = list[tuple[int, float]]

runs = st.lists(st.tuples(st.integers(1, 1_024), st.floats(1e-6, 1.0)), max_size=30)


def line(warm_up: Runs, recent: Runs) -> tuple[float, float]:
    """Slope and base by numpy: warm-up counts 1, a recent run 1 % less with every later one."""
    rows, seconds = np.array([*warm_up, *recent]).T
    ages = np.arange(len(recent) - 1, -1, -1)
    root = np.sqrt(np.concatenate([np.ones(len(warm_up)), FORGETTING**ages]))
    (slope, base), *_ = np.linalg.lstsq(np.stack([rows * root, root], axis=1), seconds * root, rcond=None)
    if slope < 0:
        return 0.0, float((seconds * root**2).sum() / (root**2).sum())
    return float(slope), float(base)


@given(runs, runs)
def test_it_is_the_weighted_least_squares_line(warm_up: Runs, recent: Runs) -> None:
    assume(len({rows for rows, _ in warm_up + recent}) > 1)
    estimate = RunTime(warm_up)
    for rows, seconds in recent:
        estimate.learn(rows, seconds)
    slope, base = line(warm_up, recent)
    for rows in (1, 7, 64, 1_024, 10_000):
        assert estimate.seconds(rows) == pytest.approx(max(slope * rows + base, 0.0), rel=1e-6, abs=1e-9)


@given(runs, runs, st.integers(1, 10_000))
def test_it_is_never_negative_and_never_less_for_more_rows(warm_up: Runs, recent: Runs, rows: int) -> None:
    estimate = RunTime(warm_up)
    for count, seconds in recent:
        estimate.learn(count, seconds)
    assert 0 <= estimate.seconds(rows) <= estimate.seconds(rows + 1)


def test_runs_of_one_size_give_their_mean() -> None:
    estimate = RunTime([(8, 0.01), (8, 0.03)])
    assert estimate.seconds(8) == estimate.seconds(1_000) == pytest.approx(0.02)


def test_without_any_run_it_expects_a_millisecond() -> None:
    assert RunTime().seconds(64) == 0.001


def test_it_follows_a_model_that_has_become_slower() -> None:
    estimate = RunTime([(1, 1e-4), (8, 1e-4), (64, 2e-4), (1_024, 2e-3)])
    for _ in range(2_000):
        estimate.learn(32, 0.1)
    assert estimate.seconds(32) == pytest.approx(0.1, rel=0.05)


def test_the_warm_up_keeps_the_line_defined_under_traffic_of_one_size() -> None:
    warm_up = [(rows, 1e-3 + 1e-5 * rows) for rows in (1, 8, 64, 1_024)]
    estimate = RunTime(warm_up)
    for _ in range(10_000):
        estimate.learn(1, 1e-3 + 1e-5)
    assert estimate.seconds(1_024) == pytest.approx(1e-3 + 1e-5 * 1_024, rel=1e-3)
