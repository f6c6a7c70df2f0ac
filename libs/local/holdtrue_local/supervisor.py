"""Keep programs running: start them, start them again when they die, stop them in order."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Literal

from .errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .processes import Program

State = Literal["waiting", "starting", "ready", "broken", "stopped"]

_FIRST_TRIES = 3
_PAUSE_SECONDS = (0.2, 15.0)  # after the first failure, at most
_STEADY_SECONDS = 60.0  # a program that ran so long has recovered: the next failure is a first one


class Keeper:
    """Keeps one program running.

    Attributes:
        state: `waiting` before the start, `starting`, `ready`, `broken` in the pause after a failure, `stopped`.
        restarts: How often it was started again.
        since: When the state began, seconds since the epoch.
    """

    def __init__(self, program: Program, report: Callable[[str, str], None]) -> None:
        """Take a program that is not started; `report(name, text)` hears what people should know."""
        self.program = program
        self.state: State = "waiting"
        self.restarts = 0
        self.since = time.time()
        self._report = report
        program.say = lambda text: report(program.name, text)
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def start(self) -> None:
        """Start, and return when the program is ready for the first time.

        Raises:
            StartError: it did not become ready in three tries.
        """
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """End the keeping first, then the program."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self.program.stop()
        self._enter("stopped")

    async def _keep(self) -> None:
        while True:
            reason = await self._live()
            self._failures += 1
            if self._failures >= _FIRST_TRIES and not self._ready.is_set():
                raise StartError(reason)
            self._enter("broken")
            pause = _pause(self._failures)
            self._report(self.program.name, f"{reason.partition(';')[0]}; starting it again in {pause:.1f} s")
            await asyncio.sleep(pause)
            self.restarts += 1

    async def _live(self) -> str:
        """One life of the program, from the start to the reason of its end."""
        self._enter("starting")
        self._report(self.program.name, "starting")
        began = time.monotonic()
        try:
            await self.program.start()
        except StartError as error:
            return str(error)
        self._enter("ready")
        self._report(self.program.name, f"ready ({time.monotonic() - began:.1f} s)")
        self._ready.set()
        status = await self.program.wait()
        if time.monotonic() - began > _STEADY_SECONDS:
            self._failures = 0
        return f"ended with status {status}"

    def _enter(self, state: State) -> None:
        self.state = state
        self.since = time.time()


async def start_all(keepers: Iterable[Keeper]) -> None:
    """Start side by side; the first failure is raised and the others are left to be stopped."""
    await asyncio.gather(*(keeper.start() for keeper in keepers))


async def stop_all(groups: Sequence[Sequence[Keeper]]) -> None:
    """Stop group after group, the members of one side by side."""
    for group in groups:
        await asyncio.gather(*(keeper.stop() for keeper in group))


def _pause(failures: int) -> float:
    first, longest = _PAUSE_SECONDS
    return min(longest, first * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)  # noqa: S311  no secret
