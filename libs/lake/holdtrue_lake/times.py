"""Times of events, in every form in which producers send them, as microseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.views import one_array, true

if TYPE_CHECKING:
    import numpy.typing as npt

    from holdtrue_lake.payload import Mask

    Micros = npt.NDArray[np.int64]

TIME_KIND = "seconds since 1970 or an ISO 8601 time"
_LATEST_S = 253_402_300_799  # the last second of the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def event_times(values: pa.ChunkedArray | list[Any]) -> tuple[Micros, Mask, Mask]:
    """Return the times (0 where there is none), the mask of missing values and that of values which are no times."""
    if isinstance(values, list):
        return _one_by_one(values)
    column = one_array(values)
    kind = column.type
    if pa.types.is_timestamp(kind):
        micros = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
        return _column(micros, np.zeros(len(column), np.bool_), column)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _seconds(column)
    return _one_by_one(column.to_pylist())


def micros_of(time: datetime) -> int:
    """Microseconds since the epoch; a time without zone is UTC."""
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)


def time_of(micros: int) -> datetime:
    """The time in UTC of so many microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=micros)


def _seconds(column: pa.Array) -> tuple[Micros, Mask, Mask]:
    in_range = pc.and_kleene(pc.greater_equal(column, 0), pc.less_equal(column, _LATEST_S))
    if pa.types.is_floating(column.type):
        in_range = pc.and_kleene(in_range, pc.is_finite(column))
    kept = pc.if_else(in_range, column, pa.scalar(None, column.type))
    if pa.types.is_floating(column.type):
        micros = pc.round(pc.multiply(kept.cast(pa.float64()), 1e6), round_mode="half_to_even").cast(pa.int64())
    else:
        micros = pc.multiply(kept.cast(pa.int64()), 1_000_000)
    return _column(micros, true(pc.invert(in_range)), column)


def _column(micros: pa.Array, wrong: Mask, original: pa.Array) -> tuple[Micros, Mask, Mask]:
    return pc.fill_null(micros, 0).to_numpy(), true(original.is_null()), wrong


def _one_by_one(values: list[Any]) -> tuple[Micros, Mask, Mask]:
    times = [_time(value) for value in values]
    missing = np.fromiter((value is None for value in values), np.bool_, len(values))
    wrong = np.fromiter((time is None for time in times), np.bool_, len(values)) & ~missing
    return np.fromiter((time or 0 for time in times), np.int64, len(values)), missing, wrong


def _time(value: object) -> int | None:
    """Microseconds of a time in any accepted form; None if it is none."""
    if isinstance(value, datetime):
        return micros_of(value)
    if isinstance(value, str):
        try:
            return micros_of(datetime.fromisoformat(value))
        except ValueError:
            return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LATEST_S:
        return round(value * 1e6) if isinstance(value, float) else value * 1_000_000
    return None
