"""The folds: records in, counts and position out, in one transaction.

`fold` takes records of several partitions, in order. What was counted before is skipped; where a record is missing it
raises `Gap`; what cannot be used becomes a dead letter in the same transaction. Any exception leaves all as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

import structlog
from google.protobuf.message import Message
from holdtrue_contracts.codec import Event, MalformedEvent, UnknownEventType, decode
from holdtrue_contracts.dead_letter import DeadLetter, replayed_for, tenant_of
from holdtrue_core.ids import uuid7
from holdtrue_events.dead_letters import DeadLetters
from holdtrue_events.fold import commit_offsets, load_offsets
from holdtrue_events.inbox import claim
from prometheus_client import Counter

from holdtrue_monitor.gaps import raise_gap

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from holdtrue_contracts.actor import Actor
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox, Transaction

M = TypeVar("M", bound=Message)

_MESSAGE_CHARACTERS = 1000
_log = structlog.stdlib.get_logger("holdtrue.monitor")
CONSUMER = "monitor"
"""Our name in dead letters and their replays."""
_skipped = Counter("holdtrue_monitor_skipped_total", "Records that were not counted, by reason.", ["topic", "reason"])
_counted = Counter("holdtrue_monitor_records_total", "Records that were counted.", ["topic"])


class Gap(Exception):
    """Records between the stored position and the ones at hand are missing: go back to `positions`."""

    def __init__(self, positions: dict[int, int]) -> None:
        """Remember where each of the partitions goes on."""
        super().__init__(f"records are missing after {positions}")
        self.positions = positions


class NotYet(Exception):
    """Something that a record refers to may still be on its way: try again; `final` says that it is not."""


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A record as it came."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Item(Generic[M]):
    """A record that is one of ours, decoded; `replayed` if it comes from the dead letters."""

    record: StreamRecord
    event: Event[M]
    replayed: bool


class Effect(Protocol[M]):
    """What a fold makes of the events of one topic."""

    topic: str
    message: type[M]

    async def apply(self, tx: Transaction, items: Sequence[Item[M]], reject: Reject, *, final: bool) -> None:
        """Write the effect of new records; refuse some by `reject`; raise NotYet unless `final`."""
        ...


class Reject:
    """Turns records into dead letters of a transaction."""

    def __init__(self, tx: Transaction, topic: str, clock: Clock) -> None:
        """Write in this transaction."""
        self._letters = DeadLetters(tx)
        self._topic = topic
        self._clock = clock

    async def __call__(self, record: StreamRecord, reason: str, message: str) -> None:
        """Keep the record as it came, with the reason."""
        _skipped.labels(self._topic, reason).inc()
        _log.warning("dead letter", topic=self._topic, partition=record.partition, offset=record.offset, why=message)
        letter = DeadLetter(
            id=uuid7(),
            tenant=tenant_of(record.headers),
            consumer=CONSUMER,
            topic=self._topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
            message=message,
            failed_at=self._clock.now(),
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        await self._letters.add(letter)


class Fold(Generic[M]):
    """One topic's fold."""

    def __init__(self, outbox: Outbox, actor: Actor, effect: Effect[M]) -> None:
        """Count for the actor's tenant."""
        self._outbox = outbox
        self._actor = actor
        self._effect = effect

    @property
    def topic(self) -> str:
        """The topic, without prefix."""
        return self._effect.topic

    async def fold(self, records: Sequence[StreamRecord], *, final: bool = False) -> None:
        """Count records and move the positions; raises Gap, NotYet, and Unavailable where the database is away."""
        by_partition = sorted(records, key=lambda record: (record.partition, record.offset))
        async with self._outbox.transaction(self._actor) as tx:
            await self._fold(tx, by_partition, final=final)

    async def bury(self, record: StreamRecord, error: Exception) -> None:
        """Make a dead letter of a record that breaks the program, so that the ones after it are counted."""
        async with self._outbox.transaction(self._actor) as tx:
            moves, fresh = await self._moves(tx, [record])
            if fresh:
                await commit_offsets(tx, self.topic, moves)
                reject = Reject(tx, self.topic, self._outbox.clock)
                await reject(record, "internal", f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS])

    async def skip(self, partition: int, expected: int, following: int) -> None:
        """Go on at `following` because Kafka no longer has what is before it, and raise the alarm about what is lost.

        A partition that was never read begins where Kafka begins, without alarm.
        """
        async with self._outbox.transaction(self._actor) as tx:
            await commit_offsets(tx, self.topic, {partition: (expected, following)})
            if expected:
                await raise_gap(tx, self.topic, partition, (expected, following), self._outbox.clock.now())

    async def positions(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the offset of the next record of each partition."""
        async with self._outbox.transaction(self._actor) as tx:
            return await load_offsets(tx, self.topic, partitions)

    async def _fold(self, tx: Transaction, records: Sequence[StreamRecord], *, final: bool) -> None:
        moves, fresh = await self._moves(tx, records)
        if not fresh:
            return
        await commit_offsets(tx, self.topic, moves)
        reject = Reject(tx, self.topic, self._outbox.clock)
        items = [item for record in fresh if (item := await self._item(tx, record, reject))]
        await self._effect.apply(tx, items, reject, final=final)
        _counted.labels(self.topic).inc(len(items))

    async def _moves(
        self, tx: Transaction, records: Sequence[StreamRecord]
    ) -> tuple[dict[int, tuple[int, int]], list[StreamRecord]]:
        """Return from where to where each partition moves, and the records that were not counted before."""
        expected = await load_offsets(tx, self.topic, {record.partition for record in records})
        fresh = _fresh(records, expected)
        return {r.partition: (expected[r.partition], r.offset + 1) for r in fresh}, fresh

    async def _item(self, tx: Transaction, record: StreamRecord, reject: Reject) -> Item[M] | None:
        consumer, letter = replayed_for(record.headers)
        if consumer and not await _claimed(tx, consumer, letter):
            return None
        try:
            event = decode(record.key, record.value, record.headers)
        except UnknownEventType:
            _skipped.labels(self.topic, "unknown_type").inc()
            return None
        except MalformedEvent as error:
            await reject(record, error.code, str(error))
            return None
        if event.tenant != self._actor.tenant or not isinstance(event.data, self._effect.message):
            _skipped.labels(self.topic, "not_ours").inc()
            return None
        return Item(record, cast("Event[M]", event), bool(consumer))


async def _claimed(tx: Transaction, consumer: str, letter: str) -> bool:
    """Whether a replayed record is for us, and for the first time: then its dead letter is settled."""
    tenant = tx.actor.tenant
    if consumer != CONSUMER or not await claim(tx, CONSUMER, [(tenant, f"replay/{letter}")]):
        return False
    await DeadLetters(tx).settle(tenant, letter)
    return True


def _fresh(records: Sequence[StreamRecord], expected: dict[int, int]) -> list[StreamRecord]:
    fresh: list[StreamRecord] = []
    for partition, group in groupby(records, key=lambda record: record.partition):
        following = expected[partition]
        for record in group:
            if record.offset > following:
                raise Gap(expected)
            if record.offset == following:
                fresh.append(record)
                following += 1
    return fresh
