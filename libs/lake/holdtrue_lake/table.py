"""A dataset's table: rows arrive exactly once, whatever is killed and whoever else writes.

The last offset that a partition gave lives in the Delta log, in the same commit as its rows. A writer appends through
the very handle whose snapshot it has checked, so that whoever looked at an older table is fenced off by the log and
must look again. Naming the table by its path instead would refresh the snapshot unseen and accept a replay
(delta-io/delta-rs#3515).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from holdtrue_lake.commits import MOST_EXAMPLES, BatchOutcome, Commit, read_commits
from holdtrue_lake.digest import content_digest
from holdtrue_lake.schema import SUBJECT, schema_id, table_schema
from holdtrue_lake.storage import has_table, make_table, quarantine_uri, rows_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deltalake import DeltaTable
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema

    from holdtrue_lake.storage import Root
    from holdtrue_lake.validation import Validated

BATCH_MEMORY = timedelta(days=7)
"""How long a batch id is remembered: as long as `data.v1` keeps events."""
MOST_ATTEMPTS = 20
_COMMIT = "commit"
_SETTINGS = {
    "delta.dataSkippingStatsColumns": "_commit,_event_time",  # values of the data itself stay out of the log
    "delta.enableExpiredLogCleanup": "false",
}
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
    ]
)
"""Refused records: identity, batch, first fault's code, every fault in words (one a line), original bytes."""


class Fenced(Exception):
    """Other writers were faster every time; trying later is safe."""


@dataclass(frozen=True)
class Source:
    """A partition of a topic that cannot be taken for another: re-creating the topic changes its id."""

    cluster_id: str
    topic_id: str
    partition: int

    @property
    def app_id(self) -> str:
        """Name under which the Delta log keeps this partition's last offset."""
        return f"ingest/{self.cluster_id}/{self.topic_id}/{self.partition}"


@dataclass(frozen=True)
class Offer:
    """One validated message of the log."""

    offset: int
    batch_id: str
    content: Validated


