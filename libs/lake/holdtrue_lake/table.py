"""A dataset's table: rows arrive exactly once, whatever is killed and whoever else writes.

The last offset that a partition gave lives in the Delta log, in the same commit as its rows. A writer appends through
the very handle whose snapshot it has checked, so that whoever looked at an older table is fenced off by the log and
must look again. Naming the table by its path instead would refresh the snapshot unseen and accept a replay
(delta-io/delta-rs#3515).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable  # noqa: TC003  of a type that is used at run time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import CommitFailedError

from holdtrue_lake import log
from holdtrue_lake.commits import MOST_EXAMPLES, BatchOutcome, Commit, read_commits
from holdtrue_lake.digest import content_digest
from holdtrue_lake.quarantine import Quarantine, Settled, Standard
from holdtrue_lake.schema import schema_id, table_schema
from holdtrue_lake.storage import has_table, make_table, rows_uri
from holdtrue_lake.times import micros_of
from holdtrue_lake.validation import Validated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema

    from holdtrue_lake.storage import Root

BATCH_MEMORY = timedelta(days=7)
"""How long a batch id is remembered: as long as `data.v1` keeps events."""
MOST_ATTEMPTS = 20
_COMMIT = "commit"
Judge: TypeAlias = "Callable[[Standard], Validated]"
"""Judges a message by a standard. The same standard must give the same outcome."""


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
    """One message of the log: judged already, or with what judges it when its turn comes."""

    offset: int
    batch_id: str
    content: Validated | Judge

    def settled(self, standard: Standard) -> Settled:
        """Judge it, unless it was."""
        content = self.content if isinstance(self.content, Validated) else self.content(standard)
        return Settled(self.offset, self.batch_id, content)


class DatasetTable:
    """Writer of one dataset's tables, made on first use. Not for several threads at once."""

    def __init__(self, root: Root, dataset_id: str, schema: DatasetSchema, *, protected: bool = False) -> None:
        """Open or create the tables and read the log; with `protected`, offers come out of `Protection.protect`."""
        self.schema = schema
        self._protected = protected
        self._schema_id = schema_id(schema)
        self._rows = make_table(rows_uri(root, dataset_id), table_schema(schema, protected=protected), log.SETTINGS)
        self._quarantine = Quarantine(root, dataset_id, self._schema_id, protected=protected)
        self._seen: dict[str, int] = {}
        self._remember(read_commits(self._rows))

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

    def ingest(self, source: Source, offers: Sequence[Offer], now: datetime, rules: str = "") -> Commit | None:
        """Append what the table does not have yet, in one commit, seldom two; None if it has everything.

        `offers` are in order of their offsets; they are judged by `rules` (a digest, empty: none) at the time `now`,
        unless a writer that crashed has judged them before: then by its standard. Refused records go to the quarantine
        first, so that a crash in between loses none. Returns the last commit.
        """
        commit = None
        for _ in range(MOST_ATTEMPTS):
            position = self.position(source)
            fresh = [offer for offer in offers if position is None or offer.offset > position]
            if not fresh:
                return commit
            try:
                commit = self._ingest(source, *self._next(source, fresh, Standard(now, rules)))
            except CommitFailedError:  # somebody else has written since we looked
                self.reload()
        raise Fenced(f"{MOST_ATTEMPTS} attempts to append to {self._rows.table_uri} met other writers")

    def _next(self, source: Source, fresh: list[Offer], standard: Standard) -> tuple[list[Offer], Standard]:
        """Return what is to be appended together, and what it is to be judged by."""
        before = self._quarantine.standard(source.app_id, self.position(source))
        if before is None or before[0] < fresh[0].offset:
            return fresh, standard
        last, earlier = before
        return [offer for offer in fresh if offer.offset <= last], earlier

    def reload(self) -> None:
        """See what others have written since."""
        before = self._rows.version()
        self._rows.update_incremental()
        self._quarantine.reload()
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

    def _ingest(self, source: Source, fresh: list[Offer], standard: Standard) -> Commit:
        settled = [offer.settled(standard) for offer in self._unrepeated(fresh)]
        last = self._rows.transaction_version(_COMMIT)
        number = 0 if last is None else last + 1
        rows = self._stored(source, settled, number, standard.now)
        commit = Commit(
            number=number,
            app_id=source.app_id,
            first_offset=fresh[0].offset,
            last_offset=fresh[-1].offset,
            schema_id=self._schema_id,
            accepted=rows.num_rows,
            quarantined=sum(len(message.content.refused) for message in settled),
            digest=content_digest(rows),
            **_bounds(rows),
            ingested_us=micros_of(standard.now),
            batches=[_batch(message) for message in settled],
            repeated=len(fresh) - len(settled),
            rules=standard.rules,
        )
        self._quarantine.keep(source.app_id, source.partition, settled, standard, commit.last_offset)
        # "commit" moves together with the offset: writers of two partitions cannot take the same number
        log.append(self._rows, rows, commit.to_metadata(), {source.app_id: commit.last_offset, _COMMIT: number})
        self._remember([commit])
        return commit

    def _stored(self, source: Source, settled: list[Settled], number: int, now: datetime) -> pa.Table:
        schema = table_schema(self.schema, protected=self._protected)
        parts = [
            schema.empty_table(),
            *(_placed(message, source.partition, number, now, schema) for message in settled),
        ]
        return pa.concat_tables(parts).combine_chunks()


def _placed(message: Settled, partition: int, number: int, now: datetime, schema: pa.Schema) -> pa.Table:
    rows = message.content.rows
    constants = {
        "_commit": number,
        "_part": partition,
        "_off": message.offset,
        "_ingest_time": now,
    }
    columns = [
        pa.repeat(pa.scalar(constants[field.name], field.type), rows.num_rows)
        if field.name in constants
        else rows.column(field.name)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _batch(message: Settled) -> BatchOutcome:
    refused = message.content.refused
    return BatchOutcome(
        batch_id=message.batch_id,
        rows=message.content.offered,
        accepted=message.content.rows.num_rows,
        quarantined=len(refused),
        codes=dict(Counter(str(record.faults[0].code) for record in refused)),
        examples=[str(fault) for record in refused[:MOST_EXAMPLES] for fault in record.faults[:1]],
    )


def _bounds(rows: pa.Table) -> dict[str, int]:
    if not rows.num_rows:
        return {"from_us": 0, "to_us": 0}
    bounds = pc.min_max(rows.column("_event_time").cast(pa.int64())).as_py()
    return {"from_us": bounds["min"], "to_us": bounds["max"]}
