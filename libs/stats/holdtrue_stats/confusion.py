"""Measures of a binary decision, from four cells that may be counted (realised) or expected (estimated)."""

from dataclasses import dataclass

from holdtrue_stats.arrays import Counts
from holdtrue_stats.result import NAN


@dataclass(frozen=True, slots=True)
class Confusion:
    """True and false positives and negatives; real numbers where they are expectations."""

    tp: float
    fp: float
    fn: float
    tn: float

    @property
    def n(self) -> float:
        """All rows."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def flagged(self) -> float:
        """Rows predicted positive."""
        return self.tp + self.fp


def binary(labelled: Counts) -> Confusion:
    """Sum `labelled` [2, 2, s] (predicted class, label, score bin; the last axis may be missing) to four cells."""
    cells = labelled.reshape(2, 2, -1).sum(2)
    return Confusion(float(cells[1, 1]), float(cells[1, 0]), float(cells[0, 1]), float(cells[0, 0]))


def precision(c: Confusion) -> float:
    """Return tp / (tp + fp); nan if nothing was flagged."""
    return _share(c.tp, c.fp)


def recall(c: Confusion) -> float:
    """Return tp / (tp + fn); nan without positives."""
    return _share(c.tp, c.fn)


def specificity(c: Confusion) -> float:
    """Return tn / (tn + fp); nan without negatives."""
    return _share(c.tn, c.fp)


def accuracy(c: Confusion) -> float:
    """Return (tp + tn) / n; nan without rows."""
    return _share(c.tp + c.tn, c.fp + c.fn)


def f1(c: Confusion) -> float:
    """Return 2 tp / (2 tp + fp + fn); nan if there are neither positives nor flagged rows."""
    return _share(2 * c.tp, c.fp + c.fn)


def _share(good: float, bad: float) -> float:
    return good / (good + bad) if good + bad > 0 else NAN
