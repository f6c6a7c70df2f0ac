"""Features as they were known when something happened: the join that keeps the future out of training data.

A feature row becomes *available* at the later of its event time and its ingest time. Sorted by availability, a row
whose event is older than that of a row before it can never be the last one: it came too late to matter. What is left
ascends in both times, so that one binary search per label finds its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.schema import LAKE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

TIES = ("_ingest_time", "_off", "_row")
"""Of several rows of one event time the one with the highest of these is the last."""
_UNITS = {"s": timedelta(seconds=1), "ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1)}
_NOTHING = -1
_MOST = 1 << 62


def join_as_of(  # noqa: PLR0913 - what the rows are joined by, in words
    labels: pa.Table,
    features: pa.Table,
    *,
    by: str | Sequence[str],
    on: str,
    tolerance: timedelta | int | None = None,
    known_at: str | None = "_ingest_time",
    ties: Sequence[str] = TIES,
    prefix: str = "",
    matched: str | None = None,
) -> pa.Table:
    """Give each label the last feature row of its key that had happened and was known at the label's time.

    The row is the one with the highest event time `on` at or before the label's, among those whose `known_at` is at or
    before it too; `known_at=None` also takes rows that arrived later, which looks into the future. Several rows of one
    event time: the one with the highest `known_at`, then the highest `ties`, then the later one in `features`. A row
    that is older than `tolerance` counts as none. Keys that are null match nothing.

    Returns the labels in their order and, after their columns, the features' own ones (neither `by`, `on` nor the
    lake's), called `prefix` + name, null where there is no row; with `matched`, a column of that name with the row's
    number in `features`. Raises ValueError, which says what is wrong where and what to do.
    """
    keys = [by] if isinstance(by, str) else list(by)
    order = [*([] if known_at is None else [known_at]), *ties]
    _check(labels, features, keys, on, order)
    own = _own_columns(labels, features, {*keys, on}, prefix, matched)
    at, event = _times(labels, on, "labels"), _times(features, on, "features")
    available = event if known_at is None else np.maximum(event, _known(features, known_at, on))
    label_key, feature_key = _codes(labels, features, keys)
    scale = _scale(at, event, available, label_key, feature_key)
    rows = np.flatnonzero(feature_key != _NOTHING)
    rows = _latest(rows, scale, feature_key, available, event, [_numbers(features, name) for name in order])
    found = _search(rows, scale, feature_key, available, label_key, at)
    if tolerance is not None:
        found = _within(found, at, event, _steps(tolerance, features.schema.field(on).type))
    return _joined(labels, features, found, own, prefix, matched)


@dataclass(frozen=True)
class _Scale:
    """Puts (key, time) into one number that sorts as the pair does; ranks replace times where that is too long."""

    low: int
    span: int
    ranks: Ints | None

    def __call__(self, key: Ints, time: Ints) -> Ints:
        place = time - self.low if self.ranks is None else np.searchsorted(self.ranks, time).astype(np.int64)
        return key * self.span + place


def _scale(at: Ints, event: Ints, available: Ints, *keys: Ints) -> _Scale:
    times = [array for array in (at, event, available) if len(array)]
    low = min((int(array.min()) for array in times), default=0)
    span = max((int(array.max()) for array in times), default=0) - low + 1
    most = 1 + max((int(array.max()) for array in keys if len(array)), default=0)
    if most * span < _MOST:
        return _Scale(low, span, None)
    ranks = np.unique(np.concatenate(times))
    return _Scale(0, len(ranks), ranks)


def _latest(  # noqa: PLR0913, PLR0917 - the columns that order rows
    rows: Ints, scale: _Scale, key: Ints, available: Ints, event: Ints, ties: list[Ints]
) -> Ints:
    """Return the rows that are the last ones of their key from some moment on, by key and availability."""
    place = scale(key[rows], available[rows])
    order = np.argsort(place, kind="stable")
    rows, place = rows[order], place[order]
    follows = np.append(place[1:] != place[:-1], True)[: len(rows)]  # nothing of the same key and moment comes after
    if not follows.all():
        rows = rows[_by_event(follows, event[rows], [tie[rows] for tie in ties])][follows]
    happened = scale(key[rows], event[rows])
    return rows[happened >= np.maximum.accumulate(happened)]


def _by_event(last: Mask, event: Ints, ties: list[Ints]) -> Ints:
    """Return the order in which each run, up to its `last`, ascends by event and ties; runs of one are not touched."""
    order = np.arange(len(last))
    first = np.append(True, last[:-1])
    several = np.flatnonzero(~(first & last))
    run = np.cumsum(first)[several]
    order[several] = several[np.lexsort([*(tie[several] for tie in reversed(ties)), event[several], run])]
    return order


def _search(  # noqa: PLR0913, PLR0917 - both sides of the search
    rows: Ints, scale: _Scale, feature_key: Ints, available: Ints, label_key: Ints, at: Ints
) -> Ints:
    """Return each label's row number in `features`, -1 for none."""
    places = scale(feature_key[rows], available[rows])
    before = np.searchsorted(places, scale(label_key, at), side="right") - 1
    found = np.full(len(at), _NOTHING, np.int64)
    some = np.flatnonzero((before >= 0) & (label_key != _NOTHING))
    row = rows[before[some]]
    same = feature_key[row] == label_key[some]
    found[some[same]] = row[same]
    return found


def _within(found: Ints, at: Ints, event: Ints, steps: int) -> Ints:
    some = np.flatnonzero(found != _NOTHING)
    # unsigned, because the distance between two int64 may not fit into one
    age = at[some].astype(np.uint64) - event[found[some]].astype(np.uint64)
    found[some[age > np.uint64(min(steps, 2**64 - 1))]] = _NOTHING
    return found


