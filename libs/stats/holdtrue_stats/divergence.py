"""How far two histograms are apart: effect sizes, without judgement.

Every function takes reference and current counts [d, b] on the same bins and returns [d]; nan where either side has no
rows. Bins that are empty on both sides are no bins. They are effects, not evidence: see `decision`.
"""

from dataclasses import dataclass

import numpy as np

from holdtrue_stats.arrays import Bools, Counts, Floats, ratio


def psi(reference: Counts, current: Counts) -> Floats:
    """Population stability index Σ (p - q) ln(p / q), with ½ added to every occupied count (Jeffreys 1946)."""
    p, q, occupied = _smoothed(reference, current)
    terms = np.where(occupied, (p - q) * np.log(p / q), 0.0)
    return _known(reference, current, terms.sum(1))


def psi_adjusted(reference: Counts, current: Counts) -> Floats:
    """PSI less what sampling alone is expected to give: PSI - (k - 1)(1/n + 1/N), k = occupied bins."""
    return psi(reference, current) - psi_noise(reference, current)


def psi_noise(reference: Counts, current: Counts) -> Floats:
    """PSI that sampling alone is expected to give: (k - 1)(1/n + 1/N), k = occupied bins (Yurdakul 2018)."""
    k = np.count_nonzero(reference + current, 1)
    return (k - 1) * (ratio(1, current.sum(1)) + ratio(1, reference.sum(1)))


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """What the functions of these names return, each [d]."""

    js: Floats
    hellinger: Floats
    linf: Floats
    tvd: Floats
    wasserstein: Floats


def distances(reference: Counts, current: Counts, reference_sum: Floats, current_sum: Floats) -> Distances:
    """Return every distance for the price of two: arguments as of `wasserstein`."""
    p, q = _shares(reference), _shares(current)
    apart = np.abs(p - q)
    return Distances(
        js=_js(p, q),
        hellinger=_hellinger(p, q),
        linf=apart.max(1, initial=0.0),
        tvd=apart.sum(1) / 2,
        wasserstein=_wasserstein(p, q, ratio(reference_sum, reference), ratio(current_sum, current)),
    )


def js(reference: Counts, current: Counts) -> Floats:
    """Jensen-Shannon distance, base 2: 0 for equal, 1 for disjoint distributions (Lin 1991)."""
    return _js(_shares(reference), _shares(current))


def hellinger(reference: Counts, current: Counts) -> Floats:
    """Hellinger distance √(1 - Σ √(p q)), between 0 and 1."""
    return _hellinger(_shares(reference), _shares(current))


def linf(reference: Counts, current: Counts) -> Floats:
    """Greatest difference of one bin's share."""
    return np.abs(_shares(reference) - _shares(current)).max(1, initial=0.0)


def tvd(reference: Counts, current: Counts) -> Floats:
    """Total variation distance: half the sum of the differences of shares."""
    return np.abs(_shares(reference) - _shares(current)).sum(1) / 2


def wasserstein(reference: Counts, current: Counts, reference_sum: Floats, current_sum: Floats) -> Floats:
    """Wasserstein-1 distance ∫|F - G|: how far the average row has moved, in the unit of the values.

    The sums [d, b] are those of the values in each bin (`histogram.sums`); each bin's rows are taken to be at their
    mean. Exact where bins hold one value each; otherwise rows that move within their bin count by their mean alone.
    """
    means = ratio(reference_sum, reference), ratio(current_sum, current)
    return _wasserstein(_shares(reference), _shares(current), *means)


def _js(p: Floats, q: Floats) -> Floats:
    m = (p + q) / 2
    return np.sqrt(np.maximum(0.0, (_relative_entropy(p, m) + _relative_entropy(q, m)) / 2))


def _hellinger(p: Floats, q: Floats) -> Floats:
    return np.sqrt(np.maximum(0.0, 1 - np.sqrt(p * q).sum(1)))


def _wasserstein(p: Floats, q: Floats, here: Floats, there: Floats) -> Floats:
    """Of shares and of the means of their bins' values, nan where a side's bin is empty."""
    first = np.where(here <= there, p, -q)  # of the two means of a bin the lower one comes first
    mass = np.stack([first, p - q - first], 2).reshape(len(p), 2 * p.shape[1])
    place = np.stack([np.fmin(here, there), np.fmax(here, there)], 2).reshape(mass.shape)
    place = np.maximum.accumulate(np.where(np.isnan(place), -np.inf, place), 1)
    with np.errstate(invalid="ignore"):
        gap = np.diff(place, axis=1)
    apart = np.abs(np.cumsum(mass, 1))[:, :-1]
    moved = np.where(np.isfinite(gap), apart * np.where(np.isfinite(gap), gap, 0.0), 0.0).sum(1)
    return np.where(np.isnan(p).any(1) | np.isnan(q).any(1), np.nan, moved)


def _shares(counts: Counts) -> Floats:
    return ratio(counts, counts.sum(1, keepdims=True))


def _smoothed(reference: Counts, current: Counts) -> tuple[Floats, Floats, Bools]:
    occupied = (reference + current) > 0
    p, q = (np.where(occupied, counts + 0.5, 1.0) for counts in (reference, current))
    half = occupied.sum(1, keepdims=True) / 2
    return ratio(p, reference.sum(1, keepdims=True) + half), ratio(q, current.sum(1, keepdims=True) + half), occupied


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log2(p / q), 0.0)
    return np.where(np.isnan(q).any(1), np.nan, terms.sum(1))


def _known(reference: Counts, current: Counts, value: Floats) -> Floats:
    return np.where((reference.sum(1) > 0) & (current.sum(1) > 0), value, np.nan)
