"""The whole platform on one machine: servers, schemas and topics, services."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from . import control, data_folder, services
from .databases import Accounts
from .kafka import Kafka
from .postgres import Postgres
from .processes import memory_mb, run_to_end
from .service_program import ServiceProgram
from .supervisor import Keeper, start_all, stop_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import TextIOWrapper
    from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What `up` is asked for.

    Attributes:
        data: The data folder.
        only: Names of the services to start; all when empty.
        kafka: `host:port` of an outside Kafka instead of our own.
        postgres: Superuser's URI of an outside PostgreSQL instead of our own.
        free_ports: Take any free ports instead of the default ones.
        settings: Environment variables for the services, for example `HOLDTRUE_MONITOR_WINDOW_SECONDS`.
    """

    data: Path
    only: tuple[str, ...] = ()
    kafka: str | None = None
    postgres: str | None = None
    free_ports: bool = False
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


class Platform:
    """Everything that one `up` starts. `start` once, `stop` in any case.

    Attributes:
        endpoints: The addresses document (contracts.md §1), complete after `start`; also `<data>/endpoints.json`.
    """

    def __init__(self, options: Options, report: Callable[[str, str], None]) -> None:
        """Decide on ports; nothing is started. `report(name, text)` hears what people should know.

        Raises:
            StartError: an unknown service's name.
        """
        self._options = options
        self._data = options.data.absolute()
        self._report = report
        self._services = services.choose(options.only)
        self._ports = services.choose_ports(self._services, free=options.free_ports)
        self._postgres = Postgres(self._data / "postgres") if options.postgres is None else None
        self._kafka = (
            Kafka(self._data / "kafka", port=services.kafka_port(free=options.free_ports))
            if options.kafka is None
            else None
        )
        self._servers = [Keeper(server, report) for server in (self._postgres, self._kafka) if server]
        self._running: list[Keeper] = []
        self._state = "starting"
        self._since = time.time()
        self._claim: TextIOWrapper | None = None
        self._control: asyncio.Server | None = None
        self.endpoints = self._endpoints()

    async def start(self) -> None:
        """Start everything, and return when every service answers.

        Raises:
            StartError: what does not start and why; call `stop` to end the rest.
        """
        data_folder.check(self._data)
        self._claim = control.claim(self._data)
        services.check_ports(self._services, self._ports)
        await self._listen()
        await start_all(self._servers)
        accounts = self._accounts()
        await self._migrate(accounts)
        self._running = [Keeper(self._program(service, accounts), self._report) for service in self._services]
        await start_all(self._running)
        data_folder.write_json(self._data / "endpoints.json", self.endpoints)
        self._state = "ready"

    async def stop(self) -> None:
        """End services first, then the servers that they need; nothing is left running."""
        if self._claim is None:
            return
        self._state = "stopping"
        (self._data / "endpoints.json").unlink(missing_ok=True)
        await stop_all([self._running, self._servers])
        if self._control:
            self._control.close()
        control.control_socket(self._data).unlink(missing_ok=True)
        self._claim.close()

    async def status(self) -> dict[str, Any]:
        """Tell how everything is: of each program what `Keeper` knows, whether it answers, and its memory."""
        programs = await asyncio.gather(*(_describe(keeper) for keeper in (*self._servers, *self._running)))
        about = {"state": self._state, "pid": os.getpid(), "data": str(self._data), "since": self._since}
        return about | {"endpoints": self.endpoints, "programs": programs}

    def _accounts(self) -> Accounts:
        roles = [service.name for service in self._services if service.database]
        if self._postgres:
            return Accounts(self._postgres.dsn, roles, kept=None)
        assert self._options.postgres is not None, "one of the two"  # noqa: S101
        return Accounts(self._options.postgres, roles, kept=self._data / "postgres-passwords.json")

    async def _migrate(self, accounts: Accounts) -> None:
        """Create roles, schemas and topics: in a process of its own, which gives its memory back."""
        self._report("migrate", "schemas and topics")
        orders = {"kafka": self._bootstrap, "admin": accounts.admin, "roles": accounts.passwords}
        argv = [sys.executable, "-m", "holdtrue_local.migrate"]
        await run_to_end(argv, json.dumps(orders).encode(), log=self._data / "logs" / "migrate.log")

    def _program(self, service: services.Service, accounts: Accounts) -> ServiceProgram:
        postgres = accounts.dsn(service.name) if service.database else None
        settings = services.environment(service, self._data, self._ports, kafka=self._bootstrap, postgres=postgres)
        return ServiceProgram(
            service, self._ports[service.name], settings | dict(self._options.settings), self._data / "logs"
        )

    @property
    def _bootstrap(self) -> str:
        return self._kafka.bootstrap if self._kafka else str(self._options.kafka)

    def _endpoints(self) -> dict[str, Any]:
        return {
            "version": version("holdtrue"),
            "tenant": "default",
            "kafka": self._bootstrap,
            "services": services.addresses(self._ports),
        }

    async def _listen(self) -> None:
        """Answer every connection to the control socket with the status."""
        path = control.control_socket(self._data)
        path.unlink(missing_ok=True)
        self._control = await asyncio.start_unix_server(self._answer, path)

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(await self.status()).encode())
        writer.close()


async def _describe(keeper: Keeper) -> dict[str, Any]:
    program = keeper.program
    return {
        "name": program.name,
        "state": keeper.state,
        "answers": program.pid is not None and await program.ready(),
        "pid": program.pid,
        "since": keeper.since,
        "restarts": keeper.restarts,
        "memory_mb": round(memory_mb(program.pid)) if program.pid else 0,
    }
