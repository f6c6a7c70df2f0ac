"""Comparisons that stay valid however often one looks.

Each look at growing data costs error rate. The bounds here hold at all looks together: with probability 1 - alpha the
truth never leaves them. Which one to take, with the half-width of a difference of two rates of .88 (alpha 5 %):

| rows per group                  |  100 | 1,000 | 10,000 | holds                                                |
|---------------------------------|-----:|------:|-------:|------------------------------------------------------|
| one fixed look (Newcombe)       | .093 |  .029 |   .009 | for one look only                                    |
| `compare_means`, resolution .05 | .179 |  .044 |   .015 | for many rows: variances are estimated               |
| `compare_rates`, best_n 1,000   | .265 |  .067 |   .023 | for any number of rows: nothing is estimated         |
| `betting.Bernstein`, same       | .295 |  .068 |   .029 | likewise, for any values in [0, 1]                   |

Tuning. No such bound is best at all times. `resolution` is the difference that matters (a margin): bounds are tightest
when their half-width is about it. `best_n` says the same in rows. Off by a factor of ten in rows it costs a fifth of
the width. Choose it before the first look, never after.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Counts
from holdtrue_stats.histogram import interpolate
from holdtrue_stats.interval import joined, mean, z_value
from holdtrue_stats.result import NAN, Estimate, insufficient, invalid

LEAST_ROWS = 20
"""Rows of a group before normal theory is trusted."""
_PRIOR_ROWS = 8.0
_MOST_ROWS = 1e12  # beyond, differences of log-gamma lose their digits; more rows are counted as so many
_LEAST_VARIANCE = 1e-300
_STEPS = 60  # halvings of a bisection: 1e-18 of its range


@dataclass(frozen=True, slots=True)
class Sums:
    """Sufficient statistics of a group's rows: number, sum and sum of squares. Windows add up with +."""

    n: float
    total: float
    squares: float

    @classmethod
    def of_rate(cls, k: float, n: float) -> Self:
        """Return the sums of k ones among n rows."""
        return cls(n, k, k)

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums of the rows of both."""
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """Mean of the rows; nan without rows."""
        return self.total / self.n if self.n else NAN

    @property
    def variance(self) -> float:
        """Variance of one row, shrunk towards that of a fair coin by the weight of `_PRIOR_ROWS` rows.

        A group that shows no variation yet (20 of 20 right) would otherwise be taken as certain. Simulated over 400
        looks at rates from .005 to .99 with groups of 1:20 to 1:1, bounds are left in at most 4.2 % at alpha 5 %;
        with the weight of one row it was up to 14 %.
        """
        spread = max(0.0, self.squares - self.total * self.total / self.n) if self.n else 0.0
        return (spread + _PRIOR_ROWS / 4) / (self.n + _PRIOR_ROWS)


NOTHING = Sums(0.0, 0.0, 0.0)
"""The sums of no rows."""


def compare_means(a: Sums, b: Sums, resolution: float, alpha: float = 0.05, extra_variance: float = 0.0) -> Estimate:
    """Difference of means b - a of two independent groups, for values of unit scale (rates, probabilities, precision).

    Normal-mixture confidence sequence (Robbins 1970; Howard et al. 2021; for sample variances Waudby-Smith et al. 2024)
    on the information scale t = 1 / variance, on which an estimate times t moves like a Brownian motion, whatever the
    two groups' sizes. `extra_variance` is that of an error which all looks share (of a calibration map): it widens the
    bounds by its normal quantile. `n` is that of the smaller group. Insufficient: fewer than 20 rows in one.
    """
    smaller = min(a.n, b.n)
    if not smaller >= LEAST_ROWS:
        missing = math.ceil(LEAST_ROWS - smaller) if smaller >= 0 else LEAST_ROWS
        return insufficient(smaller, missing, f"fewer than {LEAST_ROWS} rows in a group")
    d, variance = b.mean - a.mean, a.variance / a.n + b.variance / b.n
    if not (math.isfinite(d) and _LEAST_VARIANCE < variance < math.inf):
        return invalid(smaller, "the sums are too large to compare")
    half = half_width(variance, resolution, alpha) + z_value(1 - alpha) * math.sqrt(max(0.0, extra_variance))
    return Estimate(d, d - half, d + half, smaller)


def half_width(variance: float, resolution: float, alpha: float = 0.05) -> float:
    """Return the half-width, valid at all looks, of an estimate that now has this variance.

    √((t + η) ln((t + η) / (η α²))) / t with t = 1 / variance; η from `resolution`.
    """
    return _radius(1 / variance, _mixture(_best_information(resolution, alpha), alpha), alpha)


def rows_needed(variance_of_row: float, resolution: float, alpha: float = 0.05) -> int:
    """Return the rows per group at which the half-width becomes `resolution`."""
    return math.ceil(2 * variance_of_row * _best_information(resolution, alpha))


def mean_cs(total: float, squares: float, n: float, level: float = 0.95, best_n: float = 1000) -> Estimate:
    """Mean of n rows from their sum and sum of squares, in the unit of the rows.

    Asymptotic confidence sequence (Waudby-Smith et al. 2024; mixture of Robbins 1970), half-width
    √(s²(n + η) ln((n + η) / (η α²))) / n, η from best_n. Insufficient: fewer than 40 rows, where s² is too unsure. For
    rows in [0, 1] there are `rate_cs` and `Bernstein`, which need no theory of large numbers.
    """
    if not n >= 2 * LEAST_ROWS:
        missing = math.ceil(2 * LEAST_ROWS - n) if n >= 0 else 2 * LEAST_ROWS
        return insufficient(n, missing, f"fewer than {2 * LEAST_ROWS} rows")
    fixed = mean(total, squares, n, level)
    if not fixed.ok:
        return fixed
    variance = max(0.0, float(squares) / n - fixed.value * fixed.value) * n / (n - 1)
    half = math.sqrt(variance) * _radius(float(n), _mixture(best_n, 1 - level), 1 - level)
    return Estimate(fixed.value, fixed.value - half, fixed.value + half, n)


def rate_cs(k: float, n: float, alpha: float = 0.05, best_n: float = 1000) -> Estimate:
    """Rate k / n with an interval that holds at all looks, for any number of rows; k and n are numbers of rows.

    Beta-binomial mixture (Robbins 1970; Howard et al. 2021, proposition 7): all p with B(cp + k, c(1-p) + n - k) /
    B(cp, c(1-p)) < p^k (1-p)^(n-k) / alpha; c, from best_n, says where it is tightest. No rows: insufficient.
    """
    if not (math.isfinite(k) and math.isfinite(n)):
        return invalid(n, f"{k:g} of {n:g} is no rate")
    if not n > 0:
        return insufficient(0.0, 1, "no rows")
    share, rows = min(max(k / n, 0.0), 1.0), min(n, _MOST_ROWS)
    c, limit = _mixture(best_n, alpha), math.log(1 / alpha)

    def beyond(p: float) -> bool:
        return _log_mixture(share * rows, rows, p, c) >= limit

    lower = _bisect(beyond, 0.0, share)
    return Estimate(share, lower, 1 - _bisect(lambda p: beyond(1 - p), 0.0, 1 - share), n)


def compare_rates(  # noqa: PLR0913, PLR0917 - two groups and the tuning
    k1: float, n1: float, k2: float, n2: float, alpha: float = 0.05, best_n: float = 1000
) -> Estimate:
    """Difference k2/n2 - k1/n1 of independent rates, valid at all looks and any number of rows: two `rate_cs`."""
    return apart(rate_cs(k1, n1, alpha / 2, best_n), rate_cs(k2, n2, alpha / 2, best_n))


def quantile_cs(counts: Counts, cuts: ArrayLike, q: float, alpha: float = 0.05, best_n: float = 1000) -> Estimate:
    """Quantile q of the values counted in bins, valid at all looks, any distribution and number of rows.

    counts [b]; cuts [b + 1] ascending, bin i holds cuts[i] <= x < cuts[i + 1], the ends may be infinite. Bounds are
    cuts: as fine as the bins, -inf or inf while nothing is excluded. Howard & Ramdas (2022, section 3) with the beta-
    binomial mixture of `rate_cs`, because a band for all quantiles at once (DKW type) is blind at the ends: it bounds a
    99 % quantile from 76,000 rows on, this from about 1,100.
    """
    below = np.r_[0.0, np.cumsum(np.asarray(counts, np.float64))]
    edges, n = np.asarray(cuts, np.float64), float(below[-1])
    if not (n > 0 and math.isfinite(n) and 0 < q < 1):
        return insufficient(0.0, 1, "no rows")
    c, limit, rows = _mixture(best_n, alpha), math.log(1 / alpha), min(n, _MOST_ROWS)

    def beyond(k: float) -> bool:
        return _log_mixture(k, rows, q, c) >= limit

    least = _bisect(beyond, 0.0, q * rows) * (n / rows)
    most = n - _bisect(lambda k: beyond(rows - k), 0.0, (1 - q) * rows) * (n / rows)
    low, high = np.flatnonzero(below < least), np.flatnonzero(below > most)
    lower = float(edges[low[-1]]) if len(low) else float(edges[0])
    upper = float(edges[high[0]]) if len(high) else float(edges[-1])
    return Estimate(float(interpolate(np.diff(below), edges, q)), lower, upper, n)


def compare_quantiles(  # noqa: PLR0913, PLR0917 - two groups and the tuning
    a: Counts, b: Counts, cuts: ArrayLike, q: float, alpha: float = 0.05, best_n: float = 1000
) -> Estimate:
    """Difference of quantile q, b - a, of two independent groups on the same bins: two `quantile_cs`."""
    return apart(quantile_cs(a, cuts, q, alpha / 2, best_n), quantile_cs(b, cuts, q, alpha / 2, best_n))


def apart(a: Estimate, b: Estimate) -> Estimate:
    """Return the difference b - a of estimates whose bounds hold at all looks: the bounds' own differences."""
    return joined(Estimate(b.value - a.value, b.lower - a.upper, b.upper - a.lower, min(a.n, b.n)), (a, b))


