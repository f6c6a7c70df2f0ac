"""Performance without labels: confidence-based estimation (CBPE) from score histograms.

Right under covariate shift as long as the calibration holds; blind to concept drift. Say so wherever it is shown.
"""

import math

import numpy as np

from holdtrue_stats import confusion
from holdtrue_stats.arrays import Counts, Floats, Ints
from holdtrue_stats.calibration import Table
from holdtrue_stats.confusion import Confusion
from holdtrue_stats.interval import z_value
from holdtrue_stats.result import Estimate, Status, insufficient

LEAST_LABELS = 2000
"""Below so many labels behind the calibration the intervals do not cover as promised (measured)."""


def cbpe(score: Counts, p: Floats) -> Confusion:
    """Return the expected confusion of binary predictions.

    score [1, 2, s] or [2, s]: rows by decision (0, 1) and score bin; p [s]: probability of a positive in each bin.
    With one bin per distinct score the result is exact; 1,024 bins cost at most 1e-4 of precision.
    """
    rejected, flagged = score.reshape(2, -1).astype(np.float64)
    return Confusion(float(flagged @ p), float(flagged @ (1 - p)), float(rejected @ p), float(rejected @ (1 - p)))


def cbpe_variance(gradient: Floats, p: Floats, blocks: Ints, m: Floats, count: Counts | None = None) -> float:
    """Return the variance of an estimated measure: that of the labels to come, and that of the calibration map.

    gradient [s]: derivative of the measure by one row's p; p [s]; blocks [s]: isotonic block of each; m [b]: labels
    behind each block; count [s]: rows per entry, 1 if not given. Σ g²p(1-p) + Σ_b G_b²·p_b(1-p_b)/m_b with G_b the
    summed gradient of a block and p_b smoothed to (m p + ½)/(m + 1): blocks of pure 0 or 1 would have no variance.
    """
    rows = np.ones(len(p)) if count is None else np.asarray(count, np.float64)
    outcome = float((rows * gradient**2 * p * (1 - p)).sum())
    size = np.bincount(blocks, rows, len(m))
    used = size > 0
    value = np.bincount(blocks, rows * p, len(m))[used] / size[used]
    slope, labels = np.bincount(blocks, rows * gradient, len(m))[used], m[used]
    smooth = (labels * value + 0.5) / (labels + 1)
    return outcome + float((slope**2 * smooth * (1 - smooth) / labels).sum())


def precision(score: Counts, calibration: Table, level: float = 0.95) -> Estimate:
    """Estimate the precision of the rows in score [1, 2, s] or [2, s] without labels.

    The interval is that of the precision which labels of these very rows would show. Insufficient: nothing flagged, or
    fewer than 2,000 labels behind the calibration (then value and bounds are given, but not to be trusted).
    """
    p, labels = calibration.p, float(calibration.labels.sum())
    flagged = score.reshape(2, -1)[1]
    n = float(flagged.sum())
    if n == 0 or labels == 0:
        return insufficient(n, LEAST_LABELS if n else 1)
    value = confusion.precision(cbpe(score, p))
    variance = cbpe_variance(np.full(len(p), 1 / n), p, calibration.blocks, calibration.labels, flagged)
    half = z_value(level) * math.sqrt(variance)
    needed = max(0, LEAST_LABELS - int(labels))
    status = Status.INSUFFICIENT if needed else Status.OK
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), n, status, needed)
