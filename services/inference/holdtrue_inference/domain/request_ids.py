"""Ids of requests: UUIDv7 at the cost of a few additions."""

from __future__ import annotations

import os
import struct

_MILLISECOND = 1_000_000
_LAYOUT = struct.Struct(">IHHHHI")


class RequestIds:
    """Makes the request ids of one process.

    The 74 bits after the time are 42 that are random for the process and a counter of 32, so that no two ids of a
    millisecond are equal, and those of different processes only by a chance of 2^-42.
    """

    def __init__(self, randomness: bytes | None = None) -> None:
        """Take six random bytes, by default the system's."""
        bits = int.from_bytes(randomness or os.urandom(6))
        self._a = 0x7000 | bits & 0xFFF
        self._b = 0x8000 | bits >> 12 & 0x3FFF
        self._c = bits >> 26 & 0xFFFF
        self._count = 0

    def next(self, time_ns: int) -> bytes:
        """16 bytes: a new id of that time, nanoseconds since the epoch."""
        milliseconds = time_ns // _MILLISECOND
        self._count = count = self._count + 1 & 0xFFFF_FFFF
        return _LAYOUT.pack(milliseconds >> 16, milliseconds & 0xFFFF, self._a, self._b, self._c, count)
