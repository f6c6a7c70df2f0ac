"""A registry process of its own, and a producer of records with a ledger."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.codec import Event, decode, encode, new_event
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    Dataset,
    PublishVersionRequest,
    PublishVersionResponse,
)
from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema, RecordsOffered
from holdtrue_contracts.registry.v1.model_service_pb2_grpc import ModelServiceStub
from holdtrue_core.errors import from_rpc_error
from holdtrue_core.ids import uuid7
from holdtrue_core.rpc import channel, check_health
from holdtrue_storage.blobs import DirectoryBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from typing import Self

    from aiokafka import RecordMetadata
    from google.protobuf.message import Message
    from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceAsyncStub
    from holdtrue_contracts.registry.v1.model_service_pb2_grpc import ModelServiceAsyncStub

PRODUCER = Actor("default", "sensor", ActorKind.PRODUCER)
START_SECONDS = 60
DOCS = Path(__file__).parents[3] / "docs"


def schema() -> DatasetSchema:
    return DatasetSchema(
        columns=[ColumnSpec(name="amount", dtype="float32"), ColumnSpec(name="fraud", dtype="int64")],
        label="fraud",
        time="at",
    )


class Process:
    """A registry process; `start` again after its end for the next life."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, crash: str = "") -> None:
        """Start it; `crash` makes it kill itself, see crashing_registry.py."""
        program = [str(Path(__file__).with_name("crashing_registry.py"))] if crash else ["-m", "holdtrue_registry"]
        environment = os.environ | self.environment | ({"HOLDTRUE_TEST_CRASH": crash} if crash else {})
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, *program], env=environment, stderr=log)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def alive(self) -> bool:
        return self.running.poll() is None

    def kill(self) -> None:
        self.running.kill()
        self.running.wait()

    async def stop(self) -> int:
        self.running.terminate()
        return await asyncio.to_thread(self.running.wait, 30)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Registry]:
        """Connect when it is ready."""
        address = f"127.0.0.1:{self.environment['HOLDTRUE_REGISTRY_GRPC_PORT']}"
        async with asyncio.timeout(START_SECONDS):
            while not await check_health(address, 1.0):
                assert self.alive, self._log.read_text()[-5000:]
        connection = channel(address)
        try:
            yield Registry(self, DatasetServiceStub(connection), ModelServiceStub(connection))
        finally:
            await connection.close()


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


def run_page(page: str, holdtrue: Callable[[str], Done], folder: Path, name: str) -> list[str]:
    """Run every command line of a page of the docs, for a dataset of the test's own."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    for line in lines:
        command, _, target = line.removeprefix("./holdtrue ").partition(" > ")
        done = holdtrue(command.replace("payments", name))
        assert done.code == 0, (line, done.err)
        if target:
            (folder / target).write_text(done.out)
    return lines


@dataclass(frozen=True)
class Registry:
    """A process and the calls that it answers."""

    process: Process
    datasets: DatasetServiceAsyncStub
    models: ModelServiceAsyncStub

    @property
    def lake(self) -> Path:
        return Path(self.process.environment["HOLDTRUE_REGISTRY_LAKE"])

    @property
    def blobs(self) -> DirectoryBlobs:
        return DirectoryBlobs(Path(self.process.environment["HOLDTRUE_REGISTRY_BLOBS"]))


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

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> RecordMetadata:
        return await self._producer.send_and_wait(self.prefix + topic, value, key, headers=list(headers))

    async def records(self, topic: str, count: int = 0) -> list[Any]:
        """Everything that is on the topic now; `count`: its partitions, if not as many as the catalogue says."""
        async with AIOKafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="earliest") as consumer:
            partitions = [
                TopicPartition(self.prefix + topic, index) for index in range(count or TOPICS[topic].partitions)
            ]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[Any] = []
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
            return found

    async def events(self, topic: str) -> list[Event[Any]]:
        return [decode(record.key, record.value, record.headers) for record in await self.records(topic)]

    async def wait_for(self, topic: str, count: int, kind: type[Message], subject: str) -> list[Event[Any]]:
        """Return the events of a kind about an object when there are so many."""
        async with asyncio.timeout(30):
            while True:
                found = [
                    event
                    for event in await self.events(topic)
                    if isinstance(event.data, kind) and event.subject == subject
                ]
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


async def create(registry: Registry, name: str = "", version_rows: int = 0) -> Dataset:
    request = CreateDatasetRequest(name=name or f"payments-{uuid7()}", schema=schema(), version_rows=version_rows)
    return (await registry.datasets.CreateDataset(request)).dataset


async def publish(registry: Registry, dataset: Dataset, batch_ids: list[str]) -> PublishVersionResponse:
    request = PublishVersionRequest(dataset=dataset.name, batch_ids=batch_ids)
    return await registry.datasets.PublishVersion(request, timeout=60)


async def error_of(call: Awaitable[object]) -> Exception:
    with pytest.raises(grpc.RpcError) as raised:
        await call
    return from_rpc_error(raised.value)
