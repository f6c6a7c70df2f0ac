"""The broker dies and comes back, or is not there yet: everything arrives once it is, in order and with one effect."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
from holdtrue_contracts.trainer.v1.runs_pb2 import RunRequested
from holdtrue_events.kafka import Kafka
from holdtrue_events.mirror import Mirror
from holdtrue_events.react import React
from holdtrue_events.relay import Relay
from holdtrue_events.topics import ensure
from holdtrue_local.kafka import Kafka as Broker
from structlog.testing import capture_logs

from tests.component.events.harness import (
    ACTOR,
    MODELS,
    by_model,
    emptied,
    everything,
    handled,
    leaders,
    led_by_another,
    on_run_requested,
    pairs,
    publish,
    running,
    until,
    values,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from holdtrue_contracts.codec import Event
    from holdtrue_events.outbox import Outbox
    from holdtrue_storage.database import Database

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that may be killed; started before the first test, alive again after each."""
    broker = Broker(tmp_path_factory.mktemp("broker") / "kafka")
    asyncio.run(broker.start())
    yield broker
    asyncio.run(broker.kill())


@pytest.fixture
async def bus(broker: Broker, topic_prefix: str) -> Kafka:
    """The mortal broker with a few topics."""
    names = ("runs.v1", "deployments.v1", "dead-letters.v1")
    await ensure(broker.bootstrap, topic_prefix, topics=[TOPICS[name] for name in names])
    return Kafka(broker.bootstrap, topic_prefix)


@asynccontextmanager
async def away(broker: Broker) -> AsyncGenerator[None]:
    """Kill it, and start it again at the end."""
    await broker.kill()
    try:
        yield
    finally:
        await broker.start()


class Writer:
    """Publishes runs and generations of a deployment until it is told to end."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._ended = False
        self.sent: list[tuple[str, str]] = []
        self.generation = 0

    async def run(self) -> None:
        for turn in itertools.count():
            if self._ended:
                return
            async with self._outbox.transaction(ACTOR) as tx:
                model = MODELS[turn % len(MODELS)]
                event = tx.publish(RunRequested(model_id=model))
                state = DeploymentState(deployment_id="d", generation=turn + 1)
                tx.publish(state, aggregate_version=turn + 1)
            self.sent.append((model, event.id))
            self.generation = turn + 1
            await asyncio.sleep(0.01)  # a stream, not a flood

    async def more(self) -> None:
        """Return when some more were published."""
        enough = len(self.sent) + 20

        async def published() -> bool:
            return len(self.sent) >= enough

        await until(published, "more events are published")

    def end(self) -> None:
        self._ended = True


async def test_kills_of_the_broker_lose_repeat_and_disorder_nothing(
    database: Database, outbox: Outbox, bus: Kafka, broker: Broker
) -> None:
    """Group and mirror start while it is away, and live through another death of it."""
    generations: list[int] = []

    def hear(_key: bytes, event: Event[DeploymentState] | None) -> None:
        assert event is not None
        generations.append(event.data.generation)

    writer = Writer(outbox)
    react, mirror = React(outbox, bus, "group", [on_run_requested]), Mirror(bus, "deployments.v1", hear)
    async with running(Relay(outbox, bus)), asyncio.TaskGroup() as group:
        writing = group.create_task(writer.run())
        await writer.more()
        with capture_logs() as logs:
            async with away(broker):
                starting = [group.create_task(part) for part in (mirror.start(), react.run())]
                await until(lambda: tried(logs), "both have tried")
                await writer.more()
        await starting[0]
        following = group.create_task(mirror.run())
        async with away(broker):
            await writer.more()
        await writer.more()
        writer.end()
        await writing
        await emptied(database)
        effects = await handled(database, len(writer.sent))
        await until(lambda: heard(generations, writer.generation), "the mirror has the last generation")
        await mirror.stop()
        await react.stop()
        await following

    assert by_model(effects) == by_model(writer.sent)
    arrived = pairs(await everything(bus))
    assert by_model(dict.fromkeys(arrived)) == by_model(writer.sent)
    assert {model: events[-1] for model, events in by_model(arrived).items()} == dict(writer.sent)
    assert generations == sorted(generations)
    assert set(generations) == set(range(1, writer.generation + 1))


async def heard(generations: list[int], last: int) -> bool:
    return generations[-1] == last


async def tried(logs: list[Any]) -> bool:
    """Whether both mirror and group have found no Kafka."""
    told = [log for log in logs if log["event"] == "no events now"]
    return any("topic" in log for log in told) and any("part" in log for log in told)


async def test_a_relay_that_lost_the_lock_sends_nothing_more(
    database: Database, outbox: Outbox, bus: Kafka, broker: Broker
) -> None:
    """What it had under way would arrive after what the next leader sends for the same key."""
    relay = Relay(outbox, bus)

    async def under_way() -> bool:
        return bool(relay._flights)

    async with running(relay):
        first = await publish(outbox, "m")
        await emptied(database)
        [leader] = await leaders(database)
        async with away(broker):
            await publish(outbox, "m")
            await until(under_way, "an event is under way")
            async with led_by_another(database, instead_of=leader):
                await values(database, "DELETE FROM outbox")  # the other one has sent it
                await until(lambda: stands_by(relay), "it has noticed")
                last = await publish(outbox, "m")
        await emptied(database)
    assert pairs(await everything(bus)) == [*first, *last]


async def stands_by(relay: Relay) -> bool:
    return relay._producer is None
