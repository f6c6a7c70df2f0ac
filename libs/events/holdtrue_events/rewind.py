"""Reading events again: moves the position of a consumer group to a point in time.

The inbox makes it harmless: what was handled has no second effect. The group must have no running member.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from aiokafka.errors import CommitFailedError, KafkaError
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_core.errors import FailedPrecondition

from .kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import TopicPartition


async def rewind(kafka: Kafka, group: str, topics: Sequence[str], since: datetime) -> Mapping[TopicPartition, int]:
    """Let `group` go on at the first record since then of each partition; return these offsets.

    Names are without prefix, `since` has a time zone. Raises FailedPrecondition while the group has members.
    """
    offsets = await _offsets(kafka, topics, since)
    consumer = kafka.consumer(group=group)
    consumer.assign(list(offsets))
    try:
        await consumer.start()
        await consumer.commit(offsets)
    except CommitFailedError as error:
        text = f"group {group} has running members: stop them, rewind, start them again"
        raise FailedPrecondition(text, reason="GROUP_ACTIVE") from error
    finally:
        await consumer.stop()
    return offsets


async def _offsets(kafka: Kafka, topics: Sequence[str], since: datetime) -> Mapping[TopicPartition, int]:
    consumer = kafka.consumer(*(kafka.topic(topic) for topic in topics))
    try:
        await consumer.start()
        partitions = consumer.assignment()
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, round(since.timestamp() * 1000)))
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return {place: ends[place] if (first := found[place]) is None else first.offset for place in partitions}


def main() -> None:
    """Be the command `python -m holdtrue_events.rewind --kafka HOST:PORT --group GROUP --since TIME TOPIC…`."""
    parser = argparse.ArgumentParser(prog="python -m holdtrue_events.rewind", description=__doc__)
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap address")
    parser.add_argument("--prefix", default="", help="put before the names of topics and groups")
    parser.add_argument("--group", required=True, help="consumer group whose members are stopped")
    parser.add_argument("--since", required=True, type=_time, help="ISO 8601, local time unless it says otherwise")
    parser.add_argument("topics", nargs="+", choices=sorted(TOPICS), metavar="TOPIC", help="for example runs.v1")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # errors are told below, in a sentence
    try:
        where = Kafka(arguments.kafka, arguments.prefix)
        offsets = asyncio.run(rewind(where, arguments.group, arguments.topics, arguments.since))
    except FailedPrecondition as error:
        sys.exit(error.message)
    except KafkaError as error:
        sys.exit(f"Kafka at {arguments.kafka}: {error}")
    for place, offset in sorted(offsets.items()):
        sys.stdout.write(f"{place.topic} partition {place.partition}: from offset {offset}\n")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


if __name__ == "__main__":
    main()
