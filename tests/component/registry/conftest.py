from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from holdtrue_events import topics
from holdtrue_storage.provision import provision

from tests.component.registry.harness import Registry, Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest_asyncio.fixture
async def environment(database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path) -> dict[str, str]:
    await provision(database_dsn, "registry")
    await topics.ensure(kafka, topic_prefix)
    values = {
        "GRPC_PORT": free_port(),
        "HTTP_PORT": "0",
        "METRICS_PORT": "0",
        "POSTGRES_DSN": database_dsn.replace("//postgres@", "//registry@"),
        "KAFKA": kafka,
        "KAFKA_PREFIX": topic_prefix,
        "BLOBS": str(tmp_path / "blobs"),
        "LAKE": str(tmp_path / "lake"),
        "INGEST_SECONDS": "0.05",
        "INSTANCE_ID": "registry-0",
    }
    return {f"HOLDTRUE_REGISTRY_{name}": value for name, value in values.items()}


@pytest_asyncio.fixture
async def registry(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Registry]:
    async with Registry(environment, tmp_path / "registry.log") as running:
        yield running


@pytest_asyncio.fixture
async def broker(environment: dict[str, str], kafka: str, topic_prefix: str) -> AsyncIterator[Topics]:  # noqa: ARG001  topics first
    async with Topics(kafka, topic_prefix) as open_topics:
        yield open_topics
