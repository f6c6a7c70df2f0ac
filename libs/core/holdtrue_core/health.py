"""The standard health service of gRPC, typed: `grpc_health` carries no types."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportAttributeAccessIssue=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVICE = "grpc.health.v1.Health"


class Health:
    """Whether "" (the process) and each service may be used; they may not before the first `announce`."""

    def __init__(self, services: Iterable[str]) -> None:
        """Take the full names of the services."""
        self._names = ("", *services)
        self._servicer = health.aio.HealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Answer health checks on the server."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def announce(self, *, ready: bool) -> None:
        """Tell all who ask or watch."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._servicer.set(name, status)


async def check_health(address: str, timeout: float, service: str = "") -> bool:  # noqa: ASYNC109  one call, one number
    """Return whether the server at `host:port` says within `timeout` seconds that it serves."""
    async with grpc.aio.insecure_channel(address) as connection:
        stub = health_pb2_grpc.HealthStub(connection)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.aio.AioRpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING
