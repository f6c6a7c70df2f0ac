"""Whether our picture of deployments and versions is up to date."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from aiokafka import TopicPartition
    from holdtrue_events.kafka import Kafka

GROUP = "monitor"
"""Consumer group of the handlers."""
TOPICS = ("deployments.v1", "model-versions.v1")
_SECONDS = 10.0


class Projections:
    """Compares what the handlers have handled with what Kafka has.

    A prediction is made only after its deployment and version were told of. So once everything is handled that Kafka
    had when the prediction was seen, what is unknown then will stay unknown.
    """

    def __init__(self, kafka: Kafka) -> None:
        """Ask this Kafka."""
        self._kafka = kafka

    async def ends(self) -> dict[TopicPartition, int] | None:
        """Return the ends of the topics as they are now; None if Kafka does not say."""
        consumer = self._kafka.consumer(*map(self._kafka.topic, TOPICS))
        try:
            async with asyncio.timeout(_SECONDS):
                await consumer.start()
                return dict(await consumer.end_offsets(consumer.assignment()))
        except (KafkaError, TimeoutError):
            return None
        finally:
            await consumer.stop()

    async def reached(self, ends: dict[TopicPartition, int] | None) -> bool:
        """Whether everything before the ends is handled; False if Kafka does not say."""
        if ends is None:
            return False
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka.bootstrap, client_id=self._kafka.client_id)
        try:
            async with asyncio.timeout(_SECONDS):
                await admin.start()
                handled = await admin.list_consumer_group_offsets(self._kafka.prefix + GROUP)
        except (KafkaError, TimeoutError):
            return False
        finally:
            await admin.close()
        done = {(tp.topic, tp.partition): position.offset for tp, position in handled.items()}
        return all(done.get((tp.topic, tp.partition), 0) >= end for tp, end in ends.items())
