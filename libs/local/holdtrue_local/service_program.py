"""A service as a child process: the production entry point, with settings from the environment."""

from __future__ import annotations

import asyncio
import http.client
import os
from typing import TYPE_CHECKING

from .processes import Program, tethered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .services import Service

_PROBE_SECONDS = 1.0


class ServiceProgram(Program):
    """One of our services."""

    stop_seconds = 40.0  # a service gives up by itself after 30 s (`grace_seconds`)

    def __init__(self, service: Service, ports: Mapping[str, int], settings: Mapping[str, str], logs: Path) -> None:
        """Take the service, its ports by kind, its settings as environment variables, and the folder for its log."""
        super().__init__(service.name, logs / f"{service.name}.log")
        self._service = service
        self._ports = ports
        self._settings = settings

    def command(self) -> list[str]:
        """Start it as production does."""
        return tethered(self._service.command())

    def environment(self) -> Mapping[str, str]:
        """Our environment with the service's settings."""
        return os.environ | dict(self._settings)

    async def ready(self) -> bool:
        """Ask for the gRPC health, or where there is no gRPC over HTTP."""
        if "grpc" in self._ports:
            from holdtrue_core.health import check_health  # noqa: PLC0415  heavy, and `status` needs none of it

            return await check_health(f"127.0.0.1:{self._ports['grpc']}", _PROBE_SECONDS)
        return await asyncio.to_thread(_answers, self._ports["http"])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/.well-known/holdtrue")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
