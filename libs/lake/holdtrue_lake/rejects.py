"""Reading a dataset's refused records: what was refused, why, and its bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.faults import Code, Fault
from holdtrue_lake.quarantine import QUARANTINE
from holdtrue_lake.schema import SUBJECT
from holdtrue_lake.storage import DatasetMissing, open_table, quarantine_uri

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from holdtrue_lake.payload import Mask
    from holdtrue_lake.storage import Root

Place: TypeAlias = tuple[int, int, int, int]
"""Where a record stands in the list: time of ingestion in microseconds, partition, offset, row."""
_KEYS = ["_ingest_time", "_part", "_off", "_row"]
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Reject:
    """A refused record; `rules` is the digest of the rules it was judged by, empty for the schema alone."""

    place: Place
    batch_id: str
    refused_at: datetime
    schema_id: str
    rules: str
    faults: tuple[Fault, ...]
    raw: bytes
    subject: str | None = None
    """Pseudonym of the person it is about, under whose key the bytes are encrypted; None: they are as they came."""


@dataclass(frozen=True)
class Rejects:
    """Refused records that match: how many by their first fault's code, and one page of them."""

    codes: dict[str, int]
    page: tuple[Reject, ...]
    last: bool
    """Whether the page is the last one."""


def read_rejects(  # noqa: PLR0913  what there is to choose
    root: Root,
    dataset_id: str,
    *,
    batch_id: str = "",
    code: str = "",
    after: Place | None = None,
    size: int = 100,
    most_bytes: int = 1 << 30,
    until: datetime | None = None,
    hidden: Collection[Place] = (),
) -> Rejects:
    """Read a page of refused records, the newest first and in the order of their batch.

    Only those of a batch, or whose first fault has the `code`, or that were refused `until` a time, and none of the
    `hidden`; the page goes on `after` a place and ends before the records' bytes are more than `most_bytes` together,
    but has one record at least.
    """
    try:
        table = open_table(quarantine_uri(root, dataset_id)).to_pyarrow_dataset()
    except DatasetMissing:
        return Rejects({}, (), last=True)
    found = _shown(table.to_table(filter=_wanted(batch_id, code, until), columns=[*_KEYS, "code"]), hidden)
    keys = _keys(found)
    later = np.ones(found.num_rows, np.bool_) if after is None else _after(keys, after)
    order = np.lexsort(keys[::-1])
    chosen = order[later[order]][:size]
    records = _records(table, found.take(pa.array(chosen)))
    page = tuple(_fitting(records, most_bytes))
    return Rejects(
        dict(Counter(found.column("code").to_pylist())), page, last=len(page) == int(np.count_nonzero(later))
    )


def _shown(found: pa.Table, hidden: Collection[Place]) -> pa.Table:
    if not hidden:
        return found
    places = zip(*(found.column(name).cast(pa.int64()).to_pylist() for name in _KEYS), strict=True)
    return found.filter(pa.array([place not in hidden for place in places], pa.bool_()))


def _wanted(batch_id: str, code: str, until: datetime | None) -> pc.Expression:
    wanted = pc.scalar(True) if until is None else pc.field("_ingest_time") <= pa.scalar(until, _TIME)
    for name, value in (("batch_id", batch_id), ("code", code)):
        if value:
            wanted &= pc.field(name) == value
    return wanted


def _keys(rows: pa.Table) -> list[np.ndarray]:
    """Whole numbers by which records are in order when compared one after the other."""
    times, partitions, offsets, places = (rows.column(name).cast(pa.int64()).to_numpy() for name in _KEYS)
    return [-times, partitions, -offsets, places]


def _after(keys: Sequence[np.ndarray], place: Place) -> Mask:
    time, partition, offset, row = place
    result = np.zeros(len(keys[0]), np.bool_)
    for key, value in zip(reversed(keys), (row, -offset, partition, -time), strict=True):
        result = (key > value) | ((key == value) & result)
    return result


def _records(table: Any, chosen: pa.Table) -> list[Reject]:  # noqa: ANN401  pyarrow.dataset is untyped
    """Read the chosen records as a whole, in their order."""
    if not chosen.num_rows:
        return []
    near = pc.field("_off").isin(chosen.column("_off")) & pc.field("_part").isin(chosen.column("_part"))
    known = {field.name for field in table.schema}
    columns = [field.name for field in (*QUARANTINE, SUBJECT) if field.name in known]
    rows = {_place(row): row for row in table.to_table(filter=near, columns=columns).to_pylist()}
    return [_reject(rows[place]) for place in map(_place, chosen.to_pylist())]


def _place(row: dict[str, Any]) -> Place:
    time = pa.scalar(row["_ingest_time"], pa.timestamp("us", "UTC")).value
    return time, row["_part"], row["_off"], row["_row"]


def _reject(row: dict[str, Any]) -> Reject:
    return Reject(
        place=_place(row),
        batch_id=row["batch_id"],
        refused_at=row["_ingest_time"],
        schema_id=row["schema_id"],
        rules=row.get("rules") or "",
        faults=_faults(row),
        raw=row["raw"],
        subject=row.get("_subject"),
    )


def _faults(row: dict[str, Any]) -> tuple[Fault, ...]:
    """Faults of a record; an earlier release kept them in words only."""
    if row.get("faults"):
        return msgspec.json.decode(row["faults"], type=tuple[Fault, ...])
    return (Fault(row["_row"], Code(row["code"]), "", row["reason"], ""),)


def _fitting(records: list[Reject], most_bytes: int) -> Iterator[Reject]:
    size = 0
    for number, record in enumerate(records):
        size += len(record.raw)
        if number and size > most_bytes:
            return
        yield record
