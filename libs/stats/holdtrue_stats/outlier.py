"""Which rows are unlike the reference: in one column, or in how the columns go together."""

from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Counts, Float32s, Floats
from holdtrue_stats.histogram import CLIP, Edges
from holdtrue_stats.packing import PackingError, pack, unpack

EXTREME = 0.999
"""Rows beyond this share of the reference's are outliers."""
_HUGE = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float32).tiny)


def tail_rank(edges: Edges, reference: Counts, x: ArrayLike) -> Floats:
    """How far out in the reference each row is, by its most extreme column: [n], from 0 (median) to 1 (outside).

    reference [d, bins + 1] as `State.hist` of the reference; x [n, d]. Numeric: |2u - 1|, u the share of the reference
    below x (half of what is in the same bin of one value; linear inside a wider one); 1 below its minimum and above its
    maximum. Categorical: the share of the reference in more frequent categories, 1 for unseen ones. Missing values
    count for nothing; a row of nothing else, or a reference without rows, is nan.
    """
    rows = np.asarray(x, np.float32)
    ranks = np.full(rows.shape, np.nan)
    for j, kind in enumerate(edges.kinds):
        cut, counts = edges.edges[j, : edges.counts[j]], np.asarray(reference[j, :-1], np.float64)
        if not counts.sum() > 0:
            continue
        rank = _rarity if kind == "categorical" else _two_sided
        known = ~np.isnan(rows[:, j])
        ranks[known, j] = rank(cut, counts[: len(cut) + 1] / counts.sum(), rows[known, j])
    highest = np.nan_to_num(ranks, nan=-1.0).max(1, initial=-1.0)
    return np.where(highest >= 0, highest, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """The plane in which the reference lies: `center`, `scale` [d] standardise, `components` [k, d] are orthonormal.

    `explained` is the share of the variance in the plane, `limit` the reference's 99.9 % quantile of `pca_residual`.
    """

    center: Floats
    scale: Floats
    components: Floats
    explained: float
    limit: float

    def to_bytes(self) -> bytes:
        """Return the basis as checked bytes."""
        arrays = {"center": self.center, "scale": self.scale, "components": self.components}
        return pack("basis", arrays, {"explained": self.explained, "limit": self.limit})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises PackingError."""
        arrays, meta = unpack("basis", data)
        try:
            return cls(**cast("dict[str, Any]", arrays), **meta)
        except TypeError as error:
            raise PackingError(f"these are not the arrays of a basis: {error}") from error


def pca_fit(x: ArrayLike, var: float = 0.65) -> Basis:
    """Find the fewest principal components of the rows x [n, d] that explain the share `var` of the variance.

    Columns are standardised and clipped to ±128. Missing values count as the mean, constant columns as nothing.
    """
    rows = np.asarray(x, np.float32)
    finite = np.isfinite(rows)
    wide = np.where(finite, rows, 0.0).astype(np.float64)
    count = np.maximum(finite.sum(0), 1)
    center = wide.sum(0) / count
    scale = np.sqrt((np.where(finite, wide - center, 0.0) ** 2).sum(0) / count)
    scale[~(scale > 0)] = np.inf  # a constant column has nothing to say
    z = _standardised(rows, center, scale)
    strength, directions = np.linalg.eigh(z.T @ z)
    power = np.cumsum(np.maximum(strength[::-1], 0.0))
    total = float(power[-1]) if len(power) else 0.0
    k = int((power < var * total).sum()) + 1 if total else 0
    components = directions.T[::-1][:k].copy()
    explained = float(power[k - 1]) / total if total else 1.0
    residual = _residual(z, components)
    limit = float(np.quantile(residual, EXTREME)) if len(residual) else np.inf
    return Basis(center, scale, components, explained, limit)


def pca_residual(basis: Basis, x: ArrayLike) -> Floats:
    """How far each row of x [n, d] lies off the plane, in standard deviations (L2): [n]. Missing: as in `pca_fit`."""
    return _residual(_standardised(np.asarray(x, np.float32), basis.center, basis.scale), basis.components)


def _standardised(rows: Float32s, center: Floats, scale: Floats) -> Floats:
    """Standardised rows, clipped; missing values and constant columns are 0, infinite values the clipped ends."""
    wide = np.clip(rows.astype(np.float64), -_HUGE, _HUGE)
    z = np.clip((wide - center) / scale, -CLIP, CLIP)
    return np.nan_to_num(z, nan=0.0)


def _residual(z: Floats, components: Floats) -> Floats:
    return np.linalg.norm(z - (z @ components.T) @ components, axis=1)


def _two_sided(cut: Float32s, share: Floats, x: Float32s) -> Floats:
    place = np.searchsorted(cut, x, side="right")
    low, high = (np.r_[-np.inf, cut, np.inf][place + end].astype(np.float64) for end in (0, 1))
    with np.errstate(invalid="ignore"):
        width = high - low  # nan and inf where an end is infinite
        single = ~(width > np.maximum(np.spacing(np.abs(low.astype(np.float32))), _TINY)) | np.isinf(width)
        inside = np.where(single, 0.5, np.clip((x - low) / np.where(single, 1.0, width), 0.0, 1.0))
    below = np.cumsum(share) - share
    return np.abs(2 * np.clip(below[place] + share[place] * inside, 0.0, 1.0) - 1)


def _rarity(cut: Float32s, share: Floats, x: Float32s) -> Floats:
    place = np.searchsorted(cut, x, side="right")
    more = np.array([share[share > own].sum() for own in share])
    return np.clip(np.where(share[place] > 0, more[place], 1.0), 0.0, 1.0)
