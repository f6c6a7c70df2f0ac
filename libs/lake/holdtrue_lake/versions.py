"""Reading a dataset version: a set of commit ranges, always in the same order.

A version names commits, not files: it stays readable when files are compacted. The order of rows is part of the
contract, because it alone moves what a random forest learns.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from holdtrue_lake.digest import content_digest
from holdtrue_lake.files import DamagedFile, read_rows
from holdtrue_lake.order import IDENTITY, canonical
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.storage import DatasetMissing, open_table, quarantine_uri, rows_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from holdtrue_lake.storage import Root

__all__ = [
    "DamagedFile",
    "DatasetMissing",
    "content_digests",
    "count_rows",
    "damaged_commits",
    "read_quarantine",
    "read_version",
    "rows_of_commits",
]
_MOST_ROWS = 4_000_000


def read_version(
    root: Root, dataset_id: str, ranges: Iterable[tuple[int, int]], columns: Sequence[str] | None = None
) -> pa.Table:
    """Rows of the commits in `ranges` (first and last, both included) in canonical order.

    Columns: the dataset's own in declared order and types, then `_commit`, `_part`, `_off`, `_row`, `_event_time`,
    `_ingest_time` (timestamps in µs, UTC); or only `columns`. Raises DatasetMissing, DamagedFile, ValueError for an id
    that is no UUID.
    """
    needed = None if columns is None else list(dict.fromkeys([*columns, *IDENTITY]))
    rows = canonical(read_rows(open_table(rows_uri(root, dataset_id)), _of(ranges), needed))
    return rows if columns is None else rows.select(list(columns))


def count_rows(root: Root, dataset_id: str, ranges: Iterable[tuple[int, int]]) -> int:
    """How many rows the commits in `ranges` have; reads no file without rows of theirs."""
    return read_rows(open_table(rows_uri(root, dataset_id)), _of(ranges), ["_commit"]).num_rows


def rows_of_commits(root: Root, dataset_id: str, commits: Iterable[int]) -> dict[int, int]:
    """How many rows commits have now, by number."""
    numbers = list(commits)
    held = read_rows(open_table(rows_uri(root, dataset_id)), _of(Ranges.of((n, n) for n in numbers)), ["_commit"])
    counts = Counter[int](held.column("_commit").to_pylist())
    return {number: counts[number] for number in numbers}


def damaged_commits(root: Root, dataset_id: str, digests: Mapping[int, str]) -> list[int]:
    """Those commits whose rows are not what their digests, by commit number, say. Reads them all."""
    found = content_digests(root, dataset_id, sorted(digests))
    return [number for number, digest in found.items() if digest != digests[number]]


def content_digests(root: Root, dataset_id: str, commits: Iterable[int]) -> dict[int, str]:
    """Digests of the rows that commits have now, by number, which ascend; reads at most some millions at once."""
    numbers = list(commits)
    if not numbers:
        return {}
    spans = [(number, number) for number in numbers]
    if len(numbers) > 1 and count_rows(root, dataset_id, spans) > _MOST_ROWS:
        half = len(numbers) // 2
        first, second = (content_digests(root, dataset_id, part) for part in (numbers[:half], numbers[half:]))
        return first | second
    rows = read_version(root, dataset_id, spans).sort_by([("_commit", "ascending")])
    held = rows.column("_commit").to_numpy()
    digests: dict[int, str] = {}
    for number in numbers:
        start, end = held.searchsorted([number, number + 1]).tolist()
        digests[number] = content_digest(canonical(rows.slice(start, end - start)))
    return digests


def read_quarantine(root: Root, dataset_id: str) -> pa.Table:
    """All refused records of a dataset, in canonical order; columns as `quarantine.QUARANTINE`."""
    return canonical(open_table(quarantine_uri(root, dataset_id)).to_pyarrow_table())


def _of(ranges: Iterable[tuple[int, int]]) -> pc.Expression:
    wanted = pc.scalar(False)
    for first, last in ranges:
        wanted |= (pc.field("_commit") >= first) & (pc.field("_commit") <= last)
    return wanted
