"""Why records are refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MOST_SHOWN = 80
"""Characters of a refused value that are shown."""


class Code(StrEnum):
    """Kinds of faults; sending the same record again helps with none of them."""

    MALFORMED = "MALFORMED"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    MISSING = "MISSING"
    WRONG_TYPE = "WRONG_TYPE"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    NOT_ALLOWED = "NOT_ALLOWED"
    TOO_LARGE = "TOO_LARGE"


WHOLE_PAYLOAD = -1
"""Row number of a fault that concerns the payload and not one of its rows."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with one record; `row` counts from 0 within the payload."""

    row: int
    code: Code
    column: str
    expected: str
    got: str

    def __str__(self) -> str:
        """Say what is wrong where, for a person."""
        place = "payload" if self.row == WHOLE_PAYLOAD else f"row {self.row}"
        column = f", column {self.column!r}" if self.column else ""
        return f"{place}{column}: expected {self.expected}, got {self.got} ({self.code})"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is kept aside: its original bytes and everything that is wrong with it, at least one fault."""

    row: int
    raw: bytes
    faults: tuple[Fault, ...]


def shown(value: object, *, secret: bool = False) -> str:
    """Text of a value for a message: short, and only its type where it is personal."""
    if secret:
        return f"a {type(value).__name__} (hidden: personal)"
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
