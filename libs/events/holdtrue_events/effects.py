"""The effect of records on the database, exactly once: inbox row, handlers, outbox rows in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from holdtrue_contracts.actor import Actor, ActorKind, service_actor
from holdtrue_contracts.catalogue import EVENTS, TOPICS
from holdtrue_contracts.codec import Event, MalformedEvent, UnknownEventType, decode
from holdtrue_contracts.dead_letter import DeadLetter, header, replayed_for, storable, tenant_of
from holdtrue_core.ids import uuid7
from prometheus_client import Counter, Gauge

from .dead_letters import DeadLetters
from .inbox import claim, forget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .kafka import Incoming, Kafka
    from .outbox import Outbox, Transaction
    from .subscriptions import AnyHandler

_MESSAGE_CHARACTERS = 1000
_log = structlog.stdlib.get_logger("holdtrue.react")
_handled = Counter("holdtrue_events_handled_total", "Events whose effect was committed.", ["service"])
_duplicate = Counter("holdtrue_events_duplicate_total", "Events that came again and had no effect.", ["service"])
_dead_letters = Gauge("holdtrue_dead_letters", "Dead letters that were not replayed.", ["service"])
_skipped = Counter("holdtrue_events_skipped_total", "Events that nobody here wants, by reason.", ["service", "reason"])
_rejected = Counter(
    "holdtrue_events_rejected_total", "Events that became dead letters, by reason.", ["service", "reason"]
)


class Rejected(Exception):
    """The domain refuses an event: it becomes a dead letter at once."""

    def __init__(self, message: str, *, reason: str = "rejected") -> None:
        """Say why; `reason` is a stable word for programs."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record that concerns us, and what is to be done about it.

    Attributes:
        claim: (tenant, id) in the inbox.
        letter: Id of the dead letter that it replays, or empty.
    """

    record: Incoming
    claim: tuple[str, str]
    letter: str
    todo: tuple[AnyHandler, Event[Any]] | MalformedEvent


class Effects:
    """What one consumer makes of records."""

    def __init__(self, outbox: Outbox, kafka: Kafka, consumer: str, handlers: Mapping[str, AnyHandler]) -> None:
        """Bind to the service's outbox; `consumer` names us in the inbox."""
        self._outbox = outbox
        self._kafka = kafka
        self._consumer = consumer
        self._handlers = handlers
        self._service = outbox.database.schema
        self._actor = service_actor(self._service)

    async def apply(self, records: Sequence[Incoming]) -> None:
        """Give records of one partition their effect, all or (raising what a handler raised) none.

        Malformed ones become dead letters; what was seen before, or is for others, has no effect.
        """
        deliveries = [delivery for record in records if (delivery := self._read(record)) is not None]
        if not deliveries:
            return
        async with self._outbox.transaction(self._actor) as tx:
            fresh = await claim(tx, self._consumer, [delivery.claim for delivery in deliveries])
            count = len(fresh)
            for delivery in deliveries:
                if delivery.claim in fresh:
                    fresh.remove(delivery.claim)
                    await self._effect(tx, delivery)
                    await self._settle(tx, delivery)
        _handled.labels(self._service).inc(count)
        _duplicate.labels(self._service).inc(len(deliveries) - count)

    async def tidy(self, topics: Iterable[str]) -> None:
        """Forget what cannot come again, and count the dead letters that wait for a decision."""
        async with self._outbox.transaction(self._actor) as tx:
            await forget(tx, self._consumer, topics)
            waiting = await tx.fetchval("SELECT count(*) FROM dead_letter WHERE replayed_at IS NULL")
        _dead_letters.labels(self._service).set(waiting)

    async def bury(self, record: Incoming, reason: str, message: str) -> None:
        """Make a well-formed event that its handler cannot handle a dead letter, instead of its effect."""
        delivery = self._read(record)
        if delivery is None:
            return
        async with self._outbox.transaction(self._actor) as tx:
            if await claim(tx, self._consumer, [delivery.claim]):
                await self._keep(tx, delivery, reason, message)
                await self._settle(tx, delivery)

    async def _effect(self, tx: Transaction, delivery: Delivery) -> None:
        if isinstance(delivery.todo, MalformedEvent):
            await self._keep(tx, delivery, delivery.todo.code, str(delivery.todo))
            return
        handler, event = delivery.todo
        tx.actor = event.actor
        tx.traceparent = event.traceparent
        await handler(event, tx)

    async def _settle(self, tx: Transaction, delivery: Delivery) -> None:
        if delivery.letter:
            tenant, _ = delivery.claim
            await DeadLetters(tx).settle(tenant, delivery.letter)

    async def _keep(self, tx: Transaction, delivery: Delivery, reason: str, message: str) -> None:
        tenant, _ = delivery.claim
        record = delivery.record
        tx.actor = Actor(tenant, self._service, ActorKind.SERVICE)
        letter = DeadLetter(
            uuid7(),
            tenant,
            self._consumer,
            self._kafka.name(record.topic),
            record.partition,
            record.offset,
            reason,
            storable(message[:_MESSAGE_CHARACTERS]),
            self._outbox.clock.now(),
            record.key,
            record.value,
            tuple(record.headers),
        )
        await DeadLetters(tx).add(letter)
        tx.after_commit(_rejected.labels(self._service, reason).inc)
        _log.error(
            "dead letter",
            letter=letter.id,
            event_id=letter.event_id,
            type=letter.event_type,
            reason=reason,
            message=message,
        )

    def _read(self, record: Incoming) -> Delivery | None:
        """Return what is to be done about a record, or None if it is not for us."""
        topic = self._kafka.name(record.topic)
        if record.value is None and record.key is not None and TOPICS[topic].cleanup == "compact":
            return self._skip("tombstone")
        recipient, letter = replayed_for(record.headers)
        if recipient and recipient != self._consumer:
            return self._skip("replay for another")
        name = header(record.headers, "ce_type")
        if name in EVENTS and name not in self._handlers:
            return self._skip("not subscribed")
        try:
            event = decode(record.key, record.value, record.headers)
        except UnknownEventType:
            return self._skip("unknown type")
        except MalformedEvent as fault:
            place = f"{topic}/{record.partition}/{record.offset}"
            return Delivery(record, (tenant_of(record.headers), place), letter, fault)
        seen = f"{event.id}#{letter}" if letter else event.id
        return Delivery(record, (event.tenant, seen), letter, (self._handlers[event.type], event))

    def _skip(self, reason: str) -> None:
        _skipped.labels(self._service, reason).inc()
