"""Read UBJSON, as XGBoost writes it, without trusting a word of it.

Arrays of numbers stay views of the bytes; everything else is counted. What XGBoost does not write is refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from holdtrue_models.errors import MalformedModel, UnsafeModel

if TYPE_CHECKING:
    from collections.abc import Callable

Value = Any  # dict, list, text, number, bool, None, or an array of numpy

DEPTH = 16
PARTS = 5_000_000
"""Keys, items and values that are no numbers in an array of one type."""

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_CONSTANTS = {b"T": True, b"F": False, b"Z": None}
_LENGTH = struct.Struct(">q")


def read_ubjson(data: bytes, *, depth: int = DEPTH, parts: int = PARTS) -> Value:
    """Return the value that the bytes hold. Raises MalformedModel or UnsafeModel."""
    reader = _Reader(data, parts)
    value = reader.value(depth)
    if reader.at != len(data):
        raise MalformedModel(f"the UBJSON file goes on for {len(data) - reader.at} bytes behind its end")
    return value


class _Reader:
    def __init__(self, data: bytes, parts: int) -> None:
        self._data = data
        self._parts = parts
        self.at = 0

    def value(self, depth: int) -> Value:
        self._count()
        if depth < 0:
            raise UnsafeModel("the UBJSON file is nested deeper than any model")
        marker = self._take(1)
        if marker in _NUMBERS:
            return self._numbers(_NUMBERS[marker], 1)[0].item()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        containers: dict[bytes, Callable[[int], Value]] = {b"{": self._object, b"[": self._array, b"S": self._text}
        if marker not in containers:
            self._wrong(f"the marker {marker!r}, which XGBoost does not write")
        return containers[marker](depth - 1)

    def _object(self, depth: int) -> dict[str, Value]:
        fields: dict[str, Value] = {}
        while self._data[self.at : self.at + 1] != b"}":
            name = self._text(depth)
            if name in fields:
                raise UnsafeModel(f"the UBJSON file has {name[:50]!r} twice in one object")
            fields[name] = self.value(depth)
        self.at += 1
        return fields

    def _array(self, depth: int) -> Value:
        marker = self._take(1)
        kind = self._take(1) if marker == b"$" else b""
        if (self._take(1) if kind else marker) != b"#":
            self._wrong("an array without a length")
        length = self._length()
        if not kind:
            return [self.value(depth) for _ in range(length)]
        if kind not in _NUMBERS:
            self._wrong(f"an array of {kind!r}")
        return self._numbers(_NUMBERS[kind], length)

    def _text(self, _: int) -> str:
        raw = self._take(self._length())
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedModel("the UBJSON file has a text that is not UTF-8") from error

    def _length(self) -> int:
        if self._take(1) != b"L":
            self._wrong("a length that is not of 64 bits")
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        if not 0 <= length <= len(self._data) - self.at:  # every item has a byte at least
            self._wrong(f"a length of {length}")
        return length

    def _numbers(self, dtype: str, count: int) -> Value:
        begin = self._skip(np.dtype(dtype).itemsize * count)
        return np.frombuffer(self._data, dtype, count, begin)

    def _take(self, size: int) -> bytes:
        begin = self._skip(size)
        return self._data[begin : self.at]

    def _skip(self, size: int) -> int:
        """Go on and return from where."""
        begin, self.at = self.at, self.at + size
        if self.at > len(self._data):
            raise MalformedModel("the UBJSON file is cut off")
        return begin

    def _count(self) -> None:
        self._parts -= 1
        if self._parts < 0:
            raise UnsafeModel("the UBJSON file has more parts than are read")

    def _wrong(self, what: str) -> Never:
        raise MalformedModel(f"the UBJSON file has {what} near byte {self.at}")
