"""Appending to a table together with what its log must know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltalake import CommitProperties, Transaction, write_deltalake

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from deltalake import DeltaTable

SETTINGS = {
    "delta.dataSkippingStatsColumns": "_commit,_event_time",  # values of the data itself stay out of the log
    "delta.enableExpiredLogCleanup": "false",
}
"""Settings of every table."""


def append(table: DeltaTable, rows: pa.Table, metadata: dict[str, str], positions: Mapping[str, int]) -> None:
    """Add rows in one commit, with `positions` by the names under which the log keeps them.

    Raises CommitFailedError where another writer has moved one of the positions since the handle's snapshot.
    """
    transactions = [Transaction(app_id, version) for app_id, version in positions.items()]
    properties = CommitProperties(custom_metadata=metadata, app_transactions=transactions)
    write_deltalake(table, rows, mode="append", commit_properties=properties)
