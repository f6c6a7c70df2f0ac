"""The inference service as a process, and the other end of its topics."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from holdtrue_contracts import catalogue, codec, prediction_id
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.columns import unpack
from holdtrue_contracts.ids import uuid_text
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.inference.v1.replicas_pb2 import ReplicaState
from holdtrue_contracts.oip import client
from holdtrue_core.errors import HoldtrueError, from_rpc_error
from holdtrue_core.health import check_health
from holdtrue_events.topics import ensure
from holdtrue_local.ports import free_port

from tests.inference.models import WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from google.protobuf.message import Message
    from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
    from holdtrue_events.kafka import Kafka

TOPICS = ("deployments.v1", "replicas.v1", "predictions.v1")


class Service:
    """One inference process on a folder."""

    def __init__(self, folder: Path, kafka: Kafka, starter: Sequence[str] = (), **settings: object) -> None:
        self.folder = folder
        self._starter = starter
        self.port = free_port()
        self.log = folder / "log"
        self._settings = {
            "grpc_port": self.port,
            "metrics_port": 0,
            "kafka": kafka.bootstrap,
            "kafka_prefix": kafka.prefix,
            "blobs": folder / "blobs",
            "cache": folder / "cache",
            "heartbeat_seconds": 0.5,
            "drain_seconds": 5,
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it says that it serves."""
        environment = {f"HOLDTRUE_INFERENCE_{name.upper()}": str(value) for name, value in self._settings.items()}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self._starter, sys.executable, "-m", "holdtrue_inference"),
                env={**os.environ, **environment},
                stderr=log,
            )
        async with asyncio.timeout(90):
            while not await check_health(self.address, timeout=0.5):
                assert self._process.returncode is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.05)

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._process is None else self._process.returncode

    async def stop(self) -> int:
        """SIGTERM; return the exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return await self._process.wait()


@dataclass
class Answered:
    """What callers were told."""

    ids: list[str] = field(default_factory=list[str])
    revisions: Counter[str] = field(default_factory=Counter[str])
    failures: list[grpc.aio.AioRpcError] = field(default_factory=list[grpc.aio.AioRpcError])


class Load:
    """Callers that ask until they are stopped, by default without a pause."""

    def __init__(self, address: str, model: str = "fraud", callers: int = 8, pause: float = 0.0) -> None:
        self.answered = Answered()
        self._address, self._model, self._callers, self._pause = address, model, callers, pause
        self._stopping = False

    async def __aenter__(self) -> Answered:
        self._channel = grpc.aio.insecure_channel(self._address)
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(self._callers)]
        return self.answered

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)
        await self._channel.close()

    async def _call(self, number: int) -> None:
        infer = client.method(self._channel, "ModelInfer")
        random = np.random.default_rng(number)
        while not self._stopping:
            rows = random.normal(size=(int(random.integers(1, 4)), WIDTH)).astype(np.float32)
            try:
                reply = client.read_reply(await infer(client.infer_request(self._model, {"X": rows}), timeout=30))
            except grpc.aio.AioRpcError as error:
                self.answered.failures.append(error)
                await asyncio.sleep(0.02)
            else:
                self.answered.ids += reply.prediction_ids
                self.answered.revisions[reply.revision] += 1
            if self._pause:
                await asyncio.sleep(self._pause)


async def ask(service: Service, model: str = "fraud") -> client.Reply:
    """Ask for one row."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        request = client.infer_request(model, {"X": np.zeros((1, WIDTH), np.float32)})
        return client.read_reply(await client.method(channel, "ModelInfer")(request, timeout=30))


async def ask_until_answered(service: Service) -> client.Reply:
    """Ask until the spool has room."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await ask(service)
            except grpc.aio.AioRpcError as error:
                if from_rpc_error(error).reason != "SPOOL_FULL":
                    raise


async def refused(load: Answered) -> HoldtrueError:
    """Wait until a caller is refused; how."""
    async with asyncio.timeout(60):
        while not load.failures:
            await asyncio.sleep(0.005)
    return from_rpc_error(load.failures[0])


async def topics(kafka: Kafka) -> None:
    """Create what inference speaks to."""
    await ensure(kafka.bootstrap, kafka.prefix, topics=[catalogue.TOPICS[name] for name in TOPICS])


async def publish(kafka: Kafka, state: DeploymentState) -> None:
    """Be the deployer: put a desired state on the compacted topic."""
    record = codec.encode(codec.new_event(state, source="test", actor=service_actor("deployer")))
    producer = kafka.producer()
    await producer.start()
    try:
        await producer.send_and_wait(kafka.topic(record.topic), record.value, record.key, headers=list(record.headers))
    finally:
        await producer.stop()


async def read(kafka: Kafka, topic: str) -> list[tuple[int, codec.Event[Message] | None]]:
    """All events of a topic until its present end, with their partitions; None for a tombstone."""
    consumer = kafka.consumer(kafka.topic(topic))
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[tuple[int, Any]] = []
        positions = dict.fromkeys(ends, 0)
        while any(positions[partition] < end for partition, end in ends.items()):
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                positions[partition] = records[-1].offset + 1
                found += [
                    (
                        record.partition,
                        None if record.value is None else codec.decode(record.key, record.value, record.headers),
                    )
                    for record in records
                ]
        return found
    finally:
        await consumer.stop()


async def predictions(kafka: Kafka) -> list[PredictionsServed]:
    """All records of the prediction log as a consumer keeps them: resends dropped by partition, spool and sequence."""
    last: dict[tuple[int, str], int] = {}
    kept: list[PredictionsServed] = []
    for partition, event in await read(kafka, "predictions.v1"):
        assert event is not None
        assert isinstance(event.data, PredictionsServed)
        key = partition, event.data.spool_id
        if event.data.sequence > last.get(key, 0):
            last[key] = event.data.sequence
            kept.append(event.data)
    return kept


def ids_of(records: Sequence[PredictionsServed]) -> list[str]:
    """Every prediction id in the records."""
    found: list[str] = []
    for record in records:
        requests = [record.request_ids[16 * i : 16 * i + 16] for i in range(len(record.request_ids) // 16)]
        counts = unpack(record.request_rows, np.uint32, 1)
        tails = unpack(record.tails, np.uint64, 1)
        owners = np.repeat(np.arange(len(requests)), counts)
        found += [
            f"{uuid_text(requests[o])}/{prediction_id.tail_text(int(t))}" for o, t in zip(owners, tails, strict=True)
        ]
    return found


async def answers_of(load: Answered, revision: str, more: int = 1) -> None:
    """Wait until callers got so many more answers of a revision."""
    before = load.revisions[revision]
    async with asyncio.timeout(60):
        while load.revisions[revision] < before + more:
            await asyncio.sleep(0.005)


async def arrived(kafka: Kafka, ids: set[str]) -> None:
    """Wait until Kafka has all of these predictions."""
    async with asyncio.timeout(60):
        while not ids <= set(ids_of(await predictions(kafka))):
            await asyncio.sleep(0.05)


async def served(kafka: Kafka, replica_generation: int, name: str = "fraud") -> ReplicaState:
    """Wait until a replica says that it serves that generation of a deployment; return what it said."""
    async with asyncio.timeout(60):
        while True:
            for _, event in await read(kafka, "replicas.v1"):
                if event is not None and isinstance(event.data, ReplicaState):
                    for deployment in event.data.deployments:
                        if deployment.deployment_id == f"id-of-{name}" and deployment.generation >= replica_generation:
                            return event.data
            await asyncio.sleep(0.05)
