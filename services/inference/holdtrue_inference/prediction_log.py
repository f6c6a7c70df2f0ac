"""The prediction log between the event loop, which appends, and the relay's thread, which sends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_inference.store.spool import SpoolWriter, Usage


class Bell:
    """Wakes a sleeper on another thread's event loop. Ringing costs nothing while nobody sleeps."""

    def __init__(self) -> None:
        """Begin with nobody asleep."""
        self._sleeper: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def ring(self) -> None:
        """Wake whoever sleeps; from any thread."""
        if self._sleeper is not None:
            (loop, event), self._sleeper = self._sleeper, None
            loop.call_soon_threadsafe(event.set)

    def lie_down(self) -> asyncio.Event:
        """The event that the next ring sets. Look once more for work before waiting for it."""
        event = asyncio.Event()
        self._sleeper = asyncio.get_running_loop(), event
        return event


class PredictionLog:
    """Appends to the spool, and knows who waits for Kafka. All methods but `arrived` belong to the event loop."""

    def __init__(self, writer: SpoolWriter, usage: Usage, ack_timeout: float) -> None:
        """Take the seconds after which `replicated` makes do with the disk."""
        self._writer = writer
        self._usage = usage
        self._ack_timeout = ack_timeout
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._arrived = 0
        self.appended = Bell()
        """Rung by every chunk."""
        self.urgent = Bell()
        """Rung when somebody waits for Kafka before a reply."""

    @property
    def full(self) -> bool:
        """Whether it refuses everything at the moment."""
        return self._usage.full

    def append(self, chunks: Sequence[bytes]) -> int:
        """Keep chunks; return the number of the last. Raises SpoolFull."""
        number = self._writer.append(chunks)
        self.appended.ring()
        return number

    async def replicated(self, number: int) -> bool:
        """Wait until Kafka has the chunk; if that takes too long sync it to the disk instead and return False."""
        arrival = self._loop.create_future()
        self._waiting[arrival] = number
        self.urgent.ring()
        try:
            if number > self._arrived:  # looked at after the entry above, so that no arrival is missed
                await asyncio.wait_for(arrival, self._ack_timeout)
        except TimeoutError:
            await asyncio.to_thread(self._writer.sync)
            return False
        finally:
            self._waiting.pop(arrival, None)
        return True

    def arrived(self, number: int) -> None:
        """Kafka has every chunk up to that number; from the relay's thread."""
        self._arrived = number
        if self._waiting:
            self._loop.call_soon_threadsafe(self._release, number)

    def _release(self, number: int) -> None:
        for arrival, wanted in self._waiting.items():
            if wanted <= number and not arrival.done():
                arrival.set_result(None)
