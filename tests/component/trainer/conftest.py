"""The trainer as its own process on real servers, and the rest of the platform played by published events."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from holdtrue_contracts.actor import local_person, service_actor
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.codec import Event, decode, encode, new_event
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.deployer.v1.deployments_pb2 import ROLE_CHAMPION, DeploymentState, Revision
from holdtrue_contracts.monitor.v1.alerts_pb2 import SEVERITY_CRITICAL, Alert, AlertRaised, RetrainEvidence
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DATASET_VERSION_STATUS_PUBLISHED,
    RECORD_FORMAT_JSON_LINES,
    CommitRange,
    DatasetSchema,
    DatasetVersionPublished,
)
from holdtrue_contracts.trainer.v1 import trainer_service_pb2 as pb
from holdtrue_contracts.trainer.v1.trainer_service_pb2_grpc import TrainerServiceStub
from holdtrue_core.channels import as_actor, channel
from holdtrue_core.health import check_health
from holdtrue_core.ids import uuid7
from holdtrue_events.kafka import Kafka
from holdtrue_events.topics import ensure
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.validation import validate
from holdtrue_local.ports import free_port
from holdtrue_storage.blobs import DirectoryBlobs
from holdtrue_storage.provision import provision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from google.protobuf.message import Message
    from holdtrue_contracts.trainer.v1.runs_pb2 import RunSucceeded
    from holdtrue_contracts.trainer.v1.trainer_service_pb2_grpc import TrainerServiceAsyncStub

MODEL, NAME = "model-1", "fraud"
DEPLOYMENT = "deployment-1"
PERSON = as_actor(local_person())
PATIENCE = 60.0
SECOND = 1_000_000_000
BEGIN = 1_700_000_000
BOOSTED = "estimator: GradientBoostingClassifier\nparameters: {n_estimators: 400}\n"
"""Trains for so long that a test can do something meanwhile."""
SLOW = "estimator: GradientBoostingClassifier\nparameters: {n_estimators: 20000}\n"
"""Trains until it is cancelled."""
SCHEMA = DatasetSchema(
    columns=[
        *(ColumnSpec(name=name, dtype="float32") for name in ("amount", "hour")),
        ColumnSpec(name="y", dtype="int64"),
    ],
    label="y",
    time="at",
)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Ask again until the condition gives something true; fail saying what never came."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := await condition():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE:g} s")


class Service:
    """One process of the trainer: started, killed, started again."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = {f"HOLDTRUE_TRAINER_{key}": value for key, value in environment.items()}
        self._log = log
        self.address = f"127.0.0.1:{environment['GRPC_PORT']}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "holdtrue_trainer", env=os.environ | self._environment, stdout=log, stderr=log
            )
        await until(lambda: check_health(self.address, 1.0), f"the trainer is ready (log: {self._log})")

    async def kill(self) -> None:
        assert self.process
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """End it as a supervisor does; return the exit status."""
        assert self.process
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()


def lines(first: int, n: int, *, flipped: bool) -> bytes:
    """Rows of events `first` to `first + n`, one a second, as JSON lines; the label follows the amount."""
    random = np.random.default_rng(first)
    amount, hour = random.normal(size=n), random.uniform(0, 24, n)
    y = random.random(n) < 1 / (1 + np.exp((4 if flipped else -4) * amount))
    rows = (
        f'{{"amount": {a:.6f}, "hour": {h:.3f}, "y": {int(label)}, "at": {BEGIN + first + i}}}'
        for i, (a, h, label) in enumerate(zip(amount, hour, y, strict=True))
    )
    return "\n".join(rows).encode()


@dataclass
class Data:
    """A dataset as the registry would keep it: rows in the lake, versions of all rows so far."""

    root: Path
    dataset_id: str = field(default_factory=uuid7)
    name: str = "payments"
    rows: int = 0
    commits: int = 0

    def grow(self, n: int, *, flipped: bool = False) -> DatasetVersionPublished:
        """Append n rows in one commit; return the version that holds everything."""
        table = DatasetTable(self.root, self.dataset_id, SCHEMA)
        now = datetime.now(UTC)
        content = validate(SCHEMA, lines(self.rows, n, flipped=flipped), RECORD_FORMAT_JSON_LINES, now)
        table.ingest(Source("cluster", "topic", 0), [Offer(self.commits, uuid7(), content)], now)
        self.rows, self.commits = self.rows + n, self.commits + 1
        return DatasetVersionPublished(
            dataset_id=self.dataset_id,
            name=self.name,
            version=self.commits,
            digest="d" * 64,
            rows=self.rows,
            ranges=[CommitRange(first=0, last=self.commits - 1)],
            schema=SCHEMA,
            status=DATASET_VERSION_STATUS_PUBLISHED,
            from_ns=BEGIN * SECOND,
            to_ns=(BEGIN + self.rows - 1) * SECOND,
        )


