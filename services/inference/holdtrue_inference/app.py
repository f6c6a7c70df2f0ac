"""The composition root of the inference service."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_core.lifecycle import App, Part
from holdtrue_core.telemetry import MetricsServer
from holdtrue_events.kafka import Kafka
from holdtrue_storage.blobs import DirectoryBlobs
from prometheus_client import REGISTRY

from holdtrue_inference.lane import Lane
from holdtrue_inference.loading import load
from holdtrue_inference.metrics import InferenceCollector, Traffic
from holdtrue_inference.prediction_log import PredictionLog
from holdtrue_inference.rpc import InferenceServer, InferenceService
from holdtrue_inference.serving import Serving
from holdtrue_inference.settings import InferenceSettings
from holdtrue_inference.store.cache import Artifacts, DesiredStates
from holdtrue_inference.store.lock import lock
from holdtrue_inference.store.spool import SpoolWriter, Usage, leftovers, size_of
from holdtrue_inference.workers.announcer import Announcer
from holdtrue_inference.workers.follower import Follower
from holdtrue_inference.workers.relay import Relay, Sender
from holdtrue_inference.workers.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Sequence


async def build(settings: InferenceSettings) -> Sequence[Part]:
    """Compose the service; its parts in start order."""
    lock(settings.cache)
    kafka = Kafka.of(settings)
    actor = Actor(settings.tenant, "inference", ActorKind.SERVICE)
    traffic = Traffic()

    spools = settings.cache / "spool"
    spools.mkdir(mode=0o700, exist_ok=True)
    left = leftovers(spools)
    usage = Usage(settings.limits, size_of(left))
    writer = SpoolWriter(spools, usage)
    log = PredictionLog(writer, usage, settings.ack_timeout_seconds)
    relay = Relay(
        log=log,
        writer=writer,
        leftovers=left,
        usage=usage,
        sender=Sender(kafka),
        actor=actor,
        flush_seconds=settings.flush_seconds,
        sync_seconds=settings.sync_seconds,
        drain_seconds=settings.drain_seconds,
    )

    serving = Serving()
    replica = Replica(
        serving,
        DesiredStates(settings.cache / "desired"),
        partial(load, artifacts=Artifacts(settings.cache / "artifacts", DirectoryBlobs(settings.blobs))),
        partial(Lane, log=log, traffic=traffic, replica_id=settings.replica_id),
        ThreadPoolExecutor(1, thread_name_prefix="loader"),
    )
    server = InferenceServer(settings, InferenceService(serving, replica, traffic), serving)
    announcer = Announcer(
        kafka,
        replica,
        replica_id=settings.replica_id,
        address=lambda: f"{settings.host}:{server.port}",
        actor=actor,
        seconds=settings.heartbeat_seconds,
    )
    REGISTRY.register(InferenceCollector(traffic, usage, settings.limits))
    return [MetricsServer(settings), relay, replica, server, Follower(kafka, replica, settings.tenant), announcer]


INFERENCE = App("inference", InferenceSettings, build)
