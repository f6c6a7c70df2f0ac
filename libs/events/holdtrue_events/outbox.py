"""Publishing: events are written in the transaction of the change that they tell of, and relayed after it.

Collected while the transaction runs and inserted in one message with COMMIT, after the row locks of the change: so
the ids of one aggregate's events follow its versions, and the relay, which sends by id, keeps their order.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeVar

from holdtrue_contracts.catalogue import DEAD_LETTERS
from holdtrue_contracts.codec import Event, Record, encode, new_event
from holdtrue_core.clock import Clock, SystemClock
from holdtrue_core.errors import InvalidArgument
from holdtrue_storage import database

from .kafka import MAX_EVENT_BYTES, MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from google.protobuf.message import Message
    from holdtrue_contracts.actor import Actor
    from holdtrue_storage.database import Connection, Database


M = TypeVar("M", bound="Message")

SIGNAL = "outbox"
"""Channel of `Database.signal` that wakes the relay."""
_PUBLISH = "holdtrue_publish"
_INSERT = f"""PREPARE {_PUBLISH} (text, text, bytea, bytea, bytea) AS
INSERT INTO outbox (tenant, topic, key, value, headers) VALUES ($1, $2, $3, $4, $5)"""  # noqa: S608  our own constant
_PLAIN = re.compile(r"[\w.-]*", re.ASCII)
_LENGTHS = struct.Struct("<HI")
_NULL = 0xFFFF_FFFF


class Transaction(database.Transaction):
    """A database transaction that also publishes.

    Attributes:
        source: `ce_source` of its events.
        traceparent: W3C trace context that its events carry on, or None.
    """

    prepared: ClassVar = {_PUBLISH: _INSERT}

    def __init__(self, outbox: Outbox, where: Database, connection: Connection, actor: Actor) -> None:
        """Use `Outbox.transaction`."""
        super().__init__(where, connection, actor)
        self.source = outbox.source
        self.traceparent: str | None = None
        self._clock = outbox.clock
        self._rows: list[str] = []

    def publish(
        self, message: M, *, aggregate_version: int | None = None, subject: str = "", event_id: str | None = None
    ) -> Event[M]:
        """Publish an event when, and only if, the transaction commits; return it.

        `aggregate_version` is the version that the change made (`UPDATE … RETURNING version`), `subject` defaults to
        the object in the key field. Raises InvalidArgument for more than MAX_EVENT_BYTES.
        """
        event = new_event(
            message,
            source=self.source,
            actor=self.actor,
            time=self._clock.now(),
            event_id=event_id,
            subject=subject or None,
            aggregate_version=aggregate_version,
            traceparent=self.traceparent,
        )
        record = encode(event)
        size = len(record.key or b"") + len(record.value or b"")
        if size > MAX_EVENT_BYTES:
            raise InvalidArgument(f"{event.type}: {size} bytes, {MAX_EVENT_BYTES} are allowed: refer to a blob instead")
        self.send(record)
        return event

    def send(self, record: Record) -> None:
        """Send a record as it is, for the actor's tenant; `publish` is for events.

        Raises InvalidArgument for more than MAX_RECORD_BYTES: Kafka would refuse it for ever and hold up its topic.
        The topic of dead letters takes more, whatever the original was.
        """
        headers = pack_headers(record.headers)
        size = len(record.key or b"") + len(record.value or b"") + len(headers)
        if size > MAX_RECORD_BYTES and record.topic != DEAD_LETTERS:
            raise InvalidArgument(f"{record.topic}: {size} bytes with headers, {MAX_RECORD_BYTES} are allowed")
        tenant, topic = _text(self.actor.tenant), _text(record.topic)
        row = f"({tenant},{topic},{_bytes(record.key)},{_bytes(record.value)},{_bytes(headers)})"
        self._rows.append(f"EXECUTE {_PUBLISH}{row}")

    def ending(self) -> str:
        """Let the outbox rows travel with COMMIT: a round trip of their own costs more than the rows."""
        if not self._rows:
            return super().ending()
        self.after_commit(self.database.signal(SIGNAL).set)
        return ";".join([*self._rows, super().ending()])


class Outbox:
    """Opens transactions that publish.

    Attributes:
        database: Where.
        source: `ce_source` of the events, "holdtrue/<service>".
        clock: Gives the events' times.
    """

    def __init__(self, database: Database, source: str, clock: Clock | None = None) -> None:
        """Bind to the service's database."""
        self.database = database
        self.source = source
        self.clock = clock or SystemClock()

    def transaction(self, actor: Actor) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction; commits, rolls back and raises as `Database.transaction` does."""
        return self.database.unit_of_work(self._make, actor)

    def _make(self, where: Database, connection: Connection, actor: Actor) -> Transaction:
        return Transaction(self, where, connection, actor)


def _bytes(value: bytes | None) -> str:
    """Return an SQL literal; hexadecimal needs no quoting."""
    return "NULL" if value is None else f"'\\x{value.hex()}'"


@lru_cache(1024)
def _text(value: str) -> str:
    return f"'{value}'" if _PLAIN.fullmatch(value) else f"convert_from({_bytes(value.encode())},'UTF8')"


def pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Return record headers as bytes: for each, length of the name (u16), of the value (u32, all ones: null), both."""
    parts: list[bytes] = []
    for name, value in headers:
        raw = name.encode()
        parts += (_LENGTHS.pack(len(raw), _NULL if value is None else len(value)), raw, value or b"")
    return b"".join(parts)


def unpack_headers(packed: bytes) -> list[tuple[str, bytes | None]]:
    """Return what `pack_headers` packed."""
    headers: list[tuple[str, bytes | None]] = []
    position = 0
    while position < len(packed):
        name_size, value_size = _LENGTHS.unpack_from(packed, position)
        middle = position + _LENGTHS.size + name_size
        name = packed[position + _LENGTHS.size : middle].decode()
        position = middle + (0 if value_size == _NULL else value_size)
        headers.append((name, None if value_size == _NULL else packed[middle:position]))
    return headers