@dataclass
class Platform:
    """What the test can see and do."""

    service: Service
    kafka: Kafka
    producer: AIOKafkaProducer
    stub: TrainerServiceAsyncStub
    data: Data
    blobs: DirectoryBlobs

    async def publish(self, message: Message) -> None:
        record = encode(new_event(message, source="test", actor=service_actor("test")))
        await self.producer.send_and_wait(
            self.kafka.topic(record.topic), record.value, key=record.key, headers=list(record.headers)
        )

    async def events(self, topic: str = "runs.v1") -> list[Event[Any]]:
        """Everything in a topic, each event once; per key in order."""
        partitions = [TopicPartition(self.kafka.topic(topic), i) for i in range(TOPICS[topic].partitions)]
        consumer = self.kafka.consumer()
        await consumer.start()
        try:
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found: dict[str, Event[Any]] = {}
            for partition, end in ends.items():
                while await consumer.position(partition) < end:
                    for record in (await consumer.getmany(partition, timeout_ms=200)).get(partition, []):
                        event = decode(record.key, record.value, record.headers)
                        found[event.id] = event
            return list(found.values())
        finally:
            await consumer.stop()

    async def names(self) -> list[str]:
        """The events of runs.v1 by name, in order."""
        return [event.type.rpartition(".")[2] for event in await self.events()]

    async def submit(self, **changes: Any) -> pb.Run:
        usual: dict[str, Any] = {"model_id": MODEL, "model_name": NAME, "dataset": self.data.name, "recipe": "logistic"}
        answer = await self.stub.SubmitRun(pb.SubmitRunRequest(**usual | changes), metadata=PERSON)
        return answer.run

    async def cancel(self, run_id: str) -> None:
        """End a run whose end does not matter."""
        request = pb.CancelRunRequest(run_id=run_id, reason="no longer wanted")
        await self.stub.CancelRun(request, metadata=PERSON)

    async def get(self, run_id: str) -> pb.Run:
        return (await self.stub.GetRun(pb.GetRunRequest(run_id=run_id), metadata=PERSON)).run

    async def runs(self) -> list[pb.Run]:
        return list((await self.stub.ListRuns(pb.ListRunsRequest(), metadata=PERSON)).runs)

    async def reach(self, run_id: str, *states: int, stage: str = "") -> pb.Run:
        """Wait until a run is in one of these states, and at this stage."""

        async def there() -> pb.Run | None:
            run = await self.get(run_id)
            return run if run.state in states and stage in {"", run.stage} else None

        return await until(there, f"run {run_id} in {states} {stage}")

    async def decision(self, words: str) -> str:
        """Wait until the policy's last decision says these words."""

        async def there() -> str:
            request = pb.GetRetrainingPolicyRequest(model_id=MODEL)
            answer = await self.stub.GetRetrainingPolicy(request, metadata=PERSON)
            return answer.last_decision if words in answer.last_decision else ""

        return await until(there, f"the decision says {words!r}")

    async def deploy(self, version: int, result: RunSucceeded, generation: int = 1) -> None:
        """Say that a candidate has become champion."""
        champion = Revision(
            revision=f"revision-{version}",
            model_version=version,
            manifest_digest=result.manifest_digest,
            artifact_digest=result.artifact_digest,
            kind=result.kind,
            role=ROLE_CHAMPION,
            weight=10_000,
            threshold=result.threshold,
        )
        await self.publish(
            DeploymentState(
                deployment_id=DEPLOYMENT,
                name=NAME,
                model_id=MODEL,
                model_name=NAME,
                generation=generation,
                revisions=[champion],
            )
        )

    async def alarm(self, version: int, first_bad_row: int, alert_id: str = "alert-1") -> None:
        """Say that realised precision of a version is below its floor since a row."""
        alert = Alert(
            alert_id=alert_id,
            alert_key=f"default/{DEPLOYMENT}/revision-{version}/performance.realised/",
            kind="performance.realised",
            severity=SEVERITY_CRITICAL,
            deployment_id=DEPLOYMENT,
            model_id=MODEL,
            model_version=version,
            first_bad_window_ns=(BEGIN + first_bad_row) * SECOND,
            retrain_evidence=RetrainEvidence(realised_breach=True),
        )
        await self.publish(AlertRaised(alert_key=alert.alert_key, alert=alert))

    async def put_policy(self, **changes: Any) -> None:
        """Set a policy that does not rest for long."""
        usual: dict[str, Any] = {
            "model_id": MODEL,
            "dataset_id": self.data.dataset_id,
            "on_precision": True,
            "cool_down_seconds": 1,
            "runs_per_day": 10,
            "min_new_labels": 500,
        }
        policy = pb.RetrainingPolicy(**usual | changes)
        await self.stub.PutRetrainingPolicy(pb.PutRetrainingPolicyRequest(policy=policy), metadata=PERSON)


@pytest.fixture
async def platform(database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Platform]:
    await asyncio.gather(provision(database_dsn, "trainer"), ensure(kafka, topic_prefix))
    environment = {
        "GRPC_PORT": str(free_port()),
        "METRICS_PORT": "0",
        "POSTGRES_DSN": database_dsn.replace("postgres@", "trainer@"),
        "KAFKA": kafka,
        "KAFKA_PREFIX": topic_prefix,
        "INSTANCE_ID": "trainer",
        "BLOBS": str(tmp_path / "blobs"),
        "LAKE": str(tmp_path / "lake"),
        "LEASE_SECONDS": "2",
        "DATASET_WAIT_SECONDS": "1",
    }
    service = Service(environment, tmp_path / "trainer.log")
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    await asyncio.gather(producer.start(), service.start())
    async with channel(service.address) as connection:
        bus, data = Kafka(kafka, topic_prefix), Data(tmp_path / "lake")
        blobs = DirectoryBlobs(tmp_path / "blobs")
        yield Platform(service, bus, producer, TrainerServiceStub(connection), data, blobs)
    status = await service.stop()
    await producer.stop()
    assert status == 0, (tmp_path / "trainer.log").read_text()
