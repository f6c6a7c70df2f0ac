"""What a dataset's records and batches must be like: the content of a rules file.

Record rules refuse a record. Expectations never refuse anything: a version that breaks one is suspect, and nothing is
trained on it by itself until a person has cleared it. `rules_yaml` reads and writes the file, `checks` and
`expectations` apply it.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

DURATION = r"^[0-9]{1,6}[smhd]$"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
Duration = Annotated[str, Meta(pattern=DURATION, description="A number and s, m, h or d, for example 30d.")]
Id = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Name of the rule, unique within the file."),
]
Number = int | float
Share = Annotated[float, Meta(ge=0, le=1, description="From 0 to 1.")]
Count = Annotated[int, Meta(ge=0)]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every part: keys that are not known are refused, what has its default is not written."""


class ColumnRules(_Part, frozen=True):
    """Rules on one column; each has the id `<column>.<key>`. Null passes all but `nullable`."""

    type: Literal["float32", "int64", "string", "bool"] | None = None
    required: bool = True
    nullable: bool = False
    min: Number | None = None
    max: Number | None = None
    min_length: Count | None = None
    max_length: Count | None = None
    regex: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    one_of: Annotated[list[str | int], Meta(min_length=1, max_length=10_000)] | None = None
    unique: bool = False
    pii: bool = False


class EventTime(_Part, frozen=True):
    """How far an event's time may be from its ingestion: ids `event_time.max_age`, `event_time.max_ahead`."""

    max_age: Duration | None = None
    max_ahead: Duration | None = None


class Unique(_Part, frozen=True):
    """No two records of a batch have equal values in all of these columns; the first one is kept."""

    id: Id
    columns: Annotated[list[str], Meta(min_length=1)]


class Condition(_Part, frozen=True):
    """A condition that must be true of every record; unknown, because of a null, is not true (see `expressions`)."""

    id: Id
    condition: Annotated[str, Meta(min_length=1)]


class NullRate(_Part, frozen=True, tag_field="expect", tag="null_rate"):
    """At most this share of a column is null."""

    id: Id
    column: str
    max: Share


class Range(_Part, frozen=True, tag_field="expect", tag="range"):
    """All values of a column lie within these bounds."""

    id: Id
    column: str
    min: Number | None = None
    max: Number | None = None


class Mean(_Part, frozen=True, tag_field="expect", tag="mean"):
    """The mean of a column lies within these bounds."""

    id: Id
    column: str
    min: Number | None = None
    max: Number | None = None


class Std(_Part, frozen=True, tag_field="expect", tag="std"):
    """The standard deviation of a column (divided by n) lies within these bounds."""

    id: Id
    column: str
    min: Number | None = None
    max: Number | None = None


class Categories(_Part, frozen=True, tag_field="expect", tag="categories"):
    """At most this share of a column has values that are neither known nor, if none are listed, in the reference."""

    id: Id
    column: str
    known: list[str] | None = None
    max_unseen: Share = 0.0


class Psi(_Part, frozen=True, tag_field="expect", tag="psi"):
    """The population stability index of a column against the reference, less sampling noise, is at most this."""

    id: Id
    column: str
    max: Annotated[float, Meta(gt=0)] = 0.25


class Volume(_Part, frozen=True, tag_field="expect", tag="volume"):
    """The number of rows lies within these bounds."""

    id: Id
    min: Count | None = None
    max: Count | None = None


class Freshness(_Part, frozen=True, tag_field="expect", tag="freshness"):
    """The latest event is at most this old."""

    id: Id
    max_age: Duration


class DuplicateRate(_Part, frozen=True, tag_field="expect", tag="duplicate_rate"):
    """At most this share of the rows repeats an earlier row in these columns."""

    id: Id
    columns: Annotated[list[str], Meta(min_length=1)]
    max: Share = 0.0


Expectation = NullRate | Range | Mean | Std | Categories | Psi | Volume | Freshness | DuplicateRate


class Rules(_Part, frozen=True):
    """Rules of a dataset. Columns that are not named here are as the dataset's schema says: required, never null."""

    version: Literal[1]
    dataset: str = ""
    label: str = ""
    time: str = ""
    subject: str = ""
    columns: dict[str, ColumnRules] = {}
    event_time: EventTime | None = None
    unique: list[Unique] = []
    conditions: list[Condition] = []
    expectations: list[Expectation] = []


def rules_bytes(rules: Rules) -> bytes:
    """Canonical form of rules: equal rules have equal bytes."""
    return msgspec.json.encode(rules, order="deterministic")


def rules_of(data: bytes) -> Rules:
    """Rules from their canonical form; raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Rules)


def rules_digest(rules: Rules) -> str:
    """sha256 of the rules' canonical form, hexadecimal: the version of a rule set."""
    return hashlib.sha256(rules_bytes(rules)).hexdigest()


def json_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a rules file, for editors."""
    schema = msgspec.json.schema(Rules)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "holdtrue rules, version 1", **schema}


def duration(text: str) -> timedelta:
    """Length of a `Duration`."""
    if not re.fullmatch(DURATION.strip("^$"), text):
        raise ValueError(f"expected a number and s, m, h or d, got {text!r}")
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
