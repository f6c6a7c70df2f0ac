"""The relay: takes the spool to Kafka, on a thread and an event loop of its own.

It goes in rounds. A round is a stretch of the spool, grouped into events, written down, sent one event after the other,
each until Kafka has it. So the events of a spool reach their partitions in the order of their sequence numbers, and
after a crash at most one round is sent again, under the same ids and numbers.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
import uvloop
from aiokafka.errors import KafkaError
from holdtrue_contracts import codec
from holdtrue_contracts.ids import uuid7
from holdtrue_events.backoff import Backoff
from holdtrue_events.kafka import abort

from holdtrue_inference.domain import records
from holdtrue_inference.domain.records import Chunk
from holdtrue_inference.store.frames import DiskFull
from holdtrue_inference.store.progress import Message, Progress, Round
from holdtrue_inference.store.spool import Position, SpoolReader, SpoolWriter, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aiokafka import AIOKafkaProducer
    from holdtrue_contracts.actor import Actor
    from holdtrue_events.kafka import Kafka

    from holdtrue_inference.prediction_log import PredictionLog

SOURCE = "holdtrue/inference"
ROUND_BYTES = 4 << 20
_SEND_SECONDS = 15.0
_FULL_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 5.0

_log = structlog.stdlib.get_logger("holdtrue.inference.relay")


class Sender:
    """Sends records one after the other, each until Kafka has it."""

    def __init__(self, kafka: Kafka) -> None:
        """Take where Kafka is."""
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None

    async def send(self, record: codec.Record) -> None:
        """Return when Kafka has the record; tries for ever, with a new producer after every failure."""
        backoff = Backoff(longest=_LONGEST_PAUSE_SECONDS)
        topic = self._kafka.topic(record.topic)
        while True:
            try:
                producer = await self._connected()
                async with asyncio.timeout(_SEND_SECONDS):
                    await producer.send_and_wait(topic, record.value, record.key, headers=list(record.headers))
            except (KafkaError, OSError, TimeoutError) as error:
                _log.warning("Kafka does not take the prediction log; it stays in the spool", error=repr(error))
                await self.close()
                await asyncio.sleep(backoff.next())
            else:
                return

    async def close(self) -> None:
        """Leave Kafka; what it did not acknowledge will be sent again, so there is nothing to wait for."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await abort(producer)

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = self._kafka.producer()
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer


class SpoolRelay:
    """Takes one spool to Kafka."""

    def __init__(self, folder: Path, usage: Usage, sender: Sender, actor: Actor) -> None:
        """Go on where the spool's record of progress ends."""
        self._sender = sender
        self._actor = actor
        self._spool_id = folder.name
        self._progress = Progress(folder)
        last = self._progress.last
        self._reader = SpoolReader(folder, usage, last.start if last else Position())

    async def finish_last(self) -> None:
        """Send again the round that a crash may have interrupted: what is left of it where the disk has lost a part.

        An event that had arrived whole stays so, because its resend has the same number.
        """
        last = self._progress.last
        if last is None:
            return
        read: dict[int, Chunk] = {}
        while self._reader.position.number < last.stop.number and (pieces := self._reader.read(1)):
            read[self._reader.position.number - 1 - last.start.number] = Chunk.decode(pieces[0])
        if missing := {place for message in last.messages for place in message.chunks} - read.keys():
            _log.error("pieces of an interrupted round are gone", spool=self._spool_id, pieces=len(missing))
        await self._send(last, read)
        self._reader.seek(last.stop)

    async def round(self) -> tuple[int, int]:
        """Send the next round; return its bytes, 0 at the end of the spool, and the number of its last chunk."""
        start = self._reader.position
        pieces = self._reader.read(ROUND_BYTES)
        if not pieces:
            return 0, 0
        read = dict(enumerate(map(Chunk.decode, pieces)))
        last = self._progress.last
        current = Round(
            start=start,
            stop=self._reader.position,
            sequence=last.next_sequence if last else 1,
            messages=[Message(uuid7(), places) for places in records.group(list(read.values()))],
        )
        await self._record(current)
        self._reader.release(start)
        await self._send(current, read)
        return sum(map(len, pieces)), current.stop.number - 1

    async def _record(self, current: Round) -> None:
        """Write the round down; on a full disk wait until there is room for it.

        It blocks this thread's loop, which has nothing to do until the round is on the disk.
        """
        while True:
            try:
                self._progress.record(current)
            except DiskFull as error:
                _log.error("the relay waits for room on the disk", error=str(error))
                await asyncio.sleep(_FULL_SECONDS)
            else:
                return

    def remove(self) -> None:
        """Delete the spool, which Kafka has to its end."""
        self._reader.remove()

    def close(self) -> None:
        """Leave the spool where it is."""
        self._reader.close()

    async def _send(self, current: Round, read: Mapping[int, Chunk]) -> None:
        for offset, message in enumerate(current.messages):
            chunks = [read[place] for place in message.chunks if place in read]
            if not chunks:
                continue
            event = records.served(
                chunks, batch_id=message.batch_id, spool_id=self._spool_id, sequence=current.sequence + offset
            )
            await self._sender.send(
                codec.encode(codec.new_event(event, source=SOURCE, actor=self._actor, event_id=message.batch_id))
            )


