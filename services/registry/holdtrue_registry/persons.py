"""The keys of persons whom datasets are about, and the file of the master key that protects them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdtrue_core.errors import FailedPrecondition
from holdtrue_core.lifecycle import Resource
from holdtrue_lake.master_key import make_master_key
from holdtrue_lake.subject_keys import PostgresSubjectKeys
from holdtrue_lake.subjects import MasterKey, Undecipherable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from holdtrue_lake.subjects import SubjectKey
    from holdtrue_storage.database import Database

_ANY = "SELECT EXISTS (SELECT FROM subject_key)"


class Persons(Resource):
    """The part that opens the master key at start: made at the very first, and asked for ever after."""

    name = "keys of persons"

    def __init__(self, database: Database, file: Path) -> None:
        """Say where keys and master key are."""
        super().__init__()
        self._database = database
        self._file = file
        self._opened: tuple[MasterKey, PostgresSubjectKeys, asyncio.AbstractEventLoop] | None = None

    async def open(self) -> None:
        """Read the master key; raises FailedPrecondition where it is not the one that made what there is."""
        async with self._database.acquire() as connection:
            used = await connection.fetchval(_ANY)
        try:
            master = await asyncio.to_thread(MasterKey.from_file if used else make_master_key, self._file)
            keys = PostgresSubjectKeys(self._database, master)
            await keys.check()
        except (OSError, ValueError, Undecipherable) as error:
            raise FailedPrecondition(
                f"{self._file}: this is not the master key of the persons that the datasets know ({error}): "
                "restore the file, or nobody can read what is about them",
                reason="MASTER_KEY_WRONG",
            ) from error
        self._opened = master, keys, asyncio.get_running_loop()

    @property
    def master(self) -> MasterKey:
        """The master key."""
        return self._ready()[0]

    @property
    def keys(self) -> PostgresSubjectKeys:
        """The persons' keys."""
        return self._ready()[1]

    def keys_of(self, tenant: str, identifiers: set[str]) -> Mapping[str, SubjectKey]:
        """Return the keys of persons, made where there are none yet; for threads that are not the event loop's."""
        _, keys, loop = self._ready()
        return asyncio.run_coroutine_threadsafe(keys.of(tenant, identifiers), loop).result()

    def _ready(self) -> tuple[MasterKey, PostgresSubjectKeys, asyncio.AbstractEventLoop]:
        if self._opened is None:
            raise RuntimeError("the keys of persons are not open: start them before the parts that use them")
        return self._opened
