"""A consumer that kills itself with SIGKILL where it hurts most.

`crashing_react.py DSN BOOTSTRAP PREFIX PLACE COUNT`: at the COUNTth time at the PLACE: `effect` (made, not committed),
`committed` (in the database, its offset not), `offset` (committed, too), or never. The rest is the real consumer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from holdtrue_contracts.trainer.v1.runs_pb2 import RunRequested
from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import Outbox
from holdtrue_events.react import React, subscribes
from holdtrue_storage.database import Database

from tests.component.events.harness import SCHEMA, on_run_requested

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from holdtrue_contracts.codec import Event
    from holdtrue_events.outbox import Transaction

PLACE, COUNT = sys.argv[4], int(sys.argv[5])
passed = 0


def at(place: str) -> None:
    """Die if it is time to."""
    global passed  # noqa: PLW0603  a process has one life
    passed += place == PLACE
    if passed == COUNT:
        os.kill(os.getpid(), signal.SIGKILL)


class CrashingReact(React):
    async def _commit(self, consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
        at("committed")
        await super()._commit(consumer, offsets)
        at("offset")


@subscribes(RunRequested)
async def handle(event: Event[RunRequested], tx: Transaction) -> None:
    await on_run_requested(event, tx)
    at("effect")


async def consume(dsn: str, bootstrap: str, prefix: str) -> None:
    database = Database(dsn, SCHEMA)
    await database.open()
    kafka = Kafka(bootstrap, prefix, instance_id="service-0")
    await CrashingReact(Outbox(database, f"holdtrue/{SCHEMA}"), kafka, "group", [handle]).run()


if __name__ == "__main__":
    asyncio.run(consume(*sys.argv[1:4]))