def _log_mixture(k: float, n: float, p: float, c: float) -> float:
    """Log of the mixture of likelihood ratios against rate p after k of n, with a Beta(cp, c(1-p)) for the mixture."""
    if p <= 0 or p >= 1:
        return math.inf if (k > 0 if p <= 0 else k < n) else 0.0
    a, b = c * p, c * (1 - p)
    prior = math.lgamma(a) + math.lgamma(b) - math.lgamma(c)
    after = math.lgamma(a + k) + math.lgamma(b + (n - k)) - math.lgamma(c + n)
    return after - prior - k * math.log(p) - (n - k) * math.log1p(-p)


def _bisect(beyond: Callable[[float], bool], low: float, high: float) -> float:
    """Return where `beyond` turns from true (towards `low`) to false: the outer side, `low` if it is never true."""
    if not beyond(low):
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) else (low, middle)
    return low


def _radius(t: float, eta: float, alpha: float) -> float:
    """Half-width of the normal-mixture bound at intrinsic time t."""
    return math.sqrt((t + eta) * math.log((t + eta) / (eta * alpha * alpha))) / t


def _mixture(best: float, alpha: float) -> float:
    """Return the η at which the bound is tightest at intrinsic time `best`."""
    return best / _share(alpha)


def _best_information(resolution: float, alpha: float) -> float:
    share = _share(alpha)
    return (1 + 1 / share) * math.log((share + 1) / (alpha * alpha)) / resolution**2


def _share(alpha: float) -> float:
    """Return t / η at the tightest point (Howard et al. 2021, section 3.5, first-order form)."""
    return 2 * math.log(1 / alpha) + math.log(1 + 2 * math.log(1 / alpha))
