"""Offering records and labels: events of the platform, batched, acknowledged by Kafka, never dropped."""

from __future__ import annotations

import atexit
import json
import math
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import time_ns
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from holdtrue_contracts import prediction_id as ids
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.columns import pack, pack_texts
from holdtrue_contracts.ids import uuid7
from holdtrue_contracts.monitor.v1.labels_pb2 import LabelsObserved
from holdtrue_contracts.registry.v1.datasets_pb2 import RecordFormat, RecordsOffered

from holdtrue.errors import InvalidArgument
from holdtrue.sender import Parcel, Sender

if TYPE_CHECKING:
    from types import TracebackType

    from google.protobuf.message import Message
    from holdtrue_contracts.registry.v1.dataset_service_pb2 import Dataset

    from holdtrue.connection import Connection
    from holdtrue.datasets import Datasets

SOURCE = "holdtrue/sdk"
CLOSE_SECONDS = 60.0
_BATCH_BYTES = 256_000
_BATCH_LABELS = 4096
_LABEL_BYTES = 160  # what a label takes in memory and in its message, about
_MOST_ROW_BYTES = 800_000
_MOST_REVISION = 2**63 - 1
_LATEST_S = 4_102_444_800  # the begin of the year 2100


@dataclass(frozen=True, slots=True)
class ProducerStats:
    """How far it is: everything offered is either acknowledged or pending."""

    records: int
    labels: int
    acknowledged: int
    pending: int
    retries: int


@dataclass(frozen=True, slots=True)
class _Target:
    """What must be known of a dataset to offer rows to it."""

    id: str
    name: str
    columns: frozenset[str]
    time: str

    @classmethod
    def of(cls, dataset: Dataset) -> _Target:
        names = frozenset(column.name for column in dataset.schema.columns)
        return cls(dataset.dataset_id, dataset.name, names, dataset.schema.time)


@dataclass(slots=True)
class _Rows:
    """Rows of one dataset that wait to be sent, as JSON lines."""

    lines: list[bytes] = field(default_factory=list[bytes])
    size: int = 0


@dataclass(slots=True)
class _Label:
    prediction_id: str
    external_id: str
    value: float
    revision: int
    observed_ns: int
    weight: float


