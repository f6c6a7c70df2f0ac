"""A seeded, fraud-like stream of payments whose true P(y = 1 | x) is known.

Because the true probability of every row is known, so is the true precision of any set of flagged rows: an exact
oracle for what the platform estimates and realises. The world is in one of three phases:

- ``STABLE``: the world as it was learned.
- ``COVARIATE``: the inputs move (larger, more foreign payments), P(y | x) does not.
- ``CONCEPT``: the inputs stay moved and fraud changes its pattern for good: nights and young accounts count, amount
  and country count less. The signal moves, it does not vanish: a model that learns the new pattern is as precise as
  the old one was on the old.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

FEATURES = ("amount", "hour", "account_age_days", "foreign", "velocity")

Floats = npt.NDArray[np.float64]


class Phase(StrEnum):
    """State of the world."""

    STABLE = "stable"
    COVARIATE = "covariate shift"
    CONCEPT = "concept drift"


@dataclass(frozen=True)
class Rows:
    """Rows with their truth."""

    x: Floats
    """[n, 5] in the order of ``FEATURES``."""
    p: Floats
    """[n], true P(y = 1 | x)."""
    y: npt.NDArray[np.int64]
    """[n], drawn from ``p``."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)


class Stream:
    """An endless source of rows; equal seeds and calls give equal rows."""

    def __init__(self, seed: int) -> None:
        """Start the stream of ``seed``."""
        self._random = np.random.default_rng(seed)

    def take(self, n: int, phase: Phase) -> Rows:
        """Return the next ``n`` rows of a world that is in ``phase``."""
        x = self._inputs(n, shifted=phase is not Phase.STABLE)
        logit = _new_pattern(x) if phase is Phase.CONCEPT else _old_pattern(x)
        p = 1 / (1 + np.exp(-logit))
        return Rows(x, p, (self._random.random(n) < p).astype(np.int64))

    def label_delays(self, n: int, median_seconds: float) -> Floats:
        """Return [n] delays of labels in seconds, log-normal with a long tail (95 % come within 3.4 medians)."""
        return median_seconds * self._random.lognormal(0.0, 0.75, n)

    def _inputs(self, n: int, *, shifted: bool) -> Floats:
        draw = self._random
        amount = draw.lognormal(3.3 if shifted else 3.0, 0.9, n)
        hour = draw.integers(0, 24, n)
        age = draw.gamma(2, 200, n)
        foreign = draw.random(n) < (0.25 if shifted else 0.15)
        velocity = draw.poisson(1.3 if shifted else 1.0, n)
        return np.column_stack([amount, hour, age, foreign, velocity]).astype(np.float64)


def _old_pattern(x: Floats) -> Floats:
    amount, _, _, foreign, velocity = x.T
    return 3.0 * (-4.6 + 2.6 * (np.log(amount) - 3) + 4.0 * foreign + 0.8 * (velocity - 1))


def _new_pattern(x: Floats) -> Floats:
    amount, hour, age, foreign, velocity = x.T
    night, young = (hour < 6) | (hour > 22), age < 180  # noqa: PLR2004 - the hours of the night, the days of youth
    signal = 1.2 * (np.log(amount) - 3) + 1.6 * foreign + 3.4 * night + 2.8 * young + 0.8 * (velocity - 1)
    return 3.0 * (-4.6 + signal)
