from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_events.kafka import Kafka

from tests.component.inference.door import Door
from tests.component.inference.harness import Service, topics
from tests.inference.lanes import SLOW, Always
from tests.inference.states import revision, state

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


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """The gRPC server in this process; "fraud" has one revision, "r0", which runs in a thread."""
    door = Door(tmp_path, Always(SLOW))
    await door.open(state(1, revision()))
    yield door
    await door.close()