class Relay:
    """The part of the service that relays this process's spool and what earlier ones left."""

    name = "relay"

    def __init__(  # noqa: PLR0913  the composition root knows them
        self,
        *,
        log: PredictionLog,
        writer: SpoolWriter,
        leftovers: Sequence[Path],
        usage: Usage,
        sender: Sender,
        actor: Actor,
        flush_seconds: float,
        sync_seconds: float,
        drain_seconds: float,
    ) -> None:
        """Take the longest that a chunk waits for company, between syncs, and for Kafka at the stop."""
        self._log = log
        self._writer = writer
        self._leftovers = leftovers
        self._usage = usage
        self._sender = sender
        self._actor = actor
        self._flush_seconds = flush_seconds
        self._sync_seconds = sync_seconds
        self._drain_seconds = drain_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="relay")
        self._stopping = False

    async def start(self) -> None:
        """Begin to relay."""
        loop = asyncio.get_running_loop()
        self._finished = loop.run_in_executor(self._thread, self._live)

    async def run(self) -> None:
        """Relay until the stop. Raises what the thread failed with: without it nothing may be recorded."""
        await asyncio.shield(self._finished)

    async def stop(self) -> None:
        """Send what is left, as long as `drain_seconds` allow; the rest waits on disk for the next start."""
        self._stopping = True
        self._log.appended.ring()
        self._log.urgent.ring()
        await self._finished
        self._thread.shutdown()

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._relay())

    async def _relay(self) -> None:
        async with asyncio.TaskGroup() as group:
            sync = group.create_task(self._sync())
            send = group.create_task(self._send())
            while not self._stopping:
                done, _ = await asyncio.wait([send, sync], timeout=self._sync_seconds)
                if done:
                    break
            await asyncio.wait([send], timeout=self._drain_seconds)
            send.cancel()
            sync.cancel()
        await self._sender.close()
        self._writer.close()

    async def _sync(self) -> None:
        """Make the spool survive a loss of power. A failure ends the process: the disk cannot be trusted."""
        synced = 1
        while True:
            await asyncio.sleep(self._sync_seconds)
            number = self._writer.next_number
            if number != synced:
                await asyncio.to_thread(self._writer.sync)
                synced = number

    async def _send(self) -> None:
        for folder in self._leftovers:
            await self._relay_leftover(folder)
        own = SpoolRelay(self._writer.folder, self._usage, self._sender, self._actor)
        try:
            while await self._relay_own(own):
                pass
            own.remove()
        finally:
            own.close()

    async def _relay_leftover(self, folder: Path) -> None:
        spool = SpoolRelay(folder, self._usage, self._sender, self._actor)
        try:
            await spool.finish_last()
            while (await spool.round())[0]:
                pass
            spool.remove()
        finally:
            spool.close()
        _log.info("sent what an earlier process had left", spool=folder.name)

    async def _relay_own(self, spool: SpoolRelay) -> bool:
        """Send what there is, or sleep until there is something; False when all is sent at the stop."""
        began = time.monotonic()
        woken, urgent = self._log.appended.lie_down(), self._log.urgent.lie_down()
        size, number = await spool.round()
        if size:
            self._log.arrived(number)
            if size < ROUND_BYTES:  # so it was all that there was when the round began
                self._usage.emptied_at = began
                if not self._stopping:
                    await _either(urgent, self._flush_seconds - (time.monotonic() - began))
        else:
            self._usage.emptied_at = time.monotonic()
            if self._stopping:
                return False
            await woken.wait()
            await _either(urgent, self._flush_seconds)
        return True


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
