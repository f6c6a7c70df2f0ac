"""Reading the desired state from Kafka, whenever Kafka can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts import catalogue
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
from holdtrue_events.mirror import Mirror

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from holdtrue_contracts.codec import Event
    from holdtrue_events.kafka import Kafka

    from holdtrue_inference.workers.replica import Replica

_ABOVE_ALL = 2**62


class Follower:
    """The part of the service that learns the desired state. While Kafka is away the last one known stands."""

    name = "follower"

    def __init__(self, kafka: Kafka, replica: Replica, tenant: str) -> None:
        """Take who is told."""
        self._replica = replica
        self._prefix = catalogue.key(tenant, "").decode()
        self._mirror = Mirror(kafka, catalogue.of(DeploymentState).topic, self._apply)

    async def start(self) -> None:
        """Nothing: the service does not wait for Kafka."""

    async def run(self) -> None:
        """Follow until the stop."""
        await self._mirror.start()
        await self._mirror.run()

    async def stop(self) -> None:
        """Follow no longer."""
        await self._mirror.stop()

    def _apply(self, key: bytes, event: Event[Message] | None) -> None:
        if event is None:
            gone = key.decode().removeprefix(self._prefix)
            self._replica.desire(DeploymentState(deployment_id=gone, generation=_ABOVE_ALL, deleted=True))
        elif isinstance(event.data, DeploymentState):
            self._replica.desire(event.data)
