"""A batch is what comes together: many under load, one alone at once."""

from __future__ import annotations

import asyncio

import pytest
from holdtrue_inference import gathering
from holdtrue_inference.domain.company import Company
from hypothesis import given
from hypothesis import strategies as st


def test_batches_grow_at_once_to_as_many_as_come_together() -> None:
    company, sizes = Company(), list[int]()
    for _ in range(12):
        sizes.append(min(company.wanted, 64))
        company.ran(sizes[-1])
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64, 64]


def test_a_lonely_caller_hardly_ever_waits() -> None:
    company, waited = Company(), 0
    for _ in range(10_000):
        waited += company.wanted > 1
        company.ran(1)
    assert 1 <= waited <= 50


def test_after_a_fall_it_grows_again_at_once() -> None:
    company = Company()
    for _ in range(100):
        company.ran(64)
    company.ran(1)
    assert company.wanted == 2


@given(st.lists(st.integers(1, 200)))
def test_never_more_than_twice_the_last_size_is_wanted(sizes: list[int]) -> None:
    company = Company()
    for size in sizes:
        company.ran(size)
        assert size <= company.wanted <= 2 * size


class Lane:
    """Collects what a gathering runs."""

    def __init__(self) -> None:
        self.waiting = 0
        self.batches: list[int] = []
        self.ran = asyncio.Event()
        self.gathering = gathering.Gathering(self._run)

    def take(self, *, full: bool = False) -> None:
        self.waiting += 1
        self.gathering.offer(self.waiting, full=full)

    async def batch(self) -> int:
        await self.ran.wait()
        self.ran.clear()
        return self.batches[-1]

    async def learn(self, size: int) -> None:
        """Make it want `size` for certain."""
        while self.batches[-1:] != [size]:
            for _ in range(size):
                self.take()
            await self.batch()

    def _run(self) -> int:
        size, self.waiting = self.waiting, 0
        self.batches.append(size)
        self.ran.set()
        return size


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "LONGEST_SECONDS", 3600.0)


async def test_the_first_runs_in_the_next_turn() -> None:
    lane = Lane()
    lane.take()
    await asyncio.sleep(0)
    assert lane.batches == [1]


@pytest.mark.usefixtures("patient")
async def test_who_is_alone_runs_when_the_process_has_nothing_to_do() -> None:
    lane = Lane()
    await lane.learn(8)
    lane.take()
    assert await lane.batch() == 1


class Processor:
    """Says how much of a processor the process has used, and knows when a gathering has looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._used = 0.0
        self._looked = asyncio.Event()
        monkeypatch.setattr(gathering, "time", self)

    def process_time(self) -> float:
        self._looked.set()
        return self._used

    async def used(self, seconds: float) -> None:
        """Be used for so long until somebody looks."""
        self._used += seconds
        self._looked.clear()
        await self._looked.wait()


@pytest.mark.usefixtures("patient")
async def test_while_the_process_is_busy_it_waits_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, processor = Lane(), Processor(monkeypatch)
    await lane.learn(8)
    lane.take()
    for _ in range(3):
        await processor.used(1e6)
        lane.take()
        await processor.used(0)
    assert await lane.batch() == 4


async def test_a_process_that_is_always_busy_runs_a_batch_all_the_same() -> None:
    lane = Lane()
    await lane.learn(8)
    lane.take()
    while not lane.ran.is_set():
        await asyncio.sleep(0)
    assert lane.batches[-1] == 1


async def test_a_full_batch_waits_for_nobody() -> None:
    lane = Lane()
    await lane.learn(8)
    lane.take(full=True)
    await asyncio.sleep(0)
    assert lane.batches[-1] == 1
