"""From scores to probabilities: the isotonic map that estimated performance stands on."""

from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Floats, Ints, isotonic
from holdtrue_stats.packing import PackingError, pack, unpack

SCORE_BINS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A map by score bin: probability `p` [s], isotonic block `blocks` [s], and per block its `labels` [b]."""

    p: Floats
    blocks: Ints
    labels: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """A non-decreasing step map from score to probability, linear between its blocks.

    Per block [b]: `first` and `last` score, `probability`, and `labels`, the weight of the labelled rows behind it.
    """

    first: Floats
    last: Floats
    probability: Floats
    labels: Floats

    @property
    def n(self) -> float:
        """The weight of all labelled rows that the map was fitted on."""
        return float(self.labels.sum())

    def __call__(self, score: ArrayLike) -> Floats:
        """Return the probability of each score; beyond the ends the end's value; nan if the map is empty."""
        score = np.asarray(score, np.float64)
        if not len(self.first):
            return np.full(score.shape, np.nan)
        knots = np.column_stack([self.first, self.last]).ravel()
        return np.interp(score, knots, np.repeat(self.probability, 2))

    def block(self, score: ArrayLike) -> Ints:
        """Return the number of the block that each score belongs to: the nearer one if it lies between two."""
        middle = (self.last[:-1] + self.first[1:]) / 2
        return np.searchsorted(middle, np.asarray(score, np.float64), side="right").astype(np.int64)

    def table(self, bins: int = SCORE_BINS) -> Table:
        """Return the map at the middle of each of `bins` equal bins of [0, 1]."""
        middle = (np.arange(bins) + 0.5) / bins
        return Table(self(middle), self.block(middle), self.labels)

    def to_bytes(self) -> bytes:
        """Return the map as checked bytes."""
        return pack("calibration", self.arrays())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises PackingError."""
        arrays, _ = unpack("calibration", data)
        try:
            return cls(**cast("dict[str, Any]", arrays))
        except TypeError as error:
            raise PackingError(f"these are not the arrays of a calibration map: {error}") from error

    def arrays(self) -> dict[str, Floats]:
        """Return the arrays by name."""
        return {"first": self.first, "last": self.last, "probability": self.probability, "labels": self.labels}


def fit_isotonic(score: ArrayLike, y: ArrayLike, w: ArrayLike | None = None) -> Map:
    """Fit P(y = 1 | score) by weighted isotonic regression (Zadrozny & Elkan 2002).

    score [n] real, y [n] 0 or 1, w [n] weights (default 1). Rows with a non-finite score are left out; no rows give an
    empty map. Equal to scikit-learn's IsotonicRegression(out_of_bounds="clip").
    """
    s, label = np.asarray(score, np.float64), np.asarray(y, np.float64)
    weight = np.ones_like(s) if w is None else np.asarray(w, np.float64)
    use = np.isfinite(s) & (weight > 0)
    distinct, place = np.unique(s[use], return_inverse=True)
    if not len(distinct):
        return Map(*(np.zeros(0) for _ in range(4)))
    total = np.bincount(place, weight[use]).astype(np.float64)
    mean = np.bincount(place, weight[use] * label[use]) / total
    fit, blocks = isotonic(mean, total)
    start, stop = blocks[:-1], blocks[1:]
    return Map(distinct[start], distinct[stop - 1], fit[start], np.add.reduceat(total, start))


def score_bin(score: ArrayLike, bins: int = SCORE_BINS) -> Ints:
    """Return the bin of each score in [0, 1]: min(bins - 1, ⌊bins · score⌋)."""
    return np.clip((np.asarray(score) * bins).astype(np.int64), 0, bins - 1)
