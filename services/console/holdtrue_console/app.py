"""What the console consists of."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from holdtrue_core.http import HttpServer
from holdtrue_core.lifecycle import App, Resource
from holdtrue_core.telemetry import MetricsServer

from holdtrue_console import http
from holdtrue_console.page import Page
from holdtrue_console.rates import EventRates
from holdtrue_console.settings import ConsoleSettings
from holdtrue_console.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_core.lifecycle import Part


class _Channels(Resource):
    """Closes the channels to the services at the end."""

    name = "channels"

    def __init__(self, sources: Sources) -> None:
        super().__init__()
        self._sources = sources

    async def close(self) -> None:
        await self._sources.close()


async def build(settings: ConsoleSettings) -> Sequence[Part]:
    """Compose the service."""
    about = version("holdtrue-console")
    rates = EventRates(settings.kafka, settings.kafka_prefix)
    sources = Sources(settings.services, rates, about, settings.refresh_seconds)
    streams = http.Streams()
    endpoints = {
        "version": about,
        "tenant": settings.tenant,
        "kafka": settings.kafka,
        "kafka_prefix": settings.kafka_prefix,
        "services": settings.services,
    }
    app = http.create(sources, Page(), streams, endpoints, settings.refresh_seconds)
    return [
        MetricsServer(settings),
        _Channels(sources),
        rates,
        HttpServer(app, settings.host, settings.http_port),
        streams,
    ]


APP = App("console", ConsoleSettings, build)
