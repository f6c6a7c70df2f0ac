"""Digests of content, independent of how Arrow happens to lay it out in memory and of the library's version."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable


def content_digest(table: pa.Table) -> str:
    """sha256 of names, types, validity and values of a table's columns, hexadecimal; row order counts."""
    total = hashlib.sha256()
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        total.update(f"{name}\n{column.type}\n{len(column)}\n".encode())
        total.update(column.is_valid().to_numpy(zero_copy_only=False).tobytes())
        total.update(_values(column))
    return total.hexdigest()


def _values(column: pa.Array) -> bytes:
    if pa.types.is_string(column.type):
        texts = pc.fill_null(column, "")
        lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype("<i4").tobytes()
        return lengths + "".join(texts.to_pylist()).encode()
    if pa.types.is_binary(column.type):
        parts: list[bytes] = pc.fill_null(column, b"").to_pylist()
        return b"".join(len(part).to_bytes(4, "little") for part in parts) + b"".join(parts)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    filled = pc.fill_null(column, pa.scalar(0).cast(column.type))
    values = filled.to_numpy(zero_copy_only=False)
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def version_digest(commits: Iterable[str], schema_id: str, transform: str = "", erasure_epoch: int = 0) -> str:
    """sha256 over the sorted content digests of a version's commits, its schema, transform and epoch, hexadecimal."""
    total = hashlib.sha256(f"{schema_id}\n".encode())
    if transform or erasure_epoch:
        total.update(f"transform {transform}\nerasure epoch {erasure_epoch}\n".encode())
    for digest in sorted(commits):
        total.update(f"{digest}\n".encode())
    return total.hexdigest()
