"""The shell of the folds: a Faust app that reads predictions and labels, with PostgreSQL's word on where to go on.

What makes it exact, and pinned by a test because it uses names that Faust keeps to itself:
- Kafka's committed offset only shows lag. On assignment Faust seeks through `seek_to_committed` of the transport's
  consumer, after its signals; ours seeks to the positions in PostgreSQL.
- Faust's thread fetches by `_fetch_records`, and ends with the first record that aiokafka cannot take apart; ours
  has a stand-in for it.
- Faust acknowledges and drops a batch when its agent raises, so nothing escapes the agent: it tries again, and where
  records are missing it seeks back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, cast

import faust
import structlog
from aiokafka import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from holdtrue_core.errors import HoldtrueError
from holdtrue_events.backoff import Backoff
from holdtrue_events.fetch import fetch
from holdtrue_events.fold import Fenced
from holdtrue_events.kafka import METADATA_MILLISECONDS
from holdtrue_events.quiet import quieten_aiokafka
from holdtrue_events.watchdog import ConsumerStalled, Watchdog

from holdtrue_monitor.fold import Gap, NotYet, StreamRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from aiokafka import AIOKafkaConsumer
    from faust.types import EventT
    from holdtrue_events.kafka import Incoming, Kafka

    from holdtrue_monitor.fold import Fold
    from holdtrue_monitor.projections import Projections
    from holdtrue_monitor.settings import MonitorSettings

_GROUP = "monitor-folds"
_TRIES = 5
_LOOK_SECONDS = 1.0
_BUFFERED_RECORDS = 64
_log = structlog.stdlib.get_logger("holdtrue.monitor.stream")


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust's thread, which stands in for records that aiokafka cannot take apart."""

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: AbstractSet[TP],
        timeout: float | None = None,  # noqa: ASYNC109  Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Incoming]]:
        partitions = [TopicPartition(tp.topic, tp.partition) for tp in active_partitions]
        if not partitions or not self.consumer.flow_active:
            return {}
        found = await fetch(consumer, int(1000 * (timeout or 0)), max_records or _BUFFERED_RECORDS, partitions)
        return {TP(partition.topic, partition.partition): records for partition, records in found.items()}


class _Consumer(driver.Consumer):
    """Faust's consumer, which goes on where PostgreSQL says."""

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=cast("Any", self).beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        offsets = await cast("_App", self.app).shell.begin(self)
        await self.seek_wait(offsets)
        return offsets


class _Transport(driver.Transport):
    Consumer = _Consumer


