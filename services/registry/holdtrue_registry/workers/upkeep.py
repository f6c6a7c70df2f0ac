"""Keeps the tables of datasets quick to read: small files become larger ones, files that nobody needs go."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_core.errors import Unavailable
from holdtrue_lake.compaction import compact
from holdtrue_lake.leases import TableBusy
from holdtrue_lake.storage import has_table, rows_uri
from holdtrue_lake.table import Fenced
from holdtrue_lake.upkeep import drop_commits, vacuum

from holdtrue_registry.store.datasets import every_dataset
from holdtrue_registry.store.expiry import ExpiryStore
from holdtrue_registry.store.history import HistoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_events.outbox import Outbox
    from holdtrue_lake.leases import Leases
    from holdtrue_lake.ranges import Ranges

    from holdtrue_registry.domain.datasets import Dataset
    from holdtrue_registry.settings import RegistrySettings

_log = structlog.stdlib.get_logger("holdtrue.registry.upkeep")


class Upkeep:
    """The part that looks after one table after the other, under its writer's lease."""

    name = "upkeep"

    def __init__(self, outbox: Outbox, leases: Leases, settings: RegistrySettings) -> None:
        """Look after the tables of the settings' tenant."""
        self._outbox = outbox
        self._leases = leases
        self._lake = settings.lake
        self._holder = settings.instance_id
        self._actor = Actor(settings.tenant, "registry", ActorKind.SERVICE)
        self._seconds = settings.upkeep_seconds
        self._grace = timedelta(seconds=settings.expire_grace_seconds)
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Look after all tables, again and again, until the stop."""
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._seconds)
                return
            try:
                await self._round()
            except Unavailable as error:
                _log.warning("upkeep is put off", error=error.message)

    async def stop(self) -> None:
        """Finish the table in hand."""
        self._stopping.set()

    async def _round(self) -> None:
        async for dataset in every_dataset(self._outbox, self._actor):
            if self._stopping.is_set():
                return
            if not await asyncio.to_thread(has_table, rows_uri(self._lake, dataset.id)):
                continue
            try:
                await self._look_after(dataset)
            except (TableBusy, Fenced) as error:
                _log.info("a table is busy and has its turn later", dataset=dataset.name, error=str(error))

    async def _look_after(self, dataset: Dataset) -> None:
        async with self._leases.writer(self._actor.tenant, dataset.id, self._holder):
            await self._drop(dataset)
            done = await asyncio.to_thread(compact, self._lake, dataset.id, await self._versions(dataset))
            removed = await asyncio.to_thread(vacuum, self._lake, dataset.id)
        if done.removed or removed:
            _log.info("a table is compacted", dataset=dataset.name, files=done.removed, into=done.added, gone=removed)

    async def _drop(self, dataset: Dataset) -> None:
        """Delete rows that no version has had for a while; what a crash breaks off is done again."""
        async with self._outbox.transaction(self._actor) as tx:
            commits = await ExpiryStore(tx).released(dataset.id, self._grace)
        if not commits:
            return
        rows = await asyncio.to_thread(drop_commits, self._lake, dataset.id, commits)
        async with self._outbox.transaction(self._actor) as tx:
            await ExpiryStore(tx).drop(dataset.id, commits)
        _log.info("rows that no version has are deleted", dataset=dataset.name, commits=str(commits), rows=rows)

    async def _versions(self, dataset: Dataset) -> Sequence[Ranges]:
        async with self._outbox.transaction(self._actor) as tx:
            versions = await HistoryStore(tx).versions(dataset)
        return [version.commits for version in versions]
