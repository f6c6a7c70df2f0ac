"""A lane with a small model whose every run can be watched, held and made to fail, and a log that shows what it got."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_contracts.ids import uuid7_bytes
from holdtrue_contracts.oip import client
from holdtrue_contracts.oip.inference_pb2 import ModelInferResponse
from holdtrue_inference.domain.errors import SpoolFull
from holdtrue_inference.domain.estimate import RunTime
from holdtrue_inference.domain.records import Chunk
from holdtrue_inference.lane import INLINE_SECONDS, Lane, Warm
from holdtrue_inference.metrics import Traffic
from holdtrue_models import Column, Signature

from tests.inference.requests import raw
from tests.inference.states import revision, state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision
    from numpy.typing import NDArray

SIGNATURE = Signature.binary((Column(name="a"), Column(name="b")), (0, 1), threshold=0.5)
POISON = 666.0
"""A value of column a that no model survives."""
QUICK, SLOW = INLINE_SECONDS / 2, INLINE_SECONDS * 2
"""Expected times of a run, on the event loop and in the model's thread."""


class Model:
    """Gives the fraction of column a as the score, and keeps what it was given. While `held` each run needs a turn."""

    def __init__(self, signature: Signature = SIGNATURE) -> None:
        self.signature = signature
        self.runs: list[NDArray[np.float32]] = []
        self.held = False
        self._started = threading.Semaphore(0)
        self._turns = threading.Semaphore(0)

    @property
    def seen(self) -> list[float]:
        """Column a of all rows that it ever got."""
        return [value for x in self.runs for value in x[:, 0].tolist()]

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self.runs.append(x)
        if self.held:
            self._started.release()
            assert self._turns.acquire(timeout=30)
        if (x[:, 0] == POISON).any():
            raise RuntimeError("the model cannot stand this")
        score = x[:, :1] % 1
        return np.concatenate([1 - score, score], axis=1)

    async def started(self) -> None:
        """Wait until a run that is held has begun."""
        assert await asyncio.to_thread(self._started.acquire, timeout=30)

    def let_go(self, *, for_ever: bool = True) -> None:
        """End the run that is held; hold the next ones only if this was not for ever."""
        self.held = not for_ever
        self._turns.release()


class Always(RunTime):
    """An estimate that learns nothing."""

    def __init__(self, seconds: float, per_row: float = 0.0) -> None:
        super().__init__([(1, seconds + per_row), (1_001, seconds + 1_001 * per_row)])

    def learn(self, rows: int, seconds: float) -> None:
        pass


class Log:
    """A prediction log in memory; no test about delivery may use it."""

    def __init__(self) -> None:
        self.full = False
        self.fails: Exception | None = None
        self.chunks: list[Chunk] = []
        self.acknowledged = asyncio.Event()
        self.asked: list[int] = []
        self.durable = True

    @property
    def request_ids(self) -> list[bytes]:
        """Of every recorded prediction."""
        joined = b"".join(bytes(chunk.request_ids) for chunk in self.chunks)
        return [joined[i : i + 16] for i in range(0, len(joined), 16)]

    def append(self, chunks: Sequence[bytes]) -> int:
        if self.fails is not None:
            raise self.fails
        self.chunks += [Chunk.decode(chunk) for chunk in chunks]
        return len(self.chunks)

    async def replicated(self, number: int) -> bool:
        self.asked.append(number)
        await self.acknowledged.wait()
        return self.durable


SPOOL_FULL = SpoolFull("the disk is full")


class Desk:
    """A lane and those who ask it."""

    def __init__(self, run_time: RunTime | None = None, revision_: Revision | None = None) -> None:
        self.model, self.log, self.traffic = Model(), Log(), Traffic()
        self.thread = ThreadPoolExecutor(1)
        revision_ = revision_ or revision()
        warm = Warm(self.model, run_time or Always(SLOW), "identity", self.thread)
        self.lane = Lane(state(1, revision_), revision_, warm, log=self.log, traffic=self.traffic, replica_id="host/0")
        self.ids: dict[float, bytes] = {}

    def ask(self, *values: float, remaining: float = 30.0, **fields: Any) -> asyncio.Future[bytes]:
        """Submit a request of so many rows; raises Refused."""
        x = np.array([[value, 0] for value in values], np.float32)
        self.ids[values[0]] = uuid7_bytes()
        return self.lane.submit(raw(("X", x), **fields), self.ids[values[0]], time.time_ns(), remaining)

    async def hold(self, value: float = 0.5) -> asyncio.Future[bytes]:
        """Keep the model busy with one request until it is let go."""
        self.model.held = True
        reply = self.ask(value)
        await self.model.started()
        return reply

    def close(self) -> None:
        self.model.let_go()
        self.thread.shutdown()


def read(reply: bytes) -> client.Reply:
    return client.read_reply(ModelInferResponse.FromString(reply))


def scores(reply: bytes) -> list[float]:
    """The positive class's probability of each row."""
    return read(reply).outputs["probabilities"][:, 1].tolist()
