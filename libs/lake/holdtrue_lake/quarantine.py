"""A dataset's refused records: kept with their bytes and all their faults, and with what they were judged by.

Refused records are written before the accepted ones. A crash in between must not let the replay judge otherwise, or a
record would end in both tables or in none: the commit says by which standard its messages were judged, and up to which
offset, and whoever comes next judges them by the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
from deltalake.schema import Schema

from holdtrue_lake import log
from holdtrue_lake.schema import SUBJECT
from holdtrue_lake.storage import make_table, quarantine_uri
from holdtrue_lake.times import micros_of, time_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from deltalake import DeltaTable

    from holdtrue_lake.faults import Refused
    from holdtrue_lake.storage import Root
    from holdtrue_lake.validation import Validated

QUARANTINE = pa.schema(
    [
        pa.field("_part", pa.int32(), nullable=False),
        pa.field("_off", pa.int64(), nullable=False),
        pa.field("_row", pa.int32(), nullable=False),
        pa.field("_ingest_time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("batch_id", pa.string(), nullable=False),
        pa.field("schema_id", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("rules", pa.string()),
        pa.field("faults", pa.string()),
    ]
)
"""Refused records: identity, batch, first fault's code, every fault in words (one a line), original bytes, digest of
the rules (empty: none), every fault as a JSON list of objects with the fields of `faults.Fault`."""
_KEY = "holdtrue"


@dataclass(frozen=True)
class Standard:
    """What messages are judged by: a rule set, by its digest (empty: the schema alone), at a time of ingestion."""

    now: datetime
    rules: str = ""


@dataclass(frozen=True)
class Settled:
    """One judged message."""

    offset: int
    batch_id: str
    content: Validated


class _Judged(msgspec.Struct, frozen=True):
    """What a commit of the quarantine says: messages of `app_id` up to `last_offset` were judged by this standard."""

    app_id: str
    last_offset: int
    rules: str
    judged_us: int


class Quarantine:
    """Writer of one dataset's refused records. Not for several threads at once."""

    def __init__(self, root: Root, dataset_id: str, schema_id: str, *, protected: bool = False) -> None:
        """Open or create the table and read its log; where persons are `protected` it has their pseudonyms."""
        self._schema_id = schema_id
        self._schema = QUARANTINE.append(SUBJECT) if protected else QUARANTINE
        self.table = make_table(quarantine_uri(root, dataset_id), self._schema, log.SETTINGS)
        _add_missing_columns(self.table)
        self._judged: dict[str, _Judged] = {}
        self._remember(None)

    def reload(self) -> None:
        """See what others have written since."""
        before = self.table.version()
        self.table.update_incremental()
        if new := self.table.version() - before:
            self._remember(new)

    def standard(self, app_id: str, position: int | None) -> tuple[int, Standard] | None:
        """Return (last offset, standard) of messages after `position` that were judged already, if any."""
        judged = self._judged.get(app_id)
        if judged is None or (position is not None and judged.last_offset <= position):
            return None
        return judged.last_offset, Standard(time_of(judged.judged_us), judged.rules)

    def keep(self, app_id: str, partition: int, settled: Sequence[Settled], standard: Standard, last: int) -> None:
        """Write what was refused in messages up to offset `last`, unless it is there.

        Where there are rules this is written down even if nothing was refused: it fences off a writer that judges the
        same messages by other rules. Raises CommitFailedError where somebody else has done so meanwhile.
        """
        position = self.table.transaction_version(app_id)
        fresh = [message for message in settled if position is None or message.offset > position]
        entries = [entry for message in fresh for entry in self._entries(partition, message, standard)]
        if not entries and (not standard.rules or (position is not None and position >= last)):
            return
        done = _Judged(app_id, last, standard.rules, micros_of(standard.now))
        rows = pa.Table.from_pylist(entries, self._schema)
        log.append(self.table, rows, {_KEY: msgspec.json.encode(done).decode()}, {app_id: last})
        self._judged[app_id] = done

    def _entries(self, partition: int, message: Settled, standard: Standard) -> Iterator[dict[str, Any]]:
        for refused in message.content.refused:
            yield {
                "_part": partition,
                "_off": message.offset,
                "_row": refused.row,
                "_ingest_time": standard.now,
                "batch_id": message.batch_id,
                "schema_id": self._schema_id,
                "rules": standard.rules,
                **_told(refused),
            }

    def _remember(self, newest: int | None) -> None:
        entries: Iterable[dict[str, Any]] = self.table.history(newest)
        for entry in reversed([*entries]):
            if _KEY in entry:
                judged = msgspec.json.decode(entry[_KEY], type=_Judged)
                self._judged[judged.app_id] = judged


def _told(refused: Refused) -> dict[str, Any]:
    return {
        "code": str(refused.faults[0].code),
        "reason": "\n".join(map(str, refused.faults)),
        "raw": refused.raw,
        "faults": msgspec.json.encode(refused.faults).decode(),
        "_subject": refused.subject,
    }


def _add_missing_columns(table: DeltaTable) -> None:
    """Bring a table that an earlier release made up to date; its old records have nulls there."""
    known = {field.name for field in table.schema().fields}
    missing = [field for field in Schema.from_arrow(QUARANTINE).fields if field.name not in known]
    if missing:
        table.alter.add_columns(missing)
