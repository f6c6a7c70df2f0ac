from __future__ import annotations

import asyncio
import json
import shlex
import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest
from holdtrue.cli.app import run
from holdtrue_core.ids import uuid7
from holdtrue_events import topics
from holdtrue_local.ports import free_port
from holdtrue_storage.provision import provision

from tests.component.registry.harness import Done, Process, Registry, Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


async def prepared(dsn: str, kafka: str, prefix: str, folder: Path) -> dict[str, str]:
    """Make a place for a registry in a database and on a broker; return its settings."""
    await provision(dsn, "registry")
    await topics.ensure(kafka, prefix)
    values = {
        "GRPC_PORT": str(free_port()),
        "HTTP_PORT": "0",
        "METRICS_PORT": "0",
        "POSTGRES_DSN": dsn.replace("//postgres@", "//registry@"),
        "KAFKA": kafka,
        "KAFKA_PREFIX": prefix,
        "BLOBS": str(folder / "blobs"),
        "LAKE": str(folder / "lake"),
        "INGEST_SECONDS": "0.05",
        "INSTANCE_ID": "registry-0",
    }
    return {f"HOLDTRUE_REGISTRY_{name}": value for name, value in values.items()}


@pytest.fixture(scope="module")
def shared(postgres: str, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One registry process for the tests of a module, because starting one takes seconds of CPU."""
    name, folder = f"test_{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("registry")
    dsn = postgres.replace("/postgres?", f"/{name}?")

    async def prepare() -> dict[str, str]:
        await execute(postgres, f"CREATE DATABASE {name} STRATEGY FILE_COPY")
        return await prepared(dsn, kafka, f"{name}.", folder)

    process = Process(asyncio.run(prepare()), folder / "log")
    process.start()
    yield process
    process.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def registry(shared: Process) -> AsyncIterator[Registry]:
    async with shared.client() as connected:
        yield connected


@pytest.fixture
async def broker(shared: Process) -> AsyncIterator[Topics]:
    settings = shared.environment
    async with Topics(settings["HOLDTRUE_REGISTRY_KAFKA"], settings["HOLDTRUE_REGISTRY_KAFKA_PREFIX"]) as connected:
        yield connected


@pytest.fixture
async def environment(database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path) -> dict[str, str]:
    """Settings of a registry of the test's own, not started."""
    return await prepared(database_dsn, kafka, topic_prefix, tmp_path)


@pytest.fixture
async def own_broker(environment: dict[str, str], kafka: str, topic_prefix: str) -> AsyncIterator[Topics]:
    assert environment
    async with Topics(kafka, topic_prefix) as connected:
        yield connected


@pytest.fixture
def holdtrue(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], Done]:
    """Run a command line, in a folder of the test's own."""
    settings = registry.process.environment
    address = f"127.0.0.1:{settings['HOLDTRUE_REGISTRY_GRPC_PORT']}"
    document = {
        "services": {"registry": {"grpc": address}},
        "kafka": settings["HOLDTRUE_REGISTRY_KAFKA"],
        "kafka_prefix": settings["HOLDTRUE_REGISTRY_KAFKA_PREFIX"],
    }
    (tmp_path / "endpoints.json").write_text(json.dumps(document))
    monkeypatch.setenv("HOLDTRUE_HOME", str(tmp_path))
    monkeypatch.delenv("HOLDTRUE_URL", raising=False)
    monkeypatch.chdir(tmp_path)

    def execute(line: str) -> Done:
        code = run(shlex.split(line))
        told = capfd.readouterr()
        return Done(code, str(told.out), str(told.err))

    return execute


@pytest.fixture
def name() -> str:
    return f"payments-{uuid7()}"
