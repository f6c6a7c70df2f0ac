"""Bets as evidence: bounds and tests for values in [0, 1] that hold at all looks and for any number of rows."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Floats
from holdtrue_stats.result import Estimate, Status, insufficient, invalid
from holdtrue_stats.sequential import NOTHING, Sums, apart

_BOLDEST = 0.5  # greatest bet as a share of the wealth that could be lost


@dataclass(frozen=True, slots=True)
class Bernstein:
    """Mean of values in [0, 1], valid at all looks and any number of rows, folded from windows' sums.

    Empirical-Bernstein confidence sequence with predictable weights (Waudby-Smith & Ramdas 2023, theorem 2): a window's
    weight λ depends on earlier windows only, so sums, squares and counts suffice, but their order matters. λ = √(2
    ln(2/α) / (s² max(best_n, t ln(1 + t/best_n)))), at most ½.
    """

    alpha: float = 0.05
    best_n: float = 1000
    seen: Sums = NOTHING
    weight: float = 0.0
    weighted: float = 0.0
    penalty: float = 0.0
    possible: bool = True
    """False once sums came in that values in [0, 1] cannot have."""

    def update(self, window: Sums) -> Self:
        """Return the state with the rows of one more window."""
        if window.n == 0 or not self.possible:
            return self
        if not 0 <= window.squares <= window.total <= window.n < math.inf:
            return replace(self, possible=False)
        t, bet = self.seen.n, self._bet()
        centre = (self.seen.total + 0.5) / (t + 1)
        around = max(0.0, window.squares - 2 * centre * window.total + window.n * centre * centre)
        return replace(
            self,
            seen=self.seen + window,
            weight=self.weight + bet * window.n,
            weighted=self.weighted + bet * window.total,
            penalty=self.penalty + around * (-math.log1p(-bet) - bet),
        )

    @property
    def estimate(self) -> Estimate:
        """The mean of all rows, with bounds. No rows: insufficient. Impossible sums: invalid."""
        if not self.possible:
            return invalid(self.seen.n, "values outside [0, 1]")
        if not self.weight:
            return insufficient(0.0, 1, "no rows")
        centre, half = self.weighted / self.weight, (math.log(2 / self.alpha) + self.penalty) / self.weight
        value = min(max(self.seen.mean, centre - half), centre + half)
        return Estimate(value, max(0.0, centre - half), min(1.0, centre + half), self.seen.n)

    def minus(self, other: "Bernstein") -> Estimate:
        """Difference self - other of independent groups, with the sum of both alphas."""
        return apart(other.estimate, self.estimate)

    def _bet(self) -> float:
        t, mean = self.seen.n, (self.seen.total + 0.5) / (self.seen.n + 1)
        spread = self.seen.squares - 2 * mean * self.seen.total + t * mean * mean
        variance = (max(0.0, spread) + 0.25) / (t + 1)
        horizon = max(self.best_n, t * math.log1p(t / self.best_n))
        return min(_BOLDEST, math.sqrt(2 * math.log(2 / self.alpha) / (variance * horizon)))


@dataclass(frozen=True, slots=True, repr=False)
class EProcess:
    """Evidence, at any time, that the mean of values in [0, 1] is above `bound`.

    A fair gambler's wealth (Waudby-Smith & Ramdas 2023, aGRAPA bets): while the mean is at most `bound`, the chance
    that it ever reaches 1/α is at most α (Ville 1939). For "below", bet on 1 - x with bound 1 - m.
    """

    bound: float
    log_wealth: float = 0.0
    log_best: float = 0.0
    """The greatest so far, from 0 on."""
    seen: Sums = NOTHING
    skipped: int = 0
    """Values that were no numbers."""

    @property
    def value(self) -> float:
        """The e-value: present wealth, from 1 on."""
        return math.exp(min(self.log_wealth, 700.0))

    @property
    def p(self) -> float:
        """A p-value that is valid at all looks: one over the greatest wealth."""
        return math.exp(-self.log_best)

    @property
    def n(self) -> float:
        """Number of values."""
        return self.seen.n

    @property
    def status(self) -> Status:
        """Insufficient before the first value."""
        return Status.OK if self.seen.n else Status.INSUFFICIENT

    def __repr__(self) -> str:
        """Read like `EProcess(mean > 0.5: e=31.2, p=0.03, n=200)`."""
        return f"EProcess(mean > {self.bound:g}: e={self.value:.3g}, p={self.p:.3g}, n={self.n:g})"

    def update(self, x: ArrayLike) -> Self:
        """Return the state after the values x [n], in the order in which they came; beyond [0, 1] they are clipped."""
        every = np.atleast_1d(np.asarray(x, np.float64)).ravel()
        values = np.clip(every[~np.isnan(every)], 0.0, 1.0)
        if not len(values):
            return replace(self, skipped=self.skipped + len(every))
        path = self.log_wealth + np.cumsum(np.log1p(self._bets(values) * (values - self.bound)))
        return replace(
            self,
            log_wealth=float(path[-1]),
            log_best=max(self.log_best, float(path.max())),
            seen=self.seen + Sums(float(len(values)), float(values.sum()), float((values * values).sum())),
            skipped=self.skipped + len(every) - len(values),
        )

    def _bets(self, values: Floats) -> Floats:
        """The share to bet on each value, from what came before it."""
        before = self.seen.n + np.arange(len(values))
        total = self.seen.total + np.r_[0.0, np.cumsum(values)[:-1]]
        squares = self.seen.squares + np.r_[0.0, np.cumsum(values * values)[:-1]]
        mean = (total + 0.5) / (before + 1)
        variance = np.maximum(0.0, squares - 2 * mean * total + before * mean * mean)
        edge = mean - self.bound
        grow = edge / ((variance + 0.25) / (before + 1) + edge * edge)
        return np.clip(grow, 0.0, _BOLDEST / max(self.bound, 1e-9))
