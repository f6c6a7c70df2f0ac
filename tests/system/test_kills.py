"""Everything is killed while the loop runs; afterwards every acknowledged thing is counted exactly once.

The relay of an outbox between send and delete, a moment that is hard to hit from outside, is killed in
tests/component/events.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import holdtrue
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.common.v1.measures_pb2 import MeasureKind
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.monitor.v1 import monitor_service_pb2 as monitor_pb
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import MonitoringServiceStub
from holdtrue_contracts.prediction_id import parse, time_ns
from holdtrue_contracts.registry.v1.datasets_pb2 import CommitRange, DatasetSchema
from holdtrue_contracts.trainer.v1.trainer_service_pb2 import Run, RunState
from holdtrue_lake.versions import read_quarantine, read_version
from holdtrue_local.demo import recorded
from holdtrue_local.demo.stream import FEATURES

from tests.system.traffic import LABEL, TIME, Counts, Ledger, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue import Client
    from holdtrue_contracts.registry.v1.dataset_service_pb2 import Dataset

    from tests.system.conftest import Outage, Running

KILLS = {"registry": 3, "trainer": 2, "deployer": 3, "inference": 4, "monitor": 4, "console": 2, "postgres": 2}
AWAY_SECONDS = 10.0
HISTORY_ROWS = 6_000
FIRST_RECIPE = "estimator: GaussianNB"
"""Worse than what follows, so that the second version passes its gate and a rollout is under way."""
DATASET, MODEL = "payments", "fraud-check"
SETTLE_SECONDS = 60.0
RECONNECT_SECONDS = 3.0
"""A client that lost its server looks for it again at least so often (`grpc.max_reconnect_backoff_ms`, and slack)."""
POSITIONS = {
    "predictions.v1": "SELECT partition, next_offset FROM monitor.fold_offset WHERE topic = 'predictions.v1'",
    "labels.v1": "SELECT partition, next_offset FROM monitor.fold_offset WHERE topic = 'labels.v1'",
    "data.v1": "SELECT partition, next_offset FROM registry.ingest_position",
}

_T = TypeVar("_T")

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Kill:
    """A part, and for how long it is kept from coming back."""

    part: str
    away: float = 0.0


def schedule(seed: int) -> list[Kill]:
    """Everything several times, the broker briefly and then for long; in an order of the seed."""
    chance = random.Random(seed)  # noqa: S311  no secret
    kills = [Kill(part) for part, times in KILLS.items() for _ in range(times)]
    chance.shuffle(kills)
    brief, long = sorted(chance.sample(range(len(kills) + 1), 2))
    kills.insert(long, Kill("kafka", AWAY_SECONDS))
    kills.insert(brief, Kill("kafka"))
    return kills


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3, 4, 5))])
def test_nothing_acknowledged_is_lost_or_counted_twice(platform: Running, seed: int) -> None:
    with holdtrue.connect(platform.console) as client, client.producer() as producer, client.model(MODEL) as model:
        dataset = client.datasets.create(DATASET, schema())
        traffic = Traffic(seed, model, producer, DATASET)
        traffic.offer_history(HISTORY_ROWS)
        producer.flush()
        deploy(client, traffic.ledger)
        with traffic.flowing():
            second = client.runs.submit(MODEL, DATASET, recipe="logistic", seed=seed)
            outages = kill_all(platform, schedule(seed))
            run = until(lambda: ended(client, second.spec.run_id), "the end of the run")
        stats = producer.stats

        ledger = traffic.ledger
        assert (stats.labels, stats.records) == (len(ledger.labels), ledger.records)
        assert (stats.acknowledged, stats.pending) == (stats.labels + stats.records, 0)
        assert len(outages) >= 20
        check_failures(ledger, outages)
        wait_until_read(platform)
        check_predictions(platform, client, ledger)
        check_records(platform, client, dataset, ledger)
        check_run(client, run)
    assert not any(asyncio.run(ends(platform, "dead-letters.v1")).values())


def schema() -> DatasetSchema:
    columns = [ColumnSpec(name=name, dtype="float32") for name in FEATURES]
    return DatasetSchema(columns=[*columns, ColumnSpec(name=LABEL, dtype="int64")], label=LABEL, time=TIME)


def deploy(client: Client, ledger: Ledger) -> None:
    """Train a first version on the history and let it serve."""
    until(lambda: is_published(client, ledger) or None, "a dataset version of the history")
    run = client.runs.submit(MODEL, DATASET, recipe=FIRST_RECIPE)
    client.runs.wait(run.spec.run_id)
    client.deployments.wait(client.deployments.deploy(MODEL, 1, every=2.0))


def is_published(client: Client, ledger: Ledger) -> bool:
    """Whether the newest dataset version has all good records."""
    newest = client.datasets.get(DATASET).latest_version
    return newest > 0 and client.datasets.version(DATASET, newest).rows == len(ledger.good)


def ended(client: Client, run_id: str) -> Run | None:
    run = client.runs.get(run_id)
    return run if run.state in {RunState.RUN_STATE_SUCCEEDED, RunState.RUN_STATE_FAILED} else None


def check_run(client: Client, run: Run) -> None:
    """A run became one version, unless its attempts were used up by the kills: then none."""
    if run.state == RunState.RUN_STATE_SUCCEEDED:
        until(lambda: made(client, run) or None, "the version of the run")
    assert made(client, run) == (run.state == RunState.RUN_STATE_SUCCEEDED)


def made(client: Client, run: Run) -> int:
    return sum(view.model_version.run_id == run.spec.run_id for view in client.models.versions(MODEL))


def kill_all(platform: Running, kills: list[Kill]) -> list[Outage]:
    return [platform.kill(kill.part, away=kill.away) for kill in kills]


def check_failures(ledger: Ledger, outages: list[Outage]) -> None:
    """No call failed but while inference itself was dead; without Kafka there were answers, too."""
    dead = [(o.began, o.ended + RECONNECT_SECONDS) for o in outages if o.part == "inference"]
    unexplained = [f for f in ledger.failures if not any(a <= f.ended and f.began <= b for a, b in dead)]
    assert not unexplained
    asked = [time_ns(parse(name).request_id) / 1e9 for name in ledger.predictions]
    for outage in (o for o in outages if o.part == "kafka"):
        assert any(outage.began + 0.5 < at < outage.ended - 0.5 for at in asked), "nobody asked while Kafka was away"


def check_predictions(platform: Running, client: Client, ledger: Ledger) -> None:
    """Kafka has every answered prediction in one record, the monitor counts all that Kafka has, once."""
    found = asyncio.run(recorded.read(platform.endpoints["kafka"]))
    answered = ledger.predictions.keys()
    assert not answered - found.ids
    assert found.duplicated == 0
    assert len(found.ids - answered) <= sum(failure.rows for failure in ledger.failures)
    slots = {parse(name).tail.slot: version for name, version in ledger.predictions.items()}
    by_version: dict[int, list[str]] = {version: [] for version in slots.values()}
    for name in found.ids:
        by_version[slots[parse(name).tail.slot]].append(name)
    expected = {version: ledger.counts(names) for version, names in by_version.items()}
    assert figures(client) == expected | {0: ledger.counts(found.ids)}
    until(lambda: windows(client) == (len(found.ids), len(ledger.labels)) or None, "all windows to be restated")


def figures(client: Client) -> dict[int, Counts]:
    """Return what the monitor counted, by model version; 0: all together."""
    stub = MonitoringServiceStub(client.connection.channel("monitor", monitor_pb.DESCRIPTOR))
    request = monitor_pb.EvaluateSpanRequest(deployment=MODEL, from_ns=0, to_ns=time.time_ns())
    answer = client.connection.call(stub.EvaluateSpan, request)
    return {health.model_version if health.revision else 0: _counts(health) for health in answer.revisions}


def _counts(health: monitor_pb.RevisionHealth) -> Counts:
    realised = {m.name: m for m in health.measures if m.kind == MeasureKind.MEASURE_KIND_REALISED}
    tp = round(realised["precision"].sum)
    return Counts(
        rows=health.rows,
        flagged=realised["label_completeness"].n,
        labelled=health.labelled,
        labelled_flagged=realised["precision"].n,
        positive=realised["recall"].n,
        tp=tp,
        tn=round(realised["accuracy"].sum) - tp,
    )


def windows(client: Client) -> tuple[int, int]:
    """Return rows and labelled rows of all closed windows together."""
    stub = MonitoringServiceStub(client.connection.channel("monitor", monitor_pb.DESCRIPTOR))
    request = monitor_pb.ListWindowsRequest(deployment=MODEL, page_size=10_000)
    found = client.connection.call(stub.ListWindows, request).windows
    return sum(window.rows for window in found), sum(window.labelled for window in found)


def check_records(platform: Running, client: Client, dataset: Dataset, ledger: Ledger) -> None:
    """Each record is new in exactly one version, or in quarantine, once."""
    until(lambda: is_published(client, ledger) or None, "a dataset version with all records")
    versions = sorted(client.datasets.versions(DATASET), key=lambda version: version.version)
    assert [(v.version, v.parent) for v in versions] == [(i + 1, i) for i in range(len(versions))]
    lasts = [span.last for version in versions for span in version.ranges]
    assert lasts == sorted(set(lasts))
    rows = read_version(platform.data / "lake", dataset.dataset_id, [(0, lasts[-1])])
    commits = rows.column("_commit").to_pylist()
    for version, last in zip(versions, lasts, strict=True):  # everything up to a commit: each row is new in one of them
        assert list(version.ranges) == [CommitRange(first=0, last=last)]
        assert version.rows == sum(commit <= last for commit in commits)
    times = rows.column("_event_time").cast("int64").to_pylist()
    assert sorted(time // 1_000_000 - ledger.epoch for time in times) == ledger.good
    refused = read_quarantine(platform.data / "lake", dataset.dataset_id).column("raw").to_pylist()
    assert sorted(round(json.loads(raw)[TIME]) - ledger.epoch for raw in refused) == ledger.bad


def wait_until_read(platform: Running) -> None:
    """Wait until monitor and registry have read their topics to the end."""
    for topic, query in POSITIONS.items():
        until(lambda: asyncio.run(_read(platform, topic, query)) or None, f"{topic} to be read")  # noqa: B023


async def _read(platform: Running, topic: str, query: str) -> bool:
    connection = await asyncpg.connect(host=platform.postgres, user="postgres", database="postgres")
    try:
        positions = {row["partition"]: row["next_offset"] for row in await connection.fetch(query)}
    finally:
        await connection.close()
    return all(positions.get(partition, 0) >= end for partition, end in (await ends(platform, topic)).items())


async def ends(platform: Running, topic: str) -> dict[int, int]:
    """Return the end of each partition."""
    partitions = [TopicPartition(topic, number) for number in range(TOPICS[topic].partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=platform.endpoints["kafka"]) as consumer:
        return {place.partition: end for place, end in (await consumer.end_offsets(partitions)).items()}


def until(look: Callable[[], _T | None], what: str) -> _T:
    """Look until there is something."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"after {SETTLE_SECONDS:.0f} s still waiting for {what}"
        time.sleep(0.2)
    return found
