"""The deployer as its own process on real servers, and the rest of the platform played by published events."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from holdtrue_contracts.actor import local_person, service_actor
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.codec import Event, decode, encode, new_event
from holdtrue_contracts.columns import pack
from holdtrue_contracts.common.v1.measures_pb2 import MEASURE_KIND_REALISED, MEASURE_STATUS_OK, Measure
from holdtrue_contracts.deployer.v1.deployment_service_pb2 import (
    CreateDeploymentRequest,
    Deployment,
    GetDeploymentRequest,
    RolloutPolicy,
)
from holdtrue_contracts.deployer.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from holdtrue_contracts.inference.v1.replicas_pb2 import (
    LOAD_STATE_READY,
    DeploymentProgress,
    ReplicaState,
    RevisionState,
)
from holdtrue_contracts.monitor.v1.evaluations_pb2 import WindowEvaluated
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion, ModelVersionApproved
from holdtrue_core.channels import as_actor, channel
from holdtrue_core.health import check_health
from holdtrue_events.kafka import Kafka
from holdtrue_events.topics import ensure
from holdtrue_local.ports import free_port
from holdtrue_storage.provision import provision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    import grpc
    from google.protobuf.message import Message
    from holdtrue_contracts.deployer.v1.deployment_service_pb2_grpc import DeploymentServiceAsyncStub
    from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState

MODEL = "model-1"
NAME = "fraud"
PERSON = as_actor(local_person())
PATIENCE = 30.0
QUICK = RolloutPolicy(auto=True, auto_rollback=True, steps=[2_000], step_seconds=0.2, step_rows=1_000, bake_seconds=0.2)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Ask again until the condition gives something true; fail saying what never came."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := await condition():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE:g} s")


class Service:
    """One process of the deployer: started, killed, started again."""

    def __init__(self, environment: dict[str, str], port: int, log: Path) -> None:
        self._environment = environment
        self._log = log
        self.address = f"127.0.0.1:{port}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "holdtrue_deployer", env=os.environ | self._environment, stdout=log, stderr=log
            )
        await until(lambda: check_health(self.address, 1.0), f"the deployer is ready (log: {self._log.read_text()})")

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


@dataclass
class Platform:
    """What the test can see and do."""

    service: Service
    kafka: Kafka
    producer: AIOKafkaProducer
    stub: DeploymentServiceAsyncStub
    replica: Replica = field(init=False)

    async def publish(self, message: Message, event_id: str | None = None) -> None:
        record = encode(new_event(message, source="test", actor=service_actor("test"), event_id=event_id))
        await self.producer.send_and_wait(
            self.kafka.topic(record.topic), record.value, key=record.key, headers=list(record.headers)
        )

    async def events(self, topic: str) -> list[Event[Any]]:
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

    async def count(self, topic: str) -> int:
        """Records in a topic."""
        partitions = [TopicPartition(self.kafka.topic(topic), i) for i in range(TOPICS[topic].partitions)]
        async with self.kafka.consumer() as consumer:
            return sum((await consumer.end_offsets(partitions)).values())

    async def create(self, policy: RolloutPolicy = QUICK) -> Deployment:
        request = CreateDeploymentRequest(model_id=MODEL, model_name=NAME, policy=policy)
        answer = await self.stub.CreateDeployment(request, metadata=PERSON)
        return answer.deployment

    async def approve(self, version: int) -> None:
        made = ModelVersion(
            model_id=MODEL,
            name=NAME,
            version=version,
            manifest_digest=f"{version:064x}",
            artifact_digest=f"{version + 100:064x}",
            kind="onnx",
            threshold=0.5,
        )
        await self.publish(ModelVersionApproved(model_id=MODEL, model_version=made))

    async def get(self) -> Deployment:
        answer = await self.stub.GetDeployment(GetDeploymentRequest(deployment=NAME), metadata=PERSON)
        return answer.deployment

    async def reach(self, version: int, *states: int) -> Deployment:
        """Wait until the last rollout is of this version and in one of these states."""

        async def there() -> Deployment | None:
            now = await self.get()
            return now if now.rollout.to_version == version and now.rollout.state in states else None

        return await until(there, f"rollout of version {version} in {states}")

    async def evaluate(self, deployment: Deployment, version: int, **given: Any) -> None:
        """Say how a version did in the second before now."""
        revision = next(r.revision for r in deployment.state.revisions if r.model_version == version)
        await self.publish(window(deployment.state.deployment_id, revision, version, **given))

    async def feed(
        self,
        deployment: Deployment,
        old: int,
        new: int,
        done: Callable[[Deployment], bool],
        **bad: Any,
    ) -> Deployment:
        """Publish windows of both versions until the deployment is as wanted."""

        async def fed() -> Deployment | None:
            begin = time.time_ns()
            for version, given in ((old, {}), (new, bad)):
                if any(r.model_version == version and r.weight for r in deployment.state.revisions):
                    await self.evaluate(deployment, version, from_ns=begin, **given)
            now = await self.get()
            return now if done(now) else None

        return await until(fed, "the evaluations have their effect")


def window(  # noqa: PLR0913  a window has as many figures
    deployment_id: str,
    revision: str,
    version: int,
    *,
    from_ns: int,
    failed: int = 0,
    precision: float = 0.9,
    restatement: int = 0,
) -> WindowEvaluated:
    latency = np.zeros(64, np.uint32)
    latency[20] = 2_000 - failed
    right = round(1_000 * precision)
    realised = Measure(
        name="precision",
        kind=MEASURE_KIND_REALISED,
        n=1_000,
        sum=right,
        sum_squares=right,
        value=precision,
        status=MEASURE_STATUS_OK,
    )
    return WindowEvaluated(
        deployment_id=deployment_id,
        revision=revision,
        model_version=version,
        from_ns=from_ns,
        to_ns=from_ns + 1_000_000_000,
        restatement=restatement,
        all_segments=True,
        rows=2_000,
        labelled=2_000,
        answered=2_000 - failed,
        failed=failed,
        latency=pack(latency),
        measures=[realised],
    )


class Replica:
    """Serves whatever is desired, as inference would say it: follows deployments.v1, and reports."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._states: dict[str, DeploymentState] = {}
        self.frozen = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        kafka = self._platform.kafka
        topic = kafka.topic("deployments.v1")
        consumer = kafka.consumer()
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, i) for i in range(TOPICS["deployments.v1"].partitions)])
            while True:
                for records in (await consumer.getmany(timeout_ms=300)).values():
                    for record in records:
                        self._take(decode(record.key, record.value, record.headers).data)
                await self._report()
        finally:
            await consumer.stop()

    def _take(self, state: Any) -> None:
        known = self._states.get(state.deployment_id)
        if not self.frozen and (known is None or known.generation < state.generation):
            self._states[state.deployment_id] = state

    async def _report(self) -> None:
        state = ReplicaState(replica_id="replica-1", deployments=[_progress(s) for s in self._states.values()])
        state.heartbeat_at.GetCurrentTime()
        await self._platform.publish(state)

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


