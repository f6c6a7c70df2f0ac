"""How this platform speaks to Kafka: one place for the settings of every producer and consumer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from .quiet import quieten_aiokafka

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiokafka import ConsumerRecord
    from holdtrue_core.settings import KafkaSettings

T = TypeVar("T")
Incoming: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"

MAX_EVENT_BYTES = 1_000_000
"""Bytes of key and value of one event at most; the broker's own limit leaves room for the headers."""
MAX_RECORD_BYTES = 1_048_000
"""Bytes of key, value and headers of any other record at most: under the broker's default for a message set."""
MAX_BATCH_BYTES = 1_040_000
"""Bytes of one batch of a producer at most: under the broker's default for a message set."""
METADATA_MILLISECONDS = 5_000
"""How often clients ask which topics there are. A broker that has just started answers before it knows them: a group
that is formed at that moment has nothing to read until its leader asks again."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """Where Kafka is and who we are there.

    Attributes:
        bootstrap: host:port.
        prefix: Put before all topic and group names.
        client_id: Shown in the broker's logs.
        instance_id: Name of this process in its groups, kept over restarts (static membership); empty: dynamic.
    """

    bootstrap: str
    prefix: str = ""
    client_id: str = "holdtrue"
    instance_id: str = ""

    @classmethod
    def of(cls, settings: KafkaSettings) -> Kafka:
        """Take everything from a service's settings."""
        return cls(settings.kafka, settings.kafka_prefix, f"holdtrue-{settings.service()}", settings.instance_id)

    def topic(self, name: str) -> str:
        """Return the name on the broker."""
        return self.prefix + name

    def name(self, topic: str) -> str:
        """Return the name in the catalogue of a topic on the broker."""
        return topic.removeprefix(self.prefix)

    def producer(self) -> AIOKafkaProducer:
        """Return a producer, not started: idempotent, acknowledged by all replicas in sync.

        It retries until it succeeds: bound bytes and time at the caller.
        """
        quieten_aiokafka()
        return AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            client_id=self.client_id,
            acks="all",
            enable_idempotence=True,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=4 * MAX_BATCH_BYTES,
            metadata_max_age_ms=METADATA_MILLISECONDS,
        )

    def consumer(self, *topics: str, group: str | None = None) -> AIOKafkaConsumer:
        """Return a consumer, not started, that commits only when told; without group it gets all partitions."""
        quieten_aiokafka()
        return AIOKafkaConsumer(
            *topics,
            bootstrap_servers=self.bootstrap,
            client_id=self.client_id,
            group_id=None if group is None else self.prefix + group,
            group_instance_id=self.instance_id or None if group is not None else None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_500,
            metadata_max_age_ms=METADATA_MILLISECONDS,
        )


async def unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns, or cancel it and return None once `stopping` is set."""
    working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopped.cancel()


async def leave(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer for good: its group hands its partitions on at once, also where it has a static id."""
    if consumer._coordinator is not None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  see below
        consumer._coordinator._group_instance_id = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  no public way
    await consumer.stop()


async def abort(producer: AIOKafkaProducer) -> None:
    """Stop a producer without waiting for what it could not deliver, as `stop()` would, for ever."""
    sender: asyncio.Task[None] | None = producer._sender.sender_task  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  no public way to give up
    if sender is not None:
        sender.cancel()
    await producer.stop()
