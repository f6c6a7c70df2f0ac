"""State of the folds. Everything here is written in the transaction that moves the partition's offset."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from holdtrue_stats.histogram import State

from holdtrue_monitor.domain.buckets import Labelled, Place, Scores, Served
from holdtrue_monitor.domain.labels import Label

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from asyncpg import Record
    from holdtrue_storage.database import Transaction

    from holdtrue_monitor.domain.predictions import Named

K = TypeVar("K")
Owned = tuple[int, Place]
"""A partition and a place: the part of a place's counts that the partition owns."""

_LOAD = """
SELECT b.* FROM {table} b
JOIN unnest($2::int[], $3::text[], $4::smallint[], $5::bigint[]) AS wanted (partition, revision, segment, start_ns)
    USING (partition, revision, segment, start_ns)
WHERE b.tenant = $1"""
_SAVE_SERVED = """
INSERT INTO served_bucket (tenant, partition, revision, segment, start_ns, scores, features)
SELECT $1, * FROM unnest($2::int[], $3::text[], $4::smallint[], $5::bigint[], $6::bytea[], $7::bytea[])
ON CONFLICT (tenant, revision, start_ns, segment, partition) DO UPDATE
SET scores = excluded.scores, features = excluded.features"""
_SAVE_LABELLED = """
INSERT INTO labelled_bucket (tenant, partition, revision, segment, start_ns, data)
SELECT $1, * FROM unnest($2::int[], $3::text[], $4::smallint[], $5::bigint[], $6::bytea[])
ON CONFLICT (tenant, revision, start_ns, segment, partition) DO UPDATE SET data = excluded.data"""
_LOAD_TOTALS = """
SELECT t.revision, t.partition, t.data FROM revision_labels t
JOIN unnest($2::int[], $3::text[]) AS wanted (partition, revision) USING (partition, revision)
WHERE t.tenant = $1"""
_SAVE_TOTALS = """
INSERT INTO revision_labels (tenant, partition, revision, data)
SELECT $1, * FROM unnest($2::int[], $3::text[], $4::bytea[])
ON CONFLICT (tenant, revision, partition) DO UPDATE SET data = excluded.data"""
_TOUCH = """
INSERT INTO evaluated_window (tenant, revision, start_ns, end_ns)
SELECT $1, revision, start_ns, start_ns + $4 FROM unnest($2::text[], $3::bigint[]) AS w (revision, start_ns)
ORDER BY revision, start_ns
ON CONFLICT (tenant, revision, start_ns) DO UPDATE SET touched = evaluated_window.touched + 1"""
_PUT_SPOOLS = """
INSERT INTO spool (tenant, partition, spool_id, last, seen_at)
SELECT $1, new.*, now() FROM unnest($2::int[], $3::text[], $4::numeric[]) AS new
ON CONFLICT (tenant, partition, spool_id) DO UPDATE SET last = excluded.last, seen_at = excluded.seen_at"""
_PUT_WATERMARKS = """
INSERT INTO watermark (tenant, partition, latest_ns) SELECT $1, * FROM unnest($2::int[], $3::bigint[])
ON CONFLICT (tenant, partition) DO UPDATE SET latest_ns = greatest(watermark.latest_ns, excluded.latest_ns)"""
_RESERVE_LABELS = """
INSERT INTO label (tenant, prediction_id, revision, value, label_revision, observed_ns, event_id)
SELECT $1, id, '', 'NaN', -1, 0, '' FROM unnest($2::text[]) AS new (id) ORDER BY id
ON CONFLICT (tenant, prediction_id) DO NOTHING"""
_LOCK_LABELS = """
SELECT prediction_id, value, label_revision, observed_ns, event_id FROM label
WHERE tenant = $1 AND prediction_id = ANY($2::text[]) ORDER BY prediction_id FOR UPDATE"""
_PUT_LABELS = """
UPDATE label SET revision = new.revision, value = new.value, label_revision = new.label_revision,
    observed_ns = new.observed_ns, event_id = new.event_id
FROM unnest($2::text[], $3::text[], $4::float8[], $5::bigint[], $6::bigint[], $7::text[])
    AS new (prediction_id, revision, value, label_revision, observed_ns, event_id)
WHERE label.tenant = $1 AND label.prediction_id = new.prediction_id"""
_MEET_EXTERNAL = """
INSERT INTO external_id (tenant, external_id)
SELECT $1, id FROM unnest($2::text[]) AS new (id) ORDER BY id
ON CONFLICT (tenant, external_id) DO UPDATE SET external_id = excluded.external_id
RETURNING external_id, prediction_id, value, label_revision, observed_ns, event_id"""
_WAIT = """
UPDATE external_id e SET value = new.value, label_revision = new.label_revision, observed_ns = new.observed_ns,
    event_id = new.event_id
FROM unnest($2::text[], $3::float8[], $4::bigint[], $5::bigint[], $6::text[])
    AS new (external_id, value, label_revision, observed_ns, event_id)
WHERE e.tenant = $1 AND e.external_id = new.external_id"""
_NAME = """
UPDATE external_id e SET prediction_id = new.prediction_id, time_ns = new.time_ns,
    value = NULL, label_revision = NULL, observed_ns = NULL, event_id = NULL
FROM unnest($2::text[], $3::text[], $4::bigint[]) AS new (external_id, prediction_id, time_ns)
WHERE e.tenant = $1 AND e.external_id = new.external_id AND e.time_ns <= new.time_ns"""


