"""Count what is in `predictions.v1`, by reading it from the start."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from holdtrue_contracts import prediction_id
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.codec import decode
from holdtrue_contracts.columns import unpack
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOPIC = "predictions.v1"


@dataclass(frozen=True)
class Recorded:
    """What the topic holds."""

    ids: frozenset[str]
    """Prediction ids."""
    duplicated: int
    """Ids that are in two different records; a record delivered twice is a resend and not counted here."""
    resent: int
    """Records that were delivered more than once."""


async def read(bootstrap: str) -> Recorded:
    """Read the whole topic of the broker at ``bootstrap``."""
    places: dict[str, tuple[str, int]] = {}
    records: set[tuple[str, int]] = set()
    duplicated = resent = 0
    async for batch in _batches(bootstrap):
        place = (batch.spool_id, batch.sequence)
        if place in records:
            resent += 1
            continue
        records.add(place)
        for text in _ids(batch):
            duplicated += places.setdefault(text, place) != place
    return Recorded(frozenset(places), duplicated, resent)


def _ids(batch: PredictionsServed) -> list[str]:
    counts = unpack(batch.request_rows, np.uint32, 1)
    tails = unpack(batch.tails, np.uint64, 1)
    requests = np.repeat(np.arange(len(counts)), counts)
    raw = [batch.request_ids[16 * i : 16 * i + 16] for i in range(len(counts))]
    return [prediction_id.text(raw[r], int(tail)) for r, tail in zip(requests, tails, strict=True)]


async def _batches(bootstrap: str) -> AsyncIterator[PredictionsServed]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        partitions = [TopicPartition(TOPIC, number) for number in range(TOPICS[TOPIC].partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            fetched = await consumer.getmany(timeout_ms=1000)
            for record in itertools.chain.from_iterable(fetched.values()):
                event = decode(record.key, record.value, record.headers)
                if isinstance(event.data, PredictionsServed):
                    yield event.data
