"""Reading topics for people: from a time or the beginning, to the end or on and on; no group, nothing is committed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from holdtrue.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from aiokafka import TopicPartition
    from aiokafka.structs import ConsumerRecord, OffsetAndTimestamp
    from holdtrue_contracts.codec import Record

    from holdtrue.endpoints import Endpoints

_POLL_MILLISECONDS = 200
_MOST_RECORDS = 500


async def read(
    where: Endpoints, topics: Sequence[str], *, since_ms: int | None, follow: bool
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """Yield the records of topics (names without prefix) with a timestamp from `since_ms` on.

    Milliseconds since the epoch; None: from now on. Without `follow` it ends where the topics end at the start.
    """
    async with _consumer(where, topics) as consumer:
        ends = await consumer.end_offsets(await _seek(consumer, since_ms))
        while follow or await _behind(consumer, ends):
            batches = await consumer.getmany(timeout_ms=_POLL_MILLISECONDS, max_records=_MOST_RECORDS)
            records = [record for batch in batches.values() for record in batch]
            for record in sorted(records, key=attrgetter("timestamp")):  # stable: a partition's order stays
                yield record


async def publish(where: Endpoints, records: Sequence[Record]) -> None:
    """Send records as they are; returns when Kafka has all of them."""
    producer = AIOKafkaProducer(bootstrap_servers=where.kafka, acks="all", enable_idempotence=True)
    try:
        async with producer:
            await asyncio.gather(
                *(
                    producer.send_and_wait(where.kafka_prefix + r.topic, r.value, r.key, headers=list(r.headers))
                    for r in records
                )
            )
    except KafkaError as error:
        raise _unavailable(where, error) from error


@asynccontextmanager
async def _consumer(where: Endpoints, topics: Sequence[str]) -> AsyncGenerator[Any]:
    consumer = AIOKafkaConsumer(
        *(where.kafka_prefix + topic for topic in topics),
        bootstrap_servers=where.kafka,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise _unavailable(where, error) from error
    finally:
        await consumer.stop()


async def _seek(consumer: Any, since_ms: int | None) -> list[TopicPartition]:  # noqa: ANN401  aiokafka has no types
    """Go to the time on every partition; return the partitions."""
    partitions: list[TopicPartition] = list(consumer.assignment())
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    found: dict[TopicPartition, OffsetAndTimestamp | None] = {}
    if since_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    for partition in partitions:
        at = found.get(partition)
        consumer.seek(partition, at.offset if at else ends[partition])
    return partitions


async def _behind(consumer: Any, ends: dict[TopicPartition, int]) -> bool:  # noqa: ANN401
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return True
    return False


def _unavailable(where: Endpoints, error: KafkaError) -> Unavailable:
    return Unavailable(f"Kafka at {where.kafka}: {error}", reason="UNREACHABLE", hint="see what runs: holdtrue status")
