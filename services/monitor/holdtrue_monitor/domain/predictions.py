"""From a record of predictions to counts. Pure: the same record always gives the same counts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from holdtrue_contracts.columns import MalformedColumn, unpack, unpack_texts
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.prediction_id import text
from holdtrue_stats.arrays import Bools, Float32s, Ints
from holdtrue_stats.histogram import fold
from numpy.typing import NDArray

from holdtrue_monitor.domain.buckets import LATENCY_BINS, Place, Served
from holdtrue_monitor.domain.labels import LATEST_NS
from holdtrue_monitor.domain.reference import Reference
from holdtrue_monitor.domain.tails import Fields, fields_of
from holdtrue_monitor.domain.windows import align

MILLISECOND = 1_000_000
AHEAD_NS = 300 * 1_000_000_000
"""Clocks may differ by so much; a later time is taken for the time of the record."""
MOST_REQUESTS = 1 << 40
"""More than any replica answers between two records; bounds what a hostile record can do to a sum."""
_ID_BYTES = 16


class Malformed(ValueError):
    """The record contradicts itself or its model version; the text says how."""


@dataclass(frozen=True, slots=True)
class Named:
    """An external id and the prediction that it means: row 0 of its request, made at `time_ns`."""

    external_id: str
    prediction_id: str
    time_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The content of one record: times [n], tails' fields [n], values [n, d], external ids; requests and latencies.

    `requests` [3]: answered, failed, shed; `at_ns`: when the record was made.
    """

    times_ns: Ints
    fields: Fields
    x: Float32s
    named: tuple[Named, ...]
    requests: Ints
    latency: Ints
    at_ns: int

    @property
    def slot(self) -> int:
        """The revision's slot in prediction ids; -1 without rows."""
        return int(self.fields.slot[0]) if len(self.fields.slot) else -1

    @property
    def latest_ns(self) -> int:
        """Time of the latest row; that of the record if it has no rows."""
        return int(self.times_ns.max()) if len(self.times_ns) else self.at_ns


def read(record: PredictionsServed, reference: Reference, at_ns: int) -> Rows:
    """Return the checked rows of a record that was made at `at_ns`; raises Malformed."""
    try:
        return _read(record, reference, at_ns)
    except MalformedColumn as error:
        raise Malformed(str(error)) from error


def count(
    record: PredictionsServed, rows: Rows, reference: Reference, window_ns: int, bucket: Callable[[Place], Served]
) -> None:
    """Add the record to the buckets of its windows and segments. `bucket` returns the one to add to, in place."""
    starts = align(rows.times_ns, window_ns)
    for start, segment, inside in _groups(starts, rows.fields.segment):
        served = bucket(Place(record.revision, segment, start))
        fold(reference.edges, rows.x[inside], served.features)
        np.add.at(served.scores.score, (rows.fields.class_[inside], rows.fields.code[inside] >> 2), 1)
    served = bucket(Place(record.revision, 0, rows.latest_ns - rows.latest_ns % window_ns))
    served.scores.requests[:] += rows.requests
    served.scores.latency[:] += rows.latency


def _read(record: PredictionsServed, reference: Reference, at_ns: int) -> Rows:
    if not 0 <= at_ns < LATEST_NS:
        raise Malformed(f"time of the record: expected 1970 to 2100, got {at_ns} ns since the epoch")
    n = record.rows
    requests = unpack(record.request_rows, np.uint32, 1).astype(np.int64) if n else np.zeros(0, np.int64)
    if requests.sum() != n:
        raise Malformed(f"rows: {n} announced, but request_rows sum to {requests.sum()}")
    if len(record.request_ids) != _ID_BYTES * len(requests):
        raise Malformed(f"request_ids: expected {_ID_BYTES * len(requests)} bytes, got {len(record.request_ids)}")
    ids = np.frombuffer(record.request_ids, np.uint8).reshape(-1, _ID_BYTES)
    times = _times(ids, at_ns)
    tails = _column(record, "tails", np.uint64, n) if n else np.zeros(0, np.uint64)
    fields = fields_of(tails)
    if n and fields.class_.max() > 1:
        raise Malformed(f"class in tails: expected 0 or 1, got {fields.class_.max()}")
    if n and (fields.slot != fields.slot[0]).any():
        raise Malformed("slot in tails: expected one revision's, got several")
    return Rows(
        times_ns=np.repeat(times, requests),
        fields=fields,
        x=_values(record, reference),
        named=tuple(_named(record, ids, requests, times, tails)),
        requests=_requests(record),
        latency=_latency(record),
        at_ns=at_ns,
    )


