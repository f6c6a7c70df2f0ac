"""Records of `data.v1`, read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from holdtrue_contracts.codec import Event, MalformedEvent, UnknownEventType, decode
from holdtrue_contracts.dead_letter import replayed_for
from holdtrue_contracts.registry.v1.datasets_pb2 import RecordsOffered
from prometheus_client import Counter

if TYPE_CHECKING:
    from holdtrue_events.kafka import Incoming

TOPIC = "data.v1"
CONSUMER = "registry.ingest"
"""Name of the group, and of the consumer in dead letters."""
MOST_ID_CHARACTERS = 200
"""Longest id of a batch or dataset: PostgreSQL indexes them, and a table's log must never name one that it refuses."""
_SKIPPED = Counter("holdtrue_registry_ingest_skipped", "Records of data.v1 that are not for us", ["type"])


@dataclass(frozen=True)
class Message:
    """A record with its event, or with the reason why it cannot be used; with neither it is not for us."""

    record: Incoming
    event: Event[RecordsOffered] | None = None
    reason: str = ""
    text: str = ""

    @property
    def letter(self) -> str:
        """Id of the dead letter of ours that it replays, or empty."""
        consumer, letter = replayed_for(self.record.headers)
        return letter if consumer == CONSUMER else ""


def read(record: Incoming) -> Message:
    """Decode a record; what cannot be used says why."""
    if replayed_for(record.headers)[0] not in ("", CONSUMER):
        return Message(record)
    try:
        event = decode(record.key, record.value, record.headers)
    except UnknownEventType as error:
        _SKIPPED.labels(error.name[:100]).inc()
        return Message(record)
    except MalformedEvent as error:
        return Message(record, None, error.code, str(error))
    if not isinstance(event.data, RecordsOffered):
        _SKIPPED.labels(event.type).inc()
        return Message(record)
    if fault := _fault(event.data):
        return Message(record, None, *fault)
    return Message(record, cast("Event[RecordsOffered]", event))


def _fault(offered: RecordsOffered) -> tuple[str, str] | None:
    """Return the reason and the text of what is wrong with the ids, or None."""
    if not offered.batch_id:
        return "no_batch_id", "batch_id is empty: without it a retry cannot be recognised"
    for name, text in (("batch_id", offered.batch_id), ("dataset_id", offered.dataset_id)):
        if len(text) > MOST_ID_CHARACTERS or not text.isprintable():
            expected = f"expected at most {MOST_ID_CHARACTERS} printable characters"
            return f"bad_{name}", f"{name}: {expected}, got {len(text)}: {text[:100]!r}"
    return None
