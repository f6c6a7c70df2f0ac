"""Array types, and the few functions of scipy that are used, loaded at first use and typed at this border.

scipy costs a third of a second to import; services that only fold never need it.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64] | NDArray[np.float64]
"""Numbers of rows: integers as folded, real numbers once weighted or scaled."""


def kolmogorov(x: ArrayLike) -> Floats:
    """Survival function of the limiting Kolmogorov distribution."""
    return _special("kolmogorov", x)


def chi2_sf(statistic: ArrayLike, degrees: ArrayLike) -> Floats:
    """Survival function of the chi-squared distribution."""
    return _special("chdtrc", degrees, statistic)


def two_sided(z: ArrayLike) -> Floats:
    """Two-sided p-value of a standard normal statistic."""
    return _special("erfc", np.abs(z) / np.sqrt(2.0))


def normal_sf(z: ArrayLike) -> Floats:
    """Survival function of the standard normal distribution."""
    return _special("ndtr", -np.asarray(z, np.float64))


def gamma_tails(shape: ArrayLike, x: ArrayLike) -> tuple[Floats, Floats]:
    """P(G <= x) and P(G >= x) for a gamma variable of this shape and scale 1."""
    return _special("gammainc", shape, x), _special("gammaincc", shape, x)


def binomial_sf(k: ArrayLike, n: ArrayLike, p: ArrayLike) -> Floats:
    """P(Bin(n, p) > k), -1 <= k < n; k and n may be real (the incomplete beta function between)."""
    k = np.asarray(k, np.float64)
    return np.where(k < 0, 1.0, _special("betainc", np.maximum(k + 1, 1e-9), np.subtract(n, k), p))


def normal_quantile(u: ArrayLike) -> Floats:
    """Inverse of the standard normal distribution function."""
    return _special("ndtri", u)


def t_quantile(u: float, degrees: float) -> float:
    """Inverse of Student's distribution function."""
    return float(_special("stdtrit", degrees, u))


def isotonic(y: Floats, weights: Floats) -> tuple[Floats, Ints]:
    """Weighted isotonic regression: the fitted values, and where each block begins, with the end appended."""
    from scipy import optimize  # noqa: PLC0415 - see the module's docstring

    fit: Any = optimize.isotonic_regression(y, weights=weights)
    return np.asarray(fit.x, np.float64), np.asarray(fit.blocks, np.int64)


def _special(name: str, *arguments: ArrayLike) -> Floats:
    from scipy import special  # noqa: PLC0415 - see the module's docstring

    return np.asarray(getattr(special, name)(*arguments), np.float64)


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Return part / whole, nan where whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