class Producer:
    """Sends records to datasets and labels to the monitor, from a thread of its own.

    `event` and `label` return at once, or wait while too much is not yet acknowledged. Leaving the `with` block, or
    `close`, waits until Kafka has everything. Threads may share it.
    """

    def __init__(self, connection: Connection, datasets: Datasets, *, buffer_bytes: int) -> None:
        """Use `Client.producer` instead."""
        self._actor = connection.actor
        self._find = datasets.get
        self._known: dict[str, _Target] = {}
        self._lock = threading.Lock()
        self._rows: dict[str, _Rows] = defaultdict(_Rows)
        self._labels: dict[int, list[_Label]] = defaultdict(list)
        self._ready: list[Parcel] = []
        self._counts = {"records": 0, "labels": 0}
        where = connection.endpoints
        self._sender = Sender(where.kafka, where.kafka_prefix, self._collect, buffer_bytes)
        atexit.register(self.close)

    def event(self, dataset: str, row: Mapping[str, Any], *, at: datetime | float | None = None) -> None:
        """Offer one row, values by column, to a dataset.

        `at` fills the dataset's time column: a time with zone, or seconds since the epoch. Raises NotFound for an
        unknown dataset and InvalidArgument for unknown columns or values that JSON does not have; the registry judges
        the values themselves and keeps refused rows in quarantine.
        """
        target = self._target(dataset, row)
        line = _line(target, {**row, **_at(target, at)})
        self._sender.reserve(len(line))
        with self._lock:
            rows = self._rows[target.id]
            rows.lines.append(line)
            rows.size += len(line)
            self._counts["records"] += 1
            if rows.size >= _BATCH_BYTES:
                self._seal_rows(target.id)

    def label(  # noqa: PLR0913  what a label may say
        self,
        prediction_id: str = "",
        value: float | None = None,
        *,
        key: str = "",
        revision: int = 0,
        observed_at: datetime | None = None,
        weight: float = 1.0,
    ) -> None:
        """Say what turned out to be true of a prediction, named by its id or by the caller's own `key`.

        `value` is the class (its index, or true and false) or a number; None withdraws the label. A higher `revision`
        replaces a lower one. Raises InvalidArgument.
        """
        if bool(prediction_id) == bool(key):
            raise InvalidArgument("label: give the prediction's id or its key, and not both")
        if not 0 <= revision <= _MOST_REVISION:
            raise InvalidArgument(f"label: expected a revision of 0 or higher, at most 2^63 - 1, got {revision}")
        if not 0 <= weight < math.inf:
            raise InvalidArgument(f"label: expected a weight of 0 or higher, got {weight}")
        if problem := ids.external_id_problem(key):
            raise InvalidArgument(f"label, key: {problem}")
        label = _Label(prediction_id, key, _value(value), revision, _observed_ns(observed_at), weight)
        shard = ids.label_shard(key or _request_id(prediction_id))
        self._sender.reserve(_LABEL_BYTES)
        with self._lock:
            self._labels[shard].append(label)
            self._counts["labels"] += 1
            if len(self._labels[shard]) >= _BATCH_LABELS:
                self._seal_labels(shard)

    @property
    def stats(self) -> ProducerStats:
        """How far it is."""
        counts = self._sender.counts
        return ProducerStats(
            records=self._counts["records"],
            labels=self._counts["labels"],
            acknowledged=counts.acknowledged,
            pending=counts.offered - counts.acknowledged,
            retries=counts.retries,
        )

    def flush(self, timeout: float = CLOSE_SECONDS) -> None:
        """Wait until Kafka has everything offered so far; raises DeadlineExceeded after `timeout` seconds."""
        self._sender.flush(timeout)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Wait as `flush` does, then end the thread."""
        atexit.unregister(self.close)
        try:
            self._sender.flush(timeout)
        finally:
            self._sender.close()

    def __enter__(self) -> Self:
        """Return the producer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def offer(self, data: Message, items: int) -> None:
        """Offer a whole event that counts `items` rows; what `event` and `label` do is built on top of it."""
        parcel = self._parcel(data, items, None)
        self._sender.reserve(parcel.size, items)
        with self._lock:
            self._ready.append(parcel)
            self._counts["records"] += items

    def _target(self, name: str, row: Mapping[str, Any]) -> _Target:
        if not isinstance(cast("object", row), Mapping):
            raise InvalidArgument(f"dataset {name}: expected a row as a dict, got {type(row).__name__}")
        known = self._known.get(name)
        if known is None or not row.keys() <= known.columns:
            known = self._known[name] = _Target.of(self._find(name))
        if unknown := [str(column) for column in row if column not in known.columns]:
            has = ", ".join(sorted(known.columns)[:20])
            raise InvalidArgument(f"dataset {name}: unknown columns {', '.join(unknown[:10])}; it has {has}")
        return known

    def _collect(self) -> list[Parcel]:
        """Give the sender everything that waits."""
        with self._lock:
            for dataset_id in [dataset_id for dataset_id, rows in self._rows.items() if rows.lines]:
                self._seal_rows(dataset_id)
            for shard in [shard for shard, labels in self._labels.items() if labels]:
                self._seal_labels(shard)
            ready, self._ready = self._ready, []
        return ready

    def _seal_rows(self, dataset_id: str) -> None:
        rows = self._rows.pop(dataset_id)
        message = RecordsOffered(
            dataset_id=dataset_id,
            batch_id=uuid7(),
            format=RecordFormat.RECORD_FORMAT_JSON_LINES,
            rows=len(rows.lines),
            inline=b"".join(rows.lines),
        )
        self._ready.append(self._parcel(message, len(rows.lines), rows.size))

    def _seal_labels(self, shard: int) -> None:
        labels = self._labels.pop(shard)
        message = LabelsObserved(
            shard=str(shard),
            prediction_ids=pack_texts([label.prediction_id for label in labels]),
            external_ids=pack_texts([label.external_id for label in labels]),
            labels=pack(np.array([label.value for label in labels], np.float64)),
            revisions=pack(np.array([label.revision for label in labels], np.int64)),
            observed_ns=pack(np.array([label.observed_ns for label in labels], np.int64)),
            weights=pack(np.array([label.weight for label in labels], np.float32)),
        )
        self._ready.append(self._parcel(message, len(labels), len(labels) * _LABEL_BYTES))

    def _parcel(self, data: Message, items: int, size: int | None) -> Parcel:
        record = encode(new_event(data, source=SOURCE, actor=self._actor))
        return Parcel(record, items, data.ByteSize() if size is None else size)


def _line(target: _Target, row: Mapping[str, Any]) -> bytes:
    try:
        line = json.dumps(row, allow_nan=False, default=_plain, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"dataset {target.name}: the row cannot be written as JSON: {error}; {row!r:.200}"
        ) from error
    if len(line) > _MOST_ROW_BYTES:
        raise InvalidArgument(f"dataset {target.name}: a row has at most {_MOST_ROW_BYTES} bytes, this one {len(line)}")
    return line


def _plain(value: object) -> object:
    """Turn what JSON does not know, but rows have, into what it knows."""
    if isinstance(value, np.generic):
        return cast("object", value.tolist())
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} {value!r:.100} is no text, number, truth value or None")


def _at(target: _Target, at: datetime | float | None) -> dict[str, float]:
    if at is None:
        return {}
    if not target.time:
        raise InvalidArgument(f"dataset {target.name}: it has no time column that `at` could fill; leave `at` out")
    if isinstance(at, datetime) and at.tzinfo is None:
        raise InvalidArgument(f"at: {at} has no time zone; for UTC write at.replace(tzinfo=datetime.UTC)")
    return {target.time: at.timestamp() if isinstance(at, datetime) else float(at)}


def _value(value: float | None) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidArgument(f"label: expected a class index, a number, true or false, or None, got {value!r}")
    return number


def _observed_ns(at: datetime | None) -> int:
    if at is None:
        return time_ns()
    if at.tzinfo is None:
        raise InvalidArgument(f"observed_at: {at} has no time zone; for UTC write at.replace(tzinfo=datetime.UTC)")
    seconds = at.timestamp()
    if not 0 <= seconds < _LATEST_S:
        raise InvalidArgument(f"observed_at: expected a time from 1970 to 2099, got {at}")
    return int(seconds * 1e9)


def _request_id(prediction_id: str) -> str:
    try:
        ids.parse(prediction_id)
    except ValueError as error:
        raise InvalidArgument(f"label: {error}") from error
    return prediction_id.partition("/")[0]
