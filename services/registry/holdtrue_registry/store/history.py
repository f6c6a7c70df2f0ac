"""Versions of a dataset, and what the commits in them hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished
from holdtrue_lake.history import History, Status, Version
from holdtrue_lake.ranges import Ranges

from holdtrue_registry.domain.datasets import held_commits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncpg import Record
    from holdtrue_storage.database import Transaction

    from holdtrue_registry.domain.datasets import Dataset

_WITHIN = (
    "EXISTS (SELECT FROM unnest($3::bigint[], $4::bigint[]) AS span (first, last) WHERE {} BETWEEN first AND last)"
)


@dataclass(frozen=True)
class Holding:
    """What commits hold: accepted rows, and bounds of their event times in microseconds; None: not known."""

    rows: int
    from_us: int | None
    to_us: int | None


@dataclass(frozen=True)
class CommitEntry:
    """A commit as it is recorded."""

    number: int
    ingested_at: datetime
    accepted: int
    quarantined: int
    digest: str
    rules_digest: str
    batch_ids: tuple[str, ...]


class HistoryStore:
    """Reads and writes the histories of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def load(self, dataset: Dataset, *, most: int | None = None, last: int | None = None) -> History:
        """Return the history of a dataset, or only its `most` newest versions. The dataset is locked.

        It has all commits, or those up to the `last`: further ones wait for another version.
        """
        digests = await self._tx.fetch(
            """SELECT digest FROM dataset_commit
            WHERE tenant = $1 AND dataset_id = $2 AND ($3::bigint IS NULL OR number <= $3) ORDER BY number""",
            self._tenant,
            dataset.id,
            last,
        )
        versions = await self.versions(dataset, most=most)
        return History(
            dataset.schema_id,
            tuple(row["digest"] for row in digests),
            versions,
            erasure_epoch=dataset.erasure_epoch,
            _last=dataset.latest_version,
        )

    async def versions(self, dataset: Dataset, *, most: int | None = None) -> tuple[Version, ...]:
        """Return the versions of a dataset, or its `most` newest, in order."""
        rows = await self._tx.fetch(
            """SELECT version, published, offered, retracted, watermark, status, created_at, erasure_epoch
            FROM dataset_version WHERE tenant = $1 AND dataset_id = $2 AND expired_at IS NULL
            ORDER BY version DESC LIMIT $3""",
            self._tenant,
            dataset.id,
            most,
        )
        return tuple(_version(row) for row in reversed(rows))

    async def add(self, dataset: Dataset, version: Version, published: DatasetVersionPublished) -> None:
        """Insert a version and make it the dataset's latest, under the lock."""
        await self._tx.execute(
            """INSERT INTO dataset_version
                (tenant, dataset_id, version, published, actor, offered, retracted, watermark, status, erasure_epoch)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
            self._tenant,
            dataset.id,
            version.number,
            published.SerializeToString(deterministic=True),
            self._tx.actor.to_header().decode(),
            list(map(list, version.offered)),
            list(map(list, version.retracted)),
            version.watermark,
            str(version.status),
            version.erasure_epoch,
        )
        await self._tx.execute(
            """UPDATE dataset
            SET latest_version = $3, published_rows = accepted - waiting.rows, open_since = waiting.since
            FROM (SELECT coalesce(sum(accepted), 0)::bigint AS rows, min(ingested_at) AS since FROM dataset_commit
                WHERE tenant = $1 AND dataset_id = $2 AND number > $4 AND accepted > 0) AS waiting
            WHERE tenant = $1 AND id = $2""",
            self._tenant,
            dataset.id,
            version.number,
            version.watermark,
        )

    async def flag(self, dataset_id: str, numbers: Sequence[int]) -> None:
        """Mark versions as retracted."""
        await self._tx.execute(
            """UPDATE dataset_version SET status = 'retracted'
            WHERE tenant = $1 AND dataset_id = $2 AND version = ANY($3)""",
            self._tenant,
            dataset_id,
            numbers,
        )

    async def holding(self, dataset_id: str, commits: Ranges) -> Holding:
        """Return what commits hold."""
        row = await self._tx.fetchrow(
            f"""SELECT coalesce(sum(accepted - erased), 0)::bigint AS rows,
                min(from_us) AS from_us, max(to_us) AS to_us, coalesce(bool_or(from_us IS NULL), false) AS unknown
            FROM dataset_commit WHERE tenant = $1 AND dataset_id = $2 AND accepted > 0
                AND {_WITHIN.format("number")}""",  # noqa: S608  our own text
            self._tenant,
            dataset_id,
            *_spans(commits),
        )
        if row is None or row["unknown"]:
            return Holding(row["rows"] if row else 0, None, None)
        return Holding(row["rows"], row["from_us"] or 0, row["to_us"] or 0)

    async def released(self, dataset_id: str) -> Ranges:
        """Return the commits whose rows go, or are gone."""
        rows = await self._tx.fetch(
            """SELECT number FROM dataset_commit
            WHERE tenant = $1 AND dataset_id = $2 AND released_at IS NOT NULL""",
            self._tenant,
            dataset_id,
        )
        return Ranges.of((row["number"], row["number"]) for row in rows)

    async def batches_in(self, dataset_id: str, commits: Ranges) -> list[str]:
        """Return the batches that came in commits."""
        rows = await self._tx.fetch(
            f"""SELECT batch_id FROM dataset_batch WHERE tenant = $1 AND dataset_id = $2
                AND {_WITHIN.format("commit_number")} ORDER BY commit_number, batch_id""",  # noqa: S608  our own text
            self._tenant,
            dataset_id,
            *_spans(commits),
        )
        return [row["batch_id"] for row in rows]

    async def commits_of(self, dataset_id: str, batch_ids: Iterable[str]) -> dict[str, int]:
        """Return the commit of each batch that is known."""
        rows = await self._tx.fetch(
            """SELECT batch_id, commit_number FROM dataset_batch
            WHERE tenant = $1 AND dataset_id = $2 AND batch_id = ANY($3)""",
            self._tenant,
            dataset_id,
            list(batch_ids),
        )
        return {row["batch_id"]: row["commit_number"] for row in rows}

    async def commits(self, dataset_id: str, before: int, size: int) -> list[CommitEntry]:
        """Return commits with numbers below `before`, newest first."""
        rows = await self._tx.fetch(
            """SELECT number, ingested_at, accepted, quarantined, digest, rules_digest,
                (SELECT coalesce(array_agg(batch_id ORDER BY batch_id), '{}') FROM dataset_batch b
                WHERE b.tenant = c.tenant AND b.dataset_id = c.dataset_id AND b.commit_number = c.number) AS batch_ids
            FROM dataset_commit c WHERE tenant = $1 AND dataset_id = $2 AND number < $3
            ORDER BY number DESC LIMIT $4""",
            self._tenant,
            dataset_id,
            before,
            size,
        )
        return [_entry(row) for row in rows]


def _entry(row: Record) -> CommitEntry:
    fields: dict[str, Any] = {**row, "batch_ids": tuple(row["batch_ids"])}
    return CommitEntry(**fields)


def _spans(commits: Ranges) -> tuple[list[int], list[int]]:
    return [first for first, _ in commits], [last for _, last in commits]


def _version(row: Record) -> Version:
    published = DatasetVersionPublished.FromString(row["published"])
    held = held_commits(published)
    offered, retracted = row["offered"], row["retracted"]
    return Version(
        number=row["version"],
        offered=held if offered is None else _ranges(offered),
        retracted=Ranges() if retracted is None else _ranges(retracted),
        watermark=max((last for _, last in held), default=-1) if row["watermark"] is None else row["watermark"],
        digest=published.digest,
        made_at=row["created_at"].astimezone(UTC),
        status=Status(row["status"]),
        erasure_epoch=row["erasure_epoch"],
    )


def _ranges(spans: list[Any]) -> Ranges:
    return Ranges.of((first, last) for first, last in spans)
