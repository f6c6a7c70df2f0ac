"""Whatever becomes of transactions side by side: Kafka has the events of those that committed, in their order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.trainer.v1.runs_pb2 import RunRequested
from holdtrue_core.errors import Unavailable
from holdtrue_core.ids import uuid7
from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import Outbox
from holdtrue_events.relay import Relay
from holdtrue_events.topics import ensure
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.component.events.harness import (
    ACTOR,
    by_model,
    emptied,
    everything,
    pairs,
    prepared,
    remove_topics,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from holdtrue_events.outbox import Transaction
    from holdtrue_storage.database import Database

    from tests.component.events.harness import Pair

slots = st.integers(0, 2)
names = st.sampled_from("abc")


class Service:
    """A database and a broker that outlive the examples, on an event loop of their own."""

    def __init__(self, dsn: str, bus: Kafka) -> None:
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.bus = bus
        self.run(ensure(bus.bootstrap, bus.prefix, topics=[TOPICS["runs.v1"]]))
        self.database: Database = self.run(prepared(dsn))
        self.outbox = Outbox(self.database, "holdtrue/service")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def close(self) -> None:
        self.run(self.database.close())
        self.run(remove_topics(self.bus))
        self.runner.close()


class Open:
    """A transaction that is not ended yet: the models that it has locked and the events that it would publish."""

    def __init__(self, outbox: Outbox) -> None:
        self.context = outbox.transaction(ACTOR)
        self.models: set[str] = set()
        self.events: list[Pair] = []

    async def begin(self) -> None:
        self.tx: Transaction = await self.context.__aenter__()

    async def end(self, error: Exception | None) -> bool:
        """True if it committed."""
        with suppress(Unavailable, KeyError):
            return not await self.context.__aexit__(type(error) if error else None, error, None) and error is None
        return False


class Publishing(RuleBasedStateMachine):
    """Three transactions side by side; a model is written by one of them at a time, as its row lock would have it."""

    service: Service

    def __init__(self) -> None:
        super().__init__()
        self.prefix = uuid7()
        self.open: dict[int, Open] = {}
        self.committed: list[Pair] = []

    def opened(self, slot: int) -> Open:
        if slot not in self.open:
            self.open[slot] = Open(self.service.outbox)
            self.service.run(self.open[slot].begin())
        return self.open[slot]

    @rule(slot=slots, name=names)
    def publish(self, slot: int, name: str) -> None:
        if any(name in other.models for number, other in self.open.items() if number != slot):
            return
        transaction, model = self.opened(slot), f"{self.prefix}-{name}"
        transaction.models.add(name)
        transaction.events.append((model, transaction.tx.publish(RunRequested(model_id=model)).id))

    @rule(slot=slots)
    def commit(self, slot: int) -> None:
        transaction = self.opened(slot)
        assert self.service.run(transaction.end(None))
        self.committed += self.open.pop(slot).events

    @rule(slot=slots)
    def roll_back(self, slot: int) -> None:
        assert not self.service.run(self.opened(slot).end(KeyError()))
        del self.open[slot]

    @rule(slot=slots)
    def lose_the_session(self, slot: int) -> None:
        """The server ends it; the commit that is tried then fails."""
        transaction = self.opened(slot)
        with suppress(asyncpg.PostgresError):
            self.service.run(transaction.tx.execute("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert not self.service.run(transaction.end(None))
        del self.open[slot]

    @rule()
    def relay(self) -> None:
        async def relay() -> None:
            async with running(Relay(self.service.outbox, self.service.bus)):
                await emptied(self.service.database)

        self.service.run(relay())

    def teardown(self) -> None:
        for slot in list(self.open):
            self.roll_back(slot)
        self.relay()
        arrived = [pair for pair in pairs(self.service.run(everything(self.service.bus))) if self.prefix in pair[0]]
        assert by_model(arrived) == by_model(self.committed)


def test_kafka_has_what_committed_in_order(database_dsn: str, kafka: str, topic_prefix: str) -> None:
    Publishing.service = Service(database_dsn, Kafka(kafka, topic_prefix))
    try:
        chosen = settings(max_examples=8, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow])
        run_state_machine_as_test(Publishing, settings=chosen)
    finally:
        Publishing.service.close()
