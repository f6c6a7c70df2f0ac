from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import pytest
from holdtrue_events.kafka import Kafka
from holdtrue_events.topics import ensure
from holdtrue_storage.provision import provision

from tests.component.monitor.harness import Platform

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def platform(kafka: str, topic_prefix: str, database_dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """Kafka with topics and a database with a schema; no monitor runs yet."""
    await ensure(kafka, topic_prefix)
    await provision(database_dsn, "monitor")
    dsn = database_dsn.replace("postgres@", "monitor@")
    where = Kafka(kafka, topic_prefix)
    producer = where.producer()
    await producer.start()
    environment = {
        "HOLDTRUE_MONITOR_POSTGRES_DSN": dsn,
        "HOLDTRUE_MONITOR_KAFKA": kafka,
        "HOLDTRUE_MONITOR_KAFKA_PREFIX": topic_prefix,
        "HOLDTRUE_MONITOR_BLOBS": str(tmp_path / "blobs"),
        "HOLDTRUE_MONITOR_WINDOW_SECONDS": "1",
        "HOLDTRUE_MONITOR_CLOSE_AFTER_SECONDS": "0.5",
        "HOLDTRUE_MONITOR_RESTATE_SECONDS": "0.2",
        "HOLDTRUE_MONITOR_COMMIT_SECONDS": "0.1",
        "HOLDTRUE_MONITOR_EVALUATE_SECONDS": "0.1",
        "HOLDTRUE_MONITOR_LOG_FORMAT": "console",
    }
    platform = Platform(environment, tmp_path, where, producer, dsn)
    try:
        yield platform
    finally:
        await producer.stop()
        for service in platform.services:
            if service.process and service.process.returncode is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(service.stop(), 15)
            if service.process and service.process.returncode is None:
                await service.kill()
            sys.stdout.write(service.log())  # shown where the test failed