def _joined(  # noqa: PLR0913, PLR0917 - what the caller named
    labels: pa.Table, features: pa.Table, found: Ints, own: list[str], prefix: str, matched: str | None
) -> pa.Table:
    rows = pa.array(found, mask=found == _NOTHING)
    taken = features.select(own).take(rows)
    joined = labels
    for name in own:
        joined = joined.append_column(prefix + name, taken.column(name))
    return joined if matched is None else joined.append_column(matched, rows)


# --- input ---------------------------------------------------------------------------------------------------------


def _check(labels: pa.Table, features: pa.Table, keys: list[str], on: str, needed: list[str]) -> None:
    if not keys:
        raise ValueError("by: name at least one column that says whom a row is about")
    if on in keys or len(set(keys)) < len(keys):
        raise ValueError(f"by: every column once, and not the time {on!r}; got {keys}")
    _check_names(labels, "labels", [*keys, on])
    _check_names(features, "features", [*keys, on])
    for name in needed:
        if name not in features.column_names:
            raise ValueError(
                f"features have no column {name!r}, which says what was known when; a table that is not a dataset's "
                "needs known_at= and ties= with its own columns (known_at=None joins without regard to arrival)"
            )
    for name in [*keys, on]:
        ours, theirs = (_plain(table.schema.field(name).type) for table in (labels, features))
        if ours != theirs:
            raise ValueError(f"column {name!r} is {ours} in labels and {theirs} in features; cast one of them")
    for name in keys:
        _check_key(name, _plain(labels.schema.field(name).type))


def _check_names(table: pa.Table, side: str, wanted: list[str]) -> None:
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"{side} have several columns called {', '.join(twice)}; rename them")
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"{side} have no column {', '.join(map(repr, missing))}; they have {', '.join(names[:20])}")


def _check_key(name: str, kind: pa.DataType) -> None:
    if pa.types.is_floating(kind) or pa.types.is_nested(kind) or pa.types.is_null(kind):
        raise ValueError(f"column {name!r} is {kind}, which cannot be a key; cast it to a whole number or a text")


def _own_columns(labels: pa.Table, features: pa.Table, used: set[str], prefix: str, matched: str | None) -> list[str]:
    hidden = used | {field.name for field in LAKE_FIELDS}
    own = [name for name in features.column_names if name not in hidden]
    names = [*labels.column_names, *(prefix + name for name in own), *([] if matched is None else [matched])]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"the result would have several columns called {', '.join(twice)}; give a prefix= or rename")
    return own


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values: dictionary encoding is how they lie in memory, not what they mean."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _times(table: pa.Table, name: str, side: str) -> Ints:
    kind = table.schema.field(name).type
    if not (pa.types.is_timestamp(kind) or pa.types.is_integer(kind)) or kind == pa.uint64():
        raise ValueError(f"column {name!r} of {side} is {kind}; a time is a timestamp or a whole number (int64)")
    column = table.column(name)
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise ValueError(
            f"{column.null_count} of {len(column)} {side} have no {name!r}, the first is row {row}; leave them out"
        )
    return _numbers(table, name)


def _known(features: pa.Table, name: str, on: str) -> Ints:
    kind, wanted = features.schema.field(name).type, features.schema.field(on).type
    if kind != wanted:
        raise ValueError(f"column {name!r} of features is {kind} and {on!r} is {wanted}; cast one of them")
    return _times(features, name, "features")


def _numbers(table: pa.Table, name: str) -> Ints:
    """Return a column of times or whole numbers as int64; null sorts lowest."""
    column = table.column(name)
    if not (pa.types.is_temporal(column.type) or pa.types.is_integer(column.type)):
        raise ValueError(f"column {name!r} is {column.type}; rows are ordered by times and whole numbers only")
    whole = column.cast(pa.int64())
    if whole.null_count:
        whole = pc.fill_null(whole, np.iinfo(np.int64).min)
    return whole.to_numpy()


def _codes(labels: pa.Table, features: pa.Table, keys: list[str]) -> tuple[Ints, Ints]:
    """Number the keys of both sides alike, from 0; -1 where a part of the key is null."""
    code, null = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    for place, name in enumerate(keys):
        part, many = _code(labels.column(name), features.column(name))
        if not place:
            code, null = np.maximum(part, 0), part == _NOTHING
            continue
        null |= part == _NOTHING
        # numbering anew keeps products below 2⁶³: at most as many keys as rows
        _, code = np.unique(code * many + np.maximum(part, 0), return_inverse=True)
    code[null] = _NOTHING
    return code[: labels.num_rows], code[labels.num_rows :]


def _code(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> tuple[Ints, int]:
    chunks = [chunk.cast(_plain(chunk.type)) for side in (ours, theirs) for chunk in side.chunks]
    both: Any = pa.chunked_array(chunks, _plain(ours.type)).combine_chunks().dictionary_encode()
    codes = pc.fill_null(both.indices, _NOTHING).to_numpy().astype(np.int64)
    return codes, max(1, len(both.dictionary))


def _steps(tolerance: timedelta | int, kind: pa.DataType) -> int:
    """Return the tolerance in the unit of the times."""
    if isinstance(tolerance, timedelta) != pa.types.is_timestamp(kind) or isinstance(tolerance, bool):
        wanted = "a timedelta" if pa.types.is_timestamp(kind) else "a whole number"
        raise ValueError(f"tolerance: the times are {kind}, so give {wanted}; got {tolerance!r}")
    if isinstance(tolerance, timedelta):
        steps = tolerance // _UNITS["us"] * 1000 if kind.unit == "ns" else tolerance // _UNITS[kind.unit]
    else:
        steps = tolerance
    if steps < 0:
        raise ValueError(f"tolerance: must not be negative, got {tolerance}")
    return steps
