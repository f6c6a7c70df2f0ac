"""Fetching records, with a stand-in for each that aiokafka cannot take apart: otherwise it would be asked for for ever.

Kafka takes names of headers as bytes; aiokafka raises where they are not UTF-8. What it had fetched of that partition
is read again, but what it had taken of other partitions in the same call would be lost. So they are asked one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import ConsumerRecord
from holdtrue_contracts.codec import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from .kafka import Incoming

    Found = dict[TopicPartition, list[Incoming]]
    Take = Callable[[AIOKafkaConsumer, TopicPartition, int], Awaitable[list[Incoming]]]

_REFETCH_MILLISECONDS = 2_000
"""For what is there to come again: longer than the broker holds a request that waits for other partitions (500 ms)."""


async def fetch(
    consumer: AIOKafkaConsumer, timeout_ms: int, max_records: int = 500, partitions: Collection[TopicPartition] = ()
) -> Mapping[TopicPartition, list[Incoming]]:
    """Return records by partition; one that cannot be read is there without key and value and says why in a header.

    `partitions`: of these only, by default of all that are assigned and not paused.
    """
    try:
        found = dict(await consumer.getmany(*partitions, timeout_ms=timeout_ms, max_records=1))
    except UnicodeDecodeError:
        return await _each(consumer, partitions, {}, max_records, _singly)
    return await _each(consumer, partitions, found, max_records, _together) if found else found


async def _each(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], found: Found, max_records: int, take: Take
) -> Found:
    """Add to what is found what all partitions have, at most `max_records` together."""
    asked = partitions or consumer.assignment() - consumer.paused()
    for partition in [*found, *(set(asked) - found.keys())]:
        room = max_records - sum(map(len, found.values()))
        if room and (records := await take(consumer, partition, room)):
            found[partition] = [*found.get(partition, ()), *records]
    return found


async def _together(consumer: AIOKafkaConsumer, partition: TopicPartition, most: int) -> list[Incoming]:
    try:
        fetched = await consumer.getmany(partition, timeout_ms=0, max_records=most)
    except UnicodeDecodeError:
        return await _singly(consumer, partition, most)
    return fetched.get(partition, [])


async def _singly(consumer: AIOKafkaConsumer, partition: TopicPartition, most: int) -> list[Incoming]:
    """Return records of a partition up to and including the first that cannot be read."""
    records: list[Incoming] = []
    try:
        while len(records) < most and await _is_behind(consumer, partition):
            one = await consumer.getmany(partition, timeout_ms=_REFETCH_MILLISECONDS, max_records=1)
            if not one:
                break
            records += one[partition]
    except UnicodeDecodeError as error:
        offset = await consumer.position(partition)
        consumer.seek(partition, offset + 1)
        records.append(_stand_in(partition, offset, error))
    return records


async def _is_behind(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bool:
    end = consumer.highwater(partition)
    return end is not None and await consumer.position(partition) < end


def _stand_in(partition: TopicPartition, offset: int, error: UnicodeDecodeError) -> Incoming:
    why = f"the name of a header is not UTF-8 ({error}); the record itself stays where it is"
    headers = ((UNREADABLE, why.encode()),)
    return ConsumerRecord(partition.topic, partition.partition, offset, 0, 0, None, None, None, -1, -1, headers)
