"""When a batch runs: with as many requests as usually come together, or when nobody has come for a moment."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from holdtrue_inference.domain.company import Company

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_SECONDS = 0.002
"""Nobody more is expected when the process had nothing to do for so long."""
BUSY_SHARE = 0.3
"""Share of a core from which the process has something to do."""
LONGEST_SECONDS = 0.05
"""How long the first request of a batch may wait for others."""


class Gathering:
    """Calls `run`, which returns the size of the batch that it ran, at the right moment.

    The transport hands over one request a turn of the event loop, however many it holds, so a turn alone makes no
    batch. While it takes in requests and sends replies the process is busy, and waiting costs nobody anything.
    """

    def __init__(self, run: Callable[[], int]) -> None:
        """Belong to the running event loop."""
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._company = Company()
        self._waiting = 0
        self._seen = 0
        self._began = 0.0
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    def offer(self, waiting: int, *, full: bool) -> None:
        """So many requests wait and could run now; `full`: no more of them fit into a batch."""
        self._waiting = waiting
        if self._due:
            return
        if full or waiting >= self._company.wanted:
            self._due = True
            self._loop.call_soon(self._go)
        elif self._timer is None:
            self._began = self._loop.time()
            self._pause()

    def _pause(self) -> None:
        self._seen = self._waiting
        self._paused, self._used = self._loop.time(), time.process_time()
        self._timer = self._loop.call_later(PAUSE_SECONDS, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now < self._began + LONGEST_SECONDS and self._is_busy(now - self._paused):
            self._pause()
        else:
            self._go()

    def _is_busy(self, seconds: float) -> bool:
        return self._waiting > self._seen or time.process_time() - self._used > BUSY_SHARE * seconds

    def _go(self) -> None:
        self._due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        size = self._run()
        if size:
            self._company.ran(size)
