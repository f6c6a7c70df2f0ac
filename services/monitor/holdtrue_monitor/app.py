"""What the monitor consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import (
    add_AlertServiceServicer_to_server,
    add_LabelServiceServicer_to_server,
    add_MonitoringServiceServicer_to_server,
)
from holdtrue_core.clock import SystemClock
from holdtrue_core.lifecycle import App
from holdtrue_core.rpc import GrpcServer, Servicer
from holdtrue_core.telemetry import MetricsServer
from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import Outbox
from holdtrue_events.react import React
from holdtrue_events.relay import Relay
from holdtrue_storage.blobs import DirectoryBlobs
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import Migrations

from holdtrue_monitor import handlers
from holdtrue_monitor.counting import LabelEffect, PredictionEffect
from holdtrue_monitor.evaluation import Evaluation
from holdtrue_monitor.fold import Fold
from holdtrue_monitor.gateway import Gateway
from holdtrue_monitor.projections import GROUP, Projections
from holdtrue_monitor.references import References
from holdtrue_monitor.rpc import AlertServicer, LabelServicer, MonitoringServicer, service
from holdtrue_monitor.settings import MonitorSettings
from holdtrue_monitor.stream import Stream
from holdtrue_monitor.workers import Evaluator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_core.lifecycle import Part

PACKAGES = ("holdtrue_storage", "holdtrue_events", "holdtrue_monitor")


async def build(settings: MonitorSettings) -> Sequence[Part]:
    """Compose the service."""
    clock = SystemClock()
    actor = Actor(settings.tenant, "monitor", ActorKind.SERVICE)
    database = Database(settings.postgres_dsn.get_secret_value(), settings.postgres_schema, settings.pool_size)
    outbox = Outbox(database, "holdtrue/monitor", clock)
    kafka = Kafka.of(settings)
    references = References(DirectoryBlobs(settings.blobs))
    gateway = Gateway(outbox, kafka)
    folds = [
        Fold(outbox, actor, PredictionEffect(references, settings.window_ns)),
        Fold(outbox, actor, LabelEffect(settings.window_ns)),
    ]
    monitoring = MonitoringServicer(outbox, references, settings, clock)
    servicers = [
        Servicer(add_MonitoringServiceServicer_to_server, monitoring, service("MonitoringService")),
        Servicer(add_AlertServiceServicer_to_server, AlertServicer(outbox, clock), service("AlertService")),
        Servicer(add_LabelServiceServicer_to_server, LabelServicer(gateway, clock), service("LabelService")),
    ]
    return [
        MetricsServer(settings),
        database,
        Migrations(database, PACKAGES),
        Relay(outbox, kafka),
        React(outbox, kafka, GROUP, handlers),
        Stream(kafka, folds, Projections(kafka), settings),
        Evaluator(outbox, actor, Evaluation(references, settings, clock), settings, clock),
        gateway,
        GrpcServer(settings, servicers),
    ]


APP = App("monitor", MonitorSettings, build)
