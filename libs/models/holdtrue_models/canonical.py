"""A digest of a model's source that survives a second dump and a refit.

Of boosted trees it is that of all that their answers depend on. The bytes of a .skops file differ from dump to dump
(ids of objects, names of members): ids are numbered in order of appearance and each member is replaced by the sha256 of
its content, without the gaps between the fields of records: what lies in them is left over from other objects. ONNX
files need no such thing: their bytes are equal after a refit.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from holdtrue_models.content import recognise
from holdtrue_models.forest_model import READERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Node = Any  # a JSON value


def canonical_digest(data: bytes) -> str:
    """Return the digest of a model's file that this process has written itself, hexadecimal."""
    kind = recognise(data)
    if kind == "onnx":
        return hashlib.sha256(data).hexdigest()
    return READERS[kind](data).digest if kind in READERS else _skops_digest(data)


def _skops_digest(data: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = _canonical(json.loads(archive.read("schema.json")), archive, {})
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()


def _canonical(node: Node, archive: zipfile.ZipFile, ids: dict[int, int]) -> Node:
    if isinstance(node, list):
        return [_canonical(item, archive, ids) for item in cast("list[Node]", node)]
    if not isinstance(node, dict):
        return node
    fields = cast("dict[str, Node]", node)
    return {key: _canonical(_stable(key, value, archive, ids), archive, ids) for key, value in fields.items()}


def _stable(key: str, value: Node, archive: zipfile.ZipFile, ids: dict[int, int]) -> Node:
    if key == "__id__":
        return ids.setdefault(value, len(ids))
    if key == "file" and isinstance(value, str):
        return hashlib.sha256(_without_gaps(archive.read(value))).hexdigest()
    return value


def _without_gaps(member: bytes) -> bytes:
    if not member.startswith(b"\x93NUMPY"):
        return member
    array = cast("NDArray[Any]", np.load(io.BytesIO(member), allow_pickle=False))
    names = array.dtype.names
    if names is None:
        return member
    return b"".join(name.encode() + array[name].tobytes() for name in names)
