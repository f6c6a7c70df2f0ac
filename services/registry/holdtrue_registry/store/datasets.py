"""Datasets, their commits, batches and versions."""
# ruff: noqa: S608  what is put into statements are our own lists of columns

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema, DatasetVersionPublished, DatasetVersionStatus
from holdtrue_lake.times import time_of

from holdtrue_registry.domain.datasets import Batch, Dataset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from asyncpg import Record
    from holdtrue_contracts.actor import Actor
    from holdtrue_events.outbox import Outbox
    from holdtrue_lake.commits import Commit
    from holdtrue_storage.database import Transaction

_COLUMNS = """id, name, schema_id, schema, version_rows, last_commit, accepted, quarantined, from_us, to_us,
    latest_version, published_rows, open_since, created_at, rules_digest, erasure_epoch"""

_PAGE = 500


class DatasetStore:
    """Reads and writes datasets of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def create(
        self, dataset_id: str, name: str, schema_id: str, schema: DatasetSchema, rows: int
    ) -> Dataset | None:
        """Insert a dataset; None where the name is taken."""
        row = await self._tx.fetchrow(
            f"""INSERT INTO dataset (tenant, id, name, schema_id, schema, version_rows, actor)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, name) DO NOTHING RETURNING {_COLUMNS}""",
            self._tenant,
            dataset_id,
            name,
            schema_id,
            schema.SerializeToString(deterministic=True),
            rows,
            self._tx.actor.to_header().decode(),
        )
        return _dataset(row) if row else None

    async def find(self, name_or_id: str) -> Dataset | None:
        """Return the dataset of that name or id."""
        row = await self._tx.fetchrow(
            f"SELECT {_COLUMNS} FROM dataset WHERE tenant = $1 AND (name = $2 OR id = $2) ORDER BY name <> $2 LIMIT 1",
            self._tenant,
            name_or_id,
        )
        return _dataset(row) if row else None

    async def get(self, dataset_id: str) -> Dataset | None:
        """Return the dataset of that id."""
        row = await self._tx.fetchrow(
            f"SELECT {_COLUMNS} FROM dataset WHERE tenant = $1 AND id = $2", self._tenant, dataset_id
        )
        return _dataset(row) if row else None

    async def lock(self, dataset_id: str) -> Dataset | None:
        """Return the dataset and keep others from changing it until the transaction ends."""
        row = await self._tx.fetchrow(
            f"SELECT {_COLUMNS} FROM dataset WHERE tenant = $1 AND id = $2 FOR UPDATE", self._tenant, dataset_id
        )
        return _dataset(row) if row else None

    async def page(self, after: str, size: int) -> list[Dataset]:
        """Return datasets by name, those after `after`."""
        rows = await self._tx.fetch(
            f"SELECT {_COLUMNS} FROM dataset WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
            self._tenant,
            after,
            size,
        )
        return [_dataset(row) for row in rows]

    async def open(self) -> list[str]:
        """Return ids of datasets with rows that are in no version yet."""
        rows = await self._tx.fetch(
            "SELECT id FROM dataset WHERE tenant = $1 AND open_since IS NOT NULL ORDER BY open_since", self._tenant
        )
        return [row["id"] for row in rows]

    async def add_commit(self, dataset_id: str, commit: Commit) -> Dataset:
        """Record a commit with its batches; return the dataset after it. Commits come in order, under the lock."""
        await self._insert_commit(dataset_id, commit)
        await self._insert_batches(dataset_id, commit)
        row = await self._tx.fetchrow(
            f"""UPDATE dataset SET last_commit = $3, quarantined = quarantined + $5,
                from_us = CASE WHEN $4 = 0 THEN from_us WHEN accepted = 0 THEN $6 ELSE least(from_us, $6) END,
                to_us = CASE WHEN $4 = 0 THEN to_us ELSE greatest(to_us, $7) END,
                accepted = accepted + $4,
                open_since = CASE WHEN $4 = 0 THEN open_since ELSE coalesce(open_since, $8) END
            WHERE tenant = $1 AND id = $2 AND last_commit = $3 - 1 RETURNING {_COLUMNS}""",
            self._tenant,
            dataset_id,
            commit.number,
            commit.accepted,
            commit.quarantined,
            commit.from_us,
            commit.to_us,
            time_of(commit.ingested_us),
        )
        if row is None:
            raise RuntimeError(f"commit {commit.number} of dataset {dataset_id} does not follow the last one recorded")
        return _dataset(row)

    async def _insert_commit(self, dataset_id: str, commit: Commit) -> None:
        await self._tx.execute(
            """INSERT INTO dataset_commit (tenant, dataset_id, number, app_id, first_offset, last_offset, accepted,
                quarantined, repeated, digest, ingested_at, from_us, to_us, rules_digest)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)""",
            self._tenant,
            dataset_id,
            commit.number,
            commit.app_id,
            commit.first_offset,
            commit.last_offset,
            commit.accepted,
            commit.quarantined,
            commit.repeated,
            commit.digest,
            time_of(commit.ingested_us),
            commit.from_us,
            commit.to_us,
            commit.rules,
        )

    async def _insert_batches(self, dataset_id: str, commit: Commit) -> None:
        await self._tx.executemany(
            """INSERT INTO dataset_batch (tenant, dataset_id, batch_id, commit_number, rows, accepted, quarantined,
                codes, examples)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING""",
            [
                (
                    self._tenant,
                    dataset_id,
                    b.batch_id,
                    commit.number,
                    b.rows,
                    b.accepted,
                    b.quarantined,
                    b.codes,
                    b.examples,
                )
                for b in commit.batches
            ],
        )

    async def batches(self, dataset_id: str, batch_ids: Sequence[str]) -> list[Batch]:
        """Return those of the batches that are ingested."""
        rows = await self._tx.fetch(
            """SELECT batch_id, accepted, codes, examples FROM dataset_batch
            WHERE tenant = $1 AND dataset_id = $2 AND batch_id = ANY($3) ORDER BY commit_number""",
            self._tenant,
            dataset_id,
            batch_ids,
        )
        return [Batch(row["batch_id"], row["accepted"], row["codes"], tuple(row["examples"])) for row in rows]

    async def version(self, dataset_id: str, number: int) -> DatasetVersionPublished | None:
        """Return a version."""
        row = await self._tx.fetchrow(
            """SELECT published, status, cleared FROM dataset_version
            WHERE tenant = $1 AND dataset_id = $2 AND version = $3 AND expired_at IS NULL""",
            self._tenant,
            dataset_id,
            number,
        )
        return _version(row) if row else None

    async def expired(self, dataset_id: str, number: int) -> str | None:
        """Return why a version is forgotten; None where it is not."""
        return await self._tx.fetchval(
            """SELECT expired FROM dataset_version
            WHERE tenant = $1 AND dataset_id = $2 AND version = $3 AND expired_at IS NOT NULL""",
            self._tenant,
            dataset_id,
            number,
        )

    async def versions(self, dataset_id: str, before: int, size: int) -> list[DatasetVersionPublished]:
        """Return versions with numbers below `before`, newest first."""
        rows = await self._tx.fetch(
            """SELECT published, status, cleared FROM dataset_version
            WHERE tenant = $1 AND dataset_id = $2 AND version < $3 AND expired_at IS NULL
            ORDER BY version DESC LIMIT $4""",
            self._tenant,
            dataset_id,
            before,
            size,
        )
        return [_version(row) for row in rows]


async def every_dataset(outbox: Outbox, actor: Actor) -> AsyncIterator[Dataset]:
    """Yield the actor's datasets by name; no transaction is open meanwhile."""
    after = ""
    while True:
        async with outbox.transaction(actor) as tx:
            page = await DatasetStore(tx).page(after, _PAGE)
        for dataset in page:
            yield dataset
        if len(page) < _PAGE:
            return
        after = page[-1].name


def _dataset(row: Record) -> Dataset:
    fields: dict[str, Any] = {**row, "schema": DatasetSchema.FromString(row["schema"])}
    return Dataset(**fields)


def _version(row: Record) -> DatasetVersionPublished:
    """Return a version as it was published, with the status that it has now."""
    version = DatasetVersionPublished.FromString(row["published"])
    version.cleared = row["cleared"]
    version.status = DatasetVersionStatus.Value(f"DATASET_VERSION_STATUS_{row['status'].upper()}")
    return version
