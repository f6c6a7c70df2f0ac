"""Creating the topics of the catalogue: a step of the installation, since brokers do not create them by themselves."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from holdtrue_contracts.catalogue import DEAD_LETTERS, TOPICS, Topic

from .kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEAD_LETTER_BYTES = 2_000_000  # the largest original and the reasons
_POLL_SECONDS = 0.05
_log = structlog.stdlib.get_logger("holdtrue.topics")


async def ensure(
    kafka: str, prefix: str = "", replication: int = 1, topics: Iterable[Topic] = tuple(TOPICS.values())
) -> None:
    """Create the topics that are missing and wait until all can be used; what exists stays as it is.

    Raises KafkaError where the broker refuses.
    """
    where = Kafka(kafka, prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka, client_id="holdtrue-topics")
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics if where.topic(topic.name) not in existing]
        if missing:
            await _create(admin, [_new(topic, where, replication) for topic in missing])
        await _wait_for_leaders(admin, [where.topic(topic.name) for topic in missing])
    finally:
        await admin.close()
    _log.info("topics are ready", created=[topic.name for topic in missing])


def _new(topic: Topic, where: Kafka, replication: int) -> NewTopic:
    configs = {"cleanup.policy": topic.cleanup}
    if topic.retention is not None:
        configs["retention.ms"] = str(round(topic.retention.total_seconds() * 1000))
    if topic.name == DEAD_LETTERS:
        configs["max.message.bytes"] = str(_DEAD_LETTER_BYTES)
    return NewTopic(where.topic(topic.name), topic.partitions, replication, topic_configs=configs)


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> None:
    response = await admin.create_topics(topics)
    for name, code, text in cast("Any", response).topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another process was faster
            raise error(f"topic {name}: {text}")


async def _wait_for_leaders(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    while names:
        described = await admin.describe_topics(names)
        if all(not topic["error_code"] and all(p["leader"] >= 0 for p in topic["partitions"]) for topic in described):
            return
        await asyncio.sleep(_POLL_SECONDS)


def main() -> None:
    """Be the command `python -m holdtrue_events.topics --kafka HOST:PORT`."""
    parser = argparse.ArgumentParser(prog="python -m holdtrue_events.topics", description="Create the missing topics.")
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap address")
    parser.add_argument("--prefix", default="", help="put before the names of all topics")
    parser.add_argument("--replication", type=int, default=1, help="replicas of each partition")
    arguments = parser.parse_args()
    asyncio.run(ensure(arguments.kafka, arguments.prefix, arguments.replication))


if __name__ == "__main__":
    main()
