"""What the deployer consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.deployer.v1.deployment_service_pb2_grpc import add_DeploymentServiceServicer_to_server
from holdtrue_core.clock import SystemClock
from holdtrue_core.lifecycle import App
from holdtrue_core.rpc import GrpcServer, Servicer
from holdtrue_core.telemetry import MetricsServer
from holdtrue_events.kafka import Kafka
from holdtrue_events.mirror import Mirror
from holdtrue_events.outbox import Outbox
from holdtrue_events.react import React
from holdtrue_events.relay import Relay
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import Migrations

from holdtrue_deployer import handlers
from holdtrue_deployer.rpc import SERVICE, DeploymentServicer
from holdtrue_deployer.settings import DeployerSettings
from holdtrue_deployer.workers import Replicas, RolloutClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_core.lifecycle import Part

PACKAGES = ("holdtrue_storage", "holdtrue_events", "holdtrue_deployer")


async def build(settings: DeployerSettings) -> Sequence[Part]:
    """Compose the service."""
    clock = SystemClock()
    database = Database(settings.postgres_dsn.get_secret_value(), settings.postgres_schema, settings.pool_size)
    outbox = Outbox(database, "holdtrue/deployer", clock)
    kafka = Kafka.of(settings)
    replicas = Replicas()
    servicer = DeploymentServicer(outbox, replicas, clock, settings.version_wait_seconds)
    return [
        MetricsServer(settings),
        database,
        Migrations(database, PACKAGES),
        Relay(outbox, kafka),
        Mirror(kafka, "replicas.v1", replicas.apply),
        React(outbox, kafka, "deployer", handlers),
        RolloutClock(outbox, replicas, clock, settings.poll_seconds),
        GrpcServer(settings, [Servicer(add_DeploymentServiceServicer_to_server, servicer, SERVICE)]),
    ]


APP = App("deployer", DeployerSettings, build)
