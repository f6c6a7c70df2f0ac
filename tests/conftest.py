"""Real servers for every test that wants them: one PostgreSQL and one Kafka per test session.

With xdist the controller starts them before its workers, so that all workers share them; without it they start when
the first test asks. They die with the process that started them.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import pytest
from holdtrue_local.kafka import Kafka
from holdtrue_local.postgres import Postgres
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

_T = TypeVar("_T")

# No test judges time: machines are busy. `./holdtrue test --long` takes the second profile.
settings.register_profile("holdtrue", deadline=None, max_examples=40)
settings.register_profile("long", deadline=None, max_examples=2_000)
settings.load_profile("holdtrue")


class Servers:
    """The session's servers in a temporary folder; each starts when its address is first asked for."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="holdtrue-test-"))
        self._postgres = Postgres(self.folder / "postgres", durable=False)
        self._kafka = Kafka(self.folder / "kafka")

    def postgres(self) -> str:
        if self._postgres.pid is None:
            _run(self._postgres.start())
        return self._postgres.dsn

    def kafka(self) -> str:
        if self._kafka.pid is None:
            _run(self._kafka.start())
        return self._kafka.bootstrap

    def close(self) -> None:
        _run(self._kafka.kill())
        _run(self._postgres.kill())
        shutil.rmtree(self.folder)


_SERVERS = pytest.StashKey[Servers]()


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end on a loop of its own, leaving the tests' loop alone."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(work)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[_SERVERS] = Servers()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker the addresses."""
    servers = node.config.stash[_SERVERS]
    node.workerinput["postgres"] = servers.postgres()
    node.workerinput["kafka"] = servers.kafka()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SERVERS in config.stash:
        config.stash[_SERVERS].close()


def _address(config: pytest.Config, server: str) -> str:
    if hasattr(config, "workerinput"):
        return config.workerinput[server]  # type: ignore[attr-defined]
    return getattr(config.stash[_SERVERS], server)()


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> str:
    """DSN of the superuser of the session's PostgreSQL (Unix socket)."""
    return _address(pytestconfig, "postgres")


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> str:
    """`127.0.0.1:port` of the session's Kafka. Topics are not created by themselves."""
    return _address(pytestconfig, "kafka")


@pytest.fixture
def database_dsn(postgres: str) -> Iterator[str]:
    """DSN of a fresh, empty database, dropped after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _run(_execute(postgres, f"CREATE DATABASE {name} STRATEGY FILE_COPY"))
    yield postgres.replace("/postgres?", f"/{name}?")
    _run(_execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics and groups that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}."


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
