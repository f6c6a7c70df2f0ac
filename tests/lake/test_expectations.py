"""A batch that is not as expected makes its version suspect, says why, and loses no row."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from holdtrue_lake.expectations import Reason, assess
from holdtrue_lake.layout import Layout
from holdtrue_lake.profile import observe
from holdtrue_lake.rules_yaml import RulesInvalid, load

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def found(expectation: str, reference: pa.Table | None = None, /, **columns: Any) -> Reason:
    rules = load(f"version: 1\nexpectations:\n  - {{id: it, {expectation}}}")
    profile = None if reference is None else observe(reference, Layout.of(reference))
    assessment = assess(rules, pa.table(columns), NOW, profile)
    [reason] = assessment.reasons
    assert assessment.suspect == (reason.verdict == "broken")
    return reason


@pytest.mark.parametrize(
    ("expectation", "values", "verdict", "got", "rows"),
    [
        ("expect: null_rate, column: x, max: 0.5", [1.0, None, math.nan, 2.0], "met", "50.00%", (1, 2)),
        ("expect: null_rate, column: x, max: 0.4", [1.0, None, math.nan, 2.0], "broken", "50.00%", (1, 2)),
        ("expect: range, column: x, min: 0, max: 2", [0.0, 2.0, None, math.nan], "met", "values from 0 to 2", ()),
        ("expect: range, column: x, min: 0, max: 2", [0.0, 3.0, None, -1.0], "broken", "values from -1 to 3", (1, 3)),
        ("expect: range, column: x, max: 2", [1.0, math.inf], "broken", "values from 1 to inf", (1,)),
        ("expect: range, column: x, min: 0", [None, math.nan], "broken", "no values", ()),
        ("expect: mean, column: x, min: 1, max: 2", [1.0, 2.0, math.nan, None], "met", "1.5", ()),
        ("expect: mean, column: x, max: 1.4", [1.0, 2.0, math.nan, None], "broken", "1.5", ()),
        ("expect: mean, column: x, max: 1.4", [None], "broken", "no values", ()),
        ("expect: std, column: x, max: 0.5", [1.0, 2.0, None], "met", "0.5", ()),
        ("expect: std, column: x, min: 0.51", [1.0, 2.0, None], "broken", "0.5", ()),
        ("expect: volume, min: 2, max: 3", [1.0, 2.0], "met", "2", ()),
        ("expect: volume, min: 3", [1.0, 2.0], "broken", "2", ()),
        ("expect: volume, max: 1", [1.0, 2.0], "broken", "2", ()),
        ("expect: duplicate_rate, columns: [x], max: 0.5", [1.0, 1.0, 2.0, None, None], "met", "20.00%", (1,)),
        ("expect: duplicate_rate, columns: [x]", [1.0, 1.0, 2.0, None, None], "broken", "20.00%", (1,)),
    ],
)
def test_figures_of_a_column(
    expectation: str, values: list[Any], verdict: str, got: str, rows: tuple[int, ...]
) -> None:
    reason = found(expectation, x=pa.array(values, pa.float64()))

    assert (reason.verdict, reason.got, reason.rows, reason.count) == (verdict, got, rows, len(rows))


@pytest.mark.parametrize(("age", "verdict"), [(timedelta(hours=2), "met"), (timedelta(hours=2, seconds=1), "broken")])
def test_the_latest_event_decides_on_freshness(age: timedelta, verdict: str) -> None:
    times = pa.array([NOW - timedelta(days=9), NOW - age], pa.timestamp("us", "UTC"))

    assert found("expect: freshness, max_age: 2h", _event_time=times).verdict == verdict
    assert found("expect: freshness, max_age: 2h", _event_time=times[:0]).verdict == "broken"


def test_categories_are_known_by_list_or_by_the_reference() -> None:
    words = ["a"] * 60 + ["b"] * 39 + ["new"]
    listed = "expect: categories, column: s, known: [a, b], max_unseen: "
    learned = "expect: categories, column: s, max_unseen: "
    reference = pa.table({"s": ["a"] * 50 + ["b"] * 50})

    assert found(listed + "0.01", s=[*words, None]).verdict == "met"
    assert found(listed + "0.009", s=[*words, None]).rows == (99,)
    assert found(listed + "0.009", s=[*words, None]).verdict == "broken"
    assert found(learned + "0.01", reference, s=words).verdict == "met"
    assert found(learned + "0.009", reference, s=words).verdict == "broken"
    assert found(learned + "0.5", s=words).verdict == "unknown"


def test_drift_is_measured_against_the_reference() -> None:
    g = np.random.default_rng(5)
    reference = pa.table({"x": g.normal(0, 1, 20_000)})
    expectation = "expect: psi, column: x, max: 0.1"

    assert found(expectation, reference, x=g.normal(0, 1, 500)).verdict == "met"  # noise of small batches is no drift
    assert found(expectation, reference, x=g.normal(1, 1, 500)).verdict == "broken"
    assert found(expectation, reference, x=pa.nulls(500, pa.float64())).verdict == "broken"
    assert found(expectation, x=g.normal(1, 1, 500)).verdict == "unknown"


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        ("expect: mean, column: y", "expectations[0].column: there is no column 'y'; there are s"),
        ("expect: std, column: s", "expectations[0].column: only columns of numbers have a range, mean and std"),
        ("expect: freshness, max_age: 2h", "expectations[0].column: there is no column '_event_time'"),
    ],
)
def test_expectations_that_do_not_fit_the_table_are_refused(expectation: str, problem: str) -> None:
    with pytest.raises(RulesInvalid) as error:
        found(expectation, s=["a"])

    assert str(error.value).startswith(problem)


def test_ten_thousand_rows_to_blame_are_counted_and_a_hundred_named() -> None:
    reason = found("expect: range, column: x, max: 0", x=[1] * 10_000)

    assert (reason.count, reason.rows) == (10_000, tuple(range(100)))
