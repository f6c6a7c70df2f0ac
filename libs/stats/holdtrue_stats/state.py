"""What a fold works on: frozen bins, and integer counts.

All of the state is int64, so the order of rows, the size of batches and the number of partitions never change a bit.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, cast

import numpy as np

from holdtrue_stats.arrays import Float32s, Floats, Ints
from holdtrue_stats.packing import PackingError, pack, unpack

Kind = Literal["numeric", "categorical"]

CLIP = 128.0
"""Standardised values are clipped to ±CLIP before they are summed."""
FIXED = 1 << 16
"""Fixed-point unit of standardised values."""
WIDTH = 127
"""Edges per feature, at most; 2⁷ - 1, so that seven halvings find a value's bin."""


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

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together: the compiled fold would write beyond its state."""
        d = len(self.kinds)
        expected = {"edges": ("f4", (d, WIDTH)), "counts": ("i8", (d,))} | dict.fromkeys(
            ("center", "inv_scale"), ("f8", (d,))
        )
        for name, (dtype, shape) in expected.items():
            array: Any = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(f"{name} must be {dtype} {list(shape)}, got {array.dtype.str[1:]} {list(array.shape)}")
        known = ~np.isnan(self.edges)
        if (known.sum(1) != self.counts).any() or (known[:, 1:] & ~(self.edges[:, 1:] > self.edges[:, :-1])).any():
            raise ValueError("edges must ascend, be padded with NaN, and be as many as their counts say")

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
        except (TypeError, KeyError, ValueError) as error:
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

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        d, b = self.bin_sum.shape if self.bin_sum.ndim == 2 else (-1, -1)  # noqa: PLR2004 - features and bins
        shapes = [(d, b + 1), (d, b), (d,), (d,), (1,)]
        for (name, array), shape in zip(self.arrays().items(), shapes, strict=True):
            if array.dtype != np.int64 or array.shape != shape:
                raise ValueError(f"{name} must be int64 {list(shape)}, got {array.dtype} {list(array.shape)}")

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
        except (TypeError, ValueError) as error:
            raise PackingError(f"these are not the arrays of a state: {error}") from error

    def arrays(self) -> dict[str, Ints]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def merge(a: State, b: State) -> State:
    """Return the state of the rows of both. Raises ValueError where they were counted in other bins."""
    if a.hist.shape != b.hist.shape:
        raise ValueError(f"counts of shape {list(a.hist.shape)} and {list(b.hist.shape)} are of other bins")
    return State(*(x + y for x, y in zip(a.arrays().values(), b.arrays().values(), strict=True)))
