"""Batches for the prediction log, and records read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_contracts.columns import unpack, unpack_texts
from holdtrue_contracts.ids import uuid7_bytes
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_inference.domain.records import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_700_000_000_000_000_000
CONTEXT = PredictionsServed(replica_id="host/0", revision="r1", model_version=3).SerializeToString()


def batch(counts: Sequence[int], *, width: int = 3, classes: int = 1, seed: int = 0, external: str = "id") -> Batch:
    """A batch of requests with so many rows each; every value in it is different."""
    random = np.random.default_rng(seed)
    rows = sum(counts)
    return Batch(
        request_ids=[uuid7_bytes() for _ in counts],
        counts=list(counts),
        arrivals_ns=[NOW - int(wait) for wait in random.integers(0, 10**9, len(counts))],
        external_ids=[external * (i % 3) for i in range(len(counts))],
        answered_ns=NOW,
        tails=random.integers(0, 2**63, rows, np.uint64),
        x=random.normal(size=(rows, width)).astype(np.float32),
        scores=random.random((rows, classes)).astype(np.float32),
        classes=random.integers(0, 64, rows).astype(np.int16),
    )


@dataclass
class Requests:
    """What records say of requests, in order; parts of one request are one again."""

    ids: list[bytes] = field(default_factory=list[bytes])
    counts: list[int] = field(default_factory=list[int])
    arrivals_ns: list[int] = field(default_factory=list[int])
    external_ids: list[str] = field(default_factory=list[str])

    def add(self, record: PredictionsServed) -> None:
        """Take in a record; its first request may be the rest of the last one."""
        ids = [record.request_ids[i : i + 16] for i in range(0, len(record.request_ids), 16)]
        counts = unpack(record.request_rows, np.uint32, 1).tolist()
        arrivals = unpack(record.arrivals_ns, np.int64, 1).tolist()
        for id_, count, arrival, text in zip(ids, counts, arrivals, unpack_texts(record.external_ids), strict=True):
            if self.ids[-1:] == [id_]:
                self.counts[-1] += count
                assert (self.arrivals_ns[-1], self.external_ids[-1]) == (arrival, text)
            else:
                self.ids.append(id_)
                self.counts.append(count)
                self.arrivals_ns.append(arrival)
                self.external_ids.append(text)


def columns(record: PredictionsServed) -> dict[str, Any]:
    """The record's columns of rows."""
    return {
        "tails": unpack(record.tails, np.uint64, 1),
        "x": unpack(record.x, np.float32, 2),
        "scores": unpack(record.scores, np.float32, 2),
        "classes": unpack(record.classes, np.int16, 1),
    }
