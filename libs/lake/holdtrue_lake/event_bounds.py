"""Bounds on the time of an event, relative to its ingestion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_lake.faults import Code
from holdtrue_lake.rules import duration
from holdtrue_lake.times import micros_of
from holdtrue_lake.views import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from holdtrue_lake.payload import Mask
    from holdtrue_lake.rules import EventTime
    from holdtrue_lake.times import Micros


def time_findings(bounds: EventTime, name: str, micros: Micros, known: Mask, now: datetime) -> Iterator[Finding]:
    """Yield the rows, of those whose time is `known`, that are too old or too far ahead."""
    if bounds.max_age is not None:
        late = known & (micros < micros_of(now - duration(bounds.max_age)))
        expected = f"a time at most {bounds.max_age} before its ingestion"
        if late.any():
            yield Finding(name, Code.TOO_LATE, expected, late, rule="event_time.max_age", columns=(name,))
    if bounds.max_ahead is not None:
        ahead = known & (micros > micros_of(now + duration(bounds.max_ahead)))
        expected = f"a time at most {bounds.max_ahead} after its ingestion"
        if ahead.any():
            yield Finding(name, Code.OUT_OF_RANGE, expected, ahead, rule="event_time.max_ahead", columns=(name,))
