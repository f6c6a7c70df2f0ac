"""What the monitor does by the clock."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from holdtrue_core.errors import HoldtrueError

from holdtrue_monitor.domain.windows import closed
from holdtrue_monitor.store.windows import WindowStore

if TYPE_CHECKING:
    from holdtrue_contracts.actor import Actor
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox

    from holdtrue_monitor.evaluation import Evaluation
    from holdtrue_monitor.settings import MonitorSettings
    from holdtrue_monitor.store.windows import Window

_BATCH = 200
_log = structlog.stdlib.get_logger("holdtrue.monitor")


class Evaluator:
    """Evaluates windows as they close, and again when later labels change them.

    Several processes may do so at once: each window is evaluated under the lock of its row.
    """

    name = "evaluator"

    def __init__(
        self, outbox: Outbox, actor: Actor, evaluation: Evaluation, settings: MonitorSettings, clock: Clock
    ) -> None:
        """Keep what it works with."""
        self._outbox = outbox
        self._actor = actor
        self._evaluation = evaluation
        self._settings = settings
        self._clock = clock
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Look until the stop. While the database is away it waits for it; any other fault ends the service."""
        while not self._stopping.is_set():
            try:
                await self.tick()
            except HoldtrueError as error:
                if not error.retriable:
                    raise
                _log.warning("windows wait", why=error.message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._settings.evaluate_seconds)

    async def stop(self) -> None:
        """Finish the window in hand."""
        self._stopping.set()

    async def tick(self) -> None:
        """Evaluate what is to be evaluated now."""
        for window in await self._due():
            if self._stopping.is_set():
                return
            async with self._outbox.transaction(self._actor) as tx:
                await self._evaluation.evaluate(tx, window.revision, window.start_ns)

    async def _due(self) -> list[Window]:
        now_ns = int(self._clock.now().timestamp() * 1e9)
        restate_after = timedelta(seconds=self._settings.restate_seconds)
        async with self._outbox.transaction(self._actor) as tx:
            store = WindowStore(tx)
            stale = await store.stale(now_ns, restate_after, _BATCH)
            watermarks = await store.watermarks(now_ns - self._settings.close_after_ns - 2 * self._settings.window_ns)
        return [
            window
            for window in stale
            if window.restatement >= 0 or closed(window.end_ns, watermarks, now_ns, self._settings.close_after_ns)
        ]
