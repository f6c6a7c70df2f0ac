"""Telling what this replica serves: on every change, and at intervals, so that its silence means something."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import KafkaError
from holdtrue_contracts import codec
from holdtrue_contracts.inference.v1.replicas_pb2 import ReplicaState
from holdtrue_core.rpc import timestamp
from holdtrue_events.kafka import abort

from holdtrue_inference.workers.relay import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import AIOKafkaProducer
    from holdtrue_contracts.actor import Actor
    from holdtrue_events.kafka import Kafka

    from holdtrue_inference.workers.replica import Replica

_log = structlog.stdlib.get_logger("holdtrue.inference.announcer")


class Announcer:
    """The part of the service that publishes `ReplicaState`. While Kafka is away it says nothing and goes on."""

    name = "announcer"

    def __init__(  # noqa: PLR0913  the composition root knows them
        self,
        kafka: Kafka,
        replica: Replica,
        *,
        replica_id: str,
        address: Callable[[], str],
        actor: Actor,
        seconds: float,
    ) -> None:
        """Take the seconds between two heartbeats."""
        self._kafka = kafka
        self._replica = replica
        self._replica_id = replica_id
        self._address = address
        self._actor = actor
        self._seconds = seconds
        self._producer: AIOKafkaProducer | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing: Kafka may be away."""

    async def run(self) -> None:
        """Announce until the stop."""
        stopped = asyncio.create_task(self._stopping.wait())
        while not self._stopping.is_set():
            self._replica.changed.clear()
            record = codec.encode(self._event())
            await self._publish(record, record.value)
            changed = asyncio.create_task(self._replica.changed.wait())
            await asyncio.wait([changed, stopped], timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()

    async def stop(self) -> None:
        """Say that this replica is gone."""
        self._stopping.set()
        record = codec.encode(self._event())
        await self._publish(record, None)
        await self._close()

    def _event(self) -> codec.Event[ReplicaState]:
        state = ReplicaState(
            replica_id=self._replica_id,
            address=self._address(),
            deployments=self._replica.progress(),
            heartbeat_at=timestamp(datetime.now(UTC)),
        )
        return codec.new_event(state, source=SOURCE, actor=self._actor)

    async def _publish(self, record: codec.Record, value: bytes | None) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                producer = await self._connected()
                topic = self._kafka.topic(record.topic)
                await producer.send_and_wait(topic, value, record.key, headers=list(record.headers))
        except (KafkaError, OSError, TimeoutError) as error:
            _log.warning("Kafka does not take the replica's state", error=repr(error))
            await self._close()

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = self._kafka.producer()
            await self._producer.start()
        return self._producer

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await abort(producer)
