"""Forgetting old versions that nobody wants to keep, each time in one transaction under the dataset's lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionExpired

from holdtrue_registry.store.expiry import ExpiryStore
from holdtrue_registry.store.history import HistoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from holdtrue_events.outbox import Transaction
    from holdtrue_lake.ranges import Ranges

    from holdtrue_registry.domain.datasets import Dataset
    from holdtrue_registry.store.expiry import Pinned


@dataclass(frozen=True)
class Expiry:
    """Versions that are forgotten, pins that kept older ones, commits whose rows go with the number of these."""

    versions: Sequence[int]
    kept: Sequence[Pinned]
    commits: Ranges
    rows: int


async def expire(tx: Transaction, dataset: Dataset, before: datetime, reason: str, *, dry_run: bool) -> Expiry:
    """Forget versions made before a time, except pinned ones and the newest. With `dry_run` only say what would happen.

    Rows that no version has any more are deleted later, by the upkeep.
    """
    store = HistoryStore(tx)
    pins = await ExpiryStore(tx).pins(dataset)
    history = await store.load(dataset)
    there = {version.number for version in history.versions}
    for pin in pins:
        if pin.version in there:
            history = history.pin(pin.version, pin.kind, pin.name)
    after, commits = history.expire(before)
    left = {version.number for version in after.versions}
    gone = [version.number for version in history.versions if version.number not in left]
    old = {version.number for version in after.versions if version.made_at < before}
    commits -= await store.released(dataset.id)
    rows = (await store.holding(dataset.id, commits)).rows
    if not dry_run:
        await ExpiryStore(tx).expire(dataset.id, gone, commits, reason)
        for number in gone:
            event = DatasetVersionExpired(dataset_id=dataset.id, name=dataset.name, version=number, reason=reason)
            tx.publish(event, aggregate_version=dataset.latest_version)
    return Expiry(gone, [pin for pin in pins if pin.version in old], commits, rows)
