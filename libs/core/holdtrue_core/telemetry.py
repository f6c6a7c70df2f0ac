"""Logs and metrics."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

import prometheus_client
import structlog
from prometheus_client.core import REGISTRY

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from holdtrue_core.settings import ServiceSettings


def configure_logging(service: str, level: str = "info", form: str = "json") -> None:
    """Send every log line, ours by structlog and others' by logging, to stderr: as JSON or for people.

    Bind request, prediction and event ids with `structlog.contextvars.bind_contextvars`.
    """

    def add_service(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401  structlog's signature
        return {"service": service, **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_service,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(form)),
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def _rendering(form: str) -> list[Processor]:
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if form == "console":
        plain = structlog.dev.plain_traceback  # the pretty one shows local variables, which may hold secrets
        return [meta, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [meta, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


class MetricsServer:
    """Serves the process's Prometheus metrics over HTTP, from a thread of its own."""

    name = "metrics"

    def __init__(self, settings: ServiceSettings) -> None:
        """Take host and port from the settings."""
        self._host = settings.host
        self._port = settings.metrics_port
        self._stopped = asyncio.Event()

    @property
    def port(self) -> int:
        """The port that is bound, after the start."""
        return self._server.server_port

    async def start(self) -> None:
        """Bind; raises OSError where the port is taken."""
        self._server, self._thread = prometheus_client.start_http_server(self._port, self._host, REGISTRY)

    async def run(self) -> None:
        """Serve until the stop."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Stop serving."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()
        self._thread.join()
        self._stopped.set()
