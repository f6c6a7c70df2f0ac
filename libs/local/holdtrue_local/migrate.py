"""Create what the services stand on: roles, schemas, topics. `python -m holdtrue_local.migrate`, safe to repeat.

A program of its own, so that the supervisor stays small. Its orders come as JSON on standard input, because they
contain passwords: `{"kafka": address, "admin": uri, "roles": {name: password or null}}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit

from aiokafka.errors import KafkaError
from asyncpg import InterfaceError, PostgresError
from holdtrue_core.errors import FailedPrecondition
from holdtrue_events import topics
from holdtrue_storage.provision import provision


async def migrate(kafka: str, admin: str, roles: dict[str, str | None]) -> None:
    """Create whatever is missing."""
    async with asyncio.TaskGroup() as group:
        group.create_task(topics.ensure(kafka))
        group.create_task(_provision(admin, roles))


async def _provision(admin: str, roles: dict[str, str | None]) -> None:
    for role, password in roles.items():
        await provision(admin, role, password)


def main(orders: dict[str, Any]) -> None:
    """Carry the orders out; end with a sentence where a server does not let us."""
    kafka, admin = str(orders["kafka"]), str(orders["admin"])
    faults: list[str] = []
    try:
        asyncio.run(migrate(**orders))
    except* KafkaError as group:
        faults.append(f"Kafka at {kafka}: {group.exceptions[0]}; is it there? --kafka names it as host:port")
    except* FailedPrecondition as group:
        faults.append(f"Kafka at {kafka}: {group.exceptions[0]}")
    except* (PostgresError, InterfaceError, OSError) as group:
        where = urlsplit(admin).netloc.rpartition("@")[2] or "its socket"
        example = "postgresql://postgres:PASSWORD@host:5432/postgres"
        reason = f"{group.exceptions[0]}; is it there, and is this its superuser? --postgres names both: {example}"
        faults.append(f"PostgreSQL at {where}: {reason}")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main(json.load(sys.stdin))
