"""The counts that are kept: of predictions, and of labels, of one revision and segment in one window.

All arrays are int64, so that buckets of partitions, segments and windows add up in any order to the same bits.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self, cast

import numpy as np
from holdtrue_stats.arrays import Ints
from holdtrue_stats.calibration import SCORE_BINS
from holdtrue_stats.histogram import Edges, State, merge
from holdtrue_stats.packing import pack, unpack

LATENCY_BINS = 64
ANSWERED, FAILED, SHED = range(3)


class Place(NamedTuple):
    """Where rows are counted: revision, segment cell, and begin of the window in nanoseconds since the epoch."""

    revision: str
    segment: int
    start_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Counts of decisions and requests.

    `score` [2, 1024] by decision and score bin; `requests` [3]: answered, failed, shed; `latency` [64]: answered
    requests in log2-spaced bins from 1 µs, two an octave.
    """

    score: Ints
    requests: Ints
    latency: Ints

    @classmethod
    def empty(cls) -> Self:
        """Return the counts of nothing."""
        return cls(*(np.zeros(shape, np.int64) for shape in ((2, SCORE_BINS), 3, LATENCY_BINS)))

    def __add__(self, other: "Scores") -> "Scores":
        """Return the counts of both."""
        return Scores(self.score + other.score, self.requests + other.requests, self.latency + other.latency)

    def to_bytes(self) -> bytes:
        """Return the counts as checked bytes; equal counts give equal bytes."""
        return pack("scores", {"score": self.score, "requests": self.requests, "latency": self.latency})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises PackingError."""
        return cls(**cast("dict[str, Ints]", unpack("scores", data)[0]))


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Counts of predictions: of scores, and of the values of the columns."""

    scores: Scores
    features: State

    @classmethod
    def empty(cls, edges: Edges) -> Self:
        """Return the counts of nothing."""
        return cls(Scores.empty(), State.empty(edges))

    def __add__(self, other: "Served") -> "Served":
        """Return the counts of both."""
        return Served(self.scores + other.scores, merge(self.features, other.features))


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Counts of labels: `cells` [2, 2, 1024] by decision, label and score bin. A part may be negative, sums are not."""

    cells: Ints

    @classmethod
    def empty(cls) -> Self:
        """Return the counts of nothing."""
        return cls(np.zeros((2, 2, SCORE_BINS), np.int64))

    def __add__(self, other: "Labelled") -> "Labelled":
        """Return the counts of both."""
        return Labelled(self.cells + other.cells)

    def to_bytes(self) -> bytes:
        """Return the counts as checked bytes."""
        return pack("labelled", {"cells": self.cells})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises PackingError."""
        return cls(cast("Ints", unpack("labelled", data)[0]["cells"]))
