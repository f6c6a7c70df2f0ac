"""What follows in the registry from erasing persons: other digests of commits and versions, and events that say so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import ErasedVersion, SubjectErased
from holdtrue_lake.commits import read_commits
from holdtrue_lake.storage import open_table, rows_uri

from holdtrue_registry.commands import record_commits
from holdtrue_registry.store.datasets import DatasetStore
from holdtrue_registry.store.erasure import Content, ErasureStore
from holdtrue_registry.store.history import HistoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished
    from holdtrue_events.outbox import Transaction
    from holdtrue_lake.commits import Commit
    from holdtrue_lake.erasure import Erased
    from holdtrue_lake.erasures import DatasetErased, Erasure
    from holdtrue_lake.ingest import Ingester

    from holdtrue_registry.domain.datasets import Dataset

MOST_VERSIONS = 2000
"""Versions that one event names; where more have changed there are several."""


class ErasureRecorder:
    """Stores what a round of erasures did to the tables below `lake`, and tells whoever ingests into them."""

    def __init__(self, lake: Path, ingester: Ingester) -> None:
        """Say where the tables are."""
        self._lake = lake
        self._ingester = ingester

    async def changed(self, tx: Transaction, outcome: DatasetErased) -> None:
        """Give changed commits, and the versions that hold them, the digests of what they have now."""
        self._ingester.forget(outcome.dataset_id)
        dataset = await DatasetStore(tx).lock(outcome.dataset_id)
        if dataset is None:
            raise RuntimeError(f"dataset {outcome.dataset_id} disappeared")
        if max(outcome.digests, default=-1) > dataset.last_commit:  # a crash kept a commit from being recorded
            missing = await asyncio.to_thread(_commits, self._lake, dataset)
            dataset = await record_commits(tx, dataset, missing)
        before = await ErasureStore(tx).contents(dataset.id, outcome.digests)
        now = {number: Content(digest, outcome.rows[number]) for number, digest in outcome.digests.items()}
        if changed := {number: content for number, content in now.items() if content != before[number]}:
            fewer = {number: before[number].rows - content.rows for number, content in changed.items()}
            await _change(tx, dataset, changed, fewer)

    async def erased(self, tx: Transaction, erasure: Erasure) -> None:
        """Tell, for each dataset that held something about the person, that it does not any more."""
        for dataset_id, held in erasure.held.items():
            dataset = await DatasetStore(tx).get(dataset_id)
            if dataset is not None and (held.rows or held.quarantined):
                holding = [v.number for v in await HistoryStore(tx).versions(dataset) if v.commits & held.commits]
                versions = await ErasureStore(tx).published(dataset_id, holding)
                for event in _told(dataset, erasure, held, versions):
                    tx.publish(event)


async def _change(tx: Transaction, dataset: Dataset, changed: Mapping[int, Content], fewer: Mapping[int, int]) -> None:
    before = await HistoryStore(tx).load(dataset)
    after = before.erase({number: content.digest for number, content in changed.items()})
    store = ErasureStore(tx)
    await store.change_commits(dataset, changed, after.erasure_epoch)
    touched = {
        new.number: new for old, new in zip(before.versions, after.versions, strict=True) if old.digest != new.digest
    }
    versions = await store.published(dataset.id, touched)
    for version in versions:
        made = touched[version.version]
        version.digest, version.erasure_epoch = made.digest, made.erasure_epoch
        version.rows -= sum(rows for number, rows in fewer.items() if number in made.commits)
    await store.change_versions(versions)


def _told(
    dataset: Dataset, erasure: Erasure, held: Erased, versions: list[DatasetVersionPublished]
) -> Iterator[SubjectErased]:
    named = [ErasedVersion(version=v.version, digest=v.digest, rows=v.rows) for v in versions]
    for start in range(0, max(1, len(named)), MOST_VERSIONS):
        yield SubjectErased(
            dataset_id=dataset.id,
            name=dataset.name,
            erasure_id=erasure.id,
            pseudonym=erasure.pseudonym or "",
            rows=held.rows,
            quarantined=held.quarantined,
            erasure_epoch=dataset.erasure_epoch,
            versions=named[start : start + MOST_VERSIONS],
            reason=erasure.reason,
            asked_by=erasure.asked_by,
        )


def _commits(lake: Path, dataset: Dataset) -> list[Commit]:
    found = read_commits(open_table(rows_uri(lake, dataset.id)))
    return [commit for commit in found if commit.number > dataset.last_commit]
