"""From scores to probabilities: the isotonic map that estimated performance stands on, and how far it is off.

Whether the map still holds is for `validity` to say.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Counts, Floats, Ints, isotonic, ratio
from holdtrue_stats.histogram import groups
from holdtrue_stats.interval import mean, z_value
from holdtrue_stats.packing import PackingError, pack, unpack
from holdtrue_stats.result import Estimate, insufficient, invalid

SCORE_BINS = 1024
_SMALLEST = float(np.finfo(np.float64).eps)


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
        """Return the mean of the map over each of `bins` equal bins of [0, 1], and the block of the bin's middle."""
        middle = (np.arange(bins) + 0.5) / bins
        return Table(self._means(bins), self.block(middle), self.labels)

    def _means(self, bins: int) -> Floats:
        """The map is piecewise linear: trapezoids between its knots and the bins' borders are exact."""
        knots = np.concatenate([self.first, self.last])
        border = np.unique(np.concatenate([np.arange(bins + 1) / bins, knots[(knots > 0) & (knots < 1)]]))
        height = self(border)
        place = score_bin((border[1:] + border[:-1]) / 2, bins)
        area = np.bincount(place, np.diff(border) * (height[1:] + height[:-1]) / 2, bins)
        return area.astype(np.float64) * bins

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

    score [n] real, y [n] 0 or 1, w [n] weights (default 1). Rows with a score, label or weight that is not finite are
    left out; no rows give an empty map. Equal to scikit-learn's IsotonicRegression(out_of_bounds="clip").
    """
    s, label = np.asarray(score, np.float64), np.asarray(y, np.float64)
    weight = np.ones_like(s) if w is None else np.asarray(w, np.float64)
    use = np.isfinite(s) & (weight > 0) & np.isfinite(label * weight)
    distinct, place = np.unique(s[use], return_inverse=True)
    if not len(distinct):
        return Map(*(np.zeros(0) for _ in range(4)))
    total = np.bincount(place, weight[use]).astype(np.float64)
    mean = np.bincount(place, weight[use] * label[use]) / total
    fit, blocks = isotonic(mean, total)
    start, stop = blocks[:-1], blocks[1:]
    return Map(distinct[start], distinct[stop - 1], fit[start], np.add.reduceat(total, start))


def smoothed(p: Floats, blocks: Ints, m: Floats, rows: Floats) -> Floats:
    """Value of the map in each isotonic block as its own labels leave it open: (m p_b + ½)/(m + 1), [b].

    p, blocks, rows [s]: probability, block and number of rows of each score bin, p_b their mean; m [b]: labels behind
    each block. Without the ½ blocks of pure 0 or 1 would have no variance. nan where there are no rows.
    """
    value = ratio(np.bincount(blocks, rows * p, len(m)), np.bincount(blocks, rows, len(m)))
    return (m * value[: len(m)] + 0.5) / (m + 1)  # an empty map has no block, though its bins name one


def block_variance(p: Floats, blocks: Ints, m: Floats, rows: Floats) -> Floats:
    """Variance p_b(1 - p_b)/m_b of the map's value in each isotonic block, p_b `smoothed`; 0 without rows: [b]."""
    value = smoothed(p, blocks, m, rows)
    return np.nan_to_num(ratio(value * (1 - value), m))


def score_bin(score: ArrayLike, bins: int = SCORE_BINS) -> Ints:
    """Return the bin of each score in [0, 1]: min(bins - 1, ⌊bins · score⌋)."""
    place = np.nan_to_num(np.asarray(score) * bins, nan=0.0)
    return np.clip(place, 0, bins - 1).astype(np.int64)


def ece(labelled: Counts, p: ArrayLike, level: float = 0.95, size: int = 15) -> Estimate:
    """Expected calibration error Σ n_g/n |mean y - mean p| over 15 groups of equal mass by score (Naeini et al. 2015).

    labelled [2, s] (label, score bin) or [2, 2, s] (decision first); p [s]. The interval is that of the same sum over
    the same groups: since |a + e| differs from |a| by at most |e|, the bounds are the value ± the normal quantile of Σ
    n_g/n |e_g|, a sum of half-normal errors. A perfect map has a value above 0 by chance; then `lower` is 0.
    """
    neg, pos, known, problem = _cells(labelled, p)
    if problem is not None:
        return problem
    group = groups((neg + pos)[None], size)[0]
    mass, ones, expected = (np.bincount(group, v, size) for v in (neg + pos, pos, (neg + pos) * known))
    n, rate = float(mass.sum()), ratio(ones, mass)
    value = float(np.abs(ones - expected).sum()) / n
    error = np.sqrt(np.nan_to_num(mass * rate * (1 - rate))) / n
    spread = math.sqrt(float((error**2).sum()) * (1 - 2 / math.pi))
    off = float(error.sum()) * math.sqrt(2 / math.pi) + z_value(2 * level - 1) * spread
    return Estimate(value, max(0.0, value - off), min(1.0, value + off), n)


def brier(labelled: Counts, p: ArrayLike, level: float = 0.95) -> Estimate:
    """Brier score, the mean of (p - y)², with Student's interval; arguments as in `ece`. Insufficient: one row."""
    neg, pos, known, problem = _cells(labelled, p)
    if problem is not None:
        return problem
    seen = _mean_loss(neg, pos, known**2, (1 - known) ** 2, level)
    return replace(seen, lower=max(0.0, seen.lower), upper=min(1.0, seen.upper))


def log_loss(labelled: Counts, p: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean negative log-likelihood of the labels in nats, p kept off 0 and 1 by 2.2e-16; arguments as in `ece`."""
    neg, pos, known, problem = _cells(labelled, p)
    if problem is not None:
        return problem
    safe = np.clip(known, _SMALLEST, 1 - _SMALLEST)
    seen = _mean_loss(neg, pos, -np.log1p(-safe), -np.log(safe), level)
    return replace(seen, lower=max(0.0, seen.lower))


def _mean_loss(neg: Floats, pos: Floats, of_neg: Floats, of_pos: Floats, level: float) -> Estimate:
    total, squares = float(neg @ of_neg + pos @ of_pos), float(neg @ of_neg**2 + pos @ of_pos**2)
    n = float((neg + pos).sum())
    seen = mean(total, squares, n, level)
    return seen if n > 1 else replace(seen, value=total / n)


def _cells(labelled: Counts, p: ArrayLike) -> tuple[Floats, Floats, Floats, Estimate | None]:
    """Rows by label and their probability where there are any, and what bars a judgement."""
    counts, known = np.asarray(labelled, np.float64), np.asarray(p, np.float64)
    neg, pos = counts if counts.ndim == 2 else counts.sum(0)  # noqa: PLR2004 - label and score bin
    used = neg + pos > 0
    neg, pos, known = neg[used], pos[used], known[used]
    n = float((neg + pos).sum())
    if not n > 0:
        return neg, pos, known, insufficient(0.0, 1, "no labels")
    if not (np.isfinite(known).all() and math.isfinite(n)):
        return neg, pos, known, invalid(n, "rows without a probability")
    return neg, pos, np.clip(known, 0.0, 1.0), None
