"""The world outside the platform: applications that predict, and producers that learn the truth later."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

from holdtrue_contracts.prediction_id import parse, time_ns

from .ledger import Chapter, Ledger
from .stream import FEATURES, Phase, Rows, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdtrue import Prediction, Producer

    from .pace import Pace

_LABEL_TICK = 0.1
"""Seconds between two looks for labels that are due."""
_LONGEST_DELAY = 5.0
"""Labels come after so many medians at the latest."""
_CALLS = 4
"""Calls under way at once."""
_CALL_DEADLINE = 10.0
"""Seconds that one call may take."""


_Due = tuple[str, int, dict[str, float]]
"""Prediction id, label, row."""


class Predictor(Protocol):
    """What the world asks: the SDK's ``Model``."""

    def predict(self, rows: Sequence[Mapping[str, float]], /, *, deadline: float) -> list[Prediction]:
        """Return one prediction a row."""
        ...


def row(x: Sequence[float]) -> dict[str, float]:
    """Return one row by column name."""
    return dict(zip(FEATURES, map(float, x), strict=True))


class World:
    """Sends rows at a steady rate; says the truth about each after its delay.

    Start `run` as a task; `enter` changes the phase at a window boundary; `finish` ends it when every label is out.
    """

    def __init__(self, pace: Pace, stream: Stream, model: Predictor, producer: Producer, dataset: str) -> None:
        """Prepare a world that has sent nothing yet."""
        self.ledger = Ledger()
        self._pace, self._stream, self._model = pace, stream, model
        self._producer, self._dataset = producer, dataset
        self._phase = Phase.STABLE
        self._sending = asyncio.Event()
        self._ended = False
        self._calls = asyncio.Semaphore(_CALLS)
        self._due: defaultdict[int, list[_Due]] = defaultdict(list)

    async def run(self) -> None:
        """Send rows and labels until `finish`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(group))
            group.create_task(self._label())

    async def enter(self, phase: Phase, name: str) -> Chapter:
        """Let a new chapter begin at the next window boundary, with no call under way across it."""
        await self._pause()
        boundary = await self._boundary()
        self.ledger.close(boundary)
        chapter = Chapter(name, boundary)
        self.ledger.chapters.append(chapter)
        self._phase = phase
        self._sending.set()
        return chapter

    async def finish(self) -> None:
        """Stop sending at a window boundary; the tasks end when the last label is out."""
        await self._pause()
        self.ledger.close(await self._boundary())
        self._ended = True
        self._sending.set()

    @property
    def finished(self) -> bool:
        """Whether `finish` has been called."""
        return self._ended

    async def _pause(self) -> None:
        self._sending.clear()
        for _ in range(_CALLS):
            await self._calls.acquire()
        for _ in range(_CALLS):
            self._calls.release()

    async def _boundary(self) -> int:
        width = self._pace.window_ns
        boundary = (time.time_ns() // width + 1) * width
        while (rest := boundary - time.time_ns()) > 0:  # noqa: ASYNC110 - the clock has no event
            await asyncio.sleep(rest / 1e9)
        return boundary

    async def _send(self, group: asyncio.TaskGroup) -> None:
        interval = self._pace.request_rows / self._pace.rows_per_second
        due = time.monotonic()
        while True:
            await self._sending.wait()
            if self._ended:
                return
            await self._calls.acquire()
            if not self._sending.is_set():
                self._calls.release()
                continue
            group.create_task(self._predict(self.ledger.chapters[-1]))
            due = max(due + interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def _predict(self, chapter: Chapter) -> None:
        rows = self._stream.take(self._pace.request_rows, self._phase)
        named = [row(x) for x in rows.x]
        self.ledger.sent += len(rows)
        try:
            answers = await asyncio.to_thread(self._model.predict, named, deadline=_CALL_DEADLINE)
        except Exception as error:  # noqa: BLE001 - whatever it was, the rows count as failed and the report says why
            self.ledger.errors.extend([str(error)] * len(rows))
            return
        finally:
            self._calls.release()
        chapter.record(
            [a.id for a in answers], [a.version for a in answers], [a.label == 1 for a in answers], rows.p.tolist()
        )
        self._remember(rows, named, answers)

    def _remember(self, rows: Rows, named: list[dict[str, float]], answers: Sequence[Prediction]) -> None:
        median = self._pace.label_median_seconds
        delays = self._stream.label_delays(len(rows), median).clip(max=_LONGEST_DELAY * median)
        now = time.monotonic()
        for x, y, answer, delay in zip(named, rows.y.tolist(), answers, delays.tolist(), strict=True):
            self._due[int((now + delay) / _LABEL_TICK) + 1].append((answer.id, y, x))

    async def _label(self) -> None:
        while self._due or not (self._ended and self._sending.is_set()):
            now = int(time.monotonic() / _LABEL_TICK)
            due = [entry for tick in sorted(t for t in self._due if t <= now) for entry in self._due.pop(tick)]
            await asyncio.to_thread(self._publish, due)
            await asyncio.sleep(_LABEL_TICK)

    def _publish(self, due: Sequence[_Due]) -> None:
        for prediction_id, y, x in due:
            self._producer.label(prediction_id, y)
            predicted_at = time_ns(parse(prediction_id).request_id) / 1e9
            self._producer.event(self._dataset, {**x, "fraud": y}, at=predicted_at)
