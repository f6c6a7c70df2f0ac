"""Intervals: of rates, of means, of differences, and of estimates put together.

All are two-sided. They hold for one look at the data; `sequential` and `betting` have those that hold for any number.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from statistics import NormalDist

from holdtrue_stats.arrays import t_quantile
from holdtrue_stats.result import Estimate, Status, insufficient, invalid


@cache
def z_value(level: float) -> float:
    """Return the half-width, in standard errors, of a two-sided normal interval of this level (0.95 → 1.96)."""
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(k: float, n: float, level: float = 0.95) -> Estimate:
    """Rate k / n with Wilson's score interval (1927).

    (k + z²/2 ± z √(k(n - k)/n + z²/4)) / (n + z²). k and n are numbers of rows and may be real; a k outside [0, n] is
    taken as the nearer end. No rows: insufficient. Not finite: invalid.
    """
    if not (math.isfinite(k) and math.isfinite(n)):
        return invalid(n, f"{k:g} of {n:g} is no rate")
    if not n > 0:
        return insufficient(0.0, 1, "no rows")
    z2, p = z_value(level) ** 2, min(max(float(k) / float(n), 0.0), 1.0)
    center, width = (p * n + z2 / 2) / (n + z2), n + z2
    half = math.sqrt(z2 * (p * (1 - p) * n + z2 / 4)) / width
    return Estimate(p, min(p, max(0.0, center - half)), max(p, min(1.0, center + half)), n)


def score_interval(value: float, variance: float, n: float, level: float = 0.95, n_max: float = math.inf) -> Estimate:
    """Interval of a measure in [0, 1] from its variance: Wilson's at n_eff = value(1 - value)/variance rows.

    Unlike value ± z·√variance it stays in [0, 1] and keeps its coverage near the ends. n_eff is at most `n_max`; n is
    what is reported, and stands for n_eff where the variance is 0.
    """
    if not (math.isfinite(value) and math.isfinite(variance) and math.isfinite(n)):
        return invalid(n, "the estimate or its variance is not finite")
    p = min(max(value, 0.0), 1.0)
    effective = min(p * (1 - p) / variance, n_max) if variance > 0 and 0 < p < 1 else n
    seen = wilson(p * effective, effective, level)
    return replace(seen, n=n)


def newcombe(k1: float, n1: float, k2: float, n2: float, level: float = 0.95) -> Estimate:
    """Difference k1/n1 - k2/n2 of independent rates with Newcombe's hybrid score interval (1998, method 10).

    `n` is that of the smaller group. A group without rows: insufficient.
    """
    seen = difference(wilson(k1, n1, level), wilson(k2, n2, level))
    return replace(seen, lower=max(-1.0, seen.lower), upper=min(1.0, seen.upper))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Difference a - b of independent estimates from their own intervals, which may be lopsided.

    d - √((a - a_low)² + (b_up - b)²), d + √((a_up - a)² + (b - b_low)²): the method of variance estimates recovery (Zou
    & Donner 2008). `n` is the smaller one; the worse status counts.
    """
    d = a.value - b.value
    lower = d - math.hypot(a.value - a.lower, b.upper - b.value)
    upper = d + math.hypot(a.upper - a.value, b.value - b.lower)
    return joined(Estimate(d, lower, upper, min(a.n, b.n)), (a, b))


def mean(total: float, squares: float, n: float, level: float = 0.95) -> Estimate:
    """Mean of n rows from their sum and sum of squares, with Student's interval (1908), in the unit of the rows.

    Insufficient: fewer than 2 rows. A sum of squares that is not finite: invalid.
    """
    if not n >= 2:  # noqa: PLR2004 - one row has no spread
        return insufficient(n, max(1, 2 - math.floor(n)) if n >= 0 else 2, "a spread needs two rows")
    value = float(total) / float(n)
    if not all(map(math.isfinite, (value * value, squares, n))):
        return invalid(n, "the sums are not finite")
    spread = max(0.0, float(squares) / n - value * value)
    half = t_quantile((1 + level) / 2, n - 1) * math.sqrt(spread / (n - 1))
    return Estimate(value, value - half, value + half, n)


def pool(parts: Sequence[Estimate]) -> Estimate:
    """Put together estimates of the same measure in [0, 1] on different rows: the mean weighted by rows.

    Errors are taken as independent: half-widths add in quadrature, each side for itself. Parts without a value are left
    out; the worst status of the others counts. Nothing left: insufficient.
    """
    used = [part for part in parts if part.n > 0 and math.isfinite(part.n) and math.isfinite(part.value)]
    n = sum(part.n for part in used)
    if not used:
        return insufficient(0.0, 1, "no part has a value")
    value = sum(part.n / n * part.value for part in used)
    low = math.hypot(*(part.n / n * (part.value - part.lower) for part in used))
    high = math.hypot(*(part.n / n * (part.upper - part.value) for part in used))
    return joined(Estimate(value, max(0.0, value - low), min(1.0, value + high), n), used)


def macro(parts: Sequence[Estimate]) -> Estimate:
    """Put together estimates of the same measure for each class: the plain mean over classes.

    All classes look at the same rows, so nothing is assumed about dependence: the half-width is the mean of the
    half-widths, the widest that any correlation allows. `n` is the smallest. One class without a value: none at all.
    """
    if not parts:
        return insufficient(0.0, 1, "no classes")
    value, lower, upper = (
        sum(getattr(part, name) for part in parts) / len(parts) for name in ("value", "lower", "upper")
    )
    return joined(Estimate(value, lower, upper, min(part.n for part in parts)), parts)


def joined(seen: Estimate, parts: Sequence[Estimate]) -> Estimate:
    """Return an estimate with the worst status of its parts, and the reason for it."""
    order = (Status.INVALID, Status.INSUFFICIENT, Status.STALE)
    worst = next((part for status in order for part in parts if part.status is status), None)
    if worst is None:
        return seen
    needed = max(part.needed_n for part in parts)
    return replace(seen, status=worst.status, needed_n=needed, reason=worst.reason)
