"""Giving a table other files for some of its own, in one commit that nobody else's changes can come between."""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from holdtrue_lake.files import DataFile, data_files
from holdtrue_lake.storage import folder
from holdtrue_lake.table import Fenced

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa
    from deltalake import DeltaTable

    from holdtrue_lake.storage import Storage

MOST_ATTEMPTS = 50
_ROW_GROUP = 1 << 18


def write_file(place: Storage, rows: pa.Table, *, data_change: bool = False) -> AddAction:
    """Write rows, at least one, into a file and describe it for the log; nobody sees it yet."""
    name = f"part-{uuid.uuid4()}-compacted.snappy.parquet"
    files = folder(place)
    pq.write_table(rows, name, filesystem=files, row_group_size=_ROW_GROUP, write_page_checksum=True)
    _make_durable(place, name)
    size = files.get_file_info(name).size
    return AddAction(name, size, {}, _milliseconds(), data_change=data_change, stats=_stats(rows))


def replace_files(  # noqa: PLR0913  what a rewrite consists of
    table: DeltaTable,
    place: Storage,
    files: Sequence[DataFile],
    parts: Sequence[AddAction],
    metadata: Mapping[str, str],
    *,
    data_change: bool = False,
) -> bool:
    """Let `parts` take the place of `files`, all in one commit; False where these are not all there any more.

    Then the parts, which never became part of the table, are removed.

    `data_change` tells others who follow the table that rows are not the same as before.

    The commit is only accepted onto the very snapshot that was checked: two rewrites of the same file that the library
    merges by itself would both add their copy of its rows (seen with deltalake 1.6.6, with its own compaction, too).
    Raises Fenced.
    """
    now = _milliseconds()
    gone = [
        RemoveAction(file.path, data_change=data_change, deletion_timestamp=now, size=file.size, partition_values={})
        for file in files
    ]
    properties = CommitProperties(custom_metadata=dict(metadata), max_commit_retries=0)
    for _ in range(MOST_ATTEMPTS):
        if not {file.path for file in files} <= {file.path for file in data_files(table)}:
            _remove(place, parts)
            return False
        try:
            table.create_write_transaction([*parts, *gone], "append", table.schema(), commit_properties=properties)
        except CommitFailedError:  # somebody else has written since we looked
            table.update_incremental()
        else:
            table.update_incremental()
            return True
    raise Fenced(f"{MOST_ATTEMPTS} attempts to rewrite files of {table.table_uri} met other writers; try again later")


def _remove(place: Storage, parts: Iterable[AddAction]) -> None:
    files = folder(place)
    for part in parts:
        files.delete_file(part.path)


def _stats(rows: pa.Table) -> str:
    """Exactly the statistics that the tables' settings allow: no values of the data itself."""
    if "_commit" not in rows.column_names:
        return json.dumps({"numRecords": rows.num_rows})
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


def _milliseconds() -> int:
    return int(time.time() * 1000)
