"""Arrays and texts in bulk as contiguous little-endian bytes."""

from __future__ import annotations

import math
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from holdtrue_contracts.common.v1.columns_pb2 import Column, ElementType, TextColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

_TYPES = MappingProxyType(
    {
        ElementType.ELEMENT_TYPE_FLOAT32: np.dtype("<f4"),
        ElementType.ELEMENT_TYPE_FLOAT64: np.dtype("<f8"),
        ElementType.ELEMENT_TYPE_INT16: np.dtype("<i2"),
        ElementType.ELEMENT_TYPE_INT32: np.dtype("<i4"),
        ElementType.ELEMENT_TYPE_INT64: np.dtype("<i8"),
        ElementType.ELEMENT_TYPE_UINT8: np.dtype("u1"),
        ElementType.ELEMENT_TYPE_UINT32: np.dtype("<u4"),
        ElementType.ELEMENT_TYPE_UINT64: np.dtype("<u8"),
    }
)
_CODES = MappingProxyType({dtype.str[1:]: code for code, dtype in _TYPES.items()})
_OFFSET = np.dtype("<u4")


class MalformedColumn(ValueError):
    """A column that does not hold what its reader expects; the text says what, expected and got."""


def pack(array: NDArray[Any]) -> Column:
    """Return the array, of any shape, as a column; raises TypeError for an element type that columns do not have."""
    code = _CODES.get(array.dtype.str[1:])
    if code is None:
        raise TypeError(f"a column holds one of {', '.join(d.name for d in _TYPES.values())}; got {array.dtype}")
    data = array.astype(_TYPES[code], order="C", copy=False).tobytes()
    return Column(data=data, dtype=code, shape=array.shape)


def unpack(column: Column, dtype: DTypeLike, ndim: int) -> NDArray[Any]:
    """Return the column as a read-only array over its bytes; raises MalformedColumn for another type or shape."""
    expected = np.dtype(dtype).newbyteorder("<")
    actual = _TYPES.get(column.dtype)
    if actual != expected:
        raise MalformedColumn(f"element type: expected {expected.name}, got {actual.name if actual else column.dtype}")
    shape = tuple(column.shape)
    if len(shape) != ndim:
        raise MalformedColumn(f"dimensions: expected {ndim}, got {len(shape)} (shape {shape})")
    data = column.data
    size = math.prod(shape) * expected.itemsize
    if len(data) != size:
        raise MalformedColumn(f"bytes: expected {size} for {expected.name} {shape}, got {len(data)}")
    return np.frombuffer(data, expected).reshape(shape)


def pack_texts(texts: Sequence[str]) -> TextColumn:
    """Return the texts as one column."""
    raw = [text.encode() for text in texts]
    offsets = np.zeros(len(raw) + 1, _OFFSET)
    np.cumsum([len(item) for item in raw], out=offsets[1:])
    return TextColumn(data=b"".join(raw), offsets=offsets.tobytes())


def unpack_texts(column: TextColumn) -> list[str]:
    """Return the texts of a column (an absent column has none); raises MalformedColumn."""
    if not column.offsets:
        return _no_texts(column)
    if len(column.offsets) % _OFFSET.itemsize:
        raise MalformedColumn(f"offsets: expected a multiple of 4 bytes, got {len(column.offsets)}")
    offsets: list[int] = np.frombuffer(column.offsets, _OFFSET).tolist()
    data = column.data
    if offsets[0] != 0 or offsets[-1] != len(data) or any(a > b for a, b in pairwise(offsets)):
        raise MalformedColumn(f"offsets: expected to rise from 0 to {len(data)}, got {offsets[0]} … {offsets[-1]}")
    try:
        return [data[a:b].decode() for a, b in pairwise(offsets)]
    except UnicodeDecodeError as error:
        raise MalformedColumn(f"texts: expected UTF-8, got {error.object[error.start : error.end]!r}") from error


def _no_texts(column: TextColumn) -> list[str]:
    if column.data:
        raise MalformedColumn(f"offsets: expected some for {len(column.data)} bytes of text, got none")
    return []
