"""How many different values a column has, from a few of their hashes.

The smallest `SIZE` hashes of a set stand for it (Bar-Yossef et al. 2002): below that many values the count is exact,
beyond it the standard error is 1/√(SIZE - 2). The smallest of a union are those of both sides' smallest, so the order
and the grouping of rows never change a bit. Packages that do this take one value a call, or change with the order.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Hashes = npt.NDArray[np.uint64]

SIZE = 512
ERROR = 1 / (SIZE - 2) ** 0.5
"""Standard error of `estimate`, relative."""
_CHUNK = 1 << 16


def nothing() -> Hashes:
    """Return the sketch of no values."""
    return np.empty(0, np.uint64)


def of_numbers(values: npt.NDArray[Any]) -> Hashes:
    """Return the sketch of numbers (float32, float64 or int64; no NaN; zero has no sign)."""
    unsigned = np.uint32 if values.dtype.itemsize == 4 else np.uint64  # noqa: PLR2004 - bytes
    bits = np.ascontiguousarray(values).view(unsigned)
    compiled = kernels()
    return smallest_numpy(bits) if compiled is None else compiled.smallest(bits, SIZE)


def smallest_numpy(bits: npt.NDArray[Any]) -> Hashes:
    """Do as `kernels.smallest`, with numpy alone: same result, slower."""
    found = nothing()
    for start in range(0, len(bits), _CHUNK):
        hashes = _mix(bits[start : start + _CHUNK].astype(np.uint64))
        if len(found) == SIZE:
            hashes = hashes[hashes < found[-1]]
        if len(hashes):
            found = of_hashes(np.concatenate([found, hashes]))
    return found


def of_hashes(hashes: Hashes) -> Hashes:
    """Return the sketch of values that are hashed already."""
    return np.unique(hashes)[:SIZE]


def merge(a: Hashes, b: Hashes) -> Hashes:
    """Return the sketch of the values of both."""
    return of_hashes(np.concatenate([a, b]))


def estimate(sketch: Hashes) -> int:
    """Return the number of different values."""
    if len(sketch) < SIZE:
        return len(sketch)
    return round((SIZE - 1) * 2.0**64 / (float(sketch[-1]) + 1))


def _mix(x: Hashes) -> Hashes:
    """Spread numbers over all 64 bits, one to one (Steele, Lea and Flood 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@cache
def kernels() -> Any:  # noqa: ANN401 - a module
    """Return the compiled loops, None where numba is not installed."""
    try:
        return importlib.import_module("holdtrue_lake.kernels")
    except ImportError:
        return None
