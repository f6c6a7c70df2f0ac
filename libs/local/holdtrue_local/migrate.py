"""Create what the services stand on: roles, schemas, topics. `python -m holdtrue_local.migrate`, safe to repeat.

A program of its own, so that the supervisor stays small. Its orders come as JSON on standard input, because they
contain passwords: `{"kafka": address, "admin": uri, "roles": {name: password or null}}`.
"""

from __future__ import annotations

import asyncio
import json
import sys

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


if __name__ == "__main__":
    asyncio.run(migrate(**json.load(sys.stdin)))
