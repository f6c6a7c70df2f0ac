"""PostgreSQL and Kafka as an operator has them: reached over the network, accounts with passwords."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
from holdtrue_local.kafka import Kafka
from holdtrue_local.ports import free_port
from holdtrue_local.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

PASSWORD = "correct horse/battery"  # noqa: S105  a slash and a space: an address must quote them
_QUOTED = "correct%20horse%2Fbattery"


class NetworkPostgres(Postgres):
    """Listens on loopback, and asks everybody who comes that way for a password."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, durable=False)
        self._tcp = free_port()
        self._settings |= {"listen_addresses": "127.0.0.1", "port": str(self._tcp)}

    @property
    def uri(self) -> str:
        """The superuser's address."""
        return f"postgresql://postgres:{_QUOTED}@127.0.0.1:{self._tcp}/postgres"

    def prepare(self) -> None:
        super().prepare()
        rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(rules)

    async def start(self) -> None:
        await super().start()
        connection = await asyncpg.connect(self.dsn, port=self._tcp)
        try:
            await connection.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'")
        finally:
            await connection.close()


@asynccontextmanager
async def servers(folder: Path) -> AsyncGenerator[tuple[NetworkPostgres, Kafka]]:
    """Both, started and stopped as this process's own children."""
    postgres, kafka = NetworkPostgres(folder / "postgres"), Kafka(folder / "kafka")
    try:
        await asyncio.gather(postgres.start(), kafka.start())
        yield postgres, kafka
    finally:
        await asyncio.gather(postgres.kill(), kafka.kill())
