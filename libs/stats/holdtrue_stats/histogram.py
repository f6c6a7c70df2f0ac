"""Frozen bins and integer counts: the state from which every drift figure is computed.

`freeze` chooses the bins once, on the reference; `fold` adds rows to a `State`; `merge` adds states. All of the state
is int64, so the order of rows, the size of batches and the number of partitions never change a bit of it.

Bins of one feature with E edges: 0 is underflow (below the reference's minimum), E is overflow (above its maximum), the
last column of `hist` counts missing values (NaN). A value x is in the bin whose number is the count of edges <= x.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Counts, Float32s, Floats, Ints
from holdtrue_stats.packing import PackingError, pack, unpack

Kind = Literal["numeric", "categorical"]

CLIP = 128.0
"""Standardised values are clipped to ±CLIP before they are summed."""
FIXED = 1 << 16
"""Fixed-point unit of standardised values."""
ATOMS = 32
"""At most so many single values of a feature get a bin of their own."""
WIDTH = 127
"""Edges per feature, at most; 2⁷ - 1, so that seven halvings find a value's bin."""
MAX_BINS = WIDTH - ATOMS - 1
MAX_CATEGORIES = WIDTH - 1
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """The frozen bins of d features.

    `edges` float32 [d, 127], ascending, padded with NaN; `counts` int64 [d], the number of edges of each feature;
    `center`, `inv_scale` float64 [d] standardise values for the sums; `kinds` says which features are categorical.
    """

    edges: Float32s
    counts: Ints
    center: Floats
    inv_scale: Floats
    kinds: tuple[Kind, ...]

    @property
    def features(self) -> int:
        """The number of features, d."""
        return self.edges.shape[0]

    @property
    def bins(self) -> int:
        """The number of bins of the widest feature, underflow and overflow included, missing not."""
        return int(self.counts.max(initial=0)) + 1

    def to_bytes(self) -> bytes:
        """Return the edges as checked bytes."""
        arrays = {"edges": self.edges, "counts": self.counts, "center": self.center, "inv_scale": self.inv_scale}
        return pack("edges", arrays, {"kinds": list(self.kinds)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises PackingError."""
        arrays, meta = unpack("edges", data)
        try:
            return cls(**cast("dict[str, Any]", arrays), kinds=tuple(meta["kinds"]))
        except (TypeError, KeyError) as error:
            raise PackingError(f"these are not the arrays of edges: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Counts of folded rows, all int64.

    `hist` [d, bins + 1] with missing values last; `bin_sum` [d, bins] and `sq_sum` [d] are the fixed-point sums of
    standardised values and of their squares; `clipped` [d] counts values beyond ±CLIP; `n` [1] counts rows.
    """

    hist: Ints
    bin_sum: Ints
    sq_sum: Ints
    clipped: Ints
    n: Ints

    @classmethod
    def empty(cls, edges: Edges) -> Self:
        """Return the state of no rows for these bins."""
        d, b = edges.features, edges.bins
        return cls(*(np.zeros(shape, np.int64) for shape in ((d, b + 1), (d, b), d, d, 1)))

    def to_bytes(self) -> bytes:
        """Return the state as checked bytes; equal states give equal bytes."""
        return pack("state", self.arrays())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises PackingError."""
        arrays, _ = unpack("state", data)
        try:
            return cls(**cast("dict[str, Any]", arrays))
        except TypeError as error:
            raise PackingError(f"these are not the arrays of a state: {error}") from error

    def arrays(self) -> dict[str, Ints]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


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


def fold(edges: Edges, x: ArrayLike, state: State) -> State:
    """Add the rows x (float32 [n, d]) to the state in place, and return it. Uses numba if it is installed."""
    rows = _rows(edges, x)
    kernel = _kernel()
    if kernel is None:
        return fold_numpy(edges, rows, state)
    kernel(rows, edges.edges, edges.center, edges.inv_scale, *state.arrays().values())
    return state


def fold_numpy(edges: Edges, x: ArrayLike, state: State) -> State:
    """Do as `fold`, with numpy alone: same result bit for bit, slower."""
    rows = _rows(edges, x)
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


def merge(a: State, b: State) -> State:
    """Return the state of the rows of both."""
    return State(*(x + y for x, y in zip(a.arrays().values(), b.arrays().values(), strict=True)))


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


def interpolate(counts: Counts, cuts: ArrayLike, q: float) -> float:
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


def _rows(edges: Edges, x: ArrayLike) -> Float32s:
    rows = np.ascontiguousarray(x, np.float32)
    if rows.ndim != 2 or rows.shape[1] != edges.features:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"rows must have shape [n, {edges.features}], got {list(rows.shape)}")
    return rows


@cache
def _kernel() -> Callable[..., None] | None:
    try:
        return cast("Callable[..., None]", importlib.import_module("holdtrue_stats.kernel").fold)
    except ImportError:
        return None