class _App(faust.App):
    """A Faust app that belongs to a `Stream`."""

    shell: Stream

    def _new_transport(self) -> driver.Transport:
        return _Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Leave nothing in the current folder: tables, for which it would be, are not used."""


class Stream:
    """Reads the topics of the folds. Any number of processes may: Kafka divides the partitions among them."""

    name = "stream"

    def __init__(
        self, kafka: Kafka, folds: Sequence[Fold[Any]], projections: Projections, settings: MonitorSettings
    ) -> None:
        """Feed these folds."""
        self._kafka = kafka
        self._folds = {kafka.topic(fold.topic): fold for fold in folds}
        self._projections = projections
        self._settings = settings
        self._stopping = asyncio.Event()
        self._watchdog = Watchdog()
        self._positions: dict[TP, int] = {}
        self._waiting: set[str] = set()
        self._rewound: dict[str, dict[int, int]] = {}

    async def start(self) -> None:
        """Nothing to prepare: Kafka may be away."""

    async def run(self) -> None:
        """Read until the stop. A reader that breaks or stands still is built anew, but not for ever."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                await self._read()
            except ConsumerStalled as error:
                self._watchdog.rebuilt(error)
            except Exception as error:
                if backoff.failures >= _TRIES:
                    raise
                _log.warning("the stream broke", error=f"{type(error).__name__}: {error}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), backoff.next())

    async def stop(self) -> None:
        """Let the transaction in hand end, and leave."""
        self._stopping.set()

    async def begin(self, consumer: driver.Consumer) -> dict[TP, int]:
        """Return where each assigned partition goes on; what Kafka removed meanwhile is skipped, with an alarm."""
        backoff = Backoff()
        while True:
            try:
                return await self._begin(consumer)
            except (HoldtrueError, Fenced) as error:
                _log.warning("positions cannot be read", error=str(error))
                await asyncio.sleep(backoff.next())

    async def _begin(self, consumer: driver.Consumer) -> dict[TP, int]:
        offsets: dict[TP, int] = {}
        assigned = consumer.assignment()
        earliest: Mapping[TP, int] = await consumer.earliest_offsets(*assigned) if assigned else {}
        for topic, fold in self._folds.items():
            mine = {tp.partition: tp for tp in assigned if tp.topic == topic}
            for partition, following in (await fold.positions(mine)).items():
                tp = mine[partition]
                offsets[tp] = max(following, earliest[tp])
                if following < earliest[tp]:
                    await fold.skip(partition, following, earliest[tp])
        self._positions = dict(offsets)
        return offsets

    async def _read(self) -> None:
        """Run one Faust app until the stop or until it breaks."""
        app = self._app()
        try:
            await app.start()
            while not self._stopping.is_set() and not app.crashed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _LOOK_SECONDS)
                self._watch(app)
            if app.crashed:
                raise RuntimeError(f"Faust gave up: {app.crash_reason!r}")
        finally:
            await app.stop()

    def _watch(self, app: _App) -> None:
        if self._waiting or not app.consumer:
            return
        ends = {tp: app.consumer.highwater(tp) or 0 for tp in self._positions.keys() & app.consumer.assignment()}
        positions = {tp: self._positions[tp] for tp in ends}
        self._watchdog.look(positions, ends)  # pyright: ignore[reportArgumentType] - Faust's TP has the same fields

    def _app(self) -> _App:
        quieten_aiokafka()
        for chatty in ("faust", "mode", __name__):  # the last is the logger of the classes above
            logging.getLogger(chatty).setLevel(logging.WARNING)
        app = _App(
            self._kafka.prefix + _GROUP,
            broker=f"kafka://{self._kafka.bootstrap}",
            store="memory://",
            key_serializer="raw",
            value_serializer="raw",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            consumer_metadata_max_age_ms=METADATA_MILLISECONDS,
            consumer_group_instance_id=self._kafka.instance_id or None,
            broker_client_id=self._kafka.client_id,
            broker_session_timeout=6.0,
            broker_heartbeat_interval=1.5,
            broker_commit_interval=5.0,
            stream_buffer_maxsize=_BUFFERED_RECORDS,
        )
        app.shell = self
        for name, fold in self._folds.items():
            self._add_agent(app, name, fold)
        return app

    def _add_agent(self, app: _App, name: str, fold: Fold[Any]) -> None:
        topic = cast("Any", app).topic(name, key_type=bytes, value_type=bytes, allow_empty=True)

        async def agent(stream: Any) -> None:  # noqa: ANN401 - Faust's stream has no usable type
            taken = stream.noack_take(self._settings.commit_records, within=self._settings.commit_seconds)
            async for events in taken:
                await self._fold(app, name, fold, [_record(event) for event in events])
                for event in events:
                    await stream.ack(event)

        cast("Any", app).agent(topic, name=f"fold {fold.topic}")(agent)

    async def _fold(self, app: _App, topic: str, fold: Fold[Any], records: Sequence[StreamRecord]) -> None:
        """Fold the records, however long it takes; let nothing escape."""
        try:
            await self._try(topic, fold, records)
        except Gap as gap:
            await self._rewind(app, topic, gap)
        except Exception:  # noqa: BLE001 - nothing may escape an agent
            _log.exception("records break the fold; one at a time shows which", topic=topic)
            for record in records:
                await self._fold_one(app, topic, fold, record)

    async def _fold_one(self, app: _App, topic: str, fold: Fold[Any], record: StreamRecord) -> None:
        for attempt in range(_TRIES):
            try:
                await self._try(topic, fold, [record])
            except Gap as gap:
                await self._rewind(app, topic, gap)
            except Exception as error:  # noqa: BLE001 - nothing may escape an agent
                if attempt + 1 == _TRIES:
                    _log.exception("a record breaks the fold", partition=record.partition, offset=record.offset)
                    await self._bury(fold, record, error)
                continue
            return

    async def _bury(self, fold: Fold[Any], record: StreamRecord, error: Exception) -> None:
        backoff = Backoff()
        while True:
            try:
                return await fold.bury(record, error)
            except HoldtrueError as trouble:
                _log.warning("a dead letter waits", error=trouble.message)
                await asyncio.sleep(backoff.next())

    async def _try(self, topic: str, fold: Fold[Any], records: Sequence[StreamRecord]) -> None:
        """Fold the records; wait while the database is away, and while what they refer to may be on its way."""
        backoff, ends, final = Backoff(), None, False
        while True:
            try:
                await fold.fold(records, final=final)
                break
            except NotYet as error:
                _log.info("records wait", topic=topic, why=str(error))
                ends = ends or await self._projections.ends()
                final = await self._projections.reached(ends)
            except HoldtrueError as error:
                if not (error.retriable or isinstance(error, Fenced)):
                    raise
                _log.warning("records wait", topic=topic, why=error.message)
            self._waiting.add(topic)
            await asyncio.sleep(0 if final else backoff.next())
        self._waiting.discard(topic)
        self._rewound.pop(topic, None)
        for record in records:
            tp = TP(topic, record.partition)
            self._positions[tp] = max(self._positions.get(tp, 0), record.offset + 1)

    async def _rewind(self, app: _App, topic: str, gap: Gap) -> None:
        """Seek back, once: records that were read before the seek are still on their way and show the same gap."""
        if self._rewound.get(topic) == gap.positions:
            return
        self._rewound[topic] = gap.positions
        _log.warning("records are missing, going back", topic=topic, positions=gap.positions)
        assigned = app.consumer.assignment()
        back = {
            tp: gap.positions[tp.partition] for tp in assigned if tp.topic == topic and tp.partition in gap.positions
        }
        if back:
            await app.consumer.seek_wait(back)


def _record(event: EventT[bytes]) -> StreamRecord:
    message = event.message
    headers = tuple((name, value or b"") for name, value in cast("Sequence[tuple[str, bytes | None]]", message.headers))
    return StreamRecord(message.partition, message.offset, message.key, message.value, headers)
