"""Erases persons: all who wait, together, in rounds; what a crash broke off goes on at the start."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_core.errors import Unavailable
from holdtrue_lake.erasures import Erasures
from prometheus_client import Gauge

from holdtrue_registry.erasure import ErasureRecorder
from holdtrue_registry.store.datasets import every_dataset

if TYPE_CHECKING:
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_lake.ingest import Ingester
    from holdtrue_lake.leases import PostgresLeases

    from holdtrue_registry.persons import Persons
    from holdtrue_registry.settings import RegistrySettings

_AGAIN_SECONDS = 5.0
_OVERDUE = Gauge("holdtrue_registry_erasures_overdue", "Erasures that are not done though their deadline has passed")
_log = structlog.stdlib.get_logger("holdtrue.registry.erasing")


class Erasing:
    """The part that erases, and the queue that it works off."""

    name = "erasing"

    def __init__(
        self,
        outbox: Outbox,
        persons: Persons,
        leases: PostgresLeases,
        ingester: Ingester,
        settings: RegistrySettings,
    ) -> None:
        """Erase from the tables of the settings' tenant."""
        self._outbox = outbox
        self._persons = persons
        self._leases = leases
        self._settings = settings
        self._holder = f"{settings.instance_id or 'registry'}/erasing"
        self._recorder = ErasureRecorder(settings.lake, ingester)
        self._actor = Actor(settings.tenant, "registry", ActorKind.SERVICE)
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._opened: Erasures[Transaction] | None = None

    @property
    def queue(self) -> Erasures[Transaction]:
        """What people asked for; from the start on."""
        if self._opened is None:
            raise RuntimeError("the queue of erasures is not open: start it before the parts that use it")
        return self._opened

    def wake(self) -> None:
        """Begin a round soon."""
        self._wake.set()

    async def start(self) -> None:
        """Open the queue; end the leases that an earlier life of this instance has left."""
        patience = timedelta(seconds=self._settings.erasure_patience_seconds)
        lake, holder = self._settings.lake, self._holder
        self._opened = Erasures(self._outbox, self._persons.master, self._leases, lake, patience, holder)
        if self._settings.instance_id:
            await self._leases.forget(holder)

    async def run(self) -> None:
        """Erase, round by round, until the stop."""
        pause = 0.0 if await self.queue.pressing(self._actor.tenant) else self._settings.erasure_seconds
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
            self._wake.clear()
            if not self._stopping.is_set():
                pause = self._settings.erasure_seconds if await self._tried() else _AGAIN_SECONDS

    async def stop(self) -> None:
        """Finish the round in hand."""
        self._stopping.set()
        self._wake.set()

    async def _tried(self) -> bool:
        """Do a round; return whether the next has time."""
        try:
            return await self._round()
        except Unavailable as error:
            _log.warning("an erasure is put off", error=error.message)
            return False

    async def _round(self) -> bool:
        datasets = {dataset.id: dataset.name async for dataset in every_dataset(self._outbox, self._actor)}
        run = await self.queue.run(self._actor.tenant, [*datasets], self._recorder)
        for dataset_id, trouble in run.troubles.items():
            _log.warning("a dataset could not be erased from now", dataset=datasets[dataset_id], error=trouble)
        if run.done or run.left:
            _log.info("a round of erasures has ended", done=run.done, left=run.left)
        overdue = await self.queue.list(self._actor.tenant, overdue=True)
        _OVERDUE.set(len(overdue))
        for each in overdue:
            _log.critical("an erasure is overdue: see holdtrue datasets erasures", erasure=each.id)
        return not run.troubles
