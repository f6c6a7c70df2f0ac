"""gRPC, both sides: the server that every service has, and channels to others'."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_reflection.v1alpha import reflection

from holdtrue_core import health
from holdtrue_core.channels import MAX_MESSAGE_BYTES, Option, as_actor, blocking_channel, channel, message_limits
from holdtrue_core.health import check_health
from holdtrue_core.interceptors import Interceptor, ServicerContext, actor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdtrue_core.settings import ServiceSettings

__all__ = [
    "GrpcServer",
    "Servicer",
    "ServicerContext",
    "actor_of",
    "as_actor",
    "blocking_channel",
    "channel",
    "check_health",
    "datetime_of",
    "timestamp",
]

_log = structlog.stdlib.get_logger("holdtrue.rpc")


@dataclass(frozen=True, slots=True)
class Servicer:
    """A servicer and how it is added: the generated `add_…_to_server`, the object, and the full name of its service."""

    add: Callable[[Any, grpc.aio.Server], None]
    servicer: object
    service: str


class GrpcServer:
    """A grpc.aio server with health, reflection, limits and the interceptor of the control plane.

    Health of "" and of each service is SERVING only while all parts of the process run. At the stop open streams end
    with UNAVAILABLE, so that their callers resume elsewhere; other calls in hand are answered.
    """

    name = "grpc"

    def __init__(
        self, settings: ServiceSettings, servicers: Sequence[Servicer], *, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        """Take host, port and grace from the settings."""
        self._address = f"{settings.host}:{settings.grpc_port}"
        self._grace = settings.grace_seconds / 2
        self._servicers = servicers
        self._limit = max_message_bytes
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._health = health.Health(servicer.service for servicer in servicers)
        self.port = 0
        """The port that is bound, after the start."""

    async def start(self) -> None:
        """Bind and answer calls, as not yet ready; raises RuntimeError where the port is taken."""
        self._server = grpc.aio.server(interceptors=[Interceptor(self._stopping)], options=_options(self._limit))
        self._health.add_to(self._server)
        for servicer in self._servicers:
            servicer.add(servicer.servicer, self._server)
        names = [health.SERVICE, reflection.SERVICE_NAME, *(s.service for s in self._servicers)]
        reflection.enable_server_reflection(names, self._server)
        await self.announce(ready=False)
        self.port = self._server.add_insecure_port(self._address)
        await self._server.start()
        _log.info("listening", address=self._address, port=self.port)

    async def run(self) -> None:
        """Serve until the stop."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Take no new calls, end the streams, let the calls in hand be answered."""
        self._stopping.set()
        await self._server.stop(self._grace)
        self._stopped.set()

    async def announce(self, *, ready: bool) -> None:
        """Say whether the service may be used."""
        await self._health.announce(ready=ready)


def timestamp(time: datetime) -> Timestamp:
    """Return the time, which must carry a time zone, as a message."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    result = Timestamp()
    result.FromDatetime(time)
    return result


def datetime_of(message: Timestamp) -> datetime:
    """Return the message as a time in UTC, to the microsecond."""
    return message.ToDatetime(UTC)


def _options(most_bytes: int) -> list[Option]:
    return [
        *message_limits(most_bytes),
        ("grpc.so_reuseport", 0),  # a second process on the port is a mistake that must be seen
        ("grpc.max_concurrent_streams", 100),
        ("grpc.keepalive_time_ms", 60_000),
    ]
