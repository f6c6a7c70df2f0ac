"""Pauses that grow, with jitter, so that those who wait for the same thing do not come back together."""

from __future__ import annotations

import random


class Backoff:
    """A series of pauses: doubled each time between `first` and `longest` seconds, then a random part of it taken."""

    def __init__(self, first: float = 0.1, longest: float = 10.0) -> None:
        """Set the range."""
        self._first = first
        self._longest = longest
        self.failures = 0

    def next(self) -> float:
        """Return the seconds to wait after one more failure."""
        ceiling = min(self._longest, self._first * 2**self.failures)
        self.failures = min(self.failures + 1, 30)
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311  not for secrets

    def reset(self) -> None:
        """Begin anew after a success."""
        self.failures = 0
