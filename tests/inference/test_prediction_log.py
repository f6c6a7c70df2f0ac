"""Between the event loop, which appends, and the relay's thread, which sends: nobody sleeps through anything."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from holdtrue_inference.prediction_log import Bell, PredictionLog
from holdtrue_inference.store.spool import Limits, Position, SpoolReader, SpoolWriter, Usage

if TYPE_CHECKING:
    from pathlib import Path

FOR_EVER = 3_600.0


class Spool:
    """A real spool, and how often it was synced."""

    def __init__(self, folder: Path, ack_timeout: float) -> None:
        self.usage = Usage(Limits(cap_bytes=100))
        self.writer = SpoolWriter(folder, self.usage)
        self.synced = 0
        self._sync = self.writer.sync
        self.writer.sync = self._counted
        self.log = PredictionLog(self.writer, self.usage, ack_timeout)

    def _counted(self) -> None:
        self._sync()
        self.synced += 1


@pytest.fixture
async def spool(tmp_path: Path) -> Any:
    spool = Spool(tmp_path, FOR_EVER)
    yield spool
    spool.writer.close()


async def test_what_is_appended_is_in_the_spool(spool: Spool) -> None:
    assert spool.log.append([b"a", b"b"]) == 2
    assert spool.log.append([b"c"]) == 3
    reader = SpoolReader(spool.writer.folder, spool.usage, Position())
    assert reader.read(1_000) == [b"a", b"b", b"c"]
    reader.close()
    assert not spool.log.full
    spool.log.append([b"x" * 100])
    assert spool.log.full


async def test_an_arrival_releases_all_up_to_its_number(spool: Spool) -> None:
    numbers = [spool.log.append([b"x"]) for _ in range(3)]
    first, second, third = (asyncio.create_task(spool.log.replicated(number)) for number in numbers)
    await asyncio.sleep(0)
    await asyncio.to_thread(spool.log.arrived, 2)
    assert await first
    assert await second
    assert not third.done()
    await asyncio.to_thread(spool.log.arrived, 3)
    assert await third
    assert spool.synced == 0


async def test_an_arrival_before_anybody_waits_is_not_missed(spool: Spool) -> None:
    number = spool.log.append([b"x"])
    await asyncio.to_thread(spool.log.arrived, number)
    assert await spool.log.replicated(number)


async def test_without_kafka_the_disk_has_to_do(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ack_timeout=0.001)
    number = spool.log.append([b"x"])
    assert not await spool.log.replicated(number)
    assert spool.synced == 1
    await asyncio.to_thread(spool.log.arrived, number)
    assert await spool.log.replicated(number), "and later it has arrived"
    spool.writer.close()


async def test_a_caller_that_leaves_is_forgotten(spool: Spool) -> None:
    waiting = asyncio.create_task(spool.log.replicated(spool.log.append([b"x"])))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not spool.log._waiting
    await asyncio.to_thread(spool.log.arrived, 1)


async def test_every_chunk_and_every_wait_rings(spool: Spool) -> None:
    appended, urgent = spool.log.appended.lie_down(), spool.log.urgent.lie_down()
    number = spool.log.append([b"x"])
    await appended.wait()
    assert not urgent.is_set()
    waiting = asyncio.create_task(spool.log.replicated(number))
    await urgent.wait()
    spool.log.arrived(number)
    assert await waiting


def test_a_bell_wakes_a_sleeper_of_another_thread_every_time() -> None:
    bell, rounds = Bell(), 200
    asleep, woken = threading.Semaphore(0), threading.Semaphore(0)

    async def sleep() -> None:
        for _ in range(rounds):
            event = bell.lie_down()
            asleep.release()
            await event.wait()
            woken.release()

    bell.ring()  # nobody sleeps
    sleeper = threading.Thread(target=lambda: asyncio.run(sleep()))
    sleeper.start()
    for _ in range(rounds):
        assert asleep.acquire(timeout=30)
        bell.ring()
        bell.ring()
        assert woken.acquire(timeout=30)
    sleeper.join()
