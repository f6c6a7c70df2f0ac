"""What all methods about datasets need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from holdtrue_core.errors import InvalidArgument, NotFound

from holdtrue_registry.history import check_seen
from holdtrue_registry.store.datasets import DatasetStore

if TYPE_CHECKING:
    from collections.abc import Sized
    from pathlib import Path

    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished
    from holdtrue_events.outbox import Outbox
    from holdtrue_lake.leases import Leases
    from holdtrue_storage.blobs import Blobs
    from holdtrue_storage.database import Transaction

    from holdtrue_registry.closing import Closing
    from holdtrue_registry.commands import Progress
    from holdtrue_registry.domain.datasets import Dataset
    from holdtrue_registry.persons import Persons
    from holdtrue_registry.workers.erasing import Erasing

MOST_BATCHES = 10_000


@dataclass(frozen=True)
class Workplace:
    """Where methods work: the outbox's database, the lake's tables and leases, the blobs, the keys of persons.

    `progress` tells of new batches, `erasing` has the queue of erasures, `closing` closes versions.
    """

    outbox: Outbox
    lake: Path
    blobs: Blobs
    progress: Progress
    leases: Leases
    persons: Persons
    erasing: Erasing
    closing: Closing


class DatasetMethods:
    """Methods about datasets."""

    def __init__(self, place: Workplace) -> None:
        """Work there."""
        self._outbox = place.outbox
        self._lake = place.lake
        self._blobs = place.blobs
        self._progress = place.progress
        self._leases = place.leases
        self._persons = place.persons
        self._erasing = place.erasing
        self._closing = place.closing


class Reasoned(Protocol):
    """A request that changes something, unless it is a dry run, for a reason."""

    @property
    def reason(self) -> str:
        """Why, in the words of the caller."""
        ...

    @property
    def dry_run(self) -> bool:
        """Whether only what would happen is asked."""
        ...


def reason_of(request: Reasoned, missing: str) -> str:
    """Return the reason of a change; raises InvalidArgument, saying what is `missing`, where there is none."""
    reason = request.reason.strip()
    if not reason and not request.dry_run:
        raise InvalidArgument.of("reason", missing)
    return reason


def check_batches(batch_ids: Sized) -> None:
    """Raise InvalidArgument for more batches than one request may name."""
    if len(batch_ids) > MOST_BATCHES:
        raise InvalidArgument.of("batch_ids", f"expected at most {MOST_BATCHES}, got {len(batch_ids)}")


async def find(tx: Transaction, name_or_id: str) -> Dataset:
    """Return a dataset; raises NotFound."""
    dataset = await DatasetStore(tx).find(name_or_id)
    if dataset is None:
        raise NotFound(f"there is no dataset {name_or_id[:200]!r}", hint="holdtrue datasets list")
    return dataset


async def locked(tx: Transaction, name_or_id: str, expected: int) -> Dataset:
    """Return a dataset under its lock; raises NotFound, and Conflict where its newest version is not as expected."""
    found = await find(tx, name_or_id)
    dataset = await DatasetStore(tx).lock(found.id) or found
    check_seen(dataset, expected)
    return dataset


async def version_of(tx: Transaction, dataset: Dataset, number: int) -> DatasetVersionPublished:
    """Return a version, 0 for the newest; raises NotFound."""
    version = await DatasetStore(tx).version(dataset.id, number or dataset.latest_version)
    if version is None and (reason := await DatasetStore(tx).expired(dataset.id, number)) is not None:
        hint = f"holdtrue datasets show {dataset.name}"
        raise NotFound(f"version {number} of dataset {dataset.name!r} has expired: {reason}", hint=hint)
    if version is None:
        known = f"its newest is {dataset.latest_version}" if dataset.latest_version else "it has none yet"
        raise NotFound(f"dataset {dataset.name!r} has no version {number or 1}; {known}")
    return version