def _progress(state: DeploymentState) -> DeploymentProgress:
    ready = [RevisionState(revision=r.revision, state=LOAD_STATE_READY) for r in state.revisions]
    return DeploymentProgress(deployment_id=state.deployment_id, generation=state.generation, revisions=ready)


@pytest.fixture
async def platform(database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Platform]:
    await asyncio.gather(provision(database_dsn, "deployer"), ensure(kafka, topic_prefix))
    port = free_port()
    environment = {
        "GRPC_PORT": str(port),
        "METRICS_PORT": "0",
        "POSTGRES_DSN": database_dsn.replace("postgres@", "deployer@"),
        "KAFKA": kafka,
        "KAFKA_PREFIX": topic_prefix,
        "INSTANCE_ID": "deployer",
        "POLL_SECONDS": "0.1",
        "VERSION_WAIT_SECONDS": "2",
    }
    service = Service({f"HOLDTRUE_DEPLOYER_{k}": v for k, v in environment.items()}, port, tmp_path / "deployer.log")
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    await asyncio.gather(producer.start(), service.start())
    async with channel(service.address) as connection:
        platform = Platform(service, Kafka(kafka, topic_prefix), producer, DeploymentServiceStub(connection))
        platform.replica = Replica(platform)
        yield platform
        await platform.replica.stop()
    status = await service.stop()
    await producer.stop()
    assert status == 0, (tmp_path / "deployer.log").read_text()


def refused(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """What a refusal says."""
    return error.code(), error.details() or ""
