from __future__ import annotations

from holdtrue_contracts.actor import service_actor
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import migrate
from holdtrue_storage.provision import provision

ACTOR = service_actor("test")


async def test_smoke(database_dsn: str) -> None:
    await provision(database_dsn, "registry")
    await provision(database_dsn, "registry")
    database = Database(database_dsn.replace("postgres@", "registry@"), "registry")
    await database.open()
    await migrate(database, ["holdtrue_storage"])
    await migrate(database, ["holdtrue_storage"])
    async with database.transaction(ACTOR) as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0
    await database.close()
