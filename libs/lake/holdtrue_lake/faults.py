"""Why records are refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MOST_SHOWN = 80
"""Characters of a refused value that are shown."""


class Code(StrEnum):
    """Kinds of faults; those that are not `retryable` will be found again in the same record."""

    MALFORMED = "MALFORMED"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    MISSING = "MISSING"
    WRONG_TYPE = "WRONG_TYPE"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    NOT_ALLOWED = "NOT_ALLOWED"
    DUPLICATE = "DUPLICATE"
    TOO_LARGE = "TOO_LARGE"
    TOO_LATE = "TOO_LATE"
    RULE = "RULE"
    UNAVAILABLE = "UNAVAILABLE"
    QUOTA = "QUOTA"

    @property
    def retryable(self) -> bool:
        """Whether the same record, sent again later, may be accepted."""
        return self in {Code.UNAVAILABLE, Code.QUOTA}


WHOLE_PAYLOAD = -1
"""Row number of a fault that concerns the payload and not one of its rows."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with one record; `row` counts from 0 within the payload.

    `column` is empty if it concerns several; `rule` is the id of the rule: `<column>.<key>`, or the one given to it.
    """

    row: int
    code: Code
    column: str
    expected: str
    got: str
    rule: str = ""

    def __str__(self) -> str:
        """Say what is wrong where, for a person."""
        place = "payload" if self.row == WHOLE_PAYLOAD else f"row {self.row}"
        column = f", column {self.column!r}" if self.column else ""
        return f"{place}{column}: expected {self.expected}, got {self.got} ({self.code})"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is kept aside: its original bytes and everything that is wrong with it, at least one fault.

    `subject` is the pseudonym of the person it is about, where persons are protected; the bytes are encrypted then.
    """

    row: int
    raw: bytes
    faults: tuple[Fault, ...]
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule found in a batch: how many rows break it, and the first of them."""

    rule: str
    code: Code
    column: str
    expected: str
    count: int
    rows: tuple[int, ...]


def shown(value: object, *, secret: bool = False) -> str:
    """Text of a value for a message: short, and only its type where it is personal."""
    if secret:
        return f"a {type(value).__name__} (hidden: personal)"
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
