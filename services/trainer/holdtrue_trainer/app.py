"""What the trainer consists of."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from holdtrue_contracts.trainer.v1.trainer_service_pb2_grpc import add_TrainerServiceServicer_to_server
from holdtrue_core.clock import SystemClock
from holdtrue_core.lifecycle import App
from holdtrue_core.rpc import GrpcServer, Servicer
from holdtrue_core.telemetry import MetricsServer
from holdtrue_events.kafka import Kafka
from holdtrue_events.outbox import Outbox
from holdtrue_events.react import React
from holdtrue_events.relay import Relay
from holdtrue_models.worker.limits import Limits
from holdtrue_storage.blobs import DirectoryBlobs
from holdtrue_storage.database import Database
from holdtrue_storage.jobs import Worker
from holdtrue_storage.migrations import Migrations

from holdtrue_trainer import commands, handlers
from holdtrue_trainer.domain.policy import Policy
from holdtrue_trainer.domain.run import MAX_ATTEMPTS
from holdtrue_trainer.rpc import SERVICE, TrainerServicer
from holdtrue_trainer.settings import TrainerSettings
from holdtrue_trainer.workers.decisions import Decisions
from holdtrue_trainer.workers.inputs import Inputs
from holdtrue_trainer.workers.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_core.lifecycle import Part

PACKAGES = ("holdtrue_storage", "holdtrue_events", "holdtrue_trainer")


async def build(settings: TrainerSettings) -> Sequence[Part]:
    """Compose the service."""
    clock = SystemClock()
    database = Database(settings.postgres_dsn.get_secret_value(), settings.postgres_schema, settings.pool_size)
    outbox = Outbox(database, "holdtrue/trainer", clock)
    kafka = Kafka.of(settings)
    blobs = DirectoryBlobs(settings.blobs)
    runs = Runs(outbox, blobs, Inputs(outbox, blobs, settings.lake), _limits(settings), clock)
    decisions = Decisions(outbox, settings.lake, clock)
    servicer = TrainerServicer(outbox, blobs, clock, _policy(settings), settings.dataset_wait_seconds)
    return [
        MetricsServer(settings),
        database,
        Migrations(database, PACKAGES),
        Relay(outbox, kafka),
        React(outbox, kafka, "trainer", handlers),
        Worker(
            database,
            commands.RUN,
            runs.work,
            lease=settings.lease_seconds,
            concurrency=settings.concurrency,
            attempts=MAX_ATTEMPTS + 1,
        ),
        Worker(database, commands.DECIDE, decisions.work),
        GrpcServer(settings, [Servicer(add_TrainerServiceServicer_to_server, servicer, SERVICE)]),
    ]


def _limits(settings: TrainerSettings) -> Limits:
    return Limits(
        memory_bytes=settings.memory_bytes,
        wall_seconds=settings.wall_seconds,
        file_bytes=settings.file_bytes,
        processes=settings.processes,
    )


def _policy(settings: TrainerSettings) -> Policy:
    return Policy(
        dataset_id="",
        cool_down=timedelta(seconds=settings.cool_down_seconds),
        runs_per_day=settings.runs_per_day,
        min_new_labels=settings.min_new_labels,
        last_rows=settings.last_rows,
    )


APP = App("trainer", TrainerSettings, build)
