"""The relay on a real Kafka, crashed at every step: each prediction arrives, and counts once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.columns import unpack
from holdtrue_contracts.ids import uuid_text
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.prediction_id import tail_text
from holdtrue_inference.domain import records
from holdtrue_inference.prediction_log import PredictionLog
from holdtrue_inference.store.spool import Limits, SpoolWriter, Usage, leftovers, segments
from holdtrue_inference.workers import relay as module
from holdtrue_inference.workers.relay import Relay, Sender, SpoolRelay
from structlog.testing import capture_logs

from tests.component.inference.harness import ids_of, predictions, read
from tests.inference.batches import batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdtrue_contracts.codec import Record
    from holdtrue_events.kafka import Kafka
    from holdtrue_inference.domain.records import Batch

ACTOR = service_actor("inference")


class Crash(Exception):
    """The process ends here."""


class Mortal(Sender):
    """Ends with a crash before or after one of its sends."""

    def __init__(self, kafka: Kafka, sends: int, *, acknowledged: bool) -> None:
        super().__init__(kafka)
        self._left, self._acknowledged = sends, acknowledged

    async def send(self, record: Record) -> None:
        self._left -= 1
        if self._left < 0 and not self._acknowledged:
            raise Crash
        await super().send(record)
        if self._left < 0:
            raise Crash


@pytest.fixture
def usage() -> Usage:
    return Usage(Limits())


@pytest.fixture
def writer(tmp_path: Path, usage: Usage) -> Iterator[SpoolWriter]:
    writer = SpoolWriter(tmp_path, usage, segment_bytes=1_000)
    yield writer
    writer.close()


def fill(writer: SpoolWriter, batches: int) -> list[Batch]:
    """Append batches of two revisions in turn."""
    appended = [batch([2, 1], seed=seed) for seed in range(batches)]
    for number, each in enumerate(appended):
        context = PredictionsServed(revision=f"r{number % 2}").SerializeToString()
        writer.append(records.chunks(context, each))
    return appended


def ids(batches: list[Batch]) -> list[str]:
    """Prediction ids of all rows."""
    return [
        f"{uuid_text(request)}/{tail_text(int(tail))}"
        for each in batches
        for request, tail in zip(np.repeat(np.array(each.request_ids, object), each.counts), each.tails, strict=True)
    ]


async def live(folder: Path, usage: Usage, sender: Sender) -> bool:
    """One life of a relay on what earlier ones left; whether it came to the end."""
    spool = SpoolRelay(folder, usage, sender, ACTOR)
    try:
        await spool.finish_last()
        while (await spool.round())[0]:
            pass
    except Crash:
        return False
    finally:
        spool.close()
        await sender.close()
    return True


async def events(bus: Kafka) -> list[PredictionsServed]:
    """Everything in the topic, resends included."""
    found = [event.data for _, event in await read(bus, "predictions.v1") if event is not None]
    assert all(isinstance(each, PredictionsServed) for each in found)
    return found  # type: ignore[return-value]


async def test_a_crash_before_or_after_any_send_loses_and_repeats_nothing(
    bus: Kafka, writer: SpoolWriter, usage: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND_BYTES", 1_500)
    expected = ids(fill(writer, 40))
    chance, lives = random.Random(1), 0  # noqa: S311  no secret
    while not await live(writer.folder, usage, Mortal(bus, chance.randrange(4), acknowledged=chance.random() < 0.5)):
        lives += 1
    assert lives > 5
    every = await events(bus)
    kept = await predictions(bus)
    assert len(every) > len(kept), "nothing was sent twice"
    assert sorted(ids_of(kept)) == sorted(expected)
    assert sorted(record.sequence for record in kept) == list(range(1, len(kept) + 1))
    by_batch = defaultdict[str, list[bytes]](list)
    for record in every:
        by_batch[record.batch_id].append(record.SerializeToString(deterministic=True))
    assert {len(set(copies)) for copies in by_batch.values()} == {1}, "a resend is the same event"


@pytest.mark.parametrize("lost", ["the end", "a segment"])
async def test_of_an_interrupted_round_everything_is_sent_that_the_disk_still_has(
    bus: Kafka, writer: SpoolWriter, usage: Usage, lost: str
) -> None:
    batches = fill(writer, 30)
    assert not await live(writer.folder, usage, Mortal(bus, 0, acknowledged=False))
    parts = segments(writer.folder)
    if lost == "the end":
        path = parts[-1][1]
        path.write_bytes(path.read_bytes()[:-1])
        [folder] = leftovers(writer.folder.parent)
        left = batches[:-1]
    else:
        (first, gone), (following, _) = parts[1:3]
        gone.unlink()
        folder, left = writer.folder, batches[: first - 1] + batches[following - 1 :]
    with capture_logs() as logs:
        assert await live(folder, usage, Sender(bus))
    assert sorted(ids_of(await predictions(bus))) == sorted(ids(left))
    gone_pieces = [entry["pieces"] for entry in logs if "pieces" in entry]
    assert gone_pieces == [len(batches) - len(left)]


class Process:
    """The relay as it lives in the process, on its own thread."""

    def __init__(self, folder: Path, usage: Usage, bus: Kafka, **settings: float) -> None:
        left = leftovers(folder)
        self.writer = SpoolWriter(folder, usage)
        self.log = PredictionLog(self.writer, usage, 60.0)
        seconds = {"flush_seconds": 0.02, "sync_seconds": 0.05, "drain_seconds": 30.0, **settings}
        self.relay = Relay(
            log=self.log, writer=self.writer, leftovers=left, usage=usage, sender=Sender(bus), actor=ACTOR, **seconds
        )

    async def append(self, seed: int) -> tuple[Batch, int]:
        each = batch([1], seed=seed)
        return each, self.log.append(records.chunks(b"", each))


async def test_what_earlier_processes_left_is_sent_first_and_then_gone(
    bus: Kafka, tmp_path: Path, writer: SpoolWriter, usage: Usage
) -> None:
    old = fill(writer, 10)
    process = Process(tmp_path, usage, bus)
    await process.relay.start()
    new, number = await process.append(99)
    assert await process.log.replicated(number)
    assert not writer.folder.exists()
    await process.relay.stop()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert usage.bytes == 0
    assert sorted(ids_of(await predictions(bus))) == sorted(ids([*old, new]))


async def test_who_waits_for_kafka_does_not_wait_for_company(bus: Kafka, tmp_path: Path, usage: Usage) -> None:
    process = Process(tmp_path, usage, bus, flush_seconds=3_600.0)
    await process.relay.start()
    for seed in range(5):
        _, number = await process.append(seed)
        assert await process.log.replicated(number)
        assert len(await predictions(bus)) == seed + 1, "acknowledged, so it is there"
    await process.relay.stop()


async def test_under_steady_traffic_the_spool_is_never_said_to_be_old(bus: Kafka, tmp_path: Path, usage: Usage) -> None:
    """Kafka has everything but the last moment, although there is always something to send."""
    process = Process(tmp_path, usage, bus)
    await process.relay.start()
    began, seed = time.monotonic(), 0
    async with asyncio.timeout(60):
        while usage.emptied_at < began + 0.3:
            await process.append(seed := seed + 1)
            await asyncio.sleep(0.001)
    await process.relay.stop()
    assert seed > 10


async def test_chunks_of_one_flush_share_an_event(bus: Kafka, tmp_path: Path, usage: Usage) -> None:
    process = Process(tmp_path, usage, bus)
    batches = [(await process.append(seed))[0] for seed in range(200)]
    await process.relay.start()
    await process.relay.stop()
    [record] = await predictions(bus)
    assert (record.rows, record.answered, record.sequence) == (200, 200, 1)
    np.testing.assert_array_equal(unpack(record.x, np.float32, 2), np.concatenate([each.x for each in batches]))
