"""Tensors on the wire, between numpy arrays and the protocol's two forms: raw bytes and typed contents."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from holdtrue_contracts.oip.inference_pb2 import InferTensorContents

BYTES = "BYTES"
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Datatypes of fixed width. BYTES is the only other one that is spoken here."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_LENGTH = struct.Struct("<I")


class MalformedTensor(ValueError):
    """A tensor's elements do not agree with its datatype and shape; the text says what was expected and what came."""


def datatype_of(array: NDArray[Any]) -> str:
    """Name of the array's datatype; text, bytes and objects are BYTES.

    Raises:
        MalformedTensor: there is no such datatype in the protocol.
    """
    if array.dtype.kind in "OSU":
        return BYTES
    try:
        return _NAMES[array.dtype.newbyteorder("<")]
    except KeyError:
        raise MalformedTensor(
            f"no datatype for {array.dtype}: use one of {', '.join(_NAMES.values())} or text"
        ) from None


def to_raw(array: NDArray[Any]) -> bytes:
    """All elements, row-major, little-endian, without padding; text is UTF-8 after its length in 4 bytes."""
    if datatype_of(array) == BYTES:
        return b"".join(_LENGTH.pack(len(text)) + text for text in _texts(array))
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def from_raw(datatype: str, shape: Sequence[int], data: bytes) -> NDArray[Any]:
    """The array of that shape, a read-only view of the data (BYTES: an object array of `bytes`).

    Raises:
        MalformedTensor: unknown datatype, or the data's length does not fit the shape.
    """
    if datatype == BYTES:
        return _split(shape, data)
    dtype = _fixed(datatype)
    expected = _elements(shape) * dtype.itemsize
    if len(data) != expected:
        raise MalformedTensor(f"expected {expected} bytes for {datatype} {list(shape)}, got {len(data)}")
    return np.frombuffer(data, dtype).reshape(shape)


def from_contents(datatype: str, shape: Sequence[int], contents: InferTensorContents) -> NDArray[Any]:
    """The array of that shape from typed contents.

    Raises:
        MalformedTensor: unknown datatype, elements in another field, too few or too many, or one that does not fit.
    """
    field = _CONTENTS.get(datatype)
    if field is None:
        raise MalformedTensor(f"datatype {datatype!r} has no typed contents: send raw_input_contents")
    others = [other.name for other, _ in contents.ListFields() if other.name != field]
    if others:
        raise MalformedTensor(f"expected elements in {field} for {datatype}, got {', '.join(others)}")
    values: Sequence[Any] = getattr(contents, field)
    if len(values) != _elements(shape):
        raise MalformedTensor(f"expected {_elements(shape)} elements for {list(shape)}, got {len(values)}")
    array = np.array(values, object) if datatype == BYTES else _narrowed(np.array(values), datatype)
    return array.reshape(shape)


def fill_contents(contents: InferTensorContents, array: NDArray[Any]) -> None:
    """Write the array's elements into the field of its datatype.

    Raises:
        MalformedTensor: the datatype has no typed contents (FP16).
    """
    datatype = datatype_of(array)
    field = _CONTENTS.get(datatype)
    if field is None:
        raise MalformedTensor(f"datatype {datatype!r} has no typed contents: use the raw form")
    getattr(contents, field).extend(_texts(array) if datatype == BYTES else array.ravel().tolist())


def _narrowed(values: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Small integers travel in fields of 32 bits: back to their own width, but for what does not fit."""
    array = values.astype(DATATYPES[datatype], copy=False)
    if array is not values and (lost := values[array != values]).size:
        raise MalformedTensor(f"expected elements that fit {datatype}, got {lost[0]}")
    return array


def _fixed(datatype: str) -> np.dtype[Any]:
    try:
        return DATATYPES[datatype]
    except KeyError:
        raise MalformedTensor(f"unknown datatype {datatype!r}: use one of {', '.join(DATATYPES)}, {BYTES}") from None


def _elements(shape: Sequence[int]) -> int:
    if min(shape, default=0) < 0:
        raise MalformedTensor(f"expected lengths of dimensions that are not negative, got {list(shape)}")
    return math.prod(shape)


def _texts(array: NDArray[Any]) -> list[bytes]:
    return [element if isinstance(element, bytes) else str(element).encode() for element in array.ravel().tolist()]


def _split(shape: Sequence[int], data: bytes) -> NDArray[Any]:
    expected, texts, position = _elements(shape), list[bytes](), 0
    while position < len(data) and len(texts) < expected:
        end = position + _LENGTH.size
        if end > len(data):
            break
        position = end + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            raise MalformedTensor(f"element {len(texts)} of BYTES ends {position - len(data)} bytes after the data")
        texts.append(data[end:position])
    if len(texts) != expected or position != len(data):
        raise MalformedTensor(
            f"expected {expected} elements after their lengths in {len(data)} bytes for BYTES, got {len(texts)}"
        )
    array = np.empty(expected, object)
    array[:] = texts
    return array.reshape(shape)
