"""The choice of bins, once, on the reference."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Float32s, Ints
from holdtrue_stats.state import WIDTH, Edges, Kind

ATOMS = 32
"""At most so many single values of a feature get a bin of their own."""
MAX_BINS = WIDTH - ATOMS - 1
MAX_CATEGORIES = WIDTH - 1
_TINY = np.finfo(np.float32).tiny


def freeze(x: ArrayLike, bins: int = 64, kinds: Sequence[Kind] | None = None) -> Edges:
    """Choose bins on the reference rows x [n, d].

    Numeric features get edges at `bins` quantiles, and one at each atom (a value that repeats) and at the number right
    after it, so that a value that is rare in the reference has a bin of its own. The first edge is the minimum, the
    last the number after the maximum. Categorical features hold codes 0, 1, …: one bin per code seen, unseen codes
    fall into underflow or overflow. NaN is missing; infinite values are ignored here.
    """
    values = np.ascontiguousarray(x, np.float32)
    if not 0 < bins <= MAX_BINS:
        raise ValueError(f"bins must be from 1 to {MAX_BINS}, got {bins}")
    if values.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"the reference must have shape [rows, features], got {list(values.shape)}")
    each: tuple[Kind, ...] = ("numeric",) * values.shape[1] if kinds is None else tuple(kinds)
    if len(each) != values.shape[1]:
        raise ValueError(f"{len(each)} kinds for {values.shape[1]} features")
    finite = [column[np.isfinite(column)] for column in values.T]
    cuts = [
        _category_edges(c) if kind == "categorical" else _edges(c, bins) for c, kind in zip(finite, each, strict=True)
    ]
    edges = np.full((len(cuts), WIDTH), np.nan, np.float32)
    for row, cut in zip(edges, cuts, strict=True):
        row[: len(cut)] = cut
    center, scale = np.transpose([_moments(c) for c in finite]) if finite else np.zeros((2, 0))
    return Edges(edges, np.array([len(c) for c in cuts], np.int64), center.copy(), 1 / scale, each)


def _edges(values: Float32s, bins: int) -> Float32s:
    if not len(values):
        return np.empty(0, np.float32)
    ordered = np.sort(values)
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    distinct, counts = ordered[starts], np.diff(np.append(starts, len(ordered)))
    atoms = _atoms(distinct, counts, len(ordered))
    if len(atoms) == len(distinct):
        return np.unique(np.concatenate([atoms, _after(atoms)]))
    ends = np.array([ordered[0], _after(ordered[-1:])[0]], np.float32)
    return np.unique(np.concatenate([_quantiles(ordered, bins), ends, atoms, _after(atoms)]))


def _quantiles(ordered: Float32s, bins: int) -> Float32s:
    """The quantiles 0, 1/bins, … of ascending values, linear between neighbours."""
    place = np.arange(bins) / bins * (len(ordered) - 1)
    left = place.astype(np.int64)
    low, high = (ordered[np.minimum(i, len(ordered) - 1)].astype(np.float64) for i in (left, left + 1))
    return (low + (high - low) * (place - left)).astype(np.float32)


def _atoms(distinct: Float32s, counts: Ints, rows: int) -> Float32s:
    """All values if they are few; otherwise the most frequent of those with more than a thousandth of the rows."""
    if len(distinct) <= ATOMS:
        return distinct
    frequent = np.flatnonzero(counts > max(1, rows // 1000))
    most = frequent[np.argsort(-counts[frequent], kind="stable")[: ATOMS // 2]]
    return distinct[most]


def _after(values: Float32s) -> Float32s:
    """The next number, but never a subnormal: a library that flushes those to zero would merge it with zero."""
    following = np.nextafter(values, np.float32(np.inf))
    return np.where((following > 0) & (following < _TINY), _TINY, following)


def _category_edges(codes: Float32s) -> Float32s:
    highest = int(codes.max(initial=-1))
    if highest >= MAX_CATEGORIES:
        raise ValueError(f"category code {highest} is beyond the limit of {MAX_CATEGORIES} categories per feature")
    return np.arange(highest + 2, dtype=np.float32) - np.float32(0.5)


def _moments(values: Float32s) -> tuple[float, float]:
    """Mean and standard deviation, 0 and 1 where there are none."""
    if not len(values):
        return 0.0, 1.0
    wide = values.astype(np.float64)
    return float(wide.mean()), float(wide.std()) or 1.0
