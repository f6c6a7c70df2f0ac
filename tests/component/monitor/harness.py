"""The monitor as its own process on real servers; inference, deployer and registry are played by published events."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import numpy as np
from aiokafka import AIOKafkaProducer, TopicPartition
from holdtrue_contracts.actor import local_person, service_actor
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.codec import Event, decode, encode, new_event
from holdtrue_contracts.columns import pack, pack_texts
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.deployer.v1.deployments_pb2 import ROLE_CHAMPION, DeploymentState, Revision
from holdtrue_contracts.ids import uuid7, uuid7_bytes
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.monitor.v1.labels_pb2 import LabelsObserved
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import EvaluateSpanRequest, RevisionHealth
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import (
    AlertServiceStub,
    LabelServiceStub,
    MonitoringServiceStub,
)
from holdtrue_contracts.prediction_id import label_shard, score_code, tails_of_requests, text
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion, ModelVersionValidated
from holdtrue_contracts.trainer.v1.profile_pb2 import ReferenceProfile
from holdtrue_core.channels import as_actor, channel
from holdtrue_core.health import check_health
from holdtrue_local.ports import free_port
from holdtrue_stats.calibration import fit_isotonic, score_bin
from holdtrue_stats.histogram import State, fold, freeze
from holdtrue_storage.blobs import DirectoryBlobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from google.protobuf.message import Message
    from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import (
        AlertServiceAsyncStub,
        LabelServiceAsyncStub,
        MonitoringServiceAsyncStub,
    )
    from holdtrue_events.kafka import Kafka
    from holdtrue_stats.arrays import Floats

DEPLOYMENT, NAME, MODEL, REVISION = "deployment-1", "fraud", "model-1", "revision-1"
SLOT, ID_KEY, THRESHOLD = 11, 0xDEADBEEF12345678, 0.5
WINDOW_NS = 1_000_000_000
COLUMNS = 3
PERSON = as_actor(local_person())
PATIENCE = 60.0


async def until(condition: Callable[[], Awaitable[Any]], what: str, patience: float = PATIENCE) -> Any:
    """Ask again until the condition gives something true; fail saying what never came."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := await condition():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: not within {patience:g} s")


def profile(seed: int = 1) -> ReferenceProfile:
    """The profile of a model whose scores are the true probabilities, from 6,000 hold-out rows."""
    g = np.random.default_rng(seed)
    x = g.normal(0, 1, (6000, COLUMNS))
    score = g.beta(1, 1, 6000)
    y = g.random(6000) < score
    flagged = score >= THRESHOLD
    edges = freeze(x)
    table = fit_isotonic(score, y).table()
    histogram = np.zeros((2, 1024), np.int64)
    np.add.at(histogram, (flagged.astype(int), score_bin(score)), 1)
    return ReferenceProfile(
        columns=[ColumnSpec(name=f"c{i}", dtype="float32") for i in range(COLUMNS)],
        state=fold(edges, x, State.empty(edges)).to_bytes(),
        edges=edges.to_bytes(),
        rows=len(x),
        score_histogram=pack(histogram),
        calibration=pack(table.p),
        calibration_blocks=pack(table.blocks.astype(np.int32)),
        block_labels=pack(table.labels.astype(np.int64)),
        importances=pack(np.array([0.5, 0.3, 0.2])),
        precision=float(y[flagged].mean()),
        base_rate=float(y.mean()),
        threshold=THRESHOLD,
    )


@dataclass(frozen=True)
class Batch:
    """Predictions of one record and what is true of them."""

    message: PredictionsServed
    ids: list[str]
    scores: Floats
    starts: list[int]

    @property
    def flagged(self) -> list[bool]:
        return [bool(s >= THRESHOLD) for s in self.scores]


