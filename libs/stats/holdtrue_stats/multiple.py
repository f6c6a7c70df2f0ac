"""Many tests at once: one p-value from several, and which of many hypotheses to reject."""

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Bools, Floats


def cauchy(p: ArrayLike, n: ArrayLike = 1e15) -> Floats:
    """Combine dependent p-values p [t, d] per column: ½ - atan(mean tan((½ - p)π)) / π (Liu & Xie 2020).

    nan marks a test that could not be made and is left out; a column of nan gives nan. Values are clipped to
    [1e-300, 1 - 1/n] with n [d] the rows behind them: one exact 1 would hide all others.
    """
    p = np.asarray(p, np.float64)
    made = ~np.isnan(p)
    clipped = np.clip(p, 1e-300, 1 - 1 / np.maximum(np.asarray(n, np.float64), 2))
    count = made.sum(0)
    mean: Floats = np.where(made, _cotangent(clipped), 0.0).sum(0) / np.maximum(count, 1)
    combined: Floats = np.arctan2(1.0, mean) / np.pi
    return np.where(count > 0, combined, np.nan)


def bh(p: ArrayLike, q: float) -> Bools:
    """Benjamini & Hochberg (1995): which of p [d] to reject at false discovery rate q; nan is no hypothesis."""
    return _step_up(np.asarray(p, np.float64), q)


def holm(p: ArrayLike, alpha: float) -> Bools:
    """Holm (1979): which of p [d] to reject at family-wise error rate alpha; nan is no hypothesis."""
    p = np.asarray(p, np.float64)
    m = np.count_nonzero(~np.isnan(p))
    order = np.argsort(p)  # nan last
    rejected = np.zeros(p.shape, np.bool_)
    for step, index in enumerate(order[:m]):
        if p[index] > alpha / (m - step):
            break
        rejected[index] = True
    return rejected


def _step_up(p: Floats, q: float) -> Bools:
    m = np.count_nonzero(~np.isnan(p))
    ordered = np.sort(p)[:m]
    below = np.flatnonzero(ordered <= q * np.arange(1, m + 1) / max(m, 1))
    return p <= ordered[below[-1]] if len(below) else np.zeros(p.shape, np.bool_)


def _cotangent(p: Floats) -> Floats:
    """tan((0.5 - p)π), exact also for tiny p, where 0.5 - p has no digits left."""
    return np.where(p < 1e-8, 1 / (np.pi * p), np.tan((0.5 - p) * np.pi))  # noqa: PLR2004 - error < 1e-15 there
