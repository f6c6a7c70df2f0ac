"""From the outbox to Kafka: in id order, deleted only after Kafka has it.

One relay of a service is at work, elected by an advisory lock; its session does the reading and deleting, so that one
that lost the lock deletes nothing. At most one batch of each partition is under way: a batch that fails is never
overtaken, so the order of each key holds. A crash between send and delete sends again, with the same `ce_id`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2  # pyright: ignore[reportUnknownVariableType]
from holdtrue_core.errors import Unavailable
from holdtrue_storage.database import is_lost
from prometheus_client import Counter, Gauge

from .backoff import Backoff
from .kafka import abort
from .outbox import SIGNAL, unpack_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiokafka import AIOKafkaProducer, RecordMetadata
    from asyncpg import Record
    from holdtrue_storage.database import Connection

    from .kafka import Kafka
    from .outbox import Outbox

_POLL_SECONDS = 1.0
_CONNECT_SECONDS = 10.0
_METADATA_SECONDS = 5.0
_REST_SECONDS = 3.0
_ROWS = 2_000
_BYTES = 4_000_000
_ELECT = "SELECT pg_try_advisory_lock(hashtextextended('holdtrue relay of ' || $1, 0))"
_RESIGN = "SELECT pg_advisory_unlock(hashtextextended('holdtrue relay of ' || $1, 0))"
_HEAD = """
SELECT id, topic, key, value, headers, extract(epoch FROM clock_timestamp() - created_at)::float8 AS age FROM (
    SELECT *, sum(size) OVER (ORDER BY id) - size AS before FROM (
        SELECT *, octet_length(coalesce(value, '')) + octet_length(headers) AS size
        FROM outbox WHERE topic <> ALL($1::text[]) ORDER BY id LIMIT $2
    ) AS first
) AS head WHERE before < $3 ORDER BY id"""
_DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_log = structlog.stdlib.get_logger("holdtrue.relay")
_relayed = Counter("holdtrue_events_relayed_total", "Events that Kafka acknowledged to the relay.", ["service"])
_age = Gauge("holdtrue_outbox_oldest_age_seconds", "Age of the oldest event that waits in the outbox.", ["service"])


@dataclass(slots=True)
class _Batch:
    """Rows of one partition on their way."""

    topic: str
    partition: int
    builder: Any  # aiokafka's BatchBuilder
    ids: list[int] = field(default_factory=list[int])
    full: bool = False

    def add(self, row: Record) -> None:
        """Take a row, unless it or one before it did not fit."""
        if self.full:
            return
        headers = unpack_headers(row["headers"])
        if self.builder.append(timestamp=None, key=row["key"], value=row["value"], headers=headers) is None:
            self.full = True
        else:
            self.ids.append(row["id"])


class Relay:
    """Sends what the outbox holds, for as long as Kafka and PostgreSQL take; starts without either being there."""

    name = "relay"

    def __init__(self, outbox: Outbox, kafka: Kafka) -> None:
        """Bind to an outbox; its database needs a connection to spare."""
        self._database = outbox.database
        self._kafka = kafka
        self._service = outbox.database.schema
        self._wake = outbox.database.signal(SIGNAL)
        self._producer: AIOKafkaProducer | None = None
        self._flights: dict[asyncio.Future[RecordMetadata], _Batch] = {}
        self._resting: dict[str, float] = {}
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing to prepare: Kafka may be away."""

    async def run(self) -> None:
        """Relay until the stop, then what Kafka still takes at once."""
        backoff = Backoff(longest=_REST_SECONDS)
        while not self._stopping.is_set():
            try:
                await self._lead(backoff)
            except (Unavailable, KafkaError) as error:
                _log.warning("the relay rests", service=self._service, error=f"{type(error).__name__}: {error}")
                await self._rest(backoff.next())

    async def stop(self) -> None:
        """End after what is there was sent, if by us; what Kafka does not take stays in the outbox."""
        self._stopping.set()
        self._wake.set()

    async def _lead(self, backoff: Backoff) -> None:
        """Wait for the lock, then relay; it belongs to the session, so that it goes when the session goes."""
        async with self._database.acquire() as connection:
            while not await connection.fetchval(_ELECT, self._service):
                await self._rest(_POLL_SECONDS)
                if self._stopping.is_set():
                    return
            try:
                await self._drain(connection, backoff)
            finally:
                await self._drop_producer()  # nothing of ours may arrive after what the next one sends
                if not is_lost(connection):
                    await connection.execute(_RESIGN, self._service)

    async def _drain(self, connection: Connection, backoff: Backoff) -> None:
        while True:
            self._wake.clear()
            if await self._pass(connection):
                backoff.reset()
            elif self._stopping.is_set():
                return
            else:
                await self._pause(_POLL_SECONDS)

    async def _pass(self, connection: Connection) -> bool:
        """Send the head of the outbox, delete what Kafka has; true if something moved."""
        rows = await connection.fetch(_HEAD, self._excluded(), _ROWS, _BYTES)
        _age.labels(self._service).set(rows[0]["age"] if rows else 0.0)
        if rows:
            await self._send(rows)
        acknowledged, error = await self._landed()
        if acknowledged:
            await connection.execute(_DELETE, acknowledged)
            _relayed.labels(self._service).inc(len(acknowledged))
        if error is not None:
            raise error
        return bool(acknowledged)

    async def _send(self, rows: Sequence[Record]) -> None:
        producer = await self._started()
        for batch in await self._batches(producer, rows):
            topic = self._kafka.topic(batch.topic)
            future = await producer.send_batch(batch.builder, topic, partition=batch.partition)
            self._flights[future] = batch

    async def _batches(self, producer: AIOKafkaProducer, rows: Sequence[Record]) -> Iterable[_Batch]:
        """Sort the rows into one batch for each partition."""
        topics = {row["topic"] for row in rows}
        counts = {topic: await self._partitions(producer, topic) for topic in topics}
        batches: dict[tuple[str, int], _Batch] = {}
        for row in rows:
            topic = row["topic"]
            if not (count := counts[topic]):
                continue
            place = topic, (row["id"] if row["key"] is None else _hash(row["key"])) % count
            if place not in batches:
                batches[place] = _Batch(*place, producer.create_batch())
            batches[place].add(row)
        return batches.values()

    async def _partitions(self, producer: AIOKafkaProducer, topic: str) -> int:
        """Return their number; 0 where nobody knows the topic: it rests, the others go on."""
        try:
            async with asyncio.timeout(_METADATA_SECONDS):
                return len(await producer.partitions_for(self._kafka.topic(topic)))
        except (TimeoutError, UnknownTopicOrPartitionError):
            name = self._kafka.topic(topic)
            _log.error("Kafka does not know the topic: create it, its events wait", topic=name)
            self._resting[topic] = time.monotonic() + _REST_SECONDS
            return 0

    async def _landed(self) -> tuple[list[int], KafkaError | None]:
        """Wait for batches under way; return the ids that Kafka has, and an error if a batch failed for good."""
        if not self._flights:
            return [], None
        done, _ = await asyncio.wait(self._flights, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        acknowledged, failure = list[int](), None
        for future in done:
            batch, error = self._flights.pop(future), future.exception()
            if error is None:
                acknowledged += batch.ids
                continue
            self._resting[batch.topic] = time.monotonic() + _REST_SECONDS
            failure = error if isinstance(error, KafkaError) else KafkaError(error)
        return acknowledged, failure

    def _excluded(self) -> list[str]:
        """Return the topics that have something under way or rest after an error."""
        now = time.monotonic()
        self._resting = {topic: until for topic, until in self._resting.items() if until > now}
        return list({batch.topic for batch in self._flights.values()} | self._resting.keys())

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = self._kafka.producer()
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await self._producer.start()
            except TimeoutError as error:
                raise KafkaTimeoutError("Kafka gave no producer id in time") from error
        return self._producer

    async def _drop_producer(self) -> None:
        """Forget what is under way: it stays in the outbox."""
        self._flights.clear()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await abort(producer)

    async def _rest(self, seconds: float) -> None:
        """Wait, whatever is published meanwhile; only the stop ends it early."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)


@lru_cache(65_536)
def _hash(key: bytes) -> int:
    """Return what Java's default partitioner takes the remainder of."""
    return murmur2(key) & 0x7FFFFFFF
