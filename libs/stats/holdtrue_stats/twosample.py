"""Are two histograms drawn from the same distribution? Tests that see shift, scale and shape.

Every function takes reference and current counts [d, b] on the same ordered bins (real numbers allowed: scaled counts)
and returns the statistic and the p-value, both [d]; nan where the test cannot be made (no rows, a single value).
"""

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import (
    Bools,
    Counts,
    Floats,
    Ints,
    binomial_sf,
    gamma_tails,
    kolmogorov,
    normal_quantile,
    ratio,
    two_sided,
)

Test = tuple[Floats, Floats]
_LEAST_EXPECTED = 5.0
_SKEWED = 1e-3  # below it a normal tail is as good


def ks(reference: Counts, current: Counts) -> Test:
    """Smirnov's test (1939) with the limiting distribution corrected for sample size (Stephens 1970).

    D = max |F - G|, p = K(D (√m + .12 + .11/√m)), m = Nn/(N + n). With ties it errs on the side of silence.
    """
    n, m = _rows(current), _rows(reference)
    apart = np.cumsum(ratio(reference, m[:, None]) - ratio(current, n[:, None]), 1)
    distance = np.abs(apart).max(1, initial=0.0)
    root = np.sqrt(ratio(n * m, n + m))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = kolmogorov(distance * (root + 0.12 + 0.11 / root))
    return _testable(reference, current, distance, p)


def chi2(reference: Counts, current: Counts) -> Test:
    """Pearson's test of homogeneity (1900); bins with less than five expected rows on a side are pooled into one.

    Where even together they expect less than five, they join the fullest bin: see `rare` for what happens in them. The
    p-value is of a gamma variable with the statistic's own variance and skewness, which bins of few rows raise: X² is a
    sum of squares of standardised binomials, each with 2 + e and 8 + 12e + 10s² for excess e and squared skewness s².
    With many rows per bin that is the χ² distribution; with ten its tail is too light by half.
    """
    columns = reference + current
    n, m = _rows(current), _rows(reference)
    total = n + m
    expected = columns * ratio(np.minimum(n, m), total)[:, None]
    sparse = expected < _LEAST_EXPECTED
    c = _pooled(current, sparse, expected)
    pooled = _pooled(columns, sparse, expected)
    share = ratio(n, total)
    apart = c - pooled * share[:, None]
    inverse = np.divide(1.0, pooled, out=np.zeros(pooled.shape), where=pooled > 0)
    spread = share * (1 - share)
    # both sides' (observed - expected)² / expected in one: their deviations are equal
    statistic = ratio(_dot(apart * apart, inverse), spread)
    freedom = np.count_nonzero(pooled, 1) - 1
    each = ratio(inverse.sum(1), spread)
    excess, skewed = (1 - 6 * spread) * each, (1 - 2 * share) ** 2 * each
    p = _gamma_sf(statistic, freedom, 2 * freedom + excess, 8 * freedom + 12 * excess + 10 * skewed)
    testable = (freedom > 0) & (n > 0) & (m > 0)
    return np.where(testable, statistic, np.nan), np.where(testable, p, np.nan)


def rare(reference: Counts, current: Counts) -> Test:
    """Has one of the bins changed that are too sparse for `chi2`, for example a category never seen before?

    Given the rows of a bin on both sides together, those of the current side are binomial if nothing changed; the exact
    two-sided p-value (twice the smaller tail), least of all sparse bins, times their number (Bonferroni). The statistic
    is the number of the bin. nan if no bin is sparse.
    """
    columns = reference + current
    n, m = current.sum(1, keepdims=True), reference.sum(1, keepdims=True)
    share = ratio(n, n + m)
    sparse = (columns > 0) & (columns * np.minimum(share, 1 - share) < _LEAST_EXPECTED)
    row, place = np.nonzero(sparse)
    c, t, f = current[row, place], columns[row, place], np.broadcast_to(share, columns.shape)[row, place]
    tails = np.minimum(binomial_sf(c - 1, t, f), 1 - binomial_sf(np.minimum(c, t - 1e-9), t, f))
    p = np.full(columns.shape, 2.0)
    p[row, place] = 2 * tails
    least, number = p.min(1, initial=2.0), sparse.sum(1)
    good = (number > 0) & (n[:, 0] > 0) & (m[:, 0] > 0)
    which = (p == least[:, None]).argmax(1) if columns.shape[1] else number
    return np.where(good, which, np.nan), np.where(good, np.minimum(1.0, number * least), np.nan)


def rank_location(reference: Counts, current: Counts) -> Test:
    """Wilcoxon's rank-sum test (1945) with mid-ranks: sees shifts. p by the three-moment permutation distribution."""
    return rank_tests(reference, current)[0]


def rank_scale(reference: Counts, current: Counts) -> Test:
    """Klotz's test (1962), scores Φ⁻¹(u)² of pooled mid-ranks u: sees changes of spread; p as for `rank_location`."""
    return rank_tests(reference, current)[1]


