"""Frozen bins and integer counts: the state from which every drift figure is computed.

`freeze` chooses the bins once, on the reference; `fold` adds rows to a `State`; `merge` adds states. All of the state
is int64, so the order of rows, the size of batches and the number of partitions never change a bit of it.

Bins of one feature with E edges: 0 is underflow (below the reference's minimum), E is overflow (above its maximum), the
last column of `hist` counts missing values (NaN). A value x is in the bin whose number is the count of edges <= x.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Counts, Float32s, Floats, Ints
from holdtrue_stats.binning import ATOMS, MAX_BINS, MAX_CATEGORIES, freeze
from holdtrue_stats.state import CLIP, FIXED, WIDTH, Edges, Kind, State, merge

__all__ = [
    "ATOMS",
    "CLIP",
    "FIXED",
    "MAX_BINS",
    "MAX_CATEGORIES",
    "WIDTH",
    "Edges",
    "Kind",
    "State",
    "fold",
    "fold_numpy",
    "freeze",
    "groups",
    "interpolate",
    "merge",
    "quantile",
    "rebin",
    "sums",
]


def fold(edges: Edges, x: ArrayLike, state: State) -> State:
    """Add the rows x (float32 [n, d]) to the state in place, and return it. Uses numba if it is installed."""
    rows = _rows(edges, x, state)
    kernel = _kernel()
    if kernel is None:
        return fold_numpy(edges, rows, state)
    kernel(rows, edges.edges, edges.center, edges.inv_scale, *state.arrays().values())
    return state


def fold_numpy(edges: Edges, x: ArrayLike, state: State) -> State:
    """Do as `fold`, with numpy alone: same result bit for bit, slower."""
    rows = _rows(edges, x, state)
    for j, column in enumerate(rows.T):
        present = column[column == column]  # noqa: PLR0124 - NaN differs from itself
        place = _bin(edges.edges[j, : edges.counts[j]], present)
        z = (present.astype(np.float64) - edges.center[j]) * edges.inv_scale[j]
        fixed = np.floor(np.clip(z, -CLIP, CLIP) * FIXED + 0.5).astype(np.int64)
        state.hist[j, :-1] += np.bincount(place, minlength=edges.bins)
        state.hist[j, -1] += len(column) - len(present)
        # sums of floats, but of whole numbers far below 2⁵³: exact
        state.bin_sum[j] += np.bincount(place, fixed, minlength=edges.bins).astype(np.int64)
        state.sq_sum[j] += ((fixed * fixed) >> 16).sum()
        state.clipped[j] += np.count_nonzero(np.abs(z) > CLIP)
    state.n[0] += len(rows)
    return state


def groups(reference: Counts, size: int = 16) -> Ints:
    """Assign each bin of reference counts [d, b] to one of `size` groups of about equal reference mass: [d, b].

    A bin belongs where the middle of its mass lies, so a heavy atom never swallows a light one at its side.
    """
    before = np.cumsum(reference, axis=1) - reference
    total = np.maximum(reference.sum(1, keepdims=True), 1)
    return np.clip((size * (before + reference / 2) / total).astype(np.int64), 0, size - 1)


def rebin(counts: Counts, group: Ints, size: int = 16) -> Floats:
    """Sum counts [d, b] by the groups [d, b] of `groups`: [d, size]."""
    d = len(counts)
    index = (group + size * np.arange(d)[:, None]).ravel()
    sums: Floats = np.bincount(index, counts.ravel(), minlength=d * size).astype(np.float64)
    return sums.reshape(d, size)


def sums(edges: Edges, state: State) -> Floats:
    """Return the sum of the values in each bin, in the unit of the values: [d, bins]."""
    z = state.bin_sum / (FIXED * edges.inv_scale[:, None])
    return z + state.hist[:, :-1] * edges.center[:, None]


def quantile(counts: Counts, edges: Edges, q: float) -> Floats:
    """Return the quantile q of each feature, in the unit of the values: [d].

    counts [d, bins + 1] as in `State.hist`. Linear between the edges of a bin; a value with a bin of its own is hit
    exactly, beyond the reference's range its end is returned. nan for categories, and where nothing was counted.
    """
    found = np.full(edges.features, np.nan)
    for j, kind in enumerate(edges.kinds):
        if kind == "numeric":
            cut = edges.edges[j, : edges.counts[j]].astype(np.float64)
            found[j] = interpolate(counts[j, : len(cut) + 1], np.r_[-np.inf, cut, np.inf], q)
    return found


def interpolate(counts: ArrayLike, cuts: ArrayLike, q: float) -> float:
    """Return the quantile q of values counted in bins, linear inside a bin; nan without counts or for q outside [0, 1].

    counts [b]; cuts [b + 1] ascending, bin i holds cuts[i] <= x < cuts[i + 1]. Of a bin with an infinite end the other
    end is returned.
    """
    weight, cut = np.asarray(counts, np.float64), np.asarray(cuts, np.float64)
    below = np.cumsum(weight)
    if not (len(below) and 0 < below[-1] < np.inf and 0 <= q <= 1):
        return float("nan")
    place = q * below[-1]
    i = int(np.flatnonzero((below >= place) & (weight > 0))[0])
    low, high = float(cut[i]), float(cut[i + 1])
    if np.isinf(low) or np.isinf(high):
        return high if np.isinf(low) else low
    return low + (high - low) * max(0.0, place - float(below[i] - weight[i])) / float(weight[i])


def _bin(edges: Float32s, values: Float32s) -> Ints:
    return np.asarray(cast("Any", np.searchsorted(edges, values, side="right")), np.int64)


def _rows(edges: Edges, x: ArrayLike, state: State) -> Float32s:
    rows = np.ascontiguousarray(x, np.float32)
    if rows.ndim != 2 or rows.shape[1] != edges.features:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"rows must have shape [n, {edges.features}], got {list(rows.shape)}")
    if state.bin_sum.shape != (edges.features, edges.bins):
        raise ValueError(
            f"the state counts {list(state.bin_sum.shape)} bins, the edges make {[edges.features, edges.bins]}"
        )
    return rows


@cache
def _kernel() -> Callable[..., None] | None:
    try:
        return cast("Callable[..., None]", importlib.import_module("holdtrue_stats.kernel").fold)
    except ImportError:
        return None
