"""Creating the topics of the catalogue: a step of the installation, since brokers do not create them by themselves."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from holdtrue_contracts.catalogue import DEAD_LETTERS, TOPICS, Topic
from holdtrue_core.errors import FailedPrecondition

from .kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_MESSAGE_BYTES = 1_048_588  # the default of brokers: our largest batch and record are below it
_DEAD_LETTER_BYTES = 2_000_000  # the largest original and the reasons
_POLL_SECONDS = 0.05
_CHECKED = ("cleanup.policy", "retention.ms", "max.message.bytes")
_log = structlog.stdlib.get_logger("holdtrue.topics")


async def ensure(
    kafka: str, prefix: str = "", replication: int = 1, topics: Iterable[Topic] = tuple(TOPICS.values())
) -> None:
    """Create the topics that are missing and wait until all can be used; what exists stays as it is.

    Raises FailedPrecondition, and creates nothing, where one that exists would break a promise; KafkaError where the
    broker refuses.
    """
    where = Kafka(kafka, prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka, client_id="holdtrue-topics")
    await admin.start()
    try:
        known = set(await admin.list_topics())
        wanted = {where.topic(topic.name): topic for topic in topics}
        missing = {name: topic for name, topic in wanted.items() if name not in known}
        await _check(admin, {name: topic for name, topic in wanted.items() if name in known})
        if missing:
            taken = await _create(admin, [_new(name, topic, replication) for name, topic in missing.items()])
            await _described(admin, list(missing))
            await _check(admin, {name: missing[name] for name in taken})
    finally:
        await admin.close()
    _log.info("topics are ready", created=[topic.name for topic in missing.values()])


async def _check(admin: AIOKafkaAdminClient, topics: Mapping[str, Topic]) -> None:
    """Raise FailedPrecondition with every difference that matters."""
    if not topics:
        return
    partitions = {each["topic"]: len(each["partitions"]) for each in await _described(admin, list(topics))}
    configs = await _configs(admin, list(topics))
    faults = [
        f"topic {name}: {fault}"
        for name, topic in topics.items()
        for fault in _faults(topic, partitions[name], configs[name])
    ]
    if faults:
        text = "; ".join(faults) + ": alter what exists, or use another prefix or broker"
        raise FailedPrecondition(text, reason="TOPIC_DIFFERS")


def _faults(topic: Topic, partitions: int, configs: Mapping[str, str]) -> Iterator[str]:
    """Say what breaks a promise. To keep records less long, or to take larger ones, is their owner's choice."""
    if partitions != topic.partitions:
        yield f"partitions: expected {topic.partitions}, has {partitions}"
    if configs["cleanup.policy"] != topic.cleanup:
        yield f"cleanup.policy: expected {topic.cleanup}, has {configs['cleanup.policy']}"
    longest, kept = _retention(topic), int(configs["retention.ms"])
    if longest is not None and not 0 <= kept <= longest:  # the inbox would forget what can still come
        yield f"retention.ms: expected at most {longest}, has {kept}"
    least, taken = _bytes(topic), int(configs["max.message.bytes"])
    if taken < least:
        yield f"max.message.bytes: expected at least {least}, has {taken}"


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_CHECKED, "")) for name in names]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for code, text, _kind, name, entries, *_ in cast("Any", response).resources:
            if code:
                raise for_code(code)(f"topic {name}: {text}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _retention(topic: Topic) -> int | None:
    return None if topic.retention is None else round(topic.retention.total_seconds() * 1000)


def _bytes(topic: Topic) -> int:
    return _DEAD_LETTER_BYTES if topic.name == DEAD_LETTERS else _MESSAGE_BYTES


def _new(name: str, topic: Topic, replication: int) -> NewTopic:
    configs = {
        "cleanup.policy": topic.cleanup,
        "max.message.bytes": str(_bytes(topic)),
        "compression.type": "uncompressed",  # whatever a producer chose, every consumer can read it
    }
    if (retention := _retention(topic)) is not None:
        configs["retention.ms"] = str(retention)
    return NewTopic(name, topic.partitions, replication, topic_configs=configs)


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> list[str]:
    """Create topics; return the names for which another process was faster."""
    taken: list[str] = []
    response = await admin.create_topics(topics)
    for name, code, text in cast("Any", response).topic_errors:
        error = for_code(code)
        if error is TopicAlreadyExistsError:
            taken.append(name)
        elif code:
            raise error(f"topic {name}: {text}")
    return taken


async def _described(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    """Return what the broker says of topics once all their partitions can be used."""
    while True:
        described = await admin.describe_topics(names)
        if all(not topic["error_code"] and all(p["leader"] >= 0 for p in topic["partitions"]) for topic in described):
            return described
        await asyncio.sleep(_POLL_SECONDS)


def main() -> None:
    """Be the command `python -m holdtrue_events.topics --kafka HOST:PORT`."""
    parser = argparse.ArgumentParser(prog="python -m holdtrue_events.topics", description="Create the missing topics.")
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap address")
    parser.add_argument("--prefix", default="", help="put before the names of all topics")
    parser.add_argument("--replication", type=int, default=1, help="replicas of each partition")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # errors are told below, in a sentence
    try:
        asyncio.run(ensure(arguments.kafka, arguments.prefix, arguments.replication))
    except (FailedPrecondition, KafkaError) as error:
        sys.exit(f"Kafka at {arguments.kafka}: {error}")


if __name__ == "__main__":
    main()
