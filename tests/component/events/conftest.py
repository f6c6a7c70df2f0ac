from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.catalogue import DEAD_LETTERS, TOPICS
from holdtrue_events.backoff import Backoff
from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import Outbox
from holdtrue_events.topics import ensure

from tests.component.events.harness import prepared, remove_topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdtrue_storage.database import Database


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    """The database of a service, with the shared tables and one of its own: `effect(value text)`."""
    database = await prepared(database_dsn)
    yield database
    await database.close()


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database, "holdtrue/service")


@pytest.fixture
async def bus(kafka: str, topic_prefix: str) -> AsyncIterator[Kafka]:
    """Kafka with a few topics of the catalogue, under a prefix of this test."""
    await ensure(kafka, topic_prefix, topics=[TOPICS[name] for name in ("runs.v1", "deployments.v1", DEAD_LETTERS)])
    bus = Kafka(kafka, topic_prefix)
    yield bus
    await remove_topics(bus)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever backs off comes back at once."""

    def none(_: Backoff) -> float:
        return 0.0

    monkeypatch.setattr(Backoff, "next", none)
