"""Comparisons that stay valid however often one looks.

Each look at growing data costs error rate. The bounds here hold at all looks together: with probability 1 - alpha the
truth never leaves them. They are two-sided normal-mixture confidence sequences (Robbins 1970; Howard et al. 2021; for
sample variances Waudby-Smith et al. 2024) on the information scale t = 1 / variance, on which an estimate times t moves
like a Brownian motion, whatever the two groups' sizes.

`resolution` is the difference that matters (a margin): bounds are tightest when their half-width is about it.
"""

import math
from dataclasses import dataclass
from typing import Self

from holdtrue_stats.result import Estimate, insufficient

LEAST_ROWS = 20
"""Rows of a group before normal theory is trusted."""
_PRIOR_ROWS = 8.0


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
        """Mean of the rows."""
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Variance of one row, shrunk towards that of a fair coin by the weight of `_PRIOR_ROWS` rows.

        A group that shows no variation yet (20 of 20 right) would otherwise be taken as certain. Simulated over 400
        looks at rates from .005 to .99 with groups of 1:20 to 1:1, bounds are left in at most 4.2 % at alpha 5 %;
        with the weight of one row it was up to 14 %.
        """
        spread = max(0.0, self.squares - self.total * self.total / self.n)
        return (spread + _PRIOR_ROWS / 4) / (self.n + _PRIOR_ROWS)


def compare_means(a: Sums, b: Sums, resolution: float, alpha: float = 0.05) -> Estimate:
    """Difference of means b - a of two independent groups, for values of unit scale (rates, probabilities, precision).

    `n` is that of the smaller group. Insufficient: fewer than 20 rows in one.
    """
    smaller = min(a.n, b.n)
    if smaller < LEAST_ROWS:
        return insufficient(smaller, math.ceil(LEAST_ROWS - smaller))
    d = b.mean - a.mean
    half = half_width(a.variance / a.n + b.variance / b.n, resolution, alpha)
    return Estimate(d, d - half, d + half, smaller)


def half_width(variance: float, resolution: float, alpha: float = 0.05) -> float:
    """Return the half-width, valid at all looks, of an estimate that now has this variance.

    √((t + η) ln((t + η) / (η α²))) / t with t = 1 / variance; η from `resolution`.
    """
    t = 1 / variance
    eta = _mixture(resolution, alpha)
    return math.sqrt((t + eta) * math.log((t + eta) / (eta * alpha * alpha))) / t


def rows_needed(variance_of_row: float, resolution: float, alpha: float = 0.05) -> int:
    """Return the rows per group at which the half-width becomes `resolution`."""
    return math.ceil(2 * variance_of_row * _best_information(resolution, alpha))


def _mixture(resolution: float, alpha: float) -> float:
    """Return the η that makes the bound tightest where its half-width equals `resolution`."""
    return _best_information(resolution, alpha) / _share(alpha)


def _best_information(resolution: float, alpha: float) -> float:
    share = _share(alpha)
    return (1 + 1 / share) * math.log((share + 1) / (alpha * alpha)) / resolution**2


def _share(alpha: float) -> float:
    """Return t / η at the tightest point (Howard et al. 2021, section 3.5, first-order form)."""
    return 2 * math.log(1 / alpha) + math.log(1 + 2 * math.log(1 / alpha))
