from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_events.kafka import Kafka

from tests.component.inference.harness import Service, topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def bus(kafka: str, topic_prefix: str) -> Kafka:
    """The session's Kafka with this test's own topics."""
    bus = Kafka(kafka, topic_prefix)
    await topics(bus)
    return bus


@pytest.fixture
async def service(tmp_path: Path, bus: Kafka) -> AsyncIterator[Service]:
    """An inference process, not started."""
    service = Service(tmp_path, bus)
    yield service
    await service.close()