@dataclass(frozen=True, slots=True)
class Met:
    """What an external id means now: a prediction (None: not seen yet), and the label that waits for one."""

    prediction_id: str | None
    waiting: Label | None


class FoldStore:
    """Counts, positions and labels, in one transaction."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction, for its tenant."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def add_served(self, counts: Mapping[Owned, Served]) -> None:
        """Add counts of predictions to what is stored."""
        rows = await self._tx.fetch(_LOAD.format(table="served_bucket"), self._tenant, *_columns(counts))
        stored = {_owned(r): Served(Scores.from_bytes(r["scores"]), State.from_bytes(r["features"])) for r in rows}
        sums = [stored[key] + new if key in stored else new for key, new in counts.items()]
        scores = [served.scores.to_bytes() for served in sums]
        features = [served.features.to_bytes() for served in sums]
        await self._tx.execute(_SAVE_SERVED, self._tenant, *_columns(counts), scores, features)

    async def add_labelled(self, counts: Mapping[Owned, Labelled]) -> None:
        """Add counts of labels to what is stored, of their places and of all labels of their revision."""
        rows = await self._tx.fetch(_LOAD.format(table="labelled_bucket"), self._tenant, *_columns(counts))
        stored = {_owned(r): r["data"] for r in rows}
        await self._tx.execute(_SAVE_LABELLED, self._tenant, *_columns(counts), _sums(stored, counts))
        totals: defaultdict[tuple[int, str], Labelled] = defaultdict(Labelled.empty)
        for (partition, place), new in counts.items():
            totals[partition, place.revision] += new
        partitions, revisions = [key[0] for key in totals], [key[1] for key in totals]
        rows = await self._tx.fetch(_LOAD_TOTALS, self._tenant, partitions, revisions)
        stored = {(r["partition"], r["revision"]): r["data"] for r in rows}
        await self._tx.execute(_SAVE_TOTALS, self._tenant, partitions, revisions, _sums(stored, totals))

    async def touch(self, places: Iterable[Place], window_ns: int) -> None:
        """Say that the counts of these places' windows changed."""
        windows = sorted({(place.revision, place.start_ns) for place in places})
        revisions, starts = [w[0] for w in windows], [w[1] for w in windows]
        await self._tx.execute(_TOUCH, self._tenant, revisions, starts, window_ns)

    async def spools(self, partitions: Collection[int], spool_ids: Collection[str]) -> dict[tuple[int, str], int]:
        """Return the sequence of the last record counted, by partition and spool."""
        rows = await self._tx.fetch(
            "SELECT * FROM spool WHERE tenant = $1 AND partition = ANY($2::int[]) AND spool_id = ANY($3::text[])",
            self._tenant,
            list(partitions),
            list(spool_ids),
        )
        return {(row["partition"], row["spool_id"]): int(row["last"]) for row in rows}

    async def put_spools(self, last: Mapping[tuple[int, str], int]) -> None:
        """Store the sequence of the last record counted."""
        partitions, spools = [key[0] for key in last], [key[1] for key in last]
        await self._tx.execute(_PUT_SPOOLS, self._tenant, partitions, spools, list(last.values()))

    async def put_watermarks(self, latest_ns: Mapping[int, int]) -> None:
        """Raise the time of the latest prediction counted."""
        await self._tx.execute(_PUT_WATERMARKS, self._tenant, list(latest_ns), list(latest_ns.values()))

    async def lock_labels(self, prediction_ids: Collection[str]) -> dict[str, Label]:
        """Lock the labels of predictions, so that nobody else counts them; one that is new is as if withdrawn."""
        ids = sorted(prediction_ids)
        await self._tx.execute(_RESERVE_LABELS, self._tenant, ids)
        rows = await self._tx.fetch(_LOCK_LABELS, self._tenant, ids)
        return {
            r["prediction_id"]: Label(
                r["prediction_id"], "", r["value"], r["label_revision"], r["observed_ns"], r["event_id"]
            )
            for r in rows
        }

    async def put_labels(self, labels: Collection[tuple[Label, str]]) -> None:
        """Store labels, each with the revision that predicted."""
        columns = [
            (label.prediction_id, revision, label.value, label.revision, label.observed_ns, label.event_id)
            for label, revision in labels
        ]
        await self._tx.execute(_PUT_LABELS, self._tenant, *map(list, zip(*columns, strict=True)))

    async def meet(self, external_ids: Collection[str]) -> dict[str, Met]:
        """Lock external ids and return what they mean: a label and a prediction that come at once find each other."""
        rows = await self._tx.fetch(_MEET_EXTERNAL, self._tenant, sorted(external_ids))
        return {
            r["external_id"]: Met(
                r["prediction_id"],
                None
                if r["value"] is None
                else Label("", r["external_id"], r["value"], r["label_revision"], r["observed_ns"], r["event_id"]),
            )
            for r in rows
        }

    async def wait(self, labels: Collection[Label]) -> None:
        """Keep labels until predictions with their external ids come."""
        columns = [(x.external_id, x.value, x.revision, x.observed_ns, x.event_id) for x in labels]
        await self._tx.execute(_WAIT, self._tenant, *map(list, zip(*columns, strict=True)))

    async def name(self, named: Collection[Named]) -> None:
        """Let external ids mean these predictions, where they are later than the ones meant so far."""
        columns = [(x.external_id, x.prediction_id, x.time_ns) for x in named]
        await self._tx.execute(_NAME, self._tenant, *map(list, zip(*columns, strict=True)))


def _columns(places: Iterable[Owned]) -> tuple[list[int], list[str], list[int], list[int]]:
    owned = list(places)
    return (
        [partition for partition, _ in owned],
        [place.revision for _, place in owned],
        [place.segment for _, place in owned],
        [place.start_ns for _, place in owned],
    )


def _owned(row: Record) -> Owned:
    return row["partition"], Place(row["revision"], row["segment"], row["start_ns"])


def _sums(stored: Mapping[K, bytes], counts: Mapping[K, Labelled]) -> list[bytes]:
    """Add to each count what is stored under its key."""
    return [
        (Labelled.from_bytes(stored[key]) + new if key in stored else new).to_bytes() for key, new in counts.items()
    ]
