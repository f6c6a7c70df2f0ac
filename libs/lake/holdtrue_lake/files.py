"""The files that a table's snapshot consists of, and reading rows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow.dataset import FileSystemDataset, ParquetFragmentScanOptions

from holdtrue_lake.storage import in_a_line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pyarrow.compute as pc
    from deltalake import DeltaTable


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file with rows of the commits from `first` to `last`; `path` is relative to the table's folder.

    Of refused records, which belong to no commit, both are 0.
    """

    path: str
    size: int
    rows: int
    first: int
    last: int


class DamagedFile(Exception):
    """A file of a table cannot be read; the message says which, what is wrong and what to do.

    Attributes:
        file: The file, with the commits that have rows in it.
    """

    def __init__(self, table_uri: str, file: DataFile, cause: Exception) -> None:
        """Say what is damaged."""
        place = f"{file.path} of {table_uri}, with rows of commits {file.first} to {file.last}"
        super().__init__(
            f"{place}, cannot be read ({in_a_line(cause)}): restore the file from a backup; "
            "without one, retract these commits and offer their batches again"
        )
        self.file = file


def data_files(table: DeltaTable) -> list[DataFile]:
    """Files with rows in the table's snapshot, in order of their commits."""
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    files = [
        DataFile(
            path=action["path"],
            size=action["size_bytes"],
            rows=action["num_records"],
            first=action.get("min._commit", 0),
            last=action.get("max._commit", 0),
        )
        for action in actions
        if action["num_records"]
    ]
    return sorted(files, key=lambda file: (file.first, file.last, file.path))


def read_rows(table: DeltaTable, wanted: pc.Expression, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows that match, from no other files than those that may have some; raises DamagedFile."""
    return _read(table, table.to_pyarrow_dataset(), wanted, columns)


def read_files(table: DeltaTable, files: Collection[DataFile]) -> pa.Table:
    """All rows of some files; raises DamagedFile."""
    paths = {file.path for file in files}
    whole = table.to_pyarrow_dataset()
    chosen = [fragment for fragment in whole.get_fragments() if fragment.path in paths]
    return _read(table, FileSystemDataset(chosen, whole.schema, whole.format, whole.filesystem), None, None)


def files_with(table: DeltaTable, wanted: pc.Expression) -> list[DataFile]:
    """Files with at least one row that matches, in order of their commits; raises DamagedFile."""
    fragments = {fragment.path: fragment for fragment in table.to_pyarrow_dataset().get_fragments(filter=wanted)}
    found: list[DataFile] = []
    for file in data_files(table):
        try:
            if file.path in fragments and fragments[file.path].count_rows(filter=wanted):
                found.append(file)
        except (OSError, pa.ArrowException) as error:
            raise DamagedFile(table.table_uri, file, error) from error
    return found


def _read(
    table: DeltaTable,
    dataset: Any,  # noqa: ANN401  pyarrow.dataset is untyped
    wanted: pc.Expression | None,
    columns: Sequence[str] | None,
) -> pa.Table:
    # Compacted files have checksums, which are compared here; other files are only checked by their encoding.
    checked = ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=True)
    options: dict[str, Any] = {"columns": columns, "fragment_scan_options": checked}
    try:
        return dataset.to_table(filter=wanted, **options)
    except (OSError, pa.ArrowException) as error:
        files = {file.path: file for file in data_files(table)}
        for fragment in dataset.get_fragments(filter=wanted):
            try:
                fragment.to_table(**options)
            except (OSError, pa.ArrowException) as cause:
                raise DamagedFile(table.table_uri, files[fragment.path], cause) from error
        raise