def _times(ids: NDArray[np.uint8], at_ns: int) -> Ints:
    """Milliseconds of UUIDv7s as nanoseconds; what lies too far ahead becomes `at_ns`."""
    weights = 256 ** np.arange(5, -1, -1, dtype=np.int64)
    milliseconds = ids[:, :6].astype(np.int64) @ weights
    latest = (at_ns + AHEAD_NS) // MILLISECOND
    return np.where(milliseconds > latest, at_ns, milliseconds * MILLISECOND)


def _values(record: PredictionsServed, reference: Reference) -> Float32s:
    n = record.rows
    if not n or not reference.edges.features:
        return np.zeros((n, reference.edges.features), np.float32)
    x = _matrix(record, "x", np.float32, n)
    codes = _matrix(record, "codes", np.int32, n)
    try:
        return reference.matrix(x, codes)
    except ValueError as error:
        raise Malformed(f"x and codes: {error}") from error


def _matrix(record: PredictionsServed, name: str, dtype: Any, n: int) -> Any:  # noqa: ANN401 - any array
    """The column [n, …]; one that is absent has no columns."""
    if not record.HasField(name):  # pyright: ignore[reportArgumentType] - one of the message's own names
        return np.zeros((n, 0), dtype)
    return _column(record, name, dtype, n, 2)


def _column(record: PredictionsServed, name: str, dtype: Any, n: int, ndim: int = 1) -> Any:  # noqa: ANN401
    array = unpack(getattr(record, name), dtype, ndim)
    if len(array) != n:
        raise Malformed(f"{name}: expected {n} rows, got {len(array)}")
    return array


def _named(
    record: PredictionsServed, ids: NDArray[np.uint8], requests: Ints, times: Ints, tails: NDArray[np.uint64]
) -> Iterator[Named]:
    names = unpack_texts(record.external_ids)
    if names and len(names) != len(requests):
        raise Malformed(f"external_ids: expected one for each of {len(requests)} requests, got {len(names)}")
    firsts = np.cumsum(requests) - requests
    for i, name in enumerate(names):
        if name and requests[i]:
            prediction_id = text(ids[i].tobytes(), int(tails[firsts[i]]))
            yield Named(name, prediction_id, int(times[i]))


def _groups(starts: Ints, segments: Ints) -> Iterator[tuple[int, int, Bools | slice]]:
    """Rows by window and segment; nearly always there is one group, which costs no copy."""
    if not len(starts):
        return
    if (starts == starts[0]).all() and (segments == segments[0]).all():
        yield int(starts[0]), int(segments[0]), slice(None)
        return
    for start, segment in np.unique(np.column_stack([starts, segments]), axis=0):
        yield int(start), int(segment), (starts == start) & (segments == segment)


def _requests(record: PredictionsServed) -> Ints:
    counts = record.answered, sum(record.failed.values()), record.shed
    if max(counts) > MOST_REQUESTS:
        raise Malformed(f"answered, failed, shed: at most {MOST_REQUESTS} each, got {counts}")
    return np.array(counts, np.int64)


def _latency(record: PredictionsServed) -> Ints:
    if not record.HasField("latency"):
        return np.zeros(LATENCY_BINS, np.int64)
    bins = unpack(record.latency, np.uint32, 1)
    if len(bins) != LATENCY_BINS:
        raise Malformed(f"latency: expected {LATENCY_BINS} bins, got {len(bins)}")
    return bins.astype(np.int64)