def rank_tests(reference: Counts, current: Counts) -> tuple[Test, Test]:
    """Return `rank_location` and `rank_scale`, which share the ranks.

    The p-value is of a Pearson type III distribution with the permutation distribution's mean, variance and skewness
    (Mielke & Berry 2007): with heavy ties a rare value's normal tail would be many times too light.
    """
    pooled = (reference + current).astype(np.float64)
    n, m = _rows(current), _rows(reference)
    total = (n + m)[:, None]
    u = ratio(np.cumsum(pooled, 1) - pooled / 2, total)
    testable = (n > 0) & (m > 0) & (np.count_nonzero(pooled, 1) > 1)
    scale = normal_quantile(np.clip(u, 1e-12, 1 - 1e-12)) ** 2
    location, spread = (_linear_rank(current, pooled, score, n, m) for score in (u, scale))
    z, p = np.where(testable, location, np.nan), np.where(testable, spread, np.nan)
    return (z[0], z[1]), (p[0], p[1])


def two_proportions(k1: ArrayLike, n1: ArrayLike, k2: ArrayLike, n2: ArrayLike) -> Test:
    """Difference of k1 / n1 and k2 / n2: pooled z, p by the three-moment permutation distribution as in `rank_tests`.

    nan where a side is empty or all rows are alike.
    """
    k1, n1, k2, n2 = (np.asarray(v, np.float64) for v in np.broadcast_arrays(k1, n1, k2, n2))
    total, p = n1 + n2, ratio(k1 + k2, n1 + n2)
    variance = p * (1 - p) * (ratio(1, n1) + ratio(1, n2))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(variance > 0, (ratio(k1, n1) - ratio(k2, n2)) / np.sqrt(variance), np.nan)
        skew = (1 - 2 * p) * (n2 - n1) * np.sqrt(total - 1) / (np.sqrt(p * (1 - p) * n1 * n2) * (total - 2))
    return z, _pearson3(z, skew)


def _linear_rank(current: Counts, pooled: Floats, score: Floats, n: Floats, m: Floats) -> Test:
    total = n + m
    apart = score - ratio(_dot(pooled, score), total)[:, None]
    weighted = pooled * apart
    # moments of the sum of n scores drawn without replacement
    variance = ratio(n * m * _dot(weighted, apart), total * (total - 1))
    third = ratio(n * m * (m - n) * _dot(weighted * apart, apart), total * (total - 1) * (total - 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = _dot(current, apart) / np.sqrt(variance)
        skew = third / variance**1.5
    return z, _pearson3(z, skew)


def _gamma_sf(x: Floats, mean: Ints, variance: Floats, third: Floats) -> Floats:
    """Upper tail of a shifted gamma variable with these central moments; nan where they are none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = 4 * variance**3 / third**2
        place = shape + (x - mean) * np.sqrt(shape / variance)
    return gamma_tails(shape, np.maximum(0.0, place))[1]


def _pearson3(z: Floats, skew: Floats) -> Floats:
    """Two-sided p-value (twice the smaller tail) of a standardised Pearson type III variable; nan for z nan."""
    p = two_sided(z)
    skewed = np.abs(skew) > _SKEWED
    if not skewed.any():
        return p
    g = np.where(skewed, skew, 1.0)
    shape = 4 / (g * g)
    lower, upper = gamma_tails(shape, np.maximum(0.0, shape + np.sign(g) * z * np.sqrt(shape)))
    return np.where(skewed, np.minimum(1.0, 2 * np.minimum(lower, upper)), p)


def _pooled(side: Counts, sparse: Bools, expected: Floats) -> Floats:
    """Move sparse bins into an extra one, or into the fullest bin where together they are still sparse."""
    rest, enough = np.where(sparse, side, 0.0).sum(1), np.where(sparse, expected, 0.0).sum(1) >= _LEAST_EXPECTED
    kept = np.zeros((len(side), side.shape[1] + 1))
    kept[:, :-1] = np.where(sparse, 0.0, side)
    fullest = np.argmax(expected, 1) if expected.shape[1] else -1
    kept[np.arange(len(side)), np.where(enough, -1, fullest)] += rest
    return kept


def _rows(counts: Counts) -> Floats:
    """Rows of each feature; as real numbers, because products of them exceed 64 bits."""
    return counts.sum(1).astype(np.float64)


def _dot(a: Counts, b: Floats) -> Floats:
    """Row by row."""
    return np.asarray(np.einsum("ij,ij->i", a, b), np.float64)


def _testable(reference: Counts, current: Counts, statistic: Floats, p: Floats) -> Test:
    good = (reference.sum(1) > 0) & (current.sum(1) > 0) & (((reference + current) > 0).sum(1) > 1)
    return np.where(good, statistic, np.nan), np.where(good, p, np.nan)
