"""Topics are created as the catalogue says, and one that is otherwise is told before it does harm."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidReplicationFactorError, KafkaConnectionError
from holdtrue_contracts.catalogue import DEAD_LETTERS, TOPICS
from holdtrue_core.errors import FailedPrecondition
from holdtrue_events.kafka import Kafka
from holdtrue_events.topics import ensure
from holdtrue_local.ports import free_port

from tests.component.events.harness import administration, remove_topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

RUNS, DEPLOYMENTS = TOPICS["runs.v1"], TOPICS["deployments.v1"]
NAMES = ("cleanup.policy", "retention.ms", "max.message.bytes", "compression.type")


@pytest.fixture
async def where(kafka: str, topic_prefix: str) -> AsyncIterator[Kafka]:
    """The broker, and a prefix under which there is nothing."""
    where = Kafka(kafka, topic_prefix)
    yield where
    await remove_topics(where)


async def partitions(where: Kafka) -> dict[str, int]:
    """Partitions of each topic under the prefix."""
    async with administration(where) as admin:
        names = [name for name in await admin.list_topics() if name.startswith(where.prefix)]
        described = await admin.describe_topics(names) if names else []
    return {where.name(topic["topic"]): len(topic["partitions"]) for topic in described}


async def configs(where: Kafka, topics: Iterable[str]) -> dict[str, dict[str, str]]:
    """What the broker says of topics."""
    found: dict[str, dict[str, str]] = {}
    async with administration(where) as admin:
        for name in topics:
            resource = ConfigResource(ConfigResourceType.TOPIC, where.topic(name), dict.fromkeys(NAMES, ""))
            [response] = await admin.describe_configs([resource])
            [(_code, _text, _kind, _name, entries)] = cast("Any", response).resources
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def create(where: Kafka, *topics: NewTopic) -> None:
    async with administration(where) as admin:
        await admin.create_topics(list(topics))
        names = {topic.name for topic in topics}
        while not names <= set(await admin.list_topics()):
            await asyncio.sleep(0.02)


async def test_all_topics_are_created_as_the_catalogue_says(where: Kafka) -> None:
    await ensure(where.bootstrap, where.prefix)
    assert await partitions(where) == {topic.name: topic.partitions for topic in TOPICS.values()}
    found = await configs(where, TOPICS)
    for topic in TOPICS.values():
        assert found[topic.name]["cleanup.policy"] == topic.cleanup
        assert found[topic.name]["compression.type"] == "uncompressed"
        if topic.retention is not None:
            assert int(found[topic.name]["retention.ms"]) == topic.retention.total_seconds() * 1000
    assert found[DEAD_LETTERS]["max.message.bytes"] == "2000000"


async def test_a_second_time_nothing_changes_and_what_is_missing_is_added(where: Kafka) -> None:
    await ensure(where.bootstrap, where.prefix, topics=[RUNS])
    await ensure(where.bootstrap, where.prefix, topics=[RUNS, DEPLOYMENTS])
    await ensure(where.bootstrap, where.prefix, topics=[RUNS, DEPLOYMENTS])
    assert await partitions(where) == {"runs.v1": 3, "deployments.v1": 3}


async def test_several_at_once_all_succeed(where: Kafka) -> None:
    topics = [replace(RUNS, name=f"made-up-{number}.v1") for number in range(5)]
    await asyncio.gather(*(ensure(where.bootstrap, where.prefix, topics=topics) for _ in range(4)))
    assert await partitions(where) == {topic.name: 3 for topic in topics}


async def test_a_topic_that_breaks_promises_is_refused_with_every_difference(where: Kafka) -> None:
    await create(
        where,
        NewTopic(where.topic("runs.v1"), 2, 1, topic_configs={"cleanup.policy": "compact", "retention.ms": "-1"}),
        NewTopic(where.topic("deployments.v1"), 3, 1, topic_configs={"max.message.bytes": "1000"}),
    )
    with pytest.raises(FailedPrecondition) as caught:
        await ensure(where.bootstrap, where.prefix, topics=[RUNS, DEPLOYMENTS, TOPICS["rollouts.v1"]])
    assert caught.value.reason == "TOPIC_DIFFERS"
    told = caught.value.message
    for part in (
        f"{where.prefix}runs.v1: partitions: expected 3, has 2",
        f"{where.prefix}runs.v1: cleanup.policy: expected delete, has compact",
        f"{where.prefix}runs.v1: retention.ms: expected at most 31536000000, has -1",
        f"{where.prefix}deployments.v1: cleanup.policy: expected compact, has delete",
        f"{where.prefix}deployments.v1: max.message.bytes: expected at least 1048588, has 1000",
        "alter",
    ):
        assert part in told
    assert set(await partitions(where)) == {"runs.v1", "deployments.v1"}, "nothing half-done"


async def test_a_topic_that_was_made_meanwhile_is_looked_at_too(where: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not there when the broker was asked."""

    async def see_nothing(_: AIOKafkaAdminClient) -> list[str]:
        return []

    await create(where, NewTopic(where.topic("runs.v1"), 2, 1))
    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaAdminClient, "list_topics", see_nothing)
        with pytest.raises(FailedPrecondition, match="expected 3, has 2"):
            await ensure(where.bootstrap, where.prefix, topics=[RUNS, DEPLOYMENTS])
    assert await partitions(where) == {"runs.v1": 2, "deployments.v1": 3}


async def test_what_breaks_no_promise_is_the_operators_to_choose(where: Kafka) -> None:
    """Less time to keep, larger messages, whatever else."""
    chosen = {"retention.ms": "86400000", "max.message.bytes": "5000000", "segment.bytes": "1048576"}
    await create(where, NewTopic(where.topic("runs.v1"), 3, 1, topic_configs=chosen))
    await ensure(where.bootstrap, where.prefix, topics=[RUNS])
    [found] = (await configs(where, ["runs.v1"])).values()
    assert (found["retention.ms"], found["max.message.bytes"]) == ("86400000", "5000000")


async def test_what_the_broker_refuses_is_told_with_the_topic(where: Kafka) -> None:
    with pytest.raises(InvalidReplicationFactorError, match=rf"topic {where.prefix}runs\.v1: .*replication"):
        await ensure(where.bootstrap, where.prefix, replication=3, topics=[RUNS])


async def test_a_broker_that_is_away_is_told() -> None:
    with pytest.raises(KafkaConnectionError):
        await ensure(f"127.0.0.1:{free_port()}")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdtrue_events.topics", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_the_command_creates_them_and_says_what_differs(where: Kafka) -> None:
    arguments = ("--kafka", where.bootstrap, "--prefix", where.prefix)
    done = await asyncio.to_thread(run, *arguments)
    assert done.returncode == 0, done.stderr
    assert set(await partitions(where)) == set(TOPICS)
    other = f"other.{where.prefix}"
    await create(where, NewTopic(f"{other}runs.v1", 1, 1))
    done = await asyncio.to_thread(run, "--kafka", where.bootstrap, "--prefix", other)
    assert done.returncode == 1
    assert f"{other}runs.v1: partitions: expected 3, has 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
