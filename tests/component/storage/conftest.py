from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import migrate
from holdtrue_storage.provision import provision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SCHEMA = "registry"


@pytest.fixture
async def service_dsn(database_dsn: str) -> str:
    """DSN of a provisioned service, with its own role and an empty schema."""
    await provision(database_dsn, SCHEMA)
    return database_dsn.replace("postgres@", f"{SCHEMA}@")


@pytest.fixture
async def database(service_dsn: str) -> AsyncGenerator[Database]:
    """An open database of the service with the shared tables."""
    database = Database(service_dsn, SCHEMA)
    await database.open()
    await migrate(database, ["holdtrue_storage"])
    yield database
    await database.close()
