"""Measures of a decision, from four cells that may be counted (realised) or expected (estimated).

Every measure is a ratio of two sums of cells. That it is one object, not five functions, lets its value, its interval
and its gradient come from the same two lines of weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.interval import macro, wilson
from holdtrue_stats.result import NAN, Estimate

Cells = tuple[int, int, int, int]


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


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure good / all of a confusion; `good` and `all` weigh (tp, fp, fn, tn). Call it for the value."""

    name: str
    good: Cells
    all: Cells

    def __call__(self, c: Confusion) -> float:
        """Return good / all; nan if there are no such rows."""
        good, total = self.parts(c)
        return good / total if total > 0 else NAN

    def parts(self, c: Confusion) -> tuple[float, float]:
        """Return the good and all the rows, each row as often as it counts."""
        cells = (c.tp, c.fp, c.fn, c.tn)
        good, total = (
            sum(w * cell for w, cell in zip(weights, cells, strict=True) if w) for weights in (self.good, self.all)
        )
        return good, total

    def rows(self, c: Confusion) -> float:
        """Return the number of rows that the measure looks at."""
        return sum(cell for w, cell in zip(self.all, (c.tp, c.fp, c.fn, c.tn), strict=True) if w)

    def gradient(self, c: Confusion) -> tuple[float, float]:
        """Return the derivative by one row's probability of being positive: of a rejected and of a flagged row.

        More probability moves a flagged row from fp to tp, a rejected one from tn to fn. nan where `all` is 0.
        """
        good, total = self.parts(c)
        if not total > 0:
            return NAN, NAN
        tp, fp, fn, tn = ((g - good / total * w) / total for g, w in zip(self.good, self.all, strict=True))
        return fn - tn, tp - fp


precision = Measure("precision", (1, 0, 0, 0), (1, 1, 0, 0))
"""tp / (tp + fp); nan if nothing was flagged."""
recall = Measure("recall", (1, 0, 0, 0), (1, 0, 1, 0))
"""tp / (tp + fn); nan without positives."""
specificity = Measure("specificity", (0, 0, 0, 1), (0, 1, 0, 1))
"""tn / (tn + fp); nan without negatives."""
accuracy = Measure("accuracy", (1, 0, 0, 1), (1, 1, 1, 1))
"""(tp + tn) / n; nan without rows."""
f1 = Measure("f1", (2, 0, 0, 0), (2, 1, 1, 0))
"""2 tp / (2 tp + fp + fn); nan if there are neither positives nor flagged rows."""
MEASURES = (precision, recall, f1, accuracy, specificity)
"""All measures of a decision."""


def binary(labelled: ArrayLike) -> Confusion:
    """Sum `labelled` [2, 2, s] (predicted class, label, score bin; the last axis may be missing) to four cells."""
    cells = np.asarray(labelled, np.float64).reshape(2, 2, -1).sum(2)
    return Confusion(float(cells[1, 1]), float(cells[1, 0]), float(cells[0, 1]), float(cells[0, 0]))


def one_versus_rest(labelled: ArrayLike) -> tuple[Confusion, ...]:
    """Return the confusion of each class k against all others, from `labelled` [K, K] or [K, K, s] as in `binary`."""
    counts = np.asarray(labelled, np.float64)
    cells = counts.sum(tuple(range(2, counts.ndim)))
    hit, flagged, true, n = np.diag(cells), cells.sum(1), cells.sum(0), cells.sum()
    columns = hit, flagged - hit, true - hit, n - flagged - true + hit
    return tuple(Confusion(*map(float, row)) for row in zip(*columns, strict=True))


def realised(measure: Measure, c: Confusion, level: float = 0.95) -> Estimate:
    """Measure on labelled rows with its interval.

    Wilson's on the rows that the measure looks at. F1 counts true positives twice and so is no rate; it grows with
    tp / (tp + fp + fn), which is one: its bounds b become 2b / (1 + b). No such rows: insufficient.
    """
    if measure is not f1:
        return wilson(*measure.parts(c), level)
    union = wilson(c.tp, c.tp + c.fp + c.fn, level)
    value, lower, upper = (2 * v / (1 + v) for v in (union.value, union.lower, union.upper))
    return Estimate(value, lower, upper, union.n, union.status, union.needed_n, union.reason)


def realised_macro(measure: Measure, labelled: ArrayLike, level: float = 0.95) -> Estimate:
    """Measure on labelled rows of K classes, from `labelled` [K, K] or [K, K, s] (predicted class, label, score bin).

    The plain mean of the classes' one-versus-rest values, with `interval.macro`. Accuracy alone is the share of rows
    whose class is right.
    """
    each = one_versus_rest(labelled)
    if measure is accuracy:
        return wilson(sum(c.tp for c in each), sum(c.flagged for c in each), level)
    return macro([realised(measure, c, level) for c in each])
