"""Closes versions that are due by time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_core.errors import Unavailable

from holdtrue_registry.store.datasets import DatasetStore

if TYPE_CHECKING:
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox

    from holdtrue_registry.closing import Closing
    from holdtrue_registry.settings import RegistrySettings

_POLL_SECONDS = 1.0
_log = structlog.stdlib.get_logger("holdtrue.registry.closing")


class VersionClock:
    """The part that looks every second whether rows have waited long enough for a version."""

    name = "version clock"

    def __init__(self, outbox: Outbox, closing: Closing, clock: Clock, settings: RegistrySettings) -> None:
        """Close versions of the settings' tenant."""
        self._closing = closing
        self._outbox = outbox
        self._clock = clock
        self._actor = Actor(settings.tenant, "registry", ActorKind.SERVICE)
        self._seconds = settings.version_seconds
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Look until the stop."""
        while not self._stopping.is_set():
            try:
                await self.close_due()
            except Unavailable as error:
                _log.warning("no version closed now", error=error.message)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _POLL_SECONDS)

    async def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()

    async def close_due(self) -> None:
        """Close the versions that are due, each in its own transaction."""
        async with self._outbox.transaction(self._actor) as tx:
            waiting = await DatasetStore(tx).open()
        for dataset_id in waiting:
            await self._closing.close(
                self._actor, dataset_id, lambda dataset: dataset.is_due(self._clock.now(), self._seconds)
            )
