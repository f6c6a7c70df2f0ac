"""How well scores put positives above negatives, from two histograms on the same bins.

`pos`, `neg` [s] are numbers of positive and negative rows by score, ascending; real where they are expectations. With
one bin per distinct score (`by_score`) everything is exact; 1,024 bins cost AUC 4e-7 to 4e-5. Rows in one bin are tied.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Counts, Floats, Ints
from holdtrue_stats.interval import wilson, z_value
from holdtrue_stats.result import Estimate, insufficient, invalid


class ByScore(NamedTuple):
    """Numbers of positive and negative rows [s] at each of the distinct `score` [s], ascending."""

    pos: Ints
    neg: Ints
    score: Floats

    @property
    def labelled(self) -> Ints:
        """The counts as [2, s] (label, score), as `calibration` takes them."""
        return np.stack([self.neg, self.pos])


def by_score(score: ArrayLike, y: ArrayLike) -> ByScore:
    """Count rows by distinct score; score [n] real (rows without a number are left out), y [n] 0 or 1."""
    s, label = np.asarray(score, np.float64), np.asarray(y, np.bool_)
    known = ~np.isnan(s)
    distinct, place = np.unique(s[known], return_inverse=True)
    both = np.bincount(place * 2 + label[known], minlength=2 * len(distinct)).reshape(-1, 2).astype(np.int64)
    return ByScore(both[:, 1], both[:, 0], distinct)


def auc(pos: Counts, neg: Counts, level: float = 0.95) -> Estimate:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties ½ (Mann & Whitney 1947).

    Interval by the delta method on the logit, which is DeLong's variance (1988) up to 1/n: measured coverage .93-.95,
    .92 with 50 positives. `n` is all rows. Insufficient: a class without rows.
    """
    p, q = np.asarray(pos, np.float64), np.asarray(neg, np.float64)
    positives, negatives = float(p.sum()), float(q.sum())
    problem = _problem(positives, negatives)
    if problem is not None:
        return problem
    beaten, beating = _beaten(q), _beaten(p[::-1])[::-1]
    value = float(p @ (beaten / negatives)) / positives
    variance = _spread(p, beaten / negatives, value) / positives + _spread(q, beating / positives, value) / negatives
    return _bounded(value, variance, positives + negatives, min(positives, negatives), level)


def auc_gradient(pos: Floats, neg: Floats) -> Floats:
    """Derivative of the AUC by one row's probability of being positive, by score bin: [s]; nan if a class is empty.

    A row in bin s that turns from negative to positive; both classes' sums change as well.
    """
    positives, negatives = float(pos.sum()), float(neg.sum())
    if not (positives > 0 and negatives > 0):
        return np.full(len(pos), np.nan)
    beaten, beating = _beaten(neg), _beaten(pos[::-1])[::-1]
    value = float(pos @ (beaten / negatives)) / positives
    return (beaten - beating) / negatives / positives - value * (1 / positives - 1 / negatives)


def average_precision(pos: Counts, neg: Counts, level: float = 0.95) -> Estimate:
    """Area under the precision-recall curve: Σ (R_s - R_{s+1}) P_s over thresholds, as scikit-learn does.

    Interval by the delta method on the logit, from the derivative by each bin's count: measured coverage .93-.96 from
    90 positives on, .91 with 30. Insufficient: no positives.
    """
    p, q = np.asarray(pos, np.float64)[::-1], np.asarray(neg, np.float64)[::-1]
    positives, negatives = float(p.sum()), float(q.sum())
    problem = _problem(positives, max(negatives, 1.0))
    if problem is not None:
        return problem
    tp, flagged = np.cumsum(p), np.cumsum(p + q)
    at = np.divide(tp, flagged, out=np.zeros_like(tp), where=flagged > 0)
    loss = np.divide(p, flagged, out=np.zeros_like(tp), where=flagged > 0)
    value = float(p @ at) / positives
    more_neg = -np.cumsum((loss * at)[::-1])[::-1]  # each threshold at or below a bin counts its rows as flagged
    more_pos = at - value + np.cumsum((loss * (1 - at))[::-1])[::-1]
    variance = float(p @ more_pos**2 + q @ more_neg**2) / positives / positives
    return _bounded(value, variance, positives + negatives, positives, level)


def threshold_for(score: ArrayLike, y: ArrayLike, precision: float) -> float | None:
    """Return the lowest score from which rows are positive with at least this precision; None if there is none.

    score [n], y [n] 0 or 1; a row is flagged where its score is at least the threshold.
    """
    pos, neg, distinct = by_score(score, y)
    tp, flagged = np.cumsum(pos[::-1])[::-1], np.cumsum((pos + neg)[::-1])[::-1]
    reached = np.flatnonzero(tp / flagged >= precision)
    return float(distinct[reached[0]]) if len(reached) else None


def _problem(positives: float, negatives: float) -> Estimate | None:
    n = positives + negatives
    if not math.isfinite(n):
        return invalid(n, "the counts are not finite")
    if positives > 0 and negatives > 0:
        return None
    return insufficient(n, 1, f"no {'negatives' if positives > 0 else 'positives'}")


def _beaten(counts: Floats) -> Floats:
    """Rows below each bin, and half of those in it."""
    return np.cumsum(counts) - counts / 2


def _spread(counts: Floats, value: Floats, mean: float) -> float:
    return float(counts @ (value - mean) ** 2) / float(counts.sum())


def _bounded(value: float, variance: float, n: float, smaller: float, level: float) -> Estimate:
    """Interval on the logit; at 0 and 1, where that has no variance, Wilson's on the smaller class."""
    if not (math.isfinite(value) and math.isfinite(variance)):
        return invalid(n, "the counts are too large")
    slope = value * (1 - value)
    if not (slope > 0 and variance > 0):
        seen = wilson(value * smaller, smaller, level)
        return Estimate(value, min(value, seen.lower), max(value, seen.upper), n)
    centre, half = math.log(value / (1 - value)), z_value(level) * math.sqrt(variance) / slope
    lower, upper = (1 / (1 + math.exp(-min(max(x, -700.0), 700.0))) for x in (centre - half, centre + half))
    return Estimate(value, min(value, lower), max(value, upper), n)
