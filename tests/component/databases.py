"""A service's database for a test that needs no service."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from holdtrue_storage.database import Database
from holdtrue_storage.migrations import migrate
from holdtrue_storage.provision import provision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence


@asynccontextmanager
async def migrated(dsn: str, packages: Sequence[str]) -> AsyncGenerator[Database]:
    """The registry's schema in a new database, with the tables of these packages."""
    await provision(dsn, "registry")
    database = Database(dsn.replace("postgres@", "registry@"), "registry", pool_size=4)
    await database.open()
    try:
        await migrate(database, packages)
        yield database
    finally:
        await database.close()
