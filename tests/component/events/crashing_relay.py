"""A relay that kills itself with SIGKILL between send and delete: Kafka has a batch, the outbox still has its rows.

`crashing_relay.py DSN BOOTSTRAP PREFIX`; everything but the end is the real relay.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import Outbox
from holdtrue_events.relay import Relay
from holdtrue_storage.database import Database

if TYPE_CHECKING:
    from aiokafka.errors import KafkaError

SCHEMA = "service"


class CrashingRelay(Relay):
    async def _landed(self) -> tuple[list[int], KafkaError | None]:
        acknowledged, error = await super()._landed()
        if acknowledged:
            os.kill(os.getpid(), signal.SIGKILL)
        return acknowledged, error


async def relay(dsn: str, bootstrap: str, prefix: str) -> None:
    database = Database(dsn, SCHEMA)
    await database.open()
    await CrashingRelay(Outbox(database, f"holdtrue/{SCHEMA}"), Kafka(bootstrap, prefix)).run()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:]))
