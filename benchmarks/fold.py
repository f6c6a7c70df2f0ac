"""How many predictions the monitor folds per second of CPU: the whole service, from Kafka to committed counts.

    python benchmarks/fold.py [--messages 400] [--rows 4096] [--features 30]

Starts a real Kafka, a durable PostgreSQL and the monitor; publishes records of predictions; prints rows per CPU-second
of the monitor's process (user and system, all threads), from before the first record until all counts are committed,
and checks that every row was counted once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import asyncpg
import numpy as np
import psutil
import uvloop
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.columns import pack
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.deployer.v1.deployments_pb2 import ROLE_CHAMPION, DeploymentState, Revision
from holdtrue_contracts.ids import uuid7, uuid7_bytes
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.prediction_id import score_code, tails_of_requests
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion, ModelVersionValidated
from holdtrue_contracts.trainer.v1.profile_pb2 import ReferenceProfile
from holdtrue_events.kafka import Kafka
from holdtrue_events.topics import ensure
from holdtrue_local import kafka as local_kafka
from holdtrue_local import postgres as local_postgres
from holdtrue_stats.calibration import fit_isotonic
from holdtrue_stats.histogram import State, fold, freeze
from holdtrue_storage.blobs import DirectoryBlobs
from holdtrue_storage.provision import provision

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

ACTOR = service_actor("bench")
WARM_UP = 24
GOAL = 1_000_000


async def main() -> None:
    arguments = _arguments()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="holdtrue-bench-")))
        postgres, broker = local_postgres.Postgres(folder / "postgres"), local_kafka.Kafka(folder / "kafka")
        for server in (postgres, broker):
            await server.start()
            stack.push_async_callback(server.kill)
        await ensure(broker.bootstrap)
        await provision(postgres.dsn, "monitor")
        dsn = postgres.dsn.replace("postgres@", "monitor@")
        kafka = Kafka(broker.bootstrap)
        producer = kafka.producer()
        await producer.start()
        stack.push_async_callback(producer.stop)
        monitor = await _monitor(dsn, broker.bootstrap, folder / "blobs")
        stack.callback(monitor.kill)
        random = np.random.default_rng(1)

        async def publish(message: Message) -> None:
            record = encode(new_event(message, source="bench", actor=ACTOR))
            await producer.send_and_wait(record.topic, record.value, key=record.key, headers=list(record.headers))

        await _serve(publish, DirectoryBlobs(folder / "blobs"), arguments.features, random)
        spool, x = uuid7(), random.normal(0, 1, (arguments.rows, arguments.features)).astype(np.float32)
        for sequence in range(1, WARM_UP + 1):
            await publish(_record(spool, sequence, x, random))
        await _counted(dsn, WARM_UP * arguments.rows)
        process = psutil.Process(monitor.pid)
        used, began = process.cpu_times(), time.perf_counter()
        for sequence in range(WARM_UP + 1, WARM_UP + 1 + arguments.messages):
            await publish(_record(spool, sequence, x, random))
        await _counted(dsn, (WARM_UP + arguments.messages) * arguments.rows)
        seconds, now = time.perf_counter() - began, process.cpu_times()
        cpu = now.user + now.system - used.user - used.system
        rows = arguments.messages * arguments.rows
        print(f"\n{rows:,} predictions with {arguments.features} features in records of {arguments.rows:,}")
        print(f"  rows per CPU-second   {rows / cpu:12,.0f}   (goal ≥ {GOAL:,})")
        print(f"  CPU-seconds           {cpu:12.2f}   in {seconds:.1f} s, the publisher's pace")
        print(f"  memory (PSS)          {process.memory_full_info().pss / 2**20:12,.0f} MB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=400, help="records of predictions")
    parser.add_argument("--rows", type=int, default=4096, help="predictions in a record")
    parser.add_argument("--features", type=int, default=30, help="columns")
    return parser.parse_args()


async def _monitor(dsn: str, bootstrap: str, blobs: Path) -> asyncio.subprocess.Process:
    settings = {"POSTGRES_DSN": dsn, "KAFKA": bootstrap, "BLOBS": str(blobs), "GRPC_PORT": "0", "METRICS_PORT": "0"}
    environment = os.environ | {f"HOLDTRUE_MONITOR_{name}": value for name, value in settings.items()}
    environment["HOLDTRUE_MONITOR_LOG_LEVEL"] = "warning"
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "holdtrue_monitor", env=environment)


async def _serve(
    publish: Callable[[Message], Awaitable[None]], blobs: DirectoryBlobs, features: int, random: np.random.Generator
) -> None:
    x, score = random.normal(0, 1, (20_000, features)), random.random(20_000)
    edges, table = freeze(x), fit_isotonic(score, random.random(20_000) < score).table()
    profile = ReferenceProfile(
        columns=[ColumnSpec(name=f"c{i}", dtype="float32") for i in range(features)],
        state=fold(edges, x, State.empty(edges)).to_bytes(),
        edges=edges.to_bytes(),
        score_histogram=pack(np.ones((2, 1024), np.int64)),
        calibration=pack(table.p),
        calibration_blocks=pack(table.blocks.astype(np.int32)),
        block_labels=pack(table.labels.astype(np.int64)),
        importances=pack(np.full(features, 1 / features)),
        precision=0.75,
    )
    digest = blobs.put(profile.SerializeToString())
    version = ModelVersion(model_id="m", name="m", version=1, reference_profile_digest=digest)
    await publish(ModelVersionValidated(model_id="m", model_version=version))
    state = DeploymentState(deployment_id="d", name="d", model_id="m", generation=1)
    state.revisions.append(Revision(revision="r", slot=1, model_version=1, role=ROLE_CHAMPION))
    await publish(state)


def _record(spool: str, sequence: int, x: np.ndarray, random: np.random.Generator) -> PredictionsServed:
    n = len(x)
    request, scores = uuid7_bytes(), random.random(n).astype(np.float32)
    classes, segments = (scores >= 0.5).astype(np.int16), np.zeros(n, np.uint8)
    ids = np.frombuffer(request, np.uint8).reshape(1, 16)
    codes = score_code(scores, "identity")
    return PredictionsServed(
        batch_id=uuid7(),
        spool_id=spool,
        sequence=sequence,
        deployment_id="d",
        revision="r",
        model_version=1,
        rows=n,
        request_ids=request,
        request_rows=pack(np.array([n], np.uint32)),
        tails=pack(tails_of_requests(ids, np.array([n]), 1, segments, classes, codes, 0)),
        x=pack(x),
        scores=pack(scores[:, None]),
        answered=1,
    )


async def _counted(dsn: str, rows: int) -> None:
    """Wait until exactly so many rows are in evaluated windows or in buckets."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "monitor"})
    try:
        while (found := await _rows(connection)) < rows:
            await asyncio.sleep(0.1)
        assert found == rows, f"{found} rows were counted, {rows} were published"
    finally:
        await connection.close()


async def _rows(connection: asyncpg.Connection) -> int:
    from holdtrue_monitor.domain.buckets import Scores  # noqa: PLC0415 - only to read what the monitor wrote

    if not await connection.fetchval("SELECT to_regclass('served_bucket')"):
        return 0
    found = await connection.fetch("SELECT scores FROM served_bucket")
    return sum(int(Scores.from_bytes(row["scores"]).score.sum()) for row in found)


if __name__ == "__main__":
    uvloop.run(main())
