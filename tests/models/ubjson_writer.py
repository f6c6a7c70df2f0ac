"""Write UBJSON as XGBoost does, and wrongly on purpose."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_models.ubjson import read_ubjson

if TYPE_CHECKING:
    from collections.abc import Callable

Untyped = Any
_MARKERS = {"i1": b"i", "u1": b"U", "i2": b"I", "i4": b"l", "i8": b"L", "f4": b"d", "f8": b"D"}


def edited(data: bytes, edit: Callable[[Untyped], object]) -> bytes:
    """The file after `edit(document)`; arrays of numbers can be written to."""
    document = _writable(read_ubjson(data))
    edit(document)
    return written(document)


def _writable(value: Untyped) -> Untyped:
    if isinstance(value, dict):
        return {name: _writable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_writable(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def written(value: Untyped) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return b"{" + b"".join(text(name) + written(item) for name, item in value.items()) + b"}"
    if isinstance(value, list):
        return b"[#" + length(len(value)) + b"".join(map(written, value))
    if isinstance(value, np.ndarray):
        big = value.astype(value.dtype.newbyteorder(">"))
        return b"[$" + _MARKERS[value.dtype.str[1:]] + b"#" + length(len(value)) + big.tobytes()
    if isinstance(value, str):
        return b"S" + text(value)
    return b"d" + struct.pack(">f", value) if isinstance(value, float) else b"l" + struct.pack(">i", value)


def length(size: int) -> bytes:
    return b"L" + struct.pack(">q", size)


def text(value: str) -> bytes:
    return length(len(value.encode())) + value.encode()
