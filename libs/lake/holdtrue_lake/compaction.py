"""Making many small files few, so that a version reads as fast as one file would.

Rows of commits that some version has and another has not never end up in one file: whoever reads a version then reads
whole files and filters nothing. Within a file rows are in canonical order, so that reading sorts nothing either.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties
from deltalake.exceptions import CommitFailedError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction
from pyarrow.fs import PyFileSystem

from holdtrue_lake.files import DataFile, data_files, read_files
from holdtrue_lake.order import canonical
from holdtrue_lake.storage import open_table, rows_uri
from holdtrue_lake.table import Fenced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deltalake import DeltaTable

    from holdtrue_lake.ranges import Ranges
    from holdtrue_lake.storage import Root, Storage

MOST_ROWS = 4_000_000
"""Rows that one file gets at most; as many are in memory at once while compacting."""
MOST_ATTEMPTS = 50
_ROW_GROUP = 1 << 18
_METADATA = {"holdtrue.operation": "compaction"}


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: files that it replaced, and files that it made of them."""

    removed: int
    added: int


def compact(root: Root, dataset_id: str, versions: Iterable[Ranges], most_rows: int = MOST_ROWS) -> Compacted:
    """Rewrite small files into larger ones between the boundaries of versions, given by their commits.

    Commits after the last version's are left alone: the next version decides how they belong together. Appends, reads
    and erasures may go on meanwhile; what they changed is looked at again. Doing it again changes nothing.
    Raises DatasetMissing, DamagedFile (nothing of the damaged file is replaced then).
    """
    place = rows_uri(root, dataset_id)
    table = open_table(place)
    cuts = boundaries(versions)
    removed = added = 0
    while todo := _next(data_files(table), cuts, most_rows):
        parts = _rewrite(table, place, todo, cuts)
        if _replace(table, todo, parts):
            removed, added = removed + len(todo), added + len(parts)
        else:
            _discard(place, parts)
    return Compacted(removed, added)


def boundaries(versions: Iterable[Ranges]) -> list[int]:
    """Commits before which a new file begins, and the commit after the last version's, in order."""
    return sorted({cut for ranges in versions for first, last in ranges for cut in (first, last + 1)})


def _next(files: Sequence[DataFile], cuts: Sequence[int], most_rows: int) -> list[DataFile]:
    """Files to be rewritten together: one that lies across a boundary, or several of one segment; empty if none."""
    closed = [file for file in files if cuts and file.first < cuts[-1]]
    for file in closed:
        if _segment(file.first, cuts) != _segment(file.last, cuts):
            return [file]
    return next((group for group in _groups(closed, cuts, most_rows) if len(group) > 1), list[DataFile]())


def _groups(files: Iterable[DataFile], cuts: Sequence[int], most_rows: int) -> Iterator[list[DataFile]]:
    group: list[DataFile] = []
    for file in files:
        full = sum(member.rows for member in group) + file.rows > most_rows
        if group and (full or _segment(group[0].first, cuts) != _segment(file.first, cuts)):
            yield group
            group = []
        group.append(file)
    yield group


def _segment(commit: int, cuts: Sequence[int]) -> int:
    return bisect_right(cuts, commit)


def _rewrite(table: DeltaTable, place: Storage, files: Sequence[DataFile], cuts: Sequence[int]) -> list[AddAction]:
    """Write the files' rows, one file for each segment, and describe these for the log; nobody sees them yet."""
    rows = read_files(table, files)
    expected = sum(file.rows for file in files)
    if rows.num_rows != expected:
        raise RuntimeError(f"{len(files)} files of {place.uri} have {rows.num_rows} rows, but the log says {expected}")
    first, last = files[0].first, max(file.last for file in files)
    inner = [cut for cut in cuts if first < cut <= last]
    commit = pc.field("_commit")
    parts = (
        rows.filter((commit >= low) & (commit < high))
        for low, high in zip([first, *inner], [*inner, last + 1], strict=True)
    )
    return [_write(place, canonical(part)) for part in parts if part.num_rows]


def _write(place: Storage, rows: pa.Table) -> AddAction:
    name = f"part-{uuid.uuid4()}-compacted.snappy.parquet"
    files = _folder(place)
    pq.write_table(rows, name, filesystem=files, row_group_size=_ROW_GROUP, write_page_checksum=True)
    _make_durable(place, name)
    return AddAction(name, files.get_file_info(name).size, {}, _milliseconds(), data_change=False, stats=_stats(rows))


def _folder(place: Storage) -> Any:  # noqa: ANN401  an untyped library's file system
    return PyFileSystem(DeltaStorageHandler(place.uri, dict(place.options)))


def _discard(place: Storage, parts: Iterable[AddAction]) -> None:
    for part in parts:
        _folder(place).delete_file(part.path)


def _stats(rows: pa.Table) -> str:
    """Exactly the statistics that the tables' settings allow: no values of the data itself."""
    commits = pc.min_max(rows.column("_commit")).as_py()
    times = pc.min_max(rows.column("_event_time")).as_py()
    return json.dumps(
        {
            "numRecords": rows.num_rows,
            "minValues": {"_commit": commits["min"], "_event_time": times["min"].isoformat(timespec="microseconds")},
            "maxValues": {"_commit": commits["max"], "_event_time": times["max"].isoformat(timespec="microseconds")},
            "nullCount": {"_commit": 0, "_event_time": 0},
        }
    )


def _make_durable(place: Storage, name: str) -> None:
    """Have a local file on disk before the files that it replaces may go."""
    if "://" in place.uri:
        return
    for path in (os.path.join(place.uri, name), place.uri):  # noqa: PTH118
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replace(table: DeltaTable, files: Sequence[DataFile], parts: Sequence[AddAction]) -> bool:
    """Let `parts` take the place of `files`, all in one commit; False where these are not all there any more.

    The commit is only accepted onto the very snapshot that was checked: two rewrites of the same file that the library
    merges by itself would both add their copy of its rows (seen with deltalake 1.6.6, with its own compaction, too).
    """
    now = _milliseconds()
    gone = [
        RemoveAction(file.path, data_change=False, deletion_timestamp=now, size=file.size, partition_values={})
        for file in files
    ]
    properties = CommitProperties(custom_metadata=_METADATA, max_commit_retries=0)
    for _ in range(MOST_ATTEMPTS):
        if not {file.path for file in files} <= {file.path for file in data_files(table)}:
            return False
        try:
            table.create_write_transaction([*parts, *gone], "append", table.schema(), commit_properties=properties)
        except CommitFailedError:  # somebody else has written since we looked
            table.update_incremental()
        else:
            table.update_incremental()
            return True
    raise Fenced(f"{MOST_ATTEMPTS} attempts to compact {table.table_uri} met other writers; try again later")


def _milliseconds() -> int:
    return int(time.time() * 1000)
