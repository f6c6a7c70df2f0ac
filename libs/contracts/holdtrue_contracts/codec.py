"""CloudEvents 1.0 in binary mode over Kafka: attributes in headers, the protobuf message as the value.

Written by hand because it lies on every path: about three times as fast as the official SDK, which proves it in the
tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from holdtrue_contracts import catalogue
from holdtrue_contracts.actor import Actor
from holdtrue_contracts.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Sequence

    Headers = tuple[tuple[str, bytes | None], ...]

M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)

CONTENT_TYPE = b"application/protobuf"
UNREADABLE = "holdtrue_unreadable"
"""Header of a record that stands for one that could not be read: it says why."""
_REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_tenant", "ce_actor")
_LONGEST = {"ce_id": 256, "ce_tenant": 256, "ce_aggregateversion": 18}  # what columns and their indexes can hold


class MalformedEvent(ValueError):
    """A record that is not one of our events. `code` is for machines, the text says what was wrong."""

    def __init__(self, code: str, text: str) -> None:
        """Make the error with a stable code, for example `missing_header`."""
        super().__init__(text)
        self.code = code


class UnknownEventType(Exception):
    """A well-formed event of a type that this program does not know: a newer one, to be skipped and counted."""

    def __init__(self, name: str) -> None:
        """Remember the `ce_type`."""
        super().__init__(f"unknown event type {name}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Event(Generic[M_co]):
    """Something that happened. `time` is in UTC; `aggregate_version` and `traceparent` may be absent."""

    id: str
    type: str
    source: str
    time: datetime
    subject: str
    actor: Actor
    aggregate_version: int | None
    traceparent: str | None
    data: M_co

    @property
    def tenant(self) -> str:
        """The tenant that it belongs to."""
        return self.actor.tenant


@dataclass(frozen=True, slots=True)
class Record:
    """What a Kafka producer sends. `topic` is without any prefix; events have key and value, other records may not."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


def new_event(  # noqa: PLR0913  an event has as many attributes
    data: M,
    *,
    source: str,
    actor: Actor,
    time: datetime | None = None,
    event_id: str | None = None,
    subject: str | None = None,
    aggregate_version: int | None = None,
    traceparent: str | None = None,
) -> Event[M]:
    """Return `data` as an event with a fresh id, of now, about the object in its key field, unless given otherwise."""
    kind = catalogue.of(data)
    return Event(
        id=event_id or uuid7(),
        type=kind.name,
        source=source,
        time=time or datetime.now(UTC),
        subject=subject or getattr(data, kind.key_field),
        actor=actor,
        aggregate_version=aggregate_version,
        traceparent=traceparent,
        data=data,
    )


def encode(event: Event[Message]) -> Record:
    """Return the event as a record for its topic, keyed by tenant and key field."""
    kind = catalogue.of(event.data)
    headers: list[tuple[str, bytes | None]] = [
        ("content-type", CONTENT_TYPE),
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
        ("ce_time", _time_text(event.time)),
        ("ce_subject", event.subject.encode()),
        ("ce_tenant", event.actor.tenant.encode()),
        ("ce_actor", event.actor.to_header()),
    ]
    if event.aggregate_version is not None:
        headers.append(("ce_aggregateversion", b"%d" % event.aggregate_version))
    if event.traceparent is not None:
        headers.append(("traceparent", event.traceparent.encode()))
    key = catalogue.key(event.actor.tenant, getattr(event.data, kind.key_field))
    return Record(kind.topic, key, event.data.SerializeToString(), tuple(headers))


def decode(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Event[Message]:
    """Return the event of a record.

    Raises MalformedEvent (`missing_header`, `bad_header`, `bad_specversion`, `bad_content_type`, `no_value`,
    `bad_payload`, `bad_key`, `unreadable`) or UnknownEventType. A tombstone has no event: look at `value` first where
    they occur.
    """
    texts = _texts(headers)
    kind = catalogue.EVENTS.get(texts["ce_type"])
    if kind is None:
        raise UnknownEventType(texts["ce_type"])
    data = _payload(kind, value)
    actor = _actor(texts)
    expected = catalogue.key(actor.tenant, getattr(data, kind.key_field))
    if key != expected:
        raise MalformedEvent(
            "bad_key", f"record key: expected {expected!r} by tenant and {kind.key_field}, got {key!r}"
        )
    return Event(
        texts["ce_id"],
        kind.name,
        texts["ce_source"],
        _time(texts["ce_time"]),
        texts.get("ce_subject", ""),
        actor,
        _aggregate_version(texts),
        texts.get("traceparent"),
        data,
    )


def _texts(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    try:
        texts = {name: value.decode() for name, value in headers if value is not None}
    except UnicodeDecodeError as error:
        raise MalformedEvent("bad_header", f"headers: expected UTF-8, got {error.object!r}") from error
    if why := texts.get(UNREADABLE):
        raise MalformedEvent("unreadable", why)
    for name in _REQUIRED:
        if not texts.get(name):
            raise MalformedEvent("missing_header", f"header {name} is missing or empty")
    _check_storable(texts)
    if texts["ce_specversion"] != "1.0":
        raise MalformedEvent("bad_specversion", f"header ce_specversion: expected 1.0, got {texts['ce_specversion']!r}")
    if texts.get("content-type") != "application/protobuf":
        raise MalformedEvent(
            "bad_content_type", f"header content-type: expected application/protobuf, got {texts.get('content-type')!r}"
        )
    return texts


def _check_storable(texts: dict[str, str]) -> None:
    """Refuse what no database can keep: it would stop whoever has to note that the event was handled."""
    for name, longest in _LONGEST.items():
        if (length := len(texts.get(name, ""))) > longest:
            raise MalformedEvent("bad_header", f"header {name}: at most {longest} characters, got {length}")
    for name, text in texts.items():
        if "\0" in text:
            raise MalformedEvent("bad_header", f"header {name}: expected text without NUL, got {text!r}")


def _payload(kind: catalogue.EventType, value: bytes | None) -> Message:
    if value is None:
        raise MalformedEvent("no_value", f"{kind.name}: the record has no value")
    data = kind.message()
    try:
        data.ParseFromString(value)
    except DecodeError as error:
        raise MalformedEvent("bad_payload", f"value: {len(value)} bytes are not a {kind.name}: {error}") from error
    return data


def _actor(texts: dict[str, str]) -> Actor:
    try:
        actor = Actor.from_header(texts["ce_actor"].encode())
    except ValueError as error:
        raise MalformedEvent("bad_header", f"header ce_actor: {error}") from error
    if actor.tenant != texts["ce_tenant"]:
        raise MalformedEvent("bad_header", f"header ce_tenant: expected {actor.tenant!r}, got {texts['ce_tenant']!r}")
    return actor


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        utc = time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise MalformedEvent("bad_header", f"header ce_time: expected RFC 3339, got {text!r}") from error
    if time.tzinfo is None:
        raise MalformedEvent("bad_header", f"header ce_time: expected a time zone, got {text!r}")
    return utc


def _time_text(time: datetime) -> bytes:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()


def _aggregate_version(texts: dict[str, str]) -> int | None:
    text = texts.get("ce_aggregateversion")
    if text is None:
        return None
    if not text.isdecimal():
        raise MalformedEvent("bad_header", f"header ce_aggregateversion: expected a number, got {text!r}")
    return int(text)
