"""Finds consumers that stand still although there is something to read, a known defect of aiokafka (#1037, #727)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import Counter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiokafka import AIOKafkaConsumer, TopicPartition


_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 5.0
_ASK_SECONDS = 5.0
_REBUILDS = 3
_log = structlog.stdlib.get_logger("holdtrue.watchdog")
_stalls = Counter("holdtrue_consumer_stalls_total", "Consumers that stood still and were built anew.")


class ConsumerStalled(Exception):
    """A consumer has stood still for too long although there is something to read."""


class Watchdog:
    """Watches the consumers that follow each other in one place."""

    def __init__(self, patience: float = _PATIENCE_SECONDS, now: Callable[[], float] = time.monotonic) -> None:
        """Set how many seconds a partition may stand still."""
        self._patience = patience
        self._now = now
        self._positions: dict[TopicPartition, int] = {}
        self._behind_since: dict[TopicPartition, float] = {}
        self._next_look = 0.0
        self._rebuilds = 0

    async def watch(self, consumer: AIOKafkaConsumer) -> None:
        """Look, if it is time to; raises ConsumerStalled. Paused partitions may stand still."""
        if self._now() < self._next_look:
            return
        self._next_look = self._now() + min(_LOOK_SECONDS, self._patience / 3)
        partitions = consumer.assignment() - consumer.paused()
        if not partitions:
            return
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                ends = await consumer.end_offsets(partitions)
        except (KafkaError, TimeoutError) as error:
            _log.warning("no end offsets now", error=repr(error))  # the broker is away: nothing stands still by itself
            return
        self.look({partition: await _position(consumer, partition) for partition in partitions}, ends)

    def look(self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> None:
        """Compare with the last look; raises ConsumerStalled where one was behind and did not move for too long."""
        now = self._now()
        moved = {p for p, position in positions.items() if self._positions.get(p, position) != position}
        if moved:
            self._rebuilds = 0
        behind = {p for p, position in positions.items() if position < ends[p]} - moved
        self._behind_since = {p: self._behind_since.get(p, now) for p in behind}
        self._positions = dict(positions)
        stalled = sorted(p for p, since in self._behind_since.items() if now - since >= self._patience)
        if stalled:
            raise ConsumerStalled(
                f"{stalled} did not move for {self._patience:g} s at {[positions[p] for p in stalled]}"
            )

    def rebuilt(self, stall: ConsumerStalled) -> None:
        """Note that the consumer is built anew; raises the stall where that was tried often enough."""
        self._positions.clear()
        self._behind_since.clear()
        self._rebuilds += 1
        _stalls.inc()
        _log.error("a consumer stands still", rebuilds=self._rebuilds, error=str(stall))
        if self._rebuilds > _REBUILDS:
            raise stall


async def _position(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
    """Return the next offset to be read; -1 where even that is not known."""
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            return await consumer.position(partition)
    except (KafkaError, TimeoutError):
        return -1
