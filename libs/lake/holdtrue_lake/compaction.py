"""Making many small files few, so that a version reads as fast as one file would.

Rows of commits that some version has and another has not never end up in one file: whoever reads a version then reads
whole files and filters nothing. Within a file rows are in canonical order, so that reading sorts nothing either.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from holdtrue_lake.files import DamagedFile, DataFile, data_files, read_files
from holdtrue_lake.order import canonical
from holdtrue_lake.rewriting import replace_files, write_file
from holdtrue_lake.storage import open_table, rows_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deltalake import DeltaTable
    from deltalake.transaction import AddAction

    from holdtrue_lake.ranges import Ranges
    from holdtrue_lake.storage import Root, Storage

MOST_ROWS = 4_000_000
"""Rows that one file gets at most; as many are in memory at once while compacting."""
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
        try:
            parts = _rewrite(table, place, todo, cuts)
        except DamagedFile as error:
            table.update_incremental()
            if error.file in data_files(table):
                raise
            continue  # an erasure took the file away while we read it
        if replace_files(table, place, todo, parts, _METADATA):
            removed, added = removed + len(todo), added + len(parts)
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
    return [write_file(place, canonical(part)) for part in parts if part.num_rows]
