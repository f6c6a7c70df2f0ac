"""A dead letter: an event that could not be handled, as it came, and why.

On the topic `dead-letters.v1` it is the original record (key, value, headers) with headers `holdtrue_dead_*` added. Its
replay is the original record on its original topic with the header `holdtrue_replay: <consumer>/<id>`: that consumer
handles it although it knows the event, all others pass it over, and then says on `dead-letters.v1`, by a record without
value, that the letter is settled.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.actor import DEFAULT_TENANT
from holdtrue_contracts.catalogue import DEAD_LETTERS
from holdtrue_contracts.codec import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.codec import Headers

REPLAY = "holdtrue_replay"
"""Header of a replayed record."""
_DEAD = "holdtrue_dead_"
_SETTLED = "holdtrue_settled"
_NAME_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be handled.

    Attributes:
        id: UUIDv7.
        tenant: The event's; the default one where it names none.
        consumer: Who could not handle it.
        topic: Where it was, without prefix, in `partition` at `offset`.
        reason: A stable word, for example `bad_payload` or what the domain said.
        message: What was wrong, for people.
        key: Original bytes, like `value` and `headers`.
    """

    id: str
    tenant: str
    consumer: str
    topic: str
    partition: int
    offset: int
    reason: str
    message: str
    failed_at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def event_id(self) -> str | None:
        """The event's id, if its headers have one."""
        return header(self.headers, "ce_id")

    @property
    def event_type(self) -> str | None:
        """The event's type, if its headers have one."""
        return header(self.headers, "ce_type")

    def to_record(self) -> Record:
        """Return it as it stands on the topic of dead letters."""
        told = {
            "id": self.id,
            "tenant": self.tenant,
            "consumer": self.consumer,
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "reason": self.reason,
            "message": self.message,
            "time": self.failed_at.isoformat(),
        }
        headers = (*self.headers, *((_DEAD + name, text.encode()) for name, text in told.items()))
        return Record(DEAD_LETTERS, self.key, self.value, headers)

    @classmethod
    def from_record(
        cls, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> DeadLetter:
        """Read what `to_record` wrote; raises ValueError where a header is missing."""
        told = {name.removeprefix(_DEAD): (raw or b"").decode() for name, raw in headers if name.startswith(_DEAD)}
        original = tuple((name, raw) for name, raw in headers if not name.startswith(_DEAD))
        try:
            return cls(
                told["id"],
                told["tenant"],
                told["consumer"],
                told["topic"],
                int(told["partition"]),
                int(told["offset"]),
                told["reason"],
                told["message"],
                datetime.fromisoformat(told["time"]),
                key,
                value,
                original,
            )
        except KeyError as error:
            raise ValueError(f"not a dead letter: the header {_DEAD}{error.args[0]} is missing") from error

    def replay(self) -> Record:
        """Return the record that gives its consumer another chance."""
        kept = tuple((name, raw) for name, raw in self.headers if name != REPLAY)
        return Record(self.topic, self.key, self.value, (*kept, (REPLAY, f"{self.consumer}/{self.id}".encode())))


def settled(letter_id: str, key: bytes | None) -> Record:
    """Return the record that takes a letter off the list; `key` is the letter's."""
    return Record(DEAD_LETTERS, key, None, ((_SETTLED, letter_id.encode()),))


def settles(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    """Return the id of the letter that a record on `dead-letters.v1` takes off the list, if it is such a record."""
    return header(headers, _SETTLED)


def header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """Return the text of a header as a database can keep it, None where it is missing; whatever its bytes are."""
    raw = next((raw for key, raw in headers if key == name), None)
    return None if raw is None else storable(raw.decode(errors="replace"))


def storable(text: str) -> str:
    """Return a text as a database can keep it: without NUL and halves of characters."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def tenant_of(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Return the tenant that headers name, however broken they are; the default one where they name none."""
    named = header(headers, "ce_tenant") or ""
    return named if 0 < len(named) <= _NAME_CHARACTERS else DEFAULT_TENANT


def replayed_for(headers: Sequence[tuple[str, bytes | None]]) -> tuple[str, str]:
    """Return consumer and dead letter that a replayed record is for; two empty texts for any other record."""
    consumer, _, letter = (header(headers, REPLAY) or "").partition("/")
    return consumer, letter[:_NAME_CHARACTERS]
