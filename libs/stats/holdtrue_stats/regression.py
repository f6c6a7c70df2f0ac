"""Errors of a regression from five integers, which windows add up like all other counts.

`reg` int64 [5]: n, Σ|e|, Σe², Σe, Σy of standardised errors e = (prediction - y)/scale and y/scale, in units of 2⁻¹⁶.
`scale` is the reference's, frozen; every result is in the unit of y.
"""

import math
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Floats, Ints
from holdtrue_stats.histogram import CLIP, FIXED
from holdtrue_stats.interval import mean, z_value
from holdtrue_stats.result import Estimate, invalid


def observe(y: ArrayLike, predicted: ArrayLike, scale: float) -> Ints:
    """Return `reg` of rows y, predicted [n]; rows that are not finite are left out, errors clipped to ±128 scales."""
    truth, guess = np.asarray(y, np.float64), np.asarray(predicted, np.float64)
    known = np.isfinite(truth) & np.isfinite(guess)
    if not (math.isfinite(scale) and scale > 0):
        return np.zeros(5, np.int64)
    z, target = (_fixed(v[known] / scale) for v in (guess - truth, truth))
    return np.array([len(z), np.abs(z).sum(), ((z * z) >> 16).sum(), z.sum(), target.sum()], np.int64)


def mae(reg: Ints, scale: float, level: float = 0.95) -> Estimate:
    """Mean absolute error Σ|e|/n with Student's interval, in the unit of y. Insufficient: fewer than 2 rows."""
    n, absolute, squares, _, _ = _real(reg)
    return _times(mean(absolute, squares, n, level), scale, least=0.0)


def bias(reg: Ints, scale: float, level: float = 0.95) -> Estimate:
    """Mean error Σe/n, predicted less true, with Student's interval, in the unit of y. Insufficient: under 2 rows."""
    n, _, squares, total, _ = _real(reg)
    return _times(mean(total, squares, n, level), scale)


def rmse(reg: Ints, scale: float, level: float = 0.95) -> Estimate:
    """Root of the mean squared error √(Σe²/n), in the unit of y.

    Its interval needs the fourth moment of the errors, which is not counted: it is that of the generalised normal
    distribution with the same MAE/RMSE (Mallat 1989), so that heavy tails widen it; log-normal in shape, because the
    error of a variance is lopsided. Insufficient: fewer than 2 rows.
    """
    n, absolute, squares, _, _ = _real(reg)
    seen = mean(absolute, squares, n, level)
    if not seen.ok:
        return seen
    value = math.sqrt(squares / n)
    if value == 0:
        return _times(Estimate(0.0, 0.0, 0.0, n), scale)
    half = z_value(level) * math.sqrt((_kurtosis(absolute / n / value) - 1) / n) / 2
    return _times(Estimate(value, value * math.exp(-half), value * math.exp(half), n), scale, least=0.0)


def _kurtosis(ratio: float) -> float:
    """Kurtosis of the generalised normal distribution whose mean absolute value is `ratio` of its deviation."""
    ratios, kurtosis = _moments()
    return float(np.interp(ratio, ratios, kurtosis))


@cache
def _moments() -> tuple[Floats, Floats]:
    """Mean absolute value over deviation, and kurtosis, of a range of shapes: .3 and below is the heaviest tail."""
    rows = [[math.lgamma(k / shape) for k in (1, 2, 3, 5)] for shape in np.geomspace(0.3, 20.0, 400).tolist()]
    one, two, three, five = np.array(rows).T
    return np.exp(two - (one + three) / 2), np.exp(five + one - 2 * three)


def _fixed(z: Floats) -> Ints:
    return np.floor(np.clip(z, -CLIP, CLIP) * FIXED + 0.5).astype(np.int64)


def _real(reg: Ints) -> tuple[float, float, float, float, float]:
    """The integers as numbers of rows and of scales."""
    n, absolute, squares, total, target = np.asarray(reg, np.float64).tolist()
    return n, absolute / FIXED, squares / FIXED, total / FIXED, target / FIXED


def _times(seen: Estimate, scale: float, least: float = -math.inf) -> Estimate:
    """From scales to the unit of y."""
    if not (math.isfinite(scale) and scale > 0):
        return invalid(seen.n, f"{scale:g} is no scale")
    value, lower, upper = (v * scale for v in (seen.value, seen.lower, seen.upper))
    return replace(seen, value=value, lower=max(lower, least), upper=upper)  # lower first: nan stays nan
