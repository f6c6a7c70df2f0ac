"""Getting records into Kafka from a program without an event loop: a thread of its own, bounded, lossless.

Whoever offers waits while too many bytes are not yet acknowledged. What was offered stays here until Kafka has it with
`acks=all`; failures that may pass are repeated for as long as it takes, the same bytes with the same ids, so that
readers count them once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from holdtrue.errors import DeadlineExceeded, FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdtrue_contracts.codec import Record

MOST_RECORD_BYTES = 1_000_000
"""Largest record that is sent; Kafka's own default limit is a little above."""
_TICK_SECONDS = 0.02
_IN_FLIGHT = 16
_LONGEST_PAUSE_SECONDS = 5.0

_log = logging.getLogger("holdtrue.sender")


@dataclass
class Counts:
    """What happened so far, in rows and labels."""

    offered: int = 0
    acknowledged: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record that is ready to go: what it counts, and how many bytes it held back."""

    record: Record
    items: int
    size: int


@dataclass
class Sender:
    """The thread. `collect` is called there every 20 ms for what is to be sent; it must not block."""

    bootstrap: str
    prefix: str
    collect: Callable[[], Iterable[Parcel]]
    most_bytes: int
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        """Start the thread."""
        self._changed = threading.Condition()
        self._pending = 0
        self._failure: Exception | None = None
        self._last_error = ""
        self._working: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
        self._thread = threading.Thread(target=self._run, name="holdtrue-sender", daemon=True)
        self._thread.start()

    def reserve(self, size: int, items: int = 1) -> None:
        """Wait until there is room for `size` bytes of `items`, and take it; raises what made sending impossible."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._failure or not self._pending or self._pending + size <= self.most_bytes
            )
            self._check()
            self._pending += size
            self.counts.offered += items

    def flush(self, timeout: float) -> None:
        """Wait until everything that was offered is in Kafka; raises DeadlineExceeded after `timeout` seconds."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._failure or not self._pending, timeout)
            self._check()
        if not done:
            missing = self.counts.offered - self.counts.acknowledged
            raise DeadlineExceeded(
                f"{missing} of {self.counts.offered} records and labels are not acknowledged by Kafka at "
                f"{self.bootstrap} after {timeout:g} s: {self._last_error or 'no answer yet'}",
                hint="see what runs: holdtrue status",
            )

    def close(self) -> None:
        """Stop the thread; what is not acknowledged then is lost: `flush` first."""
        loop, task = self._working.result()
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it ended by itself a moment ago
                loop.call_soon_threadsafe(task.cancel)
            self._thread.join()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass  # closed
        except Exception as error:  # noqa: BLE001  the program that offers must hear of it
            self._fail(FailedPrecondition(f"Kafka at {self.bootstrap} refuses what is sent: {error!r}"))

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    async def _main(self) -> None:
        self._working.set_result((asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())))
        producer = await self._connected()
        slots = asyncio.Semaphore(_IN_FLIGHT)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    for parcel in self.collect():
                        await slots.acquire()
                        group.create_task(self._deliver(producer, parcel, slots))
                    await asyncio.sleep(_TICK_SECONDS)
        finally:
            await producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        """Return a producer as soon as a broker answers."""
        pause = _TICK_SECONDS
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                acks="all",
                enable_idempotence=True,
                max_request_size=MOST_RECORD_BYTES,
                max_batch_size=MOST_RECORD_BYTES,
            )
            try:
                await producer.start()
            except KafkaError as error:
                await producer.stop()
                pause = await self._pause(error, pause)
            except asyncio.CancelledError:
                await producer.stop()
                raise
            else:
                return producer

    async def _deliver(self, producer: Any, parcel: Parcel, slots: asyncio.Semaphore) -> None:  # noqa: ANN401  untyped
        """Try until Kafka has it; raises what no repetition would cure."""
        topic, record, pause = self.prefix + parcel.record.topic, parcel.record, _TICK_SECONDS
        while True:
            try:
                await producer.send_and_wait(topic, record.value, record.key, headers=list(record.headers))
            except KafkaError as error:
                if not error.retriable:
                    raise
                pause = await self._pause(error, pause)
            else:
                break
        slots.release()
        self._acknowledge(parcel)

    async def _pause(self, error: KafkaError, seconds: float) -> float:
        """Wait before the next try; return how long to wait before the one after."""
        self.counts.retries += 1
        self._last_error = repr(error)
        _log.warning("Kafka at %s: %r; trying again", self.bootstrap, error)
        await asyncio.sleep(seconds)
        return min(2 * seconds, _LONGEST_PAUSE_SECONDS)

    def _acknowledge(self, parcel: Parcel) -> None:
        with self._changed:
            self._pending -= parcel.size
            self.counts.acknowledged += parcel.items
            self._changed.notify_all()
