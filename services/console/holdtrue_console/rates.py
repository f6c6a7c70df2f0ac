"""How many events each topic has, and how many come per second: from end offsets alone, no record is read."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from holdtrue_contracts.catalogue import TOPICS

from holdtrue_console.domain.view import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

_EVERY_SECONDS = 2.0
_SAMPLES = 6
"""Samples behind a rate: the last ten seconds."""
_log = structlog.stdlib.get_logger("holdtrue.console")


class EventRates:
    """Keeps the last end offsets of all topics."""

    name = "event rates"

    def __init__(self, kafka: str, prefix: str) -> None:
        """Name the bootstrap address and the prefix of all topics."""
        self._kafka = kafka
        self._prefix = prefix
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=_SAMPLES)
        self._stopping = asyncio.Event()
        self.gap = "Kafka: not asked yet"
        """Why there are no current rates; empty if there are."""

    def latest(self) -> tuple[Rate, ...]:
        """Return what was seen last; empty while Kafka is away."""
        if self.gap or not self._samples:
            return ()
        (begin, before), (end, now) = self._samples[0], self._samples[-1]
        seconds = max(end - begin, 1e-9)
        return tuple(
            Rate(topic, total, (total - before.get(topic, 0)) / seconds if end > begin else 0.0)
            for topic, total in now.items()
        )

    async def start(self) -> None:
        """Nothing to prepare: the page works without Kafka."""

    async def run(self) -> None:
        """Ask again and again; while Kafka is away the page says so."""
        while not self._stopping.is_set():
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                self._lost(error)
                await self._pause()

    async def stop(self) -> None:
        """End after the question in hand."""
        self._stopping.set()

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka, enable_auto_commit=False, client_id="holdtrue-console"
        )
        await consumer.start()
        try:
            while not self._stopping.is_set():
                self._samples.append((time.monotonic(), await self._totals(consumer)))
                self.gap = ""
                await self._pause()
        finally:
            await consumer.stop()

    async def _totals(self, consumer: AIOKafkaConsumer) -> Mapping[str, int]:
        partitions = [
            TopicPartition(self._prefix + name, i) for name, topic in TOPICS.items() for i in range(topic.partitions)
        ]
        totals = dict.fromkeys(TOPICS, 0)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            totals[partition.topic.removeprefix(self._prefix)] += end
        return totals

    def _lost(self, error: Exception) -> None:
        self.gap = f"Kafka at {self._kafka}: {type(error).__name__}"
        self._samples.clear()
        _log.warning("no event rates", why=str(error))

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), _EVERY_SECONDS)
