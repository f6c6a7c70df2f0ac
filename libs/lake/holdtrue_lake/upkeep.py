"""Letting go of rows that no version has any more, and of files that no snapshot needs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from deltalake.exceptions import CommitFailedError

from holdtrue_lake.storage import open_table, quarantine_uri, rows_uri
from holdtrue_lake.table import MOST_ATTEMPTS, Fenced

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from holdtrue_lake.ranges import Ranges
    from holdtrue_lake.storage import Root

SAFE = timedelta(hours=1)
"""How old a file must be before it can go while others read and write."""


def drop_commits(root: Root, dataset_id: str, commits: Ranges) -> int:
    """Delete the rows of commits that no version has any more (see `History.expire`); return how many there were.

    The log keeps the commits themselves: what was ingested once is never ingested again. Raises DatasetMissing, Fenced.
    """
    if not commits:
        return 0
    table = open_table(rows_uri(root, dataset_id))
    predicate = " OR ".join(f"(_commit >= {first} AND _commit <= {last})" for first, last in commits)
    for _ in range(MOST_ATTEMPTS):
        try:
            return table.delete(predicate).get("num_deleted_rows", 0)
        except CommitFailedError:  # somebody else has written since we looked
            table.update_incremental()
    raise Fenced(f"{table.table_uri}: {MOST_ATTEMPTS} attempts to remove rows met other writers; try again later")


def vacuum(root: Root, dataset_id: str, age: timedelta = timedelta(days=7), *, alone: bool = False) -> int:
    """Remove files that left the table at least `age` ago; return how many.

    Files that never became part of it go, too, when they are older than `SAFE`.

    Raises ValueError for an age under `SAFE`, unless the caller is `alone` with the table: holds its writer's lease
    while there is no reader (see `leases`).
    """
    if age < SAFE and not alone:
        raise ValueError(f"files younger than {SAFE} may be in use: take the writer's lease, wait for readers, say so")
    places = (rows_uri(root, dataset_id), quarantine_uri(root, dataset_id))
    removed = sum(_vacuum(open_table(place), max(age, SAFE), full=True) for place in places)
    if age < SAFE:  # what no log names yet may be an append under way, which takes no lease
        removed += sum(_vacuum(open_table(place), age, full=False) for place in places)
    return removed


def _vacuum(table: DeltaTable, age: timedelta, *, full: bool) -> int:
    hours = int(age.total_seconds()) // 3600
    return len(table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=full))
