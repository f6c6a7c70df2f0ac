"""Does the model treat groups alike? Gaps of each group to all others, with their uncertainty."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Counts, Floats
from holdtrue_stats.confusion import Confusion, binary
from holdtrue_stats.interval import difference, mean, newcombe
from holdtrue_stats.result import NAN, Estimate, Status

LEAST_ROWS = 100
"""Rows that a group, and all others together, need for a gap: of the kind that the rate looks at."""
FOUR_FIFTHS = 0.8
"""A rate below this share of another's is held to be unfair (the four-fifths rule of the EEOC, 1978)."""
CALIBRATION_GAP = 0.05


class Rate(StrEnum):
    """What is compared between groups."""

    SELECTION = "selection"
    """Share of rows that are flagged."""
    TPR = "tpr"
    """Share of positives that are flagged."""
    FPR = "fpr"
    """Share of negatives that are flagged."""
    CALIBRATION = "calibration"
    """Mean label less mean probability."""


@dataclass(frozen=True, slots=True)
class Gap:
    """One rate of one group less that of all other groups, with a 95 % interval.

    `ratio` is the lower of the two rates over the higher one, nan for calibration and where both are 0; `n` the rows of
    the smaller side that the rate looks at.
    """

    group: int
    rate: Rate
    value: float
    lower: float
    upper: float
    n: float
    status: Status
    needed_n: int
    ratio: float

    @property
    def alarms(self) -> bool:
        """True if evidence and effect agree: the interval excludes 0, and the ratio is below .8.

        For calibration the interval lies beyond ±.05.
        """
        nearest = max(self.lower, -self.upper)  # above 0 if the interval excludes 0
        if self.status is not Status.OK:
            return False
        return nearest > CALIBRATION_GAP if self.rate is Rate.CALIBRATION else nearest > 0 and self.ratio < FOUR_FIFTHS

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        if self.status is Status.INSUFFICIENT:
            return f"group {self.group}: {self.needed_n} more rows are needed to compare {self.rate}"
        side = "above" if self.value > 0 else "below"
        bounds = f"{abs(self.value):.3f} {side} the others [{self.lower:+.3f}, {self.upper:+.3f}]"
        return f"group {self.group}: {self.rate} {bounds}, n = {self.n:g}"


def gaps(labelled: Counts, p: ArrayLike | None = None, level: float = 0.95) -> tuple[Gap, ...]:
    """Compare each of g groups with all others.

    labelled [g, 2, 2, s] (group, decision, label, score bin; without the last axis if p is not given); p [s], the
    probability of each bin, adds the calibration gap. Selection rate, TPR and FPR: Newcombe's interval; calibration:
    Student's of both sides, joined. Insufficient: fewer than 100 rows on a side, a single group included.
    """
    counts = np.asarray(labelled, np.float64)
    rest = counts.sum(0) - counts
    found: list[Gap] = []
    for group, (own, others) in enumerate(zip(counts, rest, strict=True)):
        found += [_rate_gap(group, rate, binary(own), binary(others), level) for rate in _RATES]
        if p is not None:
            found.append(_calibration_gap(group, own, others, np.asarray(p, np.float64), level))
    return tuple(found)


_RATES = (Rate.SELECTION, Rate.TPR, Rate.FPR)


def _rate_gap(group: int, rate: Rate, own: Confusion, others: Confusion, level: float) -> Gap:
    (k1, n1), (k2, n2) = _part(rate, own), _part(rate, others)
    seen = newcombe(k1, n1, k2, n2, level)
    high = max(k1 * n2, k2 * n1)
    return _gap(group, rate, seen, min(n1, n2), min(k1 * n2, k2 * n1) / high if high > 0 else NAN)


def _calibration_gap(group: int, own: Floats, others: Floats, p: Floats, level: float) -> Gap:
    seen = difference(_residual(own, p, level), _residual(others, p, level))
    return _gap(group, Rate.CALIBRATION, seen, seen.n, NAN)


def _gap(group: int, rate: Rate, seen: Estimate, n: float, ratio: float) -> Gap:
    needed = max(0, LEAST_ROWS - int(n)) if n < LEAST_ROWS else 0
    status = Status.INSUFFICIENT if needed else seen.status
    return Gap(group, rate, seen.value, seen.lower, seen.upper, n, status, needed, ratio)


def _part(rate: Rate, c: Confusion) -> tuple[float, float]:
    parts = {
        Rate.SELECTION: (c.flagged, c.n),
        Rate.TPR: (c.tp, c.tp + c.fn),
        Rate.FPR: (c.fp, c.fp + c.tn),
    }
    return parts[rate]


def _residual(counts: Floats, p: Floats, level: float) -> Estimate:
    """Mean of y - p."""
    neg, pos = counts.reshape(2, 2, -1).sum(0)
    known = np.where(neg + pos > 0, p, 0.0)
    total, squares = pos @ (1 - known) - neg @ known, pos @ (1 - known) ** 2 + neg @ known**2
    return mean(float(total), float(squares), float((neg + pos).sum()), level)
