"""What the registry consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import add_DatasetServiceServicer_to_server
from holdtrue_contracts.registry.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from holdtrue_core.clock import SystemClock
from holdtrue_core.http import HttpServer
from holdtrue_core.rpc import GrpcServer, Servicer
from holdtrue_core.telemetry import MetricsServer
from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import Outbox
from holdtrue_events.react import React
from holdtrue_events.relay import Relay
from holdtrue_lake.ingest import Ingester
from holdtrue_lake.leases import PostgresLeases
from holdtrue_storage.blobs import DirectoryBlobs
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import Migrations

from holdtrue_registry.closing import Closing
from holdtrue_registry.commands import Progress
from holdtrue_registry.handlers import handlers
from holdtrue_registry.http import http_app
from holdtrue_registry.persons import Persons
from holdtrue_registry.rpc import datasets, models
from holdtrue_registry.rpc.methods import Workplace
from holdtrue_registry.workers.closing import VersionClock
from holdtrue_registry.workers.engine import Engine
from holdtrue_registry.workers.erasing import Erasing
from holdtrue_registry.workers.ingestion import Ingestion
from holdtrue_registry.workers.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_core.lifecycle import Part

    from holdtrue_registry.settings import RegistrySettings

PACKAGES = ("holdtrue_storage", "holdtrue_events", "holdtrue_lake", "holdtrue_registry")


async def build(settings: RegistrySettings) -> Sequence[Part]:
    """Compose the service."""
    clock = SystemClock()
    database = Database(settings.postgres_dsn.get_secret_value(), settings.postgres_schema, settings.pool_size)
    outbox = Outbox(database, "holdtrue/registry", clock)
    kafka = Kafka.of(settings)
    blobs = DirectoryBlobs(settings.blobs)
    progress = Progress()
    leases = PostgresLeases(database)
    persons = Persons(database, settings.master_key or settings.lake.with_name("subjects.key"))
    ingester = Ingester(settings.lake, blobs, clock, persons.keys_of)
    erasing = Erasing(outbox, persons, leases, ingester, settings)
    closing = Closing(outbox, settings.lake, blobs, leases, clock)
    engine = Engine(outbox, ingester, closing, clock, progress, settings.version_seconds)
    place = Workplace(outbox, settings.lake, blobs, progress, leases, persons, erasing, closing)
    dataset_servicer = datasets.DatasetServicer(place, settings)
    model_servicer = models.ModelServicer(outbox)
    servicers = [
        Servicer(add_DatasetServiceServicer_to_server, dataset_servicer, datasets.SERVICE),
        Servicer(add_ModelServiceServicer_to_server, model_servicer, models.SERVICE),
    ]
    return [
        MetricsServer(settings),
        database,
        Migrations(database, PACKAGES),
        persons,
        Relay(outbox, kafka),
        Ingestion(engine, kafka, settings),
        VersionClock(outbox, closing, clock, settings),
        Upkeep(outbox, leases, settings),
        erasing,
        React(outbox, kafka, "registry", handlers(blobs)),
        HttpServer(http_app(), settings.host, settings.http_port),
        GrpcServer(settings, servicers),
    ]
