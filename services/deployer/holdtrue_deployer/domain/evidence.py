"""What the monitor has said about champion and challenger since the traffic was last changed."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  msgspec reads the annotations
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

from holdtrue_stats.sequential import NOTHING, Sums

if TYPE_CHECKING:
    from collections.abc import Iterator

LATENCY_BINS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """Precision by scores alone: sums of the flagged rows' probabilities, and the variance that the map itself has."""

    sums: Sums
    map_variance: float
    invalid: bool
    """Shown to be wrong by labels: feeds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One revision in one window. Requests: answered, failed; latency: counts in 64 bins, two an octave from 1 µs."""

    restatement: int
    rows: int
    answered: int
    failed: int
    latency: tuple[int, ...] = ()
    realised: Sums = NOTHING
    """Flagged rows with a label: number, and how many were right."""
    estimated: Estimated | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A closed window of one revision, in nanoseconds since the epoch, end exclusive."""

    revision: str
    from_ns: int
    to_ns: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class Evidence:
    """Windows by their begin, per side. Every window counts once; its later restatement takes its place."""

    champion: Mapping[int, Figures] = field(default_factory=dict[int, Figures])
    challenger: Mapping[int, Figures] = field(default_factory=dict[int, Figures])
    latest_end_ns: int = 0
    """End of the latest window seen, of either side."""
    longest_ns: int = 0
    """Length of the longest window seen."""

    def fold(self, window: Window, *, challenger: bool) -> Evidence:
        """Return the evidence with the window; the same object if nothing is new in it."""
        side = self.challenger if challenger else self.champion
        known = side.get(window.from_ns)
        if known is not None and known.restatement >= window.figures.restatement:
            return self
        more = {**side, window.from_ns: window.figures}
        grown = replace(self, challenger=more) if challenger else replace(self, champion=more)
        return replace(
            grown,
            latest_end_ns=max(self.latest_end_ns, window.to_ns),
            longest_ns=max(self.longest_ns, window.to_ns - window.from_ns),
        )

    @property
    def rows(self) -> int:
        """Rows that the challenger predicted."""
        return sum(figures.rows for figures in self.challenger.values())

    def pairs(self) -> Iterator[tuple[Figures, Figures]]:
        """Yield (champion, challenger) of the windows in which both have served: only the like is compared."""
        for start in sorted(self.champion.keys() & self.challenger.keys()):
            yield self.champion[start], self.challenger[start]


@dataclass(frozen=True, slots=True)
class Tally:
    """The windows of one side added up."""

    answered: int = 0
    failed: int = 0
    latency: tuple[int, ...] = (0,) * LATENCY_BINS
    realised: Sums = NOTHING
    estimated: Sums = NOTHING
    map_variance: float = 0.0
    invalid: bool = False

    def add(self, figures: Figures) -> Tally:
        """Add one window. The map's variance is the same in all windows, so the latest stands for all."""
        estimated = figures.estimated
        return Tally(
            answered=self.answered + figures.answered,
            failed=self.failed + figures.failed,
            latency=_added(self.latency, figures.latency),
            realised=self.realised + figures.realised,
            estimated=self.estimated + estimated.sums if estimated else self.estimated,
            map_variance=estimated.map_variance if estimated else self.map_variance,
            invalid=estimated.invalid if estimated else self.invalid,
        )


def tally(windows: Iterator[Figures]) -> Tally:
    """Add windows up, in their order of time."""
    return reduce(Tally.add, windows, Tally())


def _added(total: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(total, more, strict=True)) if more else total
