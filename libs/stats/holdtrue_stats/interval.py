"""Intervals of rates."""

import math
from functools import cache
from statistics import NormalDist

from holdtrue_stats.result import Estimate, insufficient


@cache
def z_value(level: float) -> float:
    """Return the half-width, in standard errors, of a two-sided normal interval of this level (0.95 → 1.96)."""
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(k: float, n: float, level: float = 0.95) -> Estimate:
    """Rate k / n with Wilson's score interval (1927); k and n may be real. No rows: insufficient."""
    if not n > 0:
        return insufficient(0.0, 1)
    z, p = z_value(level), min(max(k / n, 0.0), 1.0)
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(p, min(p, max(0.0, center - half)), max(p, min(1.0, center + half)), n)


def newcombe(k1: float, n1: float, k2: float, n2: float, level: float = 0.95) -> Estimate:
    """Difference k1/n1 - k2/n2 of independent rates with Newcombe's hybrid score interval (1998, method 10)."""
    a, b = wilson(k1, n1, level), wilson(k2, n2, level)
    if not (a.ok and b.ok):
        return insufficient(0.0, 1)
    d = a.value - b.value
    lower = d - math.hypot(a.value - a.lower, b.upper - b.value)
    upper = d + math.hypot(a.upper - a.value, b.value - b.lower)
    return Estimate(d, max(-1.0, lower), min(1.0, upper), min(n1, n2))
