"""What erasures changed in the commits and versions of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdtrue_storage.database import Transaction

    from holdtrue_registry.domain.datasets import Dataset


class Content(NamedTuple):
    """What a commit holds: its digest and its rows."""

    digest: str
    rows: int


class ErasureStore:
    """Reads and writes what erasures changed, for the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def contents(self, dataset_id: str, commits: Iterable[int]) -> dict[int, Content]:
        """Return what is recorded of commits, by number."""
        rows = await self._tx.fetch(
            """SELECT number, digest, accepted - erased AS rows FROM dataset_commit
            WHERE tenant = $1 AND dataset_id = $2 AND number = ANY($3)""",
            self._tenant,
            dataset_id,
            [*commits],
        )
        return {row["number"]: Content(row["digest"], row["rows"]) for row in rows}

    async def change_commits(self, dataset: Dataset, contents: Mapping[int, Content], epoch: int) -> None:
        """Record what commits hold now, under the dataset's lock, and which erasure did it."""
        await self._tx.executemany(
            """UPDATE dataset_commit SET digest = $4, erased = accepted - $5
            WHERE tenant = $1 AND dataset_id = $2 AND number = $3""",
            [(self._tenant, dataset.id, number, *content) for number, content in contents.items()],
        )
        await self._tx.execute(
            "UPDATE dataset SET erasure_epoch = $3 WHERE tenant = $1 AND id = $2", self._tenant, dataset.id, epoch
        )

    async def published(self, dataset_id: str, versions: Iterable[int]) -> list[DatasetVersionPublished]:
        """Return versions as they were published and erasures have changed them, in order."""
        rows = await self._tx.fetch(
            """SELECT published FROM dataset_version
            WHERE tenant = $1 AND dataset_id = $2 AND version = ANY($3) ORDER BY version""",
            self._tenant,
            dataset_id,
            [*versions],
        )
        return [DatasetVersionPublished.FromString(row["published"]) for row in rows]

    async def change_versions(self, versions: Iterable[DatasetVersionPublished]) -> None:
        """Record what versions are since an erasure."""
        await self._tx.executemany(
            """UPDATE dataset_version SET published = $4, erasure_epoch = $5
            WHERE tenant = $1 AND dataset_id = $2 AND version = $3""",
            [
                (self._tenant, v.dataset_id, v.version, v.SerializeToString(deterministic=True), v.erasure_epoch)
                for v in versions
            ],
        )
