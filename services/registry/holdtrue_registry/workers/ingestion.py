"""Reads offered records from Kafka and hands them to the engine.

The group only says who reads which partition; where to go on is known by PostgreSQL (a hint) and the tables (the
truth). Whatever fails, the consumer is thrown away and made anew from there. A partition whose records are gone is
stopped with an alarm, because going on would hide the loss.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from holdtrue_events.backoff import Backoff
from holdtrue_events.fetch import fetch
from holdtrue_events.kafka import unless
from holdtrue_events.watchdog import ConsumerStalled, Watchdog
from holdtrue_lake.table import Source
from prometheus_client import Gauge

from holdtrue_registry.workers.identity import topic_identity
from holdtrue_registry.workers.messages import CONSUMER, TOPIC, Message, read

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from aiokafka import AIOKafkaConsumer
    from holdtrue_events.kafka import Incoming, Kafka

    from holdtrue_registry.settings import RegistrySettings
    from holdtrue_registry.workers.engine import Engine
    from holdtrue_registry.workers.identity import TopicIdentity

_POLL_SECONDS = 0.25
_STOPPED = Gauge(
    "holdtrue_registry_ingest_stopped", "1: the partition lost records and waits for a person", ["partition"]
)
_log = structlog.stdlib.get_logger("holdtrue.registry.ingest")


class Rewind(Exception):
    """What the consumer has in hand cannot be trusted: begin anew from the stored position."""


class Ingestion:
    """The part that ingests."""

    name = "ingestion"

    def __init__(self, engine: Engine, kafka: Kafka, settings: RegistrySettings) -> None:
        """Ingest the topic's partitions that the group assigns."""
        self._engine = engine
        self._kafka = kafka
        self._tenant = settings.tenant
        self._limits = settings.ingest_rows, settings.ingest_bytes, settings.ingest_seconds
        self._stopping = asyncio.Event()
        self._watchdog = Watchdog()

    async def start(self) -> None:
        """Record what a crash kept from being recorded."""
        await self._engine.heal(self._tenant)

    async def run(self) -> None:
        """Ingest until the stop; after a failure wait a little longer each time."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                await self._consume(backoff)
            except ConsumerStalled as error:
                self._watchdog.rebuilt(error)
            except Exception as error:  # noqa: BLE001  whatever it was: nothing is lost, and the next try may work
                pause = backoff.next()
                _log.warning("ingestion failed and will be repeated", error=repr(error), seconds=pause, exc_info=True)
                await unless(self._stopping, asyncio.sleep(pause))

    async def _consume(self, backoff: Backoff) -> None:
        async with self._reader() as reader:
            while not self._stopping.is_set():
                await reader.step()
                backoff.reset()
                await self._watchdog.watch(reader.consumer)

    async def stop(self) -> None:
        """Finish the batch in hand."""
        self._stopping.set()

    @asynccontextmanager
    async def _reader(self) -> AsyncGenerator[_Reader]:
        topic = self._kafka.topic(TOPIC)
        consumer = self._kafka.consumer(group=CONSUMER)
        try:
            await consumer.start()
            identity = await topic_identity(consumer, topic)
            yield _Reader(self._engine, consumer, topic, identity, self._tenant, self._limits, self._stopping)
        finally:
            await consumer.stop()


class _Reader(ConsumerRebalanceListener):
    """One life of a consumer."""

    def __init__(  # noqa: PLR0913, PLR0917  made in one place
        self,
        engine: Engine,
        consumer: AIOKafkaConsumer,
        topic: str,
        identity: TopicIdentity,
        tenant: str,
        limits: tuple[int, int, float],
        stopping: asyncio.Event,
    ) -> None:
        self._engine = engine
        self.consumer = consumer
        self._topic = topic
        self._identity = identity
        self._tenant = tenant
        self._limits = limits
        self._stopping = stopping
        self._next: dict[TopicPartition, int] = {}  # offset that comes next, of partitions that are ready
        self._new: set[TopicPartition] = set()  # assigned, not ready
        consumer.subscribe([topic], listener=self)

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Forget them; what is in hand may be finished, the tables know what they have."""
        for partition in revoked:
            self._next.pop(partition, None)
            self._new.discard(partition)

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Remember to make them ready: an exception in here would be swallowed."""
        self._new.update(assigned)

    async def step(self) -> None:
        """Make new partitions ready, gather what there is, ingest it."""
        for partition in tuple(self._new):
            await self._make_ready(partition)
        gathered = await self._gather()
        if not gathered:
            return
        if await topic_identity(self.consumer, self._topic) != self._identity:
            raise Rewind(f"topic {self._topic} was deleted and made again")
        for partition, messages in gathered.items():
            await self._engine.ingest(self._tenant, self._source(partition), messages)
        await self.consumer.commit({p: m[-1].record.offset + 1 for p, m in gathered.items()})  # only to show the lag

    def _source(self, partition: TopicPartition) -> Source:
        return Source(self._identity.cluster_id, self._identity.topic_id, partition.partition)

    async def _make_ready(self, partition: TopicPartition) -> None:
        begin = (await self.consumer.beginning_offsets([partition]))[partition]
        end = (await self.consumer.end_offsets([partition]))[partition]
        offset = await self._engine.open(self._tenant, self._source(partition), begin)
        self._new.discard(partition)
        if not begin <= offset <= end:
            self._halt(partition, offset, begin, end)
            return
        self.consumer.seek(partition, offset)
        self._next[partition] = offset
        _STOPPED.labels(partition.partition).set(0)

    def _halt(self, partition: TopicPartition, offset: int, begin: int, end: int) -> None:
        """Stop a partition whose records are gone; a person must decide to go on without them."""
        self._next.pop(partition, None)
        self.consumer.pause(partition)
        _STOPPED.labels(partition.partition).set(1)
        _log.critical(
            "records are gone: this partition stops until its row in ingest_position is set to an existing offset",
            partition=partition.partition,
            expected=offset,
            first=begin,
            end=end,
        )

    async def _gather(self) -> dict[TopicPartition, list[Message]]:
        """Take messages until there are enough or the time is over; the time begins with the first."""
        gathered: dict[TopicPartition, list[Message]] = {}
        rows, size, seconds = self._limits
        until = None
        while not self._stopping.is_set() and rows > 0 and size > 0 and (until is None or time.monotonic() < until):
            wait = _POLL_SECONDS if until is None else min(_POLL_SECONDS, until - time.monotonic())
            fetched = await fetch(self.consumer, max(0, round(wait * 1000)))
            for partition, records in fetched.items():
                for record in await self._expected(partition, records):
                    message = read(record)
                    gathered.setdefault(partition, []).append(message)
                    rows -= max(1, message.event.data.rows if message.event else 1)
                    size -= len(record.value or b"")
            if not gathered:
                break
            until = until or time.monotonic() + seconds
        return gathered

    async def _expected(self, partition: TopicPartition, records: Sequence[Incoming]) -> Sequence[Incoming]:
        """Check that records go on where the last ones ended."""
        expected = self._next.get(partition)
        if expected is None:  # fetched before the partition was made ready; they come again
            return []
        if records[0].offset < expected:
            raise Rewind(f"partition {partition.partition}: got offset {records[0].offset} again, expected {expected}")
        if records[0].offset > expected:
            begin = (await self.consumer.beginning_offsets([partition]))[partition]
            if begin > expected:
                self._halt(partition, expected, begin, records[-1].offset + 1)
                return []
        self._next[partition] = records[-1].offset + 1
        return records
