"""Consuming domain events: each has its effect exactly once, in order per partition, and none stops the others.

For what may go wrong with an event:

    transient error (database, network)   the partition pauses, longer each time, and tries the same event again
    Rejected                              dead letter
    malformed                             dead letter
    any other exception                   a few tries, then dead letter
    unknown type                          skipped and counted

A batch is one transaction; if it fails, its events are handled one at a time. Offsets are committed after the effect:
what comes twice is found in the inbox. That also makes records harmless that were fetched before a rebalance, so unlike
consumers that seek on assignment, this one needs no gate.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from holdtrue_contracts.catalogue import EVENTS
from holdtrue_core.errors import HoldtrueError, Unavailable

from .backoff import Backoff
from .effects import Effects, Rejected
from .fetch import fetch
from .kafka import Incoming, leave, unless
from .subscriptions import Handlers, subscribes, subscriptions
from .watchdog import ConsumerStalled, Watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .kafka import Kafka
    from .outbox import Outbox

__all__ = ["React", "Rejected", "subscribes"]

_BATCH = 500
_FETCH_MILLISECONDS = 1_000
_TROUBLED_FETCH_MILLISECONDS = 100
_COMMIT_SECONDS = 5.0
_TIDY_SECONDS = 60.0
_log = structlog.stdlib.get_logger("holdtrue.react")


@dataclass(slots=True)
class _Trouble:
    """An event that failed: tried again at `until` (monotonic seconds); transient failures are not counted."""

    offset: int
    until: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)
    tries: int = 0


class React:
    """One consumer group of a service: its handlers, each for one event."""

    def __init__(  # noqa: PLR0913  the last two have defaults that are right for most
        self,
        outbox: Outbox,
        kafka: Kafka,
        group: str,
        handlers: Handlers,
        *,
        consumer: str = "",
        tries: int = 5,
    ) -> None:
        """Compose it.

        Args:
            outbox: Opens the transactions that the handlers get.
            kafka: Where the events are.
            group: Name of the consumer group, without prefix.
            handlers: A module, or functions, marked by `@subscribes`.
            consumer: Name in the inbox, by default the group's. A new group with the old consumer's name reads
                everything again without any effect for what was handled.
            tries: Attempts at an event that raises something unexpected.
        """
        self.name = f"react {group}"
        self._kafka = kafka
        self._group = group
        self._tries = tries
        self._service = outbox.database.schema
        found = subscriptions(handlers)
        self._topics = sorted({EVENTS[name].topic for name in found})
        self._effects = Effects(outbox, kafka, consumer or group, found)
        self._troubles: dict[TopicPartition, _Trouble] = {}
        self._lock = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._watchdog = Watchdog()
        self._tidy_at = 0.0

    async def start(self) -> None:
        """Nothing to prepare: Kafka may be away."""

    async def run(self) -> None:
        """Consume until the stop; raises ConsumerStalled where building the consumer anew does not help."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                await self._consume()
            except ConsumerStalled as error:
                self._watchdog.rebuilt(error)
            except KafkaError as error:
                _log.warning("no events now", part=self.name, error=f"{type(error).__name__}: {error}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), backoff.next())

    async def stop(self) -> None:
        """Finish the batch in hand, commit and leave."""
        self._stopping.set()

    async def _consume(self) -> None:
        consumer = self._kafka.consumer(group=self._group)
        consumer.subscribe([self._kafka.topic(topic) for topic in self._topics], listener=_Revocation(self._release))
        try:
            await unless(self._stopping, consumer.start())
            while not self._stopping.is_set():
                await self._turn(consumer)
                await self._tidy()
                await self._watchdog.watch(consumer)
        finally:
            await (leave(consumer) if self._stopping.is_set() else consumer.stop())

    async def _tidy(self) -> None:
        if time.monotonic() < self._tidy_at:
            return
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        try:
            await self._effects.tidy(self._topics)
        except Unavailable as error:
            _log.warning("not tidied now", part=self.name, error=str(error))

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        # Outside the lock: the revocation takes it while a fetch waits for the rebalance.
        timeout = _TROUBLED_FETCH_MILLISECONDS if self._troubles else _FETCH_MILLISECONDS
        fetched = await unless(self._stopping, fetch(consumer, timeout, _BATCH))
        async with self._lock:
            offsets: dict[TopicPartition, int] = {}
            for partition, records in (fetched or {}).items():
                if partition in consumer.assignment():
                    offsets |= await self._handle(consumer, partition, records)
            if offsets:
                await self._commit(consumer, offsets)
            self._resume(consumer)

    async def _handle(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, records: Sequence[Incoming]
    ) -> dict[TopicPartition, int]:
        """Return the offset to commit, if any; what could not be handled yet is left to be fetched again."""
        count = await self._progress(partition, records)
        if count < len(records):
            consumer.pause(partition)
            consumer.seek(partition, records[count].offset)
        return {partition: records[count - 1].offset + 1} if count else {}

    async def _progress(self, partition: TopicPartition, records: Sequence[Incoming]) -> int:
        """Return how many were handled."""
        if partition not in self._troubles:
            try:
                await self._effects.apply(records)
            except Exception as error:  # noqa: BLE001  rolled back; one at a time shows which
                _log.debug("a batch failed", partition=partition, error=repr(error))
            else:
                return len(records)
        for index, record in enumerate(records):
            if not await self._handled(partition, record):
                return index
        return len(records)

    async def _handled(self, partition: TopicPartition, record: Incoming) -> bool:
        try:
            await self._attempt(partition, record)
        except Exception as error:  # noqa: BLE001  kept with the partition, which tries again
            self._postpone(partition, record, error)
            return False
        self._troubles.pop(partition, None)
        return True

    async def _attempt(self, partition: TopicPartition, record: Incoming) -> None:
        try:
            await self._effects.apply([record])
        except Rejected as error:
            await self._effects.bury(record, error.reason, str(error))
        except Exception as error:
            if _is_transient(error) or self._trouble(partition, record).tries + 1 < self._tries:
                raise
            _log.exception("an event failed at every try", partition=partition, offset=record.offset)
            await self._effects.bury(record, "failed", f"{type(error).__name__}: {error}")

    def _postpone(self, partition: TopicPartition, record: Incoming, error: Exception) -> None:
        trouble = self._troubles[partition] = self._trouble(partition, record)
        trouble.tries += not _is_transient(error)
        pause = trouble.backoff.next()
        trouble.until = time.monotonic() + pause
        told = {"partition": partition, "offset": record.offset, "pause": round(pause, 2)}
        _log.warning("an event waits", **told, error=f"{type(error).__name__}: {error}")

    def _trouble(self, partition: TopicPartition, record: Incoming) -> _Trouble:
        known = self._troubles.get(partition)
        return known if known is not None and known.offset == record.offset else _Trouble(record.offset)

    def _resume(self, consumer: AIOKafkaConsumer) -> None:
        now = time.monotonic()
        due = [partition for partition, trouble in self._troubles.items() if trouble.until <= now]
        consumer.resume(*due)

    async def _release(self) -> None:
        async with self._lock:
            self._troubles.clear()

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                await consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            _log.warning("offsets were not committed, their events come again", error=repr(error))


class _Revocation(ConsumerRebalanceListener):
    """Lets the batch in hand finish before its partitions go to others."""

    def __init__(self, release: Callable[[], Awaitable[None]]) -> None:
        self._release = release

    async def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002  aiokafka names it
        await self._release()

    async def on_partitions_assigned(self, assigned: object) -> None:
        pass


def _is_transient(error: Exception) -> bool:
    """True where the same event may succeed later, through no change of its own."""
    if isinstance(error, HoldtrueError):
        return error.retriable
    return isinstance(error, OSError | TimeoutError | KafkaError)
