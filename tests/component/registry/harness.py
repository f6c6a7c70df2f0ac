"""A registry process of its own, and a producer of records with a ledger."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.codec import Event, decode, encode, new_event
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema, RecordsOffered
from holdtrue_contracts.registry.v1.model_service_pb2_grpc import ModelServiceStub
from holdtrue_core.ids import uuid7
from holdtrue_core.rpc import channel, check_health

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from google.protobuf.message import Message

PRODUCER = Actor("default", "sensor", ActorKind.PRODUCER)
START_SECONDS = 30


def schema() -> DatasetSchema:
    return DatasetSchema(
        columns=[ColumnSpec(name="amount", dtype="float32"), ColumnSpec(name="fraud", dtype="int64")],
        label="fraud",
        time="at",
    )


class Registry:
    """One process; `start` again after `kill` for the next life."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.address = f"127.0.0.1:{environment['HOLDTRUE_REGISTRY_GRPC_PORT']}"

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "holdtrue_registry", env=os.environ | self.environment, stderr=log
            )

    async def ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            while not await check_health(self.address, 1.0):
                assert self._process is not None
                assert self._process.returncode is None, self._log.read_text()[-5000:]
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        await self.ready()
        self.channel = channel(self.address)
        self.datasets = DatasetServiceStub(self.channel)
        self.models = ModelServiceStub(self.channel)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.channel.close()
        await self.kill()


class Topics:
    """What a test says to Kafka and hears from it, without prefixes."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._bootstrap = bootstrap
        self.prefix = prefix

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        await self._producer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._producer.stop()

    async def send_event(self, message: Message, actor: Actor = PRODUCER) -> None:
        record = encode(new_event(message, source="test", actor=actor))
        await self.send(record.topic, record.key, record.value, list(record.headers))

    async def send(self, topic: str, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]) -> Any:
        return await self._producer.send_and_wait(self.prefix + topic, value, key, headers=headers)

    async def records(self, topic: str) -> list[Any]:
        """Everything that is on the topic now."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="earliest")
        consumer.subscribe([self.prefix + topic])
        async with consumer:
            while not consumer.assignment():
                await asyncio.sleep(0.01)
            ends = await consumer.end_offsets(consumer.assignment())
            found: list[Any] = []
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
            return found

    async def events(self, topic: str) -> list[Event[Any]]:
        return [decode(record.key, record.value, record.headers) for record in await self.records(topic)]

    async def wait_for(self, topic: str, count: int, kind: type[Message]) -> list[Event[Any]]:
        """Return the events of a kind when there are so many."""
        async with asyncio.timeout(30):
            while True:
                found = [event for event in await self.events(topic) if isinstance(event.data, kind)]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.1)


def offered(dataset_id: str, records: list[dict[str, Any]], batch_id: str = "") -> RecordsOffered:
    return RecordsOffered(
        dataset_id=dataset_id,
        batch_id=batch_id or uuid7(),
        format=RECORD_FORMAT_JSON_LINES,
        rows=len(records),
        inline="\n".join(json.dumps(record) for record in records).encode(),
    )
