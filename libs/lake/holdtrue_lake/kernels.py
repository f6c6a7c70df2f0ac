"""The two loops of a profile that cost most, compiled by numba; imported only where numba is installed."""
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Hashes = npt.NDArray[np.uint64]

_SLOTS = 4096


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function; kept on disk, unless there is no place where we may write."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@_compiled
def float32_sums(bits: npt.NDArray[np.uint32], plain: Ints, high: Ints, low: Ints) -> None:
    """Add finite numbers, given as bits, by their exponents [256]: mantissas, and their squares in two halves."""
    for i in range(len(bits)):
        b = np.int64(bits[i])
        exponent = (b >> 23) & 255
        mantissa = (b & 0x7FFFFF) | (np.int64(exponent > 0) << 23)
        square = mantissa * mantissa
        plain[exponent] += mantissa * (1 - ((b >> 31) << 1))
        high[exponent] += square >> 24
        low[exponent] += square & 0xFFFFFF


@_compiled
def smallest(bits: npt.NDArray[Any], size: int) -> Hashes:
    """Return the `size` smallest different hashes, ascending; see `sketch`, which says the same in numpy."""
    buffer = np.empty(8 * size, np.uint64)
    recent = np.arange(1, _SLOTS + 1).astype(np.uint64)  # a number that never belongs into its slot
    limit, used = np.uint64(0xFFFFFFFFFFFFFFFF), 0
    for i in range(len(bits)):
        h = np.uint64(bits[i]) + np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(31)
        if h > limit:
            continue
        slot = h & np.uint64(_SLOTS - 1)
        if recent[slot] == h:  # columns of few values repeat them: spare the sorting
            continue
        recent[slot] = h
        buffer[used] = h
        used += 1
        if used == len(buffer):
            used = _compact(buffer, used, size)
            limit = buffer[used - 1] if used == size else limit
    return buffer[: _compact(buffer, used, size)].copy()


@_compiled
def _compact(buffer: Hashes, used: int, size: int) -> int:
    """Leave the smallest different ones, ascending, at the buffer's start; return how many."""
    ordered = np.sort(buffer[:used])
    kept = 0
    for i in range(used):
        if kept < size and (i == 0 or ordered[i] != ordered[i - 1]):
            buffer[kept] = ordered[i]
            kept += 1
    return kept
