"""Mean and deviation without a rounding error: sums are kept as exact fractions, so order and grouping do not matter.

A binary floating-point number is a whole number times a power of two. Mantissas are added up by exponent, in limbs
that cannot overflow; the sum over exponents is one long integer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from holdtrue_lake.sketch import kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Wide = npt.NDArray[np.uint64]

_CHUNK = 1 << 24
"""Rows that are added up at once: limbs of 27 bits then stay below 2⁵³, where floats count exactly."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Exact figures of numbers, missing ones left out: `count` of the finite ones, their ends, sum and squares' sum."""

    count: int = 0
    infinite: int = 0
    low: float | None = None
    high: float | None = None
    total: Fraction = Fraction()
    squares: Fraction = Fraction()

    def __add__(self, other: Self) -> Numbers:
        """Return the figures of both."""
        return Numbers(
            self.count + other.count,
            self.infinite + other.infinite,
            min((low for low in (self.low, other.low) if low is not None), default=None),
            max((high for high in (self.high, other.high) if high is not None), default=None),
            self.total + other.total,
            self.squares + other.squares,
        )

    @property
    def mean(self) -> float:
        """Mean of the finite numbers, correctly rounded; nan without any."""
        return float(self.total / self.count) if self.count else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of the finite numbers (divided by their count); nan without any."""
        if not self.count:
            return math.nan
        return _root(self.squares / self.count - (self.total / self.count) ** 2)


def numbers(values: npt.NDArray[Any]) -> Numbers:
    """Return the figures of float32, float64 or int64 numbers; no NaN, zero without a sign."""
    kept = values
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        kept = values if finite.all() else values[finite]
    if not len(kept):
        return Numbers(infinite=len(values))
    total, squares = Fraction(), Fraction()
    for start in range(0, len(kept), _CHUNK):
        part = _sums(kept[start : start + _CHUNK])
        total, squares = total + part[0], squares + part[1]
    return Numbers(len(kept), len(values) - len(kept), kept.min().item(), kept.max().item(), total, squares)


def _sums(values: npt.NDArray[Any]) -> tuple[Fraction, Fraction]:
    if values.dtype == np.int64:
        return _whole_sums(values)
    compiled = kernels()
    if values.dtype == np.float32 and compiled is not None:
        plain, high, low = np.zeros((3, 256), np.int64)
        compiled.float32_sums(np.ascontiguousarray(values).view(np.uint32), plain, high, low)
        squares = _shifted(high, 2, 24) + _shifted(low, 2)
        return _scaled(_shifted(plain, 1), squares, 150)
    return float_sums(values)


def float_sums(values: npt.NDArray[Any]) -> tuple[Fraction, Fraction]:
    """Return the exact sum of finite floats and that of their squares, with numpy alone."""
    narrow = values.dtype == np.float32
    width, fraction, least = (24, 23, 150) if narrow else (27, 52, 1075)
    bits = values.view(np.uint32 if narrow else np.uint64).astype(np.uint64)
    exponent = (bits >> np.uint64(fraction)) & np.uint64(255 if narrow else 2047)
    mantissa = (bits & np.uint64((1 << fraction) - 1)) | ((exponent > 0).astype(np.uint64) << np.uint64(fraction))
    mask = np.uint64((1 << width) - 1)
    limbs = [mantissa] if narrow else [mantissa & mask, mantissa >> np.uint64(width)]
    place = exponent.astype(np.int64)

    def add(part: npt.NDArray[Any], power: int) -> int:
        # sums of floats, but of whole numbers far below 2⁵³: exact
        return _shifted(np.bincount(place, part.astype(np.float64)), power)

    return _scaled(*_long_sums(limbs, width, np.signbit(values), add), least)


def _whole_sums(values: npt.NDArray[np.int64]) -> tuple[Fraction, Fraction]:
    magnitude = np.where(values < 0, -values.view(np.uint64), values.view(np.uint64))
    limbs = [magnitude & np.uint64(0xFFFFFFFF), magnitude >> np.uint64(32)]
    if not limbs[1].any():
        limbs.pop()
    total, squares = _long_sums(limbs, 32, values < 0, lambda part, _: int(part.sum()))
    return Fraction(total), Fraction(squares)


def _long_sums(
    limbs: list[Wide], width: int, negative: npt.NDArray[np.bool_], add: Callable[[npt.NDArray[Any], int], int]
) -> tuple[int, int]:
    """Sum numbers given in limbs of `width` bits, lowest first, and their squares; `add` sums parts of a power."""
    sign = 1 - 2 * negative.astype(np.int64)
    total = sum(add(limb.astype(np.int64) * sign, 1) << (width * i) for i, limb in enumerate(limbs))
    squares = 0
    mask, shift = np.uint64((1 << width) - 1), np.uint64(width)
    for i, a in enumerate(limbs):
        for j, b in enumerate(limbs[: i + 1]):
            product = a * b
            both = (add(product >> shift, 2) << width) + add(product & mask, 2)
            squares += both << (width * (i + j) + (i != j))
    return total, squares


def _shifted(by_exponent: npt.NDArray[Any], power: int, extra: int = 0) -> int:
    """Σ count · 2^(power · max(exponent, 1) + extra): exponent 0 means the same scale as 1, without the leading bit."""
    used = np.flatnonzero(by_exponent)
    return sum(int(by_exponent[e]) << (power * max(int(e), 1) + extra) for e in used)


def _scaled(total: int, squares: int, least: int) -> tuple[Fraction, Fraction]:
    return Fraction(total, 1 << least), Fraction(squares, 1 << (2 * least))


def _root(x: Fraction) -> float:
    """Square root, also of what is beyond a float."""
    half = (x.numerator.bit_length() - x.denominator.bit_length()) // 2
    try:
        return math.ldexp(math.sqrt(x / Fraction(4) ** half), half)
    except OverflowError:
        return math.inf
