"""Keys of subjects in PostgreSQL: the table without the file of the master key tells nothing of anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_lake.subjects import MasterKey, SubjectKey, new_secret, normal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdtrue_storage.database import Database

_MAKE = """
INSERT INTO subject_key (tenant, blind_index, pseudonym, wrapped) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, blind_index) DO NOTHING"""
_FIND = "SELECT blind_index, wrapped FROM subject_key WHERE tenant = $1 AND blind_index = ANY($2::bytea[])"
_NAMED = "SELECT blind_index, pseudonym, wrapped FROM subject_key WHERE tenant = $1 AND pseudonym = ANY($2::text[])"


class PostgresSubjectKeys:
    """See `SubjectKeys`; needs the migrations of `holdtrue_lake`."""

    def __init__(self, database: Database, master: MasterKey) -> None:
        """Say where, and what protects them."""
        self._database = database
        self._master = master

    async def of(self, tenant: str, identifiers: Iterable[str]) -> dict[str, SubjectKey]:
        """Return the key of each identifier, made where there is none yet; durable when this returns."""
        names = list(dict.fromkeys(identifiers))
        found = await self.find(tenant, names)
        missing = [name for name in names if name not in found]
        if missing:
            await self._make(tenant, {normal(name) for name in missing})
            found |= await self.find(tenant, missing)
        return found

    async def find(self, tenant: str, identifiers: Iterable[str]) -> dict[str, SubjectKey]:
        """Return the keys that there are."""
        indices = {name: self._master.blind_index(tenant, name) for name in identifiers}
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_FIND, tenant, list(indices.values()))
        secrets = {row["blind_index"]: self._master.unwrap(row["wrapped"], row["blind_index"]) for row in rows}
        return {name: SubjectKey.of(secrets[index], name) for name, index in indices.items() if index in secrets}

    async def check(self) -> int:
        """Return how many keys there are, after opening one of them. Raises Undecipherable for another master key."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow("SELECT blind_index, wrapped FROM subject_key LIMIT 1")
            count: int = await connection.fetchval("SELECT count(*) FROM subject_key")
        if row is not None:
            self._master.unwrap(row["wrapped"], row["blind_index"])
        return count

    async def by_pseudonym(self, tenant: str, pseudonyms: Iterable[str]) -> dict[str, SubjectKey]:
        """Return the keys that have not been destroyed, by pseudonym."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_NAMED, tenant, list(set(pseudonyms)))
        return {
            row["pseudonym"]: SubjectKey(self._master.unwrap(row["wrapped"], row["blind_index"]), row["pseudonym"])
            for row in rows
        }

    async def _make(self, tenant: str, names: set[str]) -> None:
        made: list[tuple[str, bytes, str, bytes]] = []
        for name in sorted(names):  # in one order, so that two that make the same keys do not wait for each other
            secret, index = new_secret(), self._master.blind_index(tenant, name)
            made.append((tenant, index, SubjectKey.of(secret, name).pseudonym, self._master.wrap(secret, index)))
        async with self._database.acquire() as connection:
            await connection.executemany(_MAKE, made)
