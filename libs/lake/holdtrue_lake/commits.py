"""What a commit of a dataset's table records about itself, in the table's own log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from deltalake import DeltaTable

METADATA_KEY = "holdtrue"
MOST_EXAMPLES = 5
"""Refused records that a batch's outcome describes in words."""


class BatchOutcome(msgspec.Struct, frozen=True):
    """What became of one batch: accepted + quarantined = rows; `codes` counts refused records by their first fault."""

    batch_id: str
    rows: int
    accepted: int
    quarantined: int
    codes: dict[str, int]
    examples: list[str]


class Commit(msgspec.Struct, frozen=True):
    """One commit: offsets `first_offset` to `last_offset` of `app_id`'s partition, both included.

    Times are microseconds since the epoch; `from_us` and `to_us` bound the accepted rows' event times and are 0 where
    there are none. `repeated` batches had been ingested before and were skipped.
    `rules` is the digest of the rules that records had to keep besides the schema; empty: none.
    """

    number: int
    app_id: str
    first_offset: int
    last_offset: int
    schema_id: str
    accepted: int
    quarantined: int
    digest: str
    from_us: int
    to_us: int
    ingested_us: int
    batches: list[BatchOutcome]
    repeated: int = 0
    rules: str = ""

    def to_metadata(self) -> dict[str, str]:
        """Form in which the Delta log keeps it."""
        return {METADATA_KEY: msgspec.json.encode(self).decode()}


def read_commits(table: DeltaTable, newest: int | None = None) -> list[Commit]:
    """Commits in order of their numbers, of the whole log or of its `newest` entries only."""
    entries = table.history(newest)
    found = [msgspec.json.decode(entry[METADATA_KEY], type=Commit) for entry in entries if METADATA_KEY in entry]
    return sorted(found, key=lambda commit: commit.number)
