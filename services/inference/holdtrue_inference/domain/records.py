"""The prediction log: what a batch leaves in the spool, and how it becomes events.

A chunk is one batch of one revision: a fixed header, then columns one after the other, little-endian. Its context is a
`PredictionsServed` that holds all that is the same for every batch; chunks of equal context can share an event, and
joining them is joining bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_contracts.columns import pack
from holdtrue_contracts.common.v1.columns_pb2 import Column, ElementType, TextColumn
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

MAX_ROWS = 4096
"""Rows of an event."""
MAX_BYTES = 900_000
"""Bytes of an event."""
LATENCY_BINS = 64

Buffer = bytes | memoryview

_HEADER = struct.Struct("<IIIIIIIq?")
_OVERHEAD = 4096  # context and field tags of an event
_REQUEST_BYTES = 16 + 4 + 8 + 4 + 128  # at most: id, rows, arrival, length of the external id, external id


@dataclass(frozen=True, slots=True)
class Batch:
    """Answers of one revision that became final together: r requests, n rows.

    `continued`: the first request is the rest of one that the record before began.
    """

    request_ids: Sequence[bytes]
    counts: Sequence[int]
    arrivals_ns: Sequence[int]
    external_ids: Sequence[str]
    answered_ns: int
    tails: NDArray[np.uint64]
    x: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int16]
    continued: bool = False


def chunks(context: bytes, batch: Batch) -> list[bytes]:
    """The batch as one chunk, or as several where one would not fit into an event."""
    rows, width = batch.x.shape
    row_bytes = 4 * width + 4 * batch.scores.shape[1] + 8 + 2 + 1
    if rows * row_bytes + len(batch.counts) * _REQUEST_BYTES + _OVERHEAD <= MAX_BYTES and rows <= MAX_ROWS:
        return [_encode(context, batch)]
    limit = min(MAX_ROWS, (MAX_BYTES - _OVERHEAD) // (row_bytes + _REQUEST_BYTES))
    return [_encode(context, part) for part in _split(batch, max(limit, 1))]


def failures(context: bytes, failed: Mapping[str, int], shed: int) -> bytes:
    """A chunk without rows: requests of the revision that were not answered."""
    extra = PredictionsServed(failed=failed, shed=shed).SerializeToString()
    return _HEADER.pack(len(context), 0, 0, 0, 0, 0, len(extra), 0, False) + context + extra


def _encode(context: bytes, batch: Batch) -> bytes:
    external_ids = [text.encode() for text in batch.external_ids]
    requests = len(batch.counts)
    rows, width = batch.x.shape
    classes = batch.scores.shape[1]
    external = sum(map(len, external_ids))
    return b"".join(
        (
            _HEADER.pack(len(context), requests, rows, width, classes, external, 0, batch.answered_ns, batch.continued),
            context,
            *batch.request_ids,
            struct.pack(f"<{requests}I", *batch.counts),
            struct.pack(f"<{requests}q", *batch.arrivals_ns),
            struct.pack(f"<{requests}I", *map(len, external_ids)),
            *external_ids,
            batch.tails.data,
            batch.x.data,
            np.ascontiguousarray(batch.scores).data,
            batch.classes.data,
        )
    )


def _split(batch: Batch, limit: int) -> Iterator[Batch]:
    """Cut a batch every `limit` rows, also inside a request."""
    first_rows = np.concatenate([[0], np.cumsum(batch.counts)])
    for start in range(0, int(first_rows[-1]), limit):
        stop = min(start + limit, int(first_rows[-1]))
        first = int(np.searchsorted(first_rows, start, "right")) - 1
        last = int(np.searchsorted(first_rows, stop, "left"))
        bounds = np.clip(first_rows[first : last + 1], start, stop)
        yield replace(
            batch,
            request_ids=batch.request_ids[first:last],
            counts=np.diff(bounds).tolist(),
            arrivals_ns=batch.arrivals_ns[first:last],
            external_ids=batch.external_ids[first:last],
            tails=batch.tails[start:stop],
            x=batch.x[start:stop],
            scores=batch.scores[start:stop],
            classes=batch.classes[start:stop],
            continued=int(first_rows[first]) < start,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk as read back; the columns are views of its bytes."""

    context: bytes
    rows: int
    width: int
    classes_width: int
    answered_ns: int
    continued: bool
    request_ids: Buffer
    counts: Buffer
    arrivals: Buffer
    external_lengths: Buffer
    external_ids: Buffer
    tails: Buffer
    x: Buffer
    scores: Buffer
    classes: Buffer
    extra: Buffer
    size: int

    @classmethod
    def decode(cls, data: bytes) -> Chunk:
        """Read what `chunks` or `failures` wrote. Raises ValueError if lengths do not add up."""
        if len(data) < _HEADER.size:
            raise ValueError(f"a chunk of {len(data)} bytes has no header")
        context, requests, rows, width, k, external, extra, answered_ns, continued = _HEADER.unpack_from(data)
        view = memoryview(data)
        lengths = (
            *(context, 16 * requests, 4 * requests, 8 * requests, 4 * requests, external),
            *(8 * rows, 4 * rows * width, 4 * rows * k, 2 * rows, extra),
        )
        if _HEADER.size + sum(lengths) != len(data):
            raise ValueError(f"a chunk of {len(data)} bytes has lengths {lengths}")
        parts: list[memoryview] = []
        position = _HEADER.size
        for length in lengths:
            parts.append(view[position : position + length])
            position += length
        return cls(bytes(parts[0]), rows, width, k, answered_ns, continued, *parts[1:], size=len(data))


