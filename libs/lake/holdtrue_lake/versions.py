"""Reading a dataset version: a set of commit ranges, always in the same order.

A version names commits, not files: it stays readable when files are compacted. The order of rows is part of the
contract, because it alone moves what a random forest learns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from holdtrue_lake.table import quarantine_path, rows_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

IDENTITY = ("_part", "_off", "_row")
"""Columns that identify a row; the canonical order sorts by them."""


class DatasetMissing(LookupError):
    """There is no table of this dataset under this root."""


def read_version(root: Path, dataset_id: str, ranges: Iterable[tuple[int, int]]) -> pa.Table:
    """Rows of the commits in `ranges` (first and last, both included) in canonical order.

    Columns: the dataset's own in declared order and types, then `_commit`, `_part`, `_off`, `_row`, `_event_time`,
    `_ingest_time` (timestamps in µs, UTC). Raises DatasetMissing, ValueError for an id that is no UUID.
    """
    wanted = pc.scalar(False)
    for first, last in ranges:
        wanted |= (pc.field("_commit") >= first) & (pc.field("_commit") <= last)
    rows = _open(rows_path(root, dataset_id)).to_pyarrow_dataset().to_table(filter=wanted)
    return rows.sort_by([(name, "ascending") for name in IDENTITY]).combine_chunks()


def read_quarantine(root: Path, dataset_id: str) -> pa.Table:
    """All refused records of a dataset, in canonical order; columns as `table.QUARANTINE`."""
    rows = _open(quarantine_path(root, dataset_id)).to_pyarrow_table()
    return rows.sort_by([(name, "ascending") for name in IDENTITY])


def _open(path: Path) -> DeltaTable:
    try:
        return DeltaTable(path)
    except TableNotFoundError as error:
        raise DatasetMissing(f"no table of dataset {path.name} in {path.parent}; has it received any rows?") from error
