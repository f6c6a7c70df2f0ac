"""All topics, and all events with their topic and key, read from the message options of the protos at import."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf import message_factory

from holdtrue_contracts.options.v1.event_pb2 import event as event_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.descriptor import Descriptor, FileDescriptor
    from google.protobuf.message import Message

_AREAS = ("deployer", "inference", "monitor", "registry", "trainer")


@dataclass(frozen=True, slots=True)
class Topic:
    """A Kafka topic. `retention` None: kept for ever (compacted topics)."""

    name: str
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention: timedelta | None


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event. `name` is the protobuf full name and the `ce_type`, `key_field` the field that orders it."""

    name: str
    message: type[Message]
    topic: str
    key_field: str


def _kept(name: str, partitions: int, days: int) -> Topic:
    return Topic(name, partitions, "delete", timedelta(days=days))


def _compacted(name: str) -> Topic:
    return Topic(name, 3, "compact", None)


DEAD_LETTERS = "dead-letters.v1"
"""Topic of the events that nobody could handle: original bytes, reasons in headers; no event type of its own."""

_TOPICS = (
    _kept("data.v1", 6, 7),
    _kept("datasets.v1", 3, 365),
    _kept("runs.v1", 3, 365),
    _kept("model-versions.v1", 3, 365),
    _kept("rollouts.v1", 3, 365),
    _compacted("deployments.v1"),
    _compacted("replicas.v1"),
    _kept("predictions.v1", 12, 7),
    _kept("labels.v1", 12, 30),
    _kept("evaluations.v1", 3, 90),
    _kept("alerts.v1", 3, 90),
    _compacted("alert-state.v1"),
    _kept(DEAD_LETTERS, 3, 30),
)


def _files() -> Iterator[FileDescriptor]:
    for area in _AREAS:
        package = importlib.import_module(f"holdtrue_contracts.{area}.v1")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith("_pb2"):
                yield importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR


def _event_type(descriptor: Descriptor) -> EventType:
    options = descriptor.GetOptions().Extensions[event_option]
    return EventType(descriptor.full_name, message_factory.GetMessageClass(descriptor), options.topic, options.key)


def _events() -> Iterator[EventType]:
    for file in _files():
        for descriptor in file.message_types_by_name.values():
            if descriptor.GetOptions().HasExtension(event_option):
                yield _event_type(descriptor)


TOPICS: Mapping[str, Topic] = MappingProxyType({topic.name: topic for topic in _TOPICS})
"""Every topic by its name."""
EVENTS: Mapping[str, EventType] = MappingProxyType({event.name: event for event in _events()})
"""Every event type by its full name."""
_BY_CLASS: Mapping[type[Any], EventType] = {event.message: event for event in EVENTS.values()}


def of(message: Message | type[Message]) -> EventType:
    """Return the event type of a message or its class; raises TypeError if it is not declared as an event."""
    cls = message if isinstance(message, type) else type(message)
    found = _BY_CLASS.get(cls)
    if found is None:
        raise TypeError(
            f"{cls.DESCRIPTOR.full_name} is not an event: its proto lacks the option holdtrue.options.v1.event"
        )
    return found


def key(tenant: str, id: str) -> bytes:  # noqa: A002  the word that everybody uses for it
    """Return the record key of an object of a tenant."""
    return f"{tenant}/{id}".encode()
