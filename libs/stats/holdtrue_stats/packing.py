"""Named arrays to bytes and back: versioned, compressed, checked; equal arrays always give equal bytes."""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

_HEAD = struct.Struct("<4sHI")
_LENGTH = struct.Struct("<I")
_MAGIC = b"HTST"
_VERSION = 1
_TYPES = ("<i8", "<f8", "<f4")
_LIMIT = 256 << 20  # no legitimate state is near it; bounds what a hostile blob can make us allocate


class PackingError(ValueError):
    """The bytes are not a packed set of arrays: damaged, of another version, or of another kind."""


def pack(kind: str, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any] | None = None) -> bytes:
    """Return the arrays (int64, float64 or float32) and JSON-able `meta` as bytes that `unpack(kind, …)` reads."""
    little = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    head = {
        "kind": kind,
        "meta": meta or {},
        "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in little.items()],
    }
    text = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    body = zlib.compress(b"".join([_LENGTH.pack(len(text)), text, *(a.tobytes() for a in little.values())]), 1)
    return _HEAD.pack(_MAGIC, _VERSION, zlib.crc32(body)) + body


def unpack(kind: str, data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays (own memory, writable) and the meta data that `pack(kind, …)` stored.

    Raises PackingError, which says what is wrong with the bytes.
    """
    content = _checked(data)
    try:
        (length,) = _LENGTH.unpack_from(content)
        head = cast("dict[str, Any]", json.loads(content[_LENGTH.size : _LENGTH.size + length]))
        found, meta, layout = head["kind"], head["meta"], head["arrays"]
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise PackingError(f"a packed {kind} has no readable header: {error}") from error
    if found != kind:
        raise PackingError(f"expected a packed {kind}, got a packed {found}")
    return _arrays(kind, content, _LENGTH.size + length, layout), meta


def _checked(data: bytes) -> bytes:
    if len(data) < _HEAD.size:
        raise PackingError(f"{len(data)} bytes are too few to be packed arrays")
    magic, version, checksum = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    if magic != _MAGIC:
        raise PackingError("these bytes are not packed arrays (wrong first four bytes)")
    if version != _VERSION:
        raise PackingError(f"packed arrays of version {version}; this program reads version {_VERSION}")
    if zlib.crc32(body) != checksum:
        raise PackingError("the checksum does not match: the bytes were damaged")
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(body, _LIMIT)
    except zlib.error as error:
        raise PackingError(f"the compressed part cannot be read: {error}") from error
    if not inflate.eof:
        raise PackingError(f"the arrays are cut short or larger than {_LIMIT >> 20} MiB")
    return content


def _arrays(kind: str, content: bytes, offset: int, layout: object) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    try:
        for name, dtype, shape in cast("list[Any]", layout):
            if dtype not in _TYPES:
                raise PackingError(f"array {name} of a packed {kind} has type {dtype}; allowed are {_TYPES}")
            count = int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.frombuffer(content, dtype, count, offset).reshape(shape).copy()
            offset += arrays[name].nbytes
    except (TypeError, ValueError) as error:
        raise PackingError(f"a packed {kind} does not hold the arrays it announces: {error}") from error
    if offset != len(content):
        raise PackingError(f"a packed {kind} has {len(content) - offset} bytes too many")
    return arrays
