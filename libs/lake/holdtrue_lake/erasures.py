"""Erasures that people asked for: the queue of a service, and its worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from holdtrue_lake.erasure import holdings
from holdtrue_lake.erasure_queue import DEADLINE, Erasure, ErasureQueue, T
from holdtrue_lake.erasure_round import ECHO, LEAVES, PATIENCE, DatasetErased, Place, Recorder, Round, people
from holdtrue_lake.files import DamagedFile
from holdtrue_lake.leases import TableBusy, TableLeaseLost
from holdtrue_lake.table import Fenced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from holdtrue_lake.erasure import Erased
    from holdtrue_lake.erasure_queue import Transactions
    from holdtrue_lake.leases import Leases
    from holdtrue_lake.storage import Root
    from holdtrue_lake.subjects import MasterKey

__all__ = ["DEADLINE", "ECHO", "LEAVES", "PATIENCE", "DatasetErased", "Erasure", "Erasures", "Recorder", "Run"]


@dataclass(frozen=True)
class Run:
    """What a run did; `done` and `left` are ids of erasures: those that are proven, and those that must run again.

    `troubles` says, by dataset, why it could not be worked on now.
    """

    done: tuple[str, ...]
    left: tuple[str, ...]
    datasets: tuple[DatasetErased, ...]
    troubles: Mapping[str, str]


class Erasures(ErasureQueue[T], Generic[T]):
    """The queue of a service's erasures and its worker; needs the migrations of `holdtrue_lake`."""

    def __init__(  # noqa: PLR0913, PLR0917  where everything is
        self,
        database: Transactions[T],
        master: MasterKey,
        leases: Leases,
        root: Root,
        patience: timedelta = PATIENCE,
        holder: str = "erasure",
    ) -> None:
        """Say where everything is; `holder` is the name by which leases are taken."""
        super().__init__(database, master)
        self._place = Place(leases, root, patience, holder)

    async def holds(self, tenant: str, pseudonym: str, dataset_ids: Sequence[str]) -> dict[str, Erased]:
        """Count what datasets hold about a subject, by id. Raises TableBusy, TableLeaseLost, DamagedFile."""
        found: dict[str, Erased] = {}
        for dataset_id in dataset_ids:
            async with self._place.leases.reader(tenant, dataset_id, self._place.holder):
                held = await asyncio.to_thread(holdings, self._place.root, dataset_id, [pseudonym])
            if pseudonym in held:
                found[dataset_id] = held[pseudonym]
        return found

    async def run(self, tenant: str, dataset_ids: Sequence[str], recorder: Recorder[T]) -> Run:
        """Erase everybody who is waiting from all of the tenant's datasets, together.

        Also what has come since about those who were erased. A dataset that is in use or damaged is left for the next
        run, which does not repeat what this one has proven.
        """
        found = await people(self._database, self._master, tenant, len(dataset_ids))
        one = Round(self._database, self._place, recorder, tenant, found)
        datasets: list[DatasetErased] = []
        troubles: dict[str, str] = {}
        for dataset_id in dataset_ids:
            try:
                outcome = await one.visit(dataset_id)
                datasets += [outcome] if outcome else []
            except (TableBusy, TableLeaseLost, Fenced, DamagedFile) as error:
                troubles[dataset_id] = str(error)
                await one.note_trouble(dataset_id, str(error))
        done, left = await one.finish(dataset_ids)
        return Run(done, left, tuple(datasets), troubles)