@dataclass
class Inference:
    """Plays the inference service: makes records of predictions as it does."""

    seed: int = 5
    spool_id: str = field(default_factory=uuid7)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def batch(  # noqa: PLR0913  what a test may want to be different
        self,
        requests: int = 20,
        *,
        at_ns: int | None = None,
        shift: float = 0.0,
        externals: Sequence[str] = (),
        rows: int = 3,
        revision: str = REVISION,
        slot: int = SLOT,
        version: int = 1,
    ) -> Batch:
        self.sequence += 1
        now = at_ns or time.time_ns()
        ids = [uuid7_bytes(now) for _ in range(requests)]
        counts = np.full(requests, rows)
        n = int(counts.sum())
        scores = self.random.beta(1, 1, n).astype(np.float32)
        classes = (scores >= THRESHOLD).astype(np.int16)
        segments = np.zeros(n, np.uint8)
        raw = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)
        tails = tails_of_requests(raw, counts, slot, segments, classes, score_code(scores, "identity"), ID_KEY)
        latency = np.zeros(64, np.uint32)
        latency[20] = requests
        message = PredictionsServed(
            batch_id=uuid7(),
            replica_id="replica-1",
            spool_id=self.spool_id,
            sequence=self.sequence,
            deployment_id=DEPLOYMENT,
            revision=revision,
            model_version=version,
            role=ROLE_CHAMPION,
            rows=n,
            request_ids=b"".join(ids),
            request_rows=pack(counts.astype(np.uint32)),
            arrivals_ns=pack(np.full(requests, now, np.int64)),
            tails=pack(tails),
            x=pack(self.random.normal(shift, 1, (n, COLUMNS)).astype(np.float32)),
            scores=pack(scores[:, None]),
            classes=pack(classes),
            segments=pack(segments),
            answered=requests,
            latency=pack(latency),
        )
        if externals:
            message.external_ids.CopyFrom(pack_texts(list(externals)))
        names = [text(ids[i // rows], int(tail)) for i, tail in enumerate(tails)]
        starts = [(int.from_bytes(ids[i // rows][:6]) * 1_000_000) // WINDOW_NS * WINDOW_NS for i in range(n)]
        return Batch(message, names, scores.astype(np.float64), starts)


class Service:
    """One process of the monitor: started, killed, started again."""

    def __init__(self, environment: dict[str, str], port: int, log: Path) -> None:
        self._environment = environment
        self._log = log
        self.address = f"127.0.0.1:{port}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "holdtrue_monitor", env=os.environ | self._environment, stdout=log, stderr=log
            )

    async def ready(self) -> None:
        await until(lambda: check_health(self.address, 1.0), f"the monitor is ready (log: {self.log()})")

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

    def log(self) -> str:
        return self._log.read_text()[-8000:] if self._log.exists() else ""


@dataclass
class Platform:
    """What the tests can see and do."""

    environment: dict[str, str]
    folder: Path
    kafka: Kafka
    producer: AIOKafkaProducer
    dsn: str
    services: list[Service] = field(default_factory=list[Service])

    async def start(self, **settings: str) -> Service:
        """Start one more monitor and wait until it answers."""
        port = free_port()
        number = len(self.services)
        own = {
            "HOLDTRUE_MONITOR_GRPC_PORT": str(port),
            "HOLDTRUE_MONITOR_METRICS_PORT": "0",
            "HOLDTRUE_MONITOR_INSTANCE_ID": f"monitor-{number}",
            **{f"HOLDTRUE_MONITOR_{name.upper()}": value for name, value in settings.items()},
        }
        service = Service(self.environment | own, port, self.folder / f"monitor-{number}.log")
        self.services.append(service)
        await service.start()
        await service.ready()
        return service

    @property
    def connection(self) -> grpc.aio.Channel:
        return channel(self.services[0].address)

    @property
    def monitoring(self) -> MonitoringServiceAsyncStub:
        return MonitoringServiceStub(self.connection)

    @property
    def alerts(self) -> AlertServiceAsyncStub:
        return AlertServiceStub(self.connection)

    @property
    def labels(self) -> LabelServiceAsyncStub:
        return LabelServiceStub(self.connection)

    async def publish(self, message: Message, event_id: str | None = None) -> None:
        record = encode(new_event(message, source="test", actor=service_actor("test"), event_id=event_id))
        await self.raw(record.topic, record.key, record.value, record.headers)

    async def raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        await self.producer.send_and_wait(self.kafka.topic(topic), value, key=key, headers=list(headers))

    async def serve(self, revision: str = REVISION, version: int = 1, slot: int = SLOT, generation: int = 1) -> None:
        """Let a model version exist and serve."""
        digest = DirectoryBlobs(Path(self.environment["HOLDTRUE_MONITOR_BLOBS"])).put(profile().SerializeToString())
        known = ModelVersion(model_id=MODEL, name=NAME, version=version, reference_profile_digest=digest)
        await self.publish(ModelVersionValidated(model_id=MODEL, model_version=known))
        await self.publish(deployment(generation, Revision(revision=revision, slot=slot, model_version=version)))

    async def label(self, labels: Sequence[tuple[str, float]], *, revision: int = 0, external: bool = False) -> None:
        """Publish labels by id, as the SDK does."""
        shards: dict[int, list[tuple[str, float]]] = {}
        for name, value in labels:
            shards.setdefault(label_shard(name.partition("/")[0]), []).append((name, value))
        for shard, some in shards.items():
            names, empty = [name for name, _ in some], [""] * len(some)
            message = LabelsObserved(
                shard=str(shard),
                prediction_ids=pack_texts(empty if external else names),
                external_ids=pack_texts(names if external else empty),
                labels=pack(np.array([value for _, value in some], np.float64)),
                revisions=pack(np.full(len(some), revision, np.int64)),
                observed_ns=pack(np.full(len(some), time.time_ns(), np.int64)),
            )
            await self.publish(message)

    async def figures(self, from_ns: int = 0, to_ns: int = 4 * 10**18) -> RevisionHealth:
        """The monitor's figures over a span, all revisions together."""
        request = EvaluateSpanRequest(deployment=DEPLOYMENT, from_ns=from_ns, to_ns=to_ns)
        try:
            answer = await self.monitoring.EvaluateSpan(request, metadata=PERSON)
        except grpc.aio.AioRpcError as error:
            if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}:
                return RevisionHealth()
            raise
        return answer.revisions[-1]

    async def query(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the monitor's database directly."""
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": "monitor"})
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def events(self, topic: str) -> list[Event[Any]]:
        """Everything in a topic, each event once."""
        partitions = [TopicPartition(self.kafka.topic(topic), i) for i in range(TOPICS[topic].partitions)]
        consumer = self.kafka.consumer()
        await consumer.start()
        found: dict[str, Event[Any]] = {}
        try:
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        event = decode(record.key, record.value, record.headers)
                        found[event.id] = event
        finally:
            await consumer.stop()
        return list(found.values())


def deployment(generation: int, *revisions: Revision) -> DeploymentState:
    """The desired state with these revisions; the first is the champion unless it says otherwise."""
    state = DeploymentState(
        deployment_id=DEPLOYMENT, name=NAME, model_id=MODEL, model_name=NAME, generation=generation, id_key=ID_KEY
    )
    state.revisions.extend(revisions)
    if not state.revisions[0].role:
        state.revisions[0].role = ROLE_CHAMPION
    return state