def group(read: Sequence[Chunk]) -> list[list[int]]:
    """Which chunks share an event: places of chunks of equal context, in order, within the limits of an event."""
    finished: list[list[int]] = []
    filling: dict[bytes, tuple[list[int], int, int]] = {}
    for place, chunk in enumerate(read):
        members, rows, size = filling.get(chunk.context, ([], 0, _OVERHEAD))
        added = chunk.size + chunk.rows  # a segment cell for each row
        if members and (rows + chunk.rows > MAX_ROWS or size + added > MAX_BYTES):
            finished.append(members)
            members, rows, size = [], 0, _OVERHEAD
        members.append(place)
        filling[chunk.context] = members, rows + chunk.rows, size + added
    return finished + [members for members, _, _ in filling.values()]


def served(read: Sequence[Chunk], *, batch_id: str, spool_id: str, sequence: int) -> PredictionsServed:
    """The event of chunks of one context."""
    rows = sum(chunk.rows for chunk in read)
    with_rows = [chunk for chunk in read if chunk.rows] or read[:1]
    width, k = with_rows[0].width, with_rows[0].classes_width
    arrivals = b"".join([chunk.arrivals for chunk in read])
    requests = len(arrivals) // 8
    event = PredictionsServed.FromString(read[0].context)
    event.MergeFrom(
        PredictionsServed(
            batch_id=batch_id,
            spool_id=spool_id,
            sequence=sequence,
            rows=rows,
            request_ids=b"".join([chunk.request_ids for chunk in read]),
            request_rows=_column([c.counts for c in read], ElementType.ELEMENT_TYPE_UINT32, requests),
            external_ids=_texts(read),
            arrivals_ns=Column(data=arrivals, dtype=ElementType.ELEMENT_TYPE_INT64, shape=[requests]),
            tails=_column([c.tails for c in read], ElementType.ELEMENT_TYPE_UINT64, rows),
            x=_column([c.x for c in read], ElementType.ELEMENT_TYPE_FLOAT32, rows, width),
            codes=Column(dtype=ElementType.ELEMENT_TYPE_INT32, shape=[rows, 0]),
            scores=_column([c.scores for c in read], ElementType.ELEMENT_TYPE_FLOAT32, rows, k),
            classes=_column([c.classes for c in read], ElementType.ELEMENT_TYPE_INT16, rows),
            segments=Column(data=bytes(rows), dtype=ElementType.ELEMENT_TYPE_UINT8, shape=[rows]),
            answered=requests - sum(chunk.continued for chunk in read),
            latency=pack(_latencies(read)),
        )
    )
    for chunk in read:
        _add_failures(event, chunk)
    return event


def _column(parts: Sequence[Buffer], dtype: ElementType.ValueType, *shape: int) -> Column:
    return Column(data=b"".join(parts), dtype=dtype, shape=shape)


def _texts(read: Sequence[Chunk]) -> TextColumn:
    lengths = np.frombuffer(b"".join([chunk.external_lengths for chunk in read]), "<u4")
    offsets = np.zeros(len(lengths) + 1, "<u4")
    np.cumsum(lengths, out=offsets[1:])
    return TextColumn(data=b"".join([chunk.external_ids for chunk in read]), offsets=offsets.tobytes())


def _latencies(read: Sequence[Chunk]) -> NDArray[np.uint32]:
    """Requests by latency, two bins an octave from 1 µs; the rest of a request was counted with its beginning."""
    waited = [chunk.answered_ns - np.frombuffer(chunk.arrivals, "<i8")[1 if chunk.continued else 0 :] for chunk in read]
    microseconds = np.maximum(np.concatenate(waited), 1000) / 1000
    bins = np.minimum(2 * np.log2(microseconds), LATENCY_BINS - 1).astype(np.intp)
    return np.bincount(bins, minlength=LATENCY_BINS).astype(np.uint32)


def _add_failures(event: PredictionsServed, chunk: Chunk) -> None:
    if chunk.extra:
        extra = PredictionsServed.FromString(bytes(chunk.extra))
        event.shed += extra.shed
        for code, count in extra.failed.items():
            event.failed[code] += count
