"""Whatever happens to a compacted topic and to who mirrors it: the mirror has what the topic has."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from holdtrue_contracts.catalogue import TOPICS, key
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
from holdtrue_events.kafka import Kafka
from holdtrue_events.mirror import Mirror
from holdtrue_events.topics import ensure
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.component.events.harness import ACTOR, remove_topics, until
from tests.component.registry.harness import Topics

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from holdtrue_contracts.codec import Event

TOPIC = "deployments.v1"
names = st.sampled_from("abcd")


class Topic(RuleBasedStateMachine):
    """A topic, what ought to be known of it, and a mirror that lives and dies."""

    bootstrap = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.bus = Kafka(self.bootstrap, f"t{uuid.uuid4().hex[:10]}.")
        self.expected: dict[bytes, int] = {}
        self.versions: dict[str, int] = {}
        self.known: dict[bytes, int] = {}
        self.mirror: Mirror | None = None
        self.topics = Topics(self.bus.bootstrap, self.bus.prefix)
        self.run(ensure(self.bus.bootstrap, self.bus.prefix, topics=[TOPICS[TOPIC]]))
        self.run(self.topics.__aenter__())

    def run(self, work: Awaitable[Any]) -> None:
        async def wait() -> None:
            await work

        self.runner.run(wait())

    def send(self, name: str, version: int) -> None:
        state = DeploymentState(deployment_id=name, generation=version)
        record = encode(new_event(state, source="test", actor=ACTOR, aggregate_version=version))
        self.run(self.topics.send(TOPIC, record.key, record.value, record.headers))

    @rule(name=names)
    def change(self, name: str) -> None:
        self.versions[name] = self.versions.get(name, 0) + 1
        self.expected[key("default", name)] = self.versions[name]
        self.send(name, self.versions[name])

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.versions.pop(name, None)
        self.expected.pop(key("default", name), None)
        self.run(self.topics.send(TOPIC, key("default", name), None, []))

    @rule(name=names, back=st.integers(0, 3))
    def send_again(self, name: str, back: int) -> None:
        """As a relay does after a crash: a stretch of the past up to now."""
        latest = self.versions.get(name, 0)
        for version in range(max(1, latest - back), latest + 1):
            self.send(name, version)

    @rule(value=st.binary(max_size=5), name=names)
    def poison(self, value: bytes, name: str) -> None:
        self.run(self.topics.send(TOPIC, key("default", name), value, []))

    @precondition(lambda self: self.mirror is None)
    @rule()
    def start(self) -> None:
        self.known.clear()
        self.mirror = Mirror(self.bus, TOPIC, self.apply)
        self.run(self.mirror.start())
        assert self.known == self.expected

    @precondition(lambda self: self.mirror is not None)
    @rule()
    def stop(self) -> None:
        assert self.mirror is not None
        self.run(self.mirror.stop())
        self.run(self.mirror.run())
        self.mirror = None

    @precondition(lambda self: self.mirror is not None)
    @rule()
    def follow(self) -> None:
        async def same() -> bool:
            return self.known == self.expected

        self.run(until(same, f"{self.expected}"))

    def apply(self, name: bytes, event: Event[Any] | None) -> None:
        if event is None:
            self.known.pop(name, None)
        else:
            assert event.data.generation >= self.known.get(name, 0)
            self.known[name] = event.data.generation

    def teardown(self) -> None:
        if self.mirror is not None:
            self.follow()
            self.stop()
        self.start()
        self.stop()
        self.run(self.topics.__aexit__())
        self.run(remove_topics(self.bus))
        self.runner.close()


def test_the_mirror_has_what_the_topic_has(kafka: str) -> None:
    Topic.bootstrap = kafka
    run_state_machine_as_test(
        Topic,
        settings=settings(max_examples=4, stateful_step_count=15, suppress_health_check=[HealthCheck.too_slow]),
    )