class DatasetTable:
    """Writer of one dataset's tables, made on first use. Not for several threads at once."""

    def __init__(self, root: Root, dataset_id: str, schema: DatasetSchema, *, protected: bool = False) -> None:
        """Open or create the tables and read the log; with `protected`, offers come out of `Protection.protect`."""
        self.schema = schema
        self._protected = protected
        self._schema_id = schema_id(schema)
        self._rows = make_table(rows_uri(root, dataset_id), table_schema(schema, protected=protected), _SETTINGS)
        self._refused = make_table(quarantine_uri(root, dataset_id), self._quarantine_schema, _SETTINGS)
        self._seen: dict[str, int] = {}
        self._remember(read_commits(self._rows))

    @property
    def _quarantine_schema(self) -> pa.Schema:
        return QUARANTINE.append(SUBJECT) if self._protected else QUARANTINE

    @staticmethod
    def exists(root: Root, dataset_id: str) -> bool:
        """Tell whether the dataset has a table yet."""
        return has_table(rows_uri(root, dataset_id))

    def position(self, source: Source) -> int | None:
        """Last offset of the partition that is in the table; None before the first."""
        return self._rows.transaction_version(source.app_id)

    def commits(self, after: int) -> list[Commit]:
        """Commits with numbers above `after` (-1: all), in order."""
        last = self._rows.transaction_version(_COMMIT)
        if last is None or last <= after:
            return []
        return [commit for commit in read_commits(self._rows) if commit.number > after]

    def ingest(self, source: Source, offers: Sequence[Offer], now: datetime) -> Commit | None:
        """Append what the table does not have yet, in one commit; None if it has everything.

        `offers` are in order of their offsets. Refused records go to the quarantine table first, so that a crash in
        between loses none; the replay finds them there.
        """
        for _ in range(MOST_ATTEMPTS):
            position = self.position(source)
            fresh = [offer for offer in offers if position is None or offer.offset > position]
            if not fresh:
                return None
            try:
                return self._ingest(source, fresh, now)
            except CommitFailedError:  # somebody else has written since we looked
                self.reload()
        raise Fenced(f"{MOST_ATTEMPTS} attempts to append to {self._rows.table_uri} met other writers")

    def reload(self) -> None:
        """See what others have written since."""
        before = self._rows.version()
        self._rows.update_incremental()
        self._refused.update_incremental()
        self._remember(read_commits(self._rows, self._rows.version() - before))

    def _unrepeated(self, offers: Iterable[Offer]) -> list[Offer]:
        """Leave out batches that came before: a producer's retry has a new offset and the same batch id."""
        seen = set(self._seen)
        kept: list[Offer] = []
        for offer in offers:
            if offer.batch_id not in seen:
                seen.add(offer.batch_id)
                kept.append(offer)
        return kept

    def _remember(self, commits: Iterable[Commit]) -> None:
        for commit in commits:
            self._seen.update((batch.batch_id, commit.ingested_us) for batch in commit.batches)
        oldest = (datetime.now(UTC) - BATCH_MEMORY).timestamp() * 1e6
        while self._seen and next(iter(self._seen.values())) < oldest:
            del self._seen[next(iter(self._seen))]

    def _ingest(self, source: Source, fresh: list[Offer], now: datetime) -> Commit:
        offers = self._unrepeated(fresh)
        last = self._rows.transaction_version(_COMMIT)
        number = 0 if last is None else last + 1
        rows = self._stored(source, offers, number, now)
        commit = Commit(
            number=number,
            app_id=source.app_id,
            first_offset=fresh[0].offset,
            last_offset=fresh[-1].offset,
            schema_id=self._schema_id,
            accepted=rows.num_rows,
            quarantined=sum(len(offer.content.refused) for offer in offers),
            digest=content_digest(rows),
            **_bounds(rows),
            ingested_us=_micros(now),
            batches=[_outcome(offer) for offer in offers],
            repeated=len(fresh) - len(offers),
        )
        self._quarantine(source, offers, fresh[-1].offset, now)
        # "commit" moves together with the offset: writers of two partitions cannot take the same number
        _append(self._rows, rows, commit.to_metadata(), {source.app_id: commit.last_offset, _COMMIT: number})
        self._remember([commit])
        return commit

    def _stored(self, source: Source, offers: list[Offer], number: int, now: datetime) -> pa.Table:
        schema = table_schema(self.schema, protected=self._protected)
        parts = [schema.empty_table(), *(_placed(offer, source.partition, number, now, schema) for offer in offers)]
        return pa.concat_tables(parts).combine_chunks()

    def _quarantine(self, source: Source, offers: list[Offer], last_offset: int, now: datetime) -> None:
        position = self._refused.transaction_version(source.app_id)
        entries = [
            {
                "_part": source.partition,
                "_off": offer.offset,
                "_row": refused.row,
                "_ingest_time": now,
                "batch_id": offer.batch_id,
                "schema_id": self._schema_id,
                "code": str(refused.faults[0].code),
                "reason": "\n".join(map(str, refused.faults)),
                "raw": refused.raw,
                **({"_subject": refused.subject} if self._protected else {}),
            }
            for offer in offers
            if position is None or offer.offset > position
            for refused in offer.content.refused
        ]
        if entries:
            _append(
                self._refused, pa.Table.from_pylist(entries, self._quarantine_schema), {}, {source.app_id: last_offset}
            )


def _append(table: DeltaTable, rows: pa.Table, metadata: dict[str, str], positions: dict[str, int]) -> None:
    transactions = [Transaction(app_id, version) for app_id, version in positions.items()]
    properties = CommitProperties(custom_metadata=metadata, app_transactions=transactions)
    write_deltalake(table, rows, mode="append", commit_properties=properties)


def _placed(offer: Offer, partition: int, number: int, now: datetime, schema: pa.Schema) -> pa.Table:
    rows = offer.content.rows
    constants = {
        "_commit": number,
        "_part": partition,
        "_off": offer.offset,
        "_ingest_time": now,
    }
    columns = [
        pa.repeat(pa.scalar(constants[field.name], field.type), rows.num_rows)
        if field.name in constants
        else rows.column(field.name)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _outcome(offer: Offer) -> BatchOutcome:
    refused = offer.content.refused
    return BatchOutcome(
        batch_id=offer.batch_id,
        rows=offer.content.offered,
        accepted=offer.content.rows.num_rows,
        quarantined=len(refused),
        codes=dict(Counter(str(record.faults[0].code) for record in refused)),
        examples=[str(fault) for record in refused[:MOST_EXAMPLES] for fault in record.faults[:1]],
    )


def _bounds(rows: pa.Table) -> dict[str, int]:
    if not rows.num_rows:
        return {"from_us": 0, "to_us": 0}
    bounds = pc.min_max(rows.column("_event_time").cast(pa.int64())).as_py()
    return {"from_us": bounds["min"], "to_us": bounds["max"]}


def _micros(time: datetime) -> int:
    return int(time.timestamp() * 1e6)
