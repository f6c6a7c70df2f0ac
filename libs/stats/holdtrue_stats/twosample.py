"""Are two histograms drawn from the same distribution? Tests that see shift, scale and shape.

Every function takes reference and current counts [d, b] on the same ordered bins (real numbers allowed: scaled counts)
and returns the statistic and the p-value, both [d]; nan where the test cannot be made (no rows, a single value).
"""

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Bools, Counts, Floats, chi2_sf, kolmogorov, normal_quantile, ratio, two_sided

Test = tuple[Floats, Floats]
_LEAST_EXPECTED = 5.0


def ks(reference: Counts, current: Counts) -> Test:
    """Smirnov's test (1939) with the limiting distribution corrected for sample size (Stephens 1970)."""
    total = reference.sum(1), current.sum(1)
    distance = np.abs(
        np.cumsum(ratio(reference, total[0][:, None]), 1) - np.cumsum(ratio(current, total[1][:, None]), 1)
    ).max(1, initial=0.0)
    root = np.sqrt(ratio(total[0] * total[1], total[0] + total[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = kolmogorov(distance * (root + 0.12 + 0.11 / root))
    return _testable(reference, current, distance, p)


def chi2(reference: Counts, current: Counts) -> Test:
    """Pearson's test of homogeneity (1900); bins with less than five expected rows on a side are pooled into one."""
    columns = reference + current
    total = columns.sum(1, keepdims=True)
    smaller = np.minimum(reference.sum(1, keepdims=True), current.sum(1, keepdims=True))
    expected = ratio(columns * smaller, total)
    sparse = expected < _LEAST_EXPECTED
    enough = np.where(sparse, expected, 0).sum(1) >= _LEAST_EXPECTED
    statistic = np.zeros(len(columns))
    pooled_r, pooled_c = (_pool(side, sparse, expected, enough) for side in (reference, current))
    pooled = pooled_r + pooled_c
    for side in (pooled_r, pooled_c):
        fit = ratio(pooled * side.sum(1, keepdims=True), total)
        statistic += np.where(fit > 0, (side - fit) ** 2 / np.where(fit > 0, fit, 1), 0).sum(1)
    cells = (pooled > 0).sum(1)
    p = chi2_sf(statistic, np.maximum(cells - 1, 1))
    return np.where(cells > 1, statistic, np.nan), np.where(cells > 1, p, np.nan)


def rank_location(reference: Counts, current: Counts) -> Test:
    """Wilcoxon's rank-sum test (1945) with mid-ranks and permutation variance: sees shifts."""
    return _linear_rank(reference, current, _mid_ranks(reference, current))


def rank_scale(reference: Counts, current: Counts) -> Test:
    """Klotz's test (1962), scores Φ⁻¹(u)² of pooled mid-ranks u, permutation variance: sees changes of spread."""
    u = np.clip(_mid_ranks(reference, current), 1e-12, 1 - 1e-12)
    return _linear_rank(reference, current, normal_quantile(u) ** 2)


def two_proportions(k1: ArrayLike, n1: ArrayLike, k2: ArrayLike, n2: ArrayLike) -> Test:
    """Pooled z-test of k1 of n1 against k2 of n2; nan where a side is empty or all rows are alike."""
    k1, n1, k2, n2 = (np.asarray(v, np.float64) for v in (k1, n1, k2, n2))
    pooled = ratio(k1 + k2, n1 + n2)
    variance = pooled * (1 - pooled) * (ratio(1, n1) + ratio(1, n2))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(variance > 0, (ratio(k1, n1) - ratio(k2, n2)) / np.sqrt(variance), np.nan)
    return z, two_sided(z)


def _mid_ranks(reference: Counts, current: Counts) -> Floats:
    """Pooled mid-ranks of the bins, scaled to (0, 1)."""
    pooled = (reference + current).astype(np.float64)
    return ratio(np.cumsum(pooled, 1) - pooled / 2, pooled.sum(1, keepdims=True))


def _linear_rank(reference: Counts, current: Counts, score: Floats) -> Test:
    pooled, n, m = reference + current, current.sum(1), reference.sum(1)
    total = n + m
    score = np.where(pooled > 0, score, 0.0)
    mean = ratio((pooled * score).sum(1), total)
    spread = (pooled * (score - mean[:, None]) ** 2).sum(1)
    variance = ratio(n * m * spread, total * (total - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = ((current * score).sum(1) - n * mean) / np.sqrt(variance)
    return _testable(reference, current, z, two_sided(z))


def _pool(side: Counts, sparse: Bools, expected: Floats, enough: Bools) -> Floats:
    """Move sparse bins into an extra one, or into the fullest bin where together they are still sparse."""
    rest = np.where(sparse, side, 0).sum(1)
    kept = np.where(sparse, 0.0, side)
    rows = np.arange(len(side))
    kept[rows, np.argmax(expected, 1)] += np.where(enough, 0.0, rest)
    return np.c_[kept, np.where(enough, rest, 0.0)]


def _testable(reference: Counts, current: Counts, statistic: Floats, p: Floats) -> Test:
    good = (reference.sum(1) > 0) & (current.sum(1) > 0) & (((reference + current) > 0).sum(1) > 1)
    return np.where(good, statistic, np.nan), np.where(good, p, np.nan)
