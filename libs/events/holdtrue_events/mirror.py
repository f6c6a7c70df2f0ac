"""A compacted topic in memory: the latest event of each key, read from the start and then followed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.errors import KafkaError
from holdtrue_contracts.codec import Event, MalformedEvent, UnknownEventType, decode
from prometheus_client import Counter

from .backoff import Backoff
from .fetch import fetch
from .kafka import Incoming, unless
from .watchdog import ConsumerStalled, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from .kafka import Kafka

_FETCH_MILLISECONDS = 1_000
_log = structlog.stdlib.get_logger("holdtrue.mirror")
_mirrored = Counter("holdtrue_events_mirrored_total", "Events and tombstones that were applied.", ["topic"])
_passed_over = Counter("holdtrue_events_unusable_total", "Records of a mirrored topic that are no event.", ["topic"])


class Mirror:
    """Calls `apply(key, event)` for each record of a topic, in order per key; event None: the key is gone.

    It may call again with the same (after trouble with Kafka) and never with an older aggregate version than before.
    `apply` must not raise. It has no group and commits nothing.
    """

    def __init__(self, kafka: Kafka, topic: str, apply: Callable[[bytes, Event[Any] | None], None]) -> None:
        """Name the topic, without prefix."""
        self.name = f"mirror {topic}"
        self.caught_up = asyncio.Event()
        self._kafka = kafka
        self._topic = topic
        self._apply = apply
        self._positions: dict[TopicPartition, int] = {}
        self._versions: dict[bytes, int] = {}
        self._stopping = asyncio.Event()
        self._watchdog = Watchdog()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, and return when everything is applied that the topic had at the beginning; waits for Kafka."""
        self._task = asyncio.create_task(self._follow_always(), name=self.name)
        ready = asyncio.create_task(self.caught_up.wait())
        await asyncio.wait([self._task, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    async def run(self) -> None:
        """Follow until the stop; raises ConsumerStalled where building the consumer anew does not help."""
        await (self._task or self._follow_always())

    async def stop(self) -> None:
        """End."""
        self._stopping.set()

    async def _follow_always(self) -> None:
        backoff = Backoff(longest=3.0)
        while not self._stopping.is_set():
            try:
                await self._follow()
            except ConsumerStalled as error:
                self._watchdog.rebuilt(error)
            except KafkaError as error:
                _log.warning("no events now", topic=self._topic, error=f"{type(error).__name__}: {error}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), backoff.next())

    async def _follow(self) -> None:
        consumer = self._kafka.consumer(self._kafka.topic(self._topic))
        try:
            ends = await unless(self._stopping, self._begin(consumer)) or {}
            while not self._stopping.is_set():
                if not self.caught_up.is_set() and await self._reached(consumer, ends):
                    self.caught_up.set()
                fetched = await unless(self._stopping, fetch(consumer, _FETCH_MILLISECONDS))
                for partition, records in (fetched or {}).items():
                    for record in records:
                        self._take(record)
                    self._positions[partition] = records[-1].offset + 1
                await self._watchdog.watch(consumer)
        finally:
            await consumer.stop()

    async def _begin(self, consumer: AIOKafkaConsumer) -> Mapping[TopicPartition, int]:
        """Start where the last consumer stopped; return the ends as they are now."""
        await consumer.start()
        for partition in consumer.assignment() & self._positions.keys():
            consumer.seek(partition, self._positions[partition])
        return await consumer.end_offsets(consumer.assignment())

    async def _reached(self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
        return all([await consumer.position(partition) >= end for partition, end in ends.items()])

    def _take(self, record: Incoming) -> None:
        event = None
        if record.value is not None:
            try:
                event = decode(record.key, record.value, record.headers)
            except (MalformedEvent, UnknownEventType) as error:
                self._pass_over(record, str(error))
                return
        if record.key is None:
            self._pass_over(record, "a tombstone without a key")
        elif self._is_news(record.key, event):
            self._apply(record.key, event)
            _mirrored.labels(self._topic).inc()

    def _is_news(self, key: bytes, event: Event[Any] | None) -> bool:
        """Remember the version; false for one that is older than what was applied (sent again after a crash)."""
        version = None if event is None else event.aggregate_version
        if version is None:
            self._versions.pop(key, None)
            return True
        if version < self._versions.get(key, version):
            return False
        self._versions[key] = version
        return True

    def _pass_over(self, record: Incoming, why: str) -> None:
        _passed_over.labels(self._topic).inc()
        _log.error("unusable record", topic=record.topic, partition=record.partition, offset=record.offset, why=why)
