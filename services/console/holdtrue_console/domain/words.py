"""Enumerations of the contracts as words, each with a tone that the page turns into icon and colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor

Tone = Literal["ok", "warn", "crit", "busy", "idle"]

_TONES: dict[str, Tone] = {
    "approved": "ok",
    "completed": "ok",
    "pass": "ok",
    "serving": "ok",
    "validated": "busy",
    "registered": "busy",
    "preparing": "busy",
    "stepping": "busy",
    "baking": "busy",
    "waiting": "busy",
    "warning": "warn",
    "held": "warn",
    "rolling back": "warn",
    "inconclusive": "warn",
    "critical": "crit",
    "rejected": "crit",
    "rolled back": "crit",
    "failed": "crit",
    "fail": "crit",
    "unreachable": "crit",
}


@dataclass(frozen=True, slots=True)
class Word:
    """A state in words with its tone."""

    text: str
    tone: Tone


def word(text: str) -> Word:
    """Return a state with the tone that it always has; unknown ones are quiet."""
    return Word(text, _TONES.get(text, "idle"))


def name_of(enum: EnumDescriptor, value: int) -> str:
    """Return an enumeration's value as people say it: MODEL_VERSION_STATE_APPROVED becomes "approved"."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    found = enum.values_by_number.get(value)
    return found.name.removeprefix(prefix).replace("_", " ").lower() if found else f"unknown ({value})"
