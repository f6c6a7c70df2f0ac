"""The life of a service: start the parts in order, run them, stop them in reverse.

Exit status: 0 stopped as asked · 1 a part failed · 2 the settings are wrong · 3 the stop took longer than its grace.
Whoever started the process restarts it; nothing in here tries for ever in silence.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

import structlog
import uvloop

from holdtrue_core import settings as settings_module
from holdtrue_core.settings import ServiceSettings, SettingsError
from holdtrue_core.telemetry import configure_logging

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

S = TypeVar("S", bound=ServiceSettings)

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_GRACE = 3

_log = structlog.stdlib.get_logger("holdtrue.lifecycle")


class Part(Protocol):
    """Something with a life of its own inside a service: a server, a consumer, a worker, a pool."""

    name: str

    async def start(self) -> None:
        """Get ready; when this returns, the parts after it may rely on it."""
        ...

    async def run(self) -> None:
        """Work until `stop` was called. Returning earlier or raising stops the whole service."""
        ...

    async def stop(self) -> None:
        """Finish what is in hand and release everything; `run` returns then."""
        ...


@runtime_checkable
class Announces(Protocol):
    """A part that tells others whether the service is ready."""

    async def announce(self, *, ready: bool) -> None:
        """Say so: true once all parts run, false before the first is stopped."""
        ...


class Resource:
    """Base of parts that only have to be opened and closed: `run` waits for the stop."""

    name = "resource"

    def __init__(self) -> None:
        """Make it, not yet open."""
        self._stopped = asyncio.Event()

    async def open(self) -> None:
        """Acquire it."""

    async def close(self) -> None:
        """Release it."""

    async def start(self) -> None:
        """Acquire it."""
        await self.open()

    async def run(self) -> None:
        """Wait for the stop."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Release it."""
        await self.close()
        self._stopped.set()


@dataclass(frozen=True, slots=True)
class App(Generic[S]):
    """A service: its name, its settings, and the function that composes its parts in start order."""

    name: str
    settings: type[S]
    build: Callable[[S], Awaitable[Sequence[Part]]]


def run(app: App[S]) -> None:
    """Be the service until SIGTERM or SIGINT; never returns. `--help` and `--print-settings` show the settings."""
    arguments = _parser(app).parse_args()
    try:
        settings = settings_module.load(app.settings)
    except SettingsError as error:
        sys.stderr.write(f"holdtrue {app.name}: the settings are wrong\n{error}\n")
        sys.exit(EXIT_SETTINGS)
    if arguments.print_settings:
        sys.stdout.write(settings_module.show(settings) + "\n")
        sys.exit(0)
    configure_logging(app.name, settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(_Life(app.name, settings.grace_seconds).live(lambda: app.build(settings))))


def _parser(app: App[S]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m holdtrue_{app.name}",
        description=f"Be the {app.name} service until SIGTERM or Ctrl-C. Everything else is said by the environment:",
        epilog=settings_module.describe(app.settings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--print-settings", action="store_true", help="show the settings in force, without secrets")
    return parser


def settle() -> None:
    """Let the garbage collector free what it can now and never look at the rest again.

    Otherwise each full collection goes through every class and function of every library, which takes a good part of a
    busy server's time.
    """
    gc.collect()
    gc.freeze()


class _Life:
    """One life of one service."""

    def __init__(self, name: str, grace_seconds: float) -> None:
        self._name = name
        self._grace = grace_seconds
        self._stopping = asyncio.Event()
        self._status = 0
        self._running: list[tuple[Part, asyncio.Task[None]]] = []

    async def live(self, build: Callable[[], Awaitable[Sequence[Part]]]) -> int:
        """Go from build to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with asyncio.TaskGroup() as group:
            begin = group.create_task(self._begin(build, group))
            await self._stopping.wait()
            self._limit_stop()
            begin.cancel()
            await asyncio.wait([begin])
            await self._end()
        return self._status

    async def _begin(self, build: Callable[[], Awaitable[Sequence[Part]]], group: asyncio.TaskGroup) -> None:
        try:
            for part in await build():
                await part.start()
                self._running.append((part, group.create_task(self._watch(part), name=part.name)))
        except Exception:  # noqa: BLE001  whatever a part raises ends the service
            self._fail("the service did not start", None)
            return
        settle()
        await self._announce(ready=True)
        _log.info("ready", parts=[part.name for part, _ in self._running])

    async def _watch(self, part: Part) -> None:
        try:
            await part.run()
        except Exception:  # noqa: BLE001  whatever a part raises ends the service
            self._fail("a part failed", part)
            return
        if not self._stopping.is_set():
            self._fail("a part ended without being asked to", part)

    async def _end(self) -> None:
        _log.info("stopping")
        await self._announce(ready=False)
        for part, task in reversed(self._running):
            try:
                await part.stop()
            except Exception:  # noqa: BLE001  whatever a part raises ends the service
                self._fail("a part did not stop well", part)
                task.cancel()
            await asyncio.wait([task])
        _log.info("stopped", status=self._status)

    async def _announce(self, *, ready: bool) -> None:
        for part, _ in self._running:
            if isinstance(part, Announces):
                await part.announce(ready=ready)

    def _fail(self, what: str, part: Part | None) -> None:
        _log.error(what, part=part.name if part else None, exc_info=True)
        self._status = EXIT_FAILED
        self._stopping.set()

    def _limit_stop(self) -> None:
        """End the process when the grace is over, even if the loop or a thread hangs."""

        def give_up() -> None:
            sys.stderr.write(f"holdtrue {self._name}: not stopped after {self._grace:g} s, giving up\n")
            sys.stderr.flush()
            os._exit(EXIT_GRACE)

        timer = threading.Timer(self._grace, give_up)
        timer.daemon = True
        timer.start()
