"""Time as a parameter, so that tests decide what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...


class SystemClock:
    """The computer's own clock."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


class VirtualClock:
    """A clock that moves only when told."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        """Begin at `start`, which must carry a time zone."""
        self._start = start
        self._passed = timedelta()

    def now(self) -> datetime:
        """Return the start plus all that was advanced, in UTC."""
        return (self._start + self._passed).astimezone(UTC)

    def monotonic(self) -> float:
        """Return the seconds advanced so far."""
        return self._passed.total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass; it never goes back."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._passed += timedelta(seconds=seconds)
