"""The platform's messages as plain values, for output."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message


def plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON-able values: enums as words, times as RFC 3339, bytes as their number."""
    fields = cast("list[FieldDescriptor]", message.DESCRIPTOR.fields)
    return {field.name: _value(message, field) for field in fields}


def moment(ns: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339; 0 as nothing."""
    return _rfc3339(datetime.fromtimestamp(ns / 1e9, UTC)) if ns else ""


def time_text(time: Timestamp) -> str:
    """Return a time as RFC 3339; an absent one as nothing."""
    return _rfc3339(time.ToDatetime(UTC)) if time.seconds else ""


def _value(message: Message, field: FieldDescriptor) -> Any:  # noqa: ANN401  any JSON value
    value = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_single(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Timestamp):
        return time_text(value)
    if field.message_type:
        return plain(value)
    if field.enum_type:
        return _word(field.enum_type.values_by_number[value].name, field.enum_type.name)
    return f"{len(value)} bytes" if isinstance(value, bytes) else value


def _word(name: str, enum: str) -> str:
    """Strip the enum's own name, in capitals, from the value's."""
    prefix = "".join(f"_{c}" if c.isupper() else c for c in enum).upper().lstrip("_") + "_"
    return name.removeprefix(prefix).lower().replace("_", " ")


def _rfc3339(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
